//! Connections before their guards, and after: a policy that changes ends those that it forbids, and no others.
//!
//! Envoy asks its policies when the first byte of a client comes; here they are asked before anything is connected, so that a
//! server that speaks first says nothing to whom it must not.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use super::log::{Bytes, Came, Went};
use crate::access_log::{Details, Flags};
use crate::config::{Authz, Chain, Config, Filter, Rbac, TcpGuard, TcpSpec};
use crate::guard::{Facts, Marks, Now, Verdict, decide, now};
use crate::http::authz;
use crate::listen::{Arrival, Side};
use crate::telemetry::Refusal;

/// Why a connection ends that a policy forbids while it lives.
pub(super) const FORBIDDEN: &str = "policy_changed";

/// What is asked about a connection.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) facts: &'a Facts<'a>,
    /// The other end.
    pub(crate) from: Option<SocketAddr>,
    /// Our own identity.
    pub(crate) own: Option<&'a str>,
}

/// Those who were asked about a connection, and let it in.
pub(super) type Consents = Vec<u64>;

/// Who let a connection in; `None` if a policy refuses it, which is counted and logged. Nobody is asked any further when whoever
/// called has `left`.
pub(super) async fn admit(came: Came<'_>, side: Side, left: impl Future<Output = ()>) -> Option<Consents> {
    let replaced = side == Side::Inbound && came.chain.replaced.is_cancelled();
    if came.spec.guards.is_empty() && !replaced {
        return Some(Consents::new());
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
    let asked = Asked { facts: &facts, from: came.arrival.peer, own: came.peer.map(|peer| &*peer.own) };
    let why = match spec {
        Some(spec) => {
            let answered = Box::pin(all(came, &config, spec, asked, &mut marks));
            let answered = tokio::select! {
                biased;
                answered = answered => answered,
                () = left => Err(No::Left),
            };
            match answered {
                Ok(consents) => return Some(consents),
                Err(why) => why,
            }
        }
        None => No::Policy(Arc::default()),
    };
    if !matches!(why, No::Left) {
        came.worker.counters().refuse(Refusal::Policy);
    }
    let mut went = Went { cluster: cluster(came.spec), marks: Some(&marks), ..Went::nowhere() };
    let text;
    match &why {
        No::Policy(policy) => {
            text = format!("{DENIED}[{}]", if policy.is_empty() { "none" } else { &**policy });
            went.ended_by = Some(&text);
        }
        No::Left => went.flags = Flags::DC,
        No::Other(why) => (went.flags, went.details) = (Flags::UAEX, Some(Details::Other(why))),
    }
    came.log(&Bytes::default(), &went);
    None
}

const DENIED: &str = "rbac_access_denied_matched_policy";

/// Who refuses a connection.
enum No {
    /// A policy; empty, if none allows it.
    Policy(Arc<str>),
    /// Somebody who was asked.
    Other(&'static str),
    /// Nobody: the caller has gone.
    Left,
}

/// Asks all guards.
async fn all(
    came: Came<'_>,
    config: &Arc<Config>,
    spec: &TcpSpec,
    asked: Asked<'_>,
    marks: &mut Marks,
) -> Result<Consents, No> {
    let mut consents = Consents::new();
    for guard in &spec.guards {
        match guard {
            TcpGuard::Rbac(rbac) => {
                denies(rbac, asked.facts, marks).map_or(Ok(()), |policy| Err(No::Policy(policy)))?
            }
            TcpGuard::Authz(authz) if authz.is_asked(marks) => {
                authz::of_tcp(came.worker, config, authz, asked).await.map_err(No::Other)?;
                consents.push(authz.fingerprint);
            }
            TcpGuard::Authz(_) => {}
        }
    }
    Ok(consents)
}

fn cluster(spec: &TcpSpec) -> &str {
    spec.clusters.first().map(|(name, _)| &**name).unwrap_or_default()
}

/// The policy that refuses a connection; empty, if none allows it.
fn denies(rbac: &Rbac, facts: &Facts<'_>, marks: &mut Marks) -> Option<Arc<str>> {
    match decide(rbac, facts, marks) {
        Verdict::Passes => None,
        Verdict::Denied(policy) => Some(policy.cloned().unwrap_or_default()),
    }
}

/// A connection that was let in, with what policies are to be asked again.
#[derive(Debug)]
pub(crate) struct Admitted {
    chain: RefCell<Arc<Chain>>,
    arrival: Arrival,
    peer: Option<Arc<str>>,
    server_name: Option<Box<str>>,
    consents: Consents,
}

impl Admitted {
    pub(super) fn new(came: Came<'_>, consents: Consents) -> Self {
        Self {
            chain: RefCell::new(came.chain.clone()),
            arrival: came.arrival,
            peer: came.peer.map(|peer| peer.identity.clone()),
            server_name: came.server_name.map(Into::into),
            consents,
        }
    }

    /// Whether its chain is still there.
    pub(crate) fn is_current(&self) -> bool {
        !self.chain.borrow().replaced.is_cancelled()
    }

    /// Whether it would still be let in. Who was asked is not asked again: whoever was not, or said no, ends it.
    pub(crate) fn may_stay(&self, config: &Config) -> bool {
        let mut chain = self.chain.borrow_mut();
        match now(config, &chain, self.arrival.to) {
            Now::Undeclared => true,
            Now::Forbidden => false,
            Now::Chain(new) => {
                let Filter::Tcp(spec) = &new.filter else { return false };
                let facts = Facts::of(self.arrival, self.server_name.as_deref(), self.peer.as_deref());
                let mut marks = Marks::default();
                let consents = |authz: &Authz| self.consents.contains(&authz.fingerprint);
                let stays = spec.guards.iter().all(|guard| match guard {
                    TcpGuard::Rbac(rbac) => denies(rbac, &facts, &mut marks).is_none(),
                    TcpGuard::Authz(authz) => !authz.is_asked(&marks) || consents(authz),
                });
                *chain = new.clone();
                stays
            }
        }
    }
}
