//! Connections from discovery to a host: is it there, seen from outside? Bounded in number and time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::proto::host::connect_back_result::Outcome;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Time for one attempt.
const TIME: Duration = Duration::from_secs(2);
/// Attempts at once, of all hosts together.
const AT_ONCE: usize = 256;
/// Ports in one question.
pub(super) const MOST_PORTS: usize = 64;

/// Opens connections back.
#[derive(Clone, Debug)]
pub(super) struct ConnectBack {
    room: Arc<Semaphore>,
}

impl Default for ConnectBack {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl ConnectBack {
    /// What is seen of each port, in order.
    pub(super) async fn look(&self, address: IpAddr, ports: &[u16]) -> Vec<(u16, Outcome)> {
        let mut attempts = JoinSet::new();
        for (index, port) in ports.iter().copied().enumerate().take(MOST_PORTS) {
            let room = self.room.clone();
            attempts.spawn(async move {
                let Ok(_room) = room.acquire().await else { return (index, port, Outcome::Timeout) };
                (index, port, attempt(SocketAddr::new(address, port)).await)
            });
        }
        let mut seen = attempts.join_all().await;
        seen.sort_by_key(|(index, ..)| *index);
        seen.into_iter().map(|(_, port, outcome)| (port, outcome)).collect()
    }

    /// Whether some host answers at an address, be it with a reset.
    pub(super) async fn answers(&self, address: IpAddr, ports: &[u16]) -> bool {
        let seen = self.look(address, ports).await;
        seen.iter().any(|(_, outcome)| matches!(outcome, Outcome::Connected | Outcome::Refused))
    }
}

async fn attempt(to: SocketAddr) -> Outcome {
    match tokio::time::timeout(TIME, TcpStream::connect(to)).await {
        Err(_) => Outcome::Timeout,
        Ok(Ok(_)) => Outcome::Connected,
        Ok(Err(error)) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset => Outcome::Refused,
            std::io::ErrorKind::TimedOut => Outcome::Timeout,
            _ => Outcome::Unreachable,
        },
    }
}
