//! Whether the API server answers at all: watches alone can't tell, they may hang or outlive its door.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::access::Access;
use crate::watch::{Failure, whole};

/// Time between two questions; after one that failed; and for each.
const EACH: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(4);
/// Questions in a row that must fail.
const FAILS: u32 = 2;
/// After an absence of this length connections from before it are not trusted.
const LONG: Duration = Duration::from_secs(15);

/// Asks until nobody listens any more: tells each answer, and failures that are more than one.
pub(crate) async fn run(
    access: Arc<Access>,
    reconnect: watch::Sender<u64>,
    answers: mpsc::Sender<Result<(), Failure>>,
) {
    let mut failures = 0;
    let mut away: Option<Instant> = None;
    loop {
        let asked = tokio::select! {
            () = answers.closed() => return,
            asked = tokio::time::timeout(PATIENCE, ask(&access)) => asked,
        };
        let said = match asked {
            // Whoever refuses is there.
            Ok(Ok(()) | Err(Failure::Denied(_) | Failure::NotFound(_) | Failure::Busy(..))) => {
                failures = 0;
                if away.take().is_some_and(|since| since.elapsed() >= LONG) {
                    tracing::info!("the API server answers again: watches are opened anew");
                    reconnect.send_modify(|count| *count += 1);
                }
                Some(Ok(()))
            }
            failed => {
                let failure = match failed {
                    Ok(Err(failure)) => failure,
                    _ => Failure::Unreachable("no answer in time".to_owned()),
                };
                access.failed(&failure);
                failures += 1;
                away.get_or_insert_with(Instant::now);
                (failures >= FAILS).then_some(Err(failure))
            }
        };
        if let Some(said) = said
            && answers.send(said).await.is_err()
        {
            return;
        }
        // One failure is nothing yet: whether it is something is asked at once.
        let pause = if failures == 1 { AGAIN } else { EACH };
        tokio::select! {
            () = answers.closed() => return,
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.9..1.1))) => {}
        }
    }
}

async fn ask(access: &Access) -> Result<(), Failure> {
    let body = access.get("/version", None).await?;
    whole(body, 1 << 20).await.map(drop)
}
