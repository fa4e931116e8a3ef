//! The loop of sources that are asked for everything at an interval.

use std::time::{Duration, Instant};

use hawser_daemon::backoff::Backoff;

use crate::pacing::{Bucket, Pacer, spread};
use crate::{Closed, Driver, Heard};

/// Something that answers with everything it has.
pub trait Poll: Send {
    /// Asks once. Bounded in time by itself; may be dropped half way.
    fn poll(&mut self) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// Waits until it is worth asking before the interval is over: a file changed, a health check decided.
    fn hint(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// What a source answers.
#[derive(Debug)]
pub struct Answer {
    /// What it has; `None` if that is as at the last answer.
    pub parts: Option<Vec<Heard>>,
    /// When to ask again, if not after the usual interval.
    pub next: Option<Duration>,
}

/// It does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// Asks again and again, until nobody listens any more.
pub async fn run(mut source: impl Poll, mut driver: Driver, interval: Duration) -> Closed {
    let bucket = Bucket::new(5, Duration::from_millis(200));
    let mut pacer = Pacer::new(bucket, Backoff::new(Duration::from_secs(1), interval.max(Duration::from_secs(30))));
    loop {
        let asked = tokio::select! {
            closed = driver.idle() => return closed,
            asked = source.poll() => asked,
        };
        let (said, wait, hinted) = match asked {
            Ok(Answer { parts, next }) => {
                let least = pacer.answered(Instant::now());
                let said = match parts {
                    Some(parts) => driver.all(parts).await,
                    None => driver.spoke().await,
                };
                (said, spread(next.unwrap_or(interval)).max(least), true)
            }
            Err(Failure(why)) => {
                let wait = pacer.failed(Instant::now());
                (driver.failed(why).await, wait, false)
            }
        };
        if let Err(closed) = said {
            return closed;
        }
        let least = Duration::from_millis(200).min(wait);
        let waits = async {
            if hinted {
                tokio::time::sleep(least).await;
                let _ = tokio::time::timeout(wait - least, source.hint()).await;
            } else {
                tokio::time::sleep(wait).await;
            }
        };
        if let Err(closed) = driver.wait(waits).await {
            return closed;
        }
    }
}
