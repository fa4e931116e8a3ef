//! Connections before their guards, and after: a policy that changes ends those that it forbids, and no others.
//!
//! Envoy asks its policies when the first byte of a client comes; here they are asked before anything is connected, so that a
//! server that speaks first says nothing to whom it must not.

use std::cell::RefCell;
use std::sync::Arc;

use super::log::{Bytes, Came, Went};
use crate::config::{Chain, Config, Filter, TcpSpec};
use crate::guard::{Facts, Marks, Now, Verdict, decide, now};
use crate::listen::{Arrival, Side};
use crate::telemetry::Refusal;

/// Why a connection ends that a policy forbids while it lives.
pub(super) const FORBIDDEN: &str = "policy_changed";

/// Whether a policy refuses a connection; that is counted and logged.
pub(super) fn refused(came: Came<'_>, side: Side) -> bool {
    let replaced = side == Side::Inbound && came.chain.replaced.is_cancelled();
    if came.spec.guards.is_empty() && !replaced {
        return false;
    }
    let mut marks = Marks::default();
    let facts = Facts::of(came.arrival, came.server_name, came.peer.map(|peer| &*peer.identity));
    let config = came.worker.config();
    let stands = if replaced { now(&config, came.chain, came.arrival.to) } else { Now::Undeclared };
    let spec = match stands {
        Now::Undeclared => Some(came.spec),
        Now::Chain(chain) => match &chain.filter {
            Filter::Tcp(spec) => Some(&**spec),
            Filter::Http(_) => None,
        },
        Now::Forbidden => None,
    };
    let denied = spec.map_or_else(|| Some(Arc::default()), |spec| denies(spec, &facts, &mut marks));
    let Some(policy) = denied else { return false };
    came.worker.counters().refuse(Refusal::Policy);
    let why = format!("rbac_access_denied_matched_policy[{}]", if policy.is_empty() { "none" } else { &*policy });
    let went = Went { cluster: cluster(came.spec), ended_by: Some(&why), marks: Some(&marks), ..Went::nowhere() };
    came.log(&Bytes::default(), &went);
    true
}

fn cluster(spec: &TcpSpec) -> &str {
    spec.clusters.first().map(|(name, _)| &**name).unwrap_or_default()
}

/// The policy that refuses a connection; empty, if none allows it.
fn denies(spec: &TcpSpec, facts: &Facts<'_>, marks: &mut Marks) -> Option<Arc<str>> {
    spec.guards.iter().find_map(|rbac| match decide(rbac, facts, marks) {
        Verdict::Passes => None,
        Verdict::Denied(policy) => Some(policy.cloned().unwrap_or_default()),
    })
}

/// A connection that was let in, with what policies are to be asked again.
#[derive(Debug)]
pub(crate) struct Admitted {
    chain: RefCell<Arc<Chain>>,
    arrival: Arrival,
    peer: Option<Arc<str>>,
    server_name: Option<Box<str>>,
}

impl Admitted {
    pub(super) fn new(came: Came<'_>) -> Self {
        Self {
            chain: RefCell::new(came.chain.clone()),
            arrival: came.arrival,
            peer: came.peer.map(|peer| peer.identity.clone()),
            server_name: came.server_name.map(Into::into),
        }
    }

    /// Whether its chain is still there.
    pub(crate) fn is_current(&self) -> bool {
        !self.chain.borrow().replaced.is_cancelled()
    }

    /// Whether it would still be let in.
    pub(crate) fn may_stay(&self, config: &Config) -> bool {
        let mut chain = self.chain.borrow_mut();
        match now(config, &chain, self.arrival.to) {
            Now::Undeclared => true,
            Now::Forbidden => false,
            Now::Chain(new) => {
                let Filter::Tcp(spec) = &new.filter else { return false };
                let facts = Facts::of(self.arrival, self.server_name.as_deref(), self.peer.as_deref());
                let stays = denies(spec, &facts, &mut Marks::default()).is_none();
                *chain = new.clone();
                stays
            }
        }
    }
}
