//! Upgrades: after both ends have agreed, HTTP is over and bytes are carried.

use std::rc::Rc;
use std::time::Duration;

use hyper_util::rt::TokioIo;

use super::codec::Upgrade;
use super::finish::Exchange;
use crate::tcp;
use crate::worker::Worker;

/// A connection that was upgraded may be silent so long.
const IDLE: Duration = Duration::from_secs(3600);
/// The ends of an upgrade come together at once.
const SOON: Duration = Duration::from_secs(10);

/// Carries bytes between both ends; the exchange ends with them.
pub(super) fn carry(worker: &Rc<Worker>, client: Upgrade, server: Upgrade, exchange: Box<Exchange>) {
    worker.spawn(async move {
        let mut exchange = exchange;
        let both = async { tokio::try_join!(client, server) };
        match tokio::time::timeout(SOON, both).await {
            Ok(Ok((client, server))) => {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                let _ = tcp::carry(&mut client, &mut server, IDLE, |_| {}).await;
                super::codec::OnEnd::ended(&mut *exchange);
            }
            Ok(Err(e)) => tracing::debug!(error = %e, "upgrade failed"),
            Err(_) => tracing::debug!("upgrade took too long"),
        }
    });
}
