//! Listeners on demand: a worker asks, the control thread answers when it knows.
//!
//! In: where a captured connection was going. Out: whether there is a listener for it now. Bounded: a full queue is a no,
//! and so is an answer that takes too long.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long a captured connection waits for its listener.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug)]
pub struct Ask {
    /// Where the connection was going.
    pub address: SocketAddr,
    /// Told when it is known: `true` if the configuration has it.
    pub answer: oneshot::Sender<bool>,
}

/// The asking end.
#[derive(Clone, Debug)]
pub struct Demand(mpsc::Sender<Ask>);

impl Demand {
    /// Both ends.
    pub fn channel() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(1024);
        (Self(sender), receiver)
    }

    /// Waits for a listener.
    pub async fn listener(&self, address: SocketAddr) -> bool {
        let (answer, answered) = oneshot::channel();
        if self.0.try_send(Ask { address, answer }).is_err() {
            return false;
        }
        matches!(tokio::time::timeout(PATIENCE, answered).await, Ok(Ok(true)))
    }
}
