//! Listeners that a Sidecar asks for: addresses of this host that applications, or others, call by themselves.
//!
//! In: configurations, one after the other. Out: sockets for the workers. Invariant: nothing is bound that the configuration does
//! not name; what can't be bound is said once and tried again, and keeps no other from being bound.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Threads;
use crate::config::Config;
use crate::telemetry::Counters;

/// How long it takes until an address that can't be bound is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs until no configuration comes any more. `first` is told when what can be bound is, for the first time.
pub(super) async fn run(
    config: Arc<ArcSwap<Config>>,
    mut changed: watch::Receiver<()>,
    threads: Arc<Threads>,
    counters: Arc<Counters>,
    first: oneshot::Sender<()>,
) {
    let mut held = Held::default();
    let mut first = Some(first);
    loop {
        let all: Vec<SocketAddr> = config.load().bound.keys().copied().collect();
        let failing = held.keep(&all, |address| threads.listen(address));
        counters.bound_listeners.store(i64::try_from(held.bound.len()).unwrap_or(i64::MAX), Relaxed);
        counters.unbound_listeners.store(i64::try_from(held.failed.len()).unwrap_or(i64::MAX), Relaxed);
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
        tokio::select! {
            more = changed.changed() => if more.is_err() { return },
            () = tokio::time::sleep(AGAIN), if failing => {}
        }
    }
}

/// What is bound, and what was said of what is not.
#[derive(Debug, Default)]
struct Held {
    bound: BTreeMap<SocketAddr, CancellationToken>,
    failed: BTreeMap<SocketAddr, String>,
}

impl Held {
    /// Binds what is not yet, gives up the rest; whether something could not be bound.
    fn keep(&mut self, all: &[SocketAddr], bind: impl Fn(SocketAddr) -> io::Result<CancellationToken>) -> bool {
        self.failed.retain(|address, _| all.contains(address));
        self.bound.retain(|address, over| {
            let stays = all.contains(address);
            if !stays {
                over.cancel();
                tracing::info!(%address, "not listening there any more: no Sidecar asks for it");
            }
            stays
        });
        for address in all {
            if self.bound.contains_key(address) {
                continue;
            }
            match bind(*address) {
                Ok(over) => {
                    self.failed.remove(address);
                    self.bound.insert(*address, over);
                    tracing::info!(%address, "listening, as a Sidecar asks");
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.failed.get(address) != Some(&why) {
                        let cure = cure(&error);
                        tracing::warn!(%address, error = %why, cure, "a Sidecar's listener can't be bound");
                        self.failed.insert(*address, why);
                    }
                }
            }
        }
        !self.failed.is_empty()
    }
}

/// What somebody may do about it.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has the port: stop it, or name another port in the Sidecar",
        io::ErrorKind::AddrNotAvailable => "it is no address of this host: name one in the Sidecar's bind",
        io::ErrorKind::PermissionDenied => "the proxy's user may not have it: name a port from 1024",
        _ => "it is tried again",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_cannot_be_bound_stops_no_other_and_is_tried_again() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let taken = RefCell::new(BTreeSet::from([at(1)]));
        let tried = RefCell::new(Vec::new());
        let bind = |address| {
            tried.borrow_mut().push(address);
            match taken.borrow().contains(&address) {
                true => Err(io::ErrorKind::AddrInUse.into()),
                false => Ok(CancellationToken::new()),
            }
        };
        let mut held = Held::default();
        assert!(held.keep(&[at(1), at(2)], bind), "one of them is left");
        assert_eq!(held.bound.keys().copied().collect::<Vec<_>>(), [at(2)]);
        taken.borrow_mut().clear();
        assert!(!held.keep(&[at(1), at(2)], bind));
        assert_eq!(*tried.borrow(), [at(1), at(2), at(1)], "what is bound is left alone");
        let over = held.bound[&at(2)].clone();
        assert!(!held.keep(&[at(1)], bind));
        assert!(over.is_cancelled(), "what nobody asks for any more is given up");
        assert!(held.failed.is_empty());
    }
}
