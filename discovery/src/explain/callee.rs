//! What the other side takes: its inbound chains, and the policies that select it.

use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::istio::Spec;
use hawser_api::names::{alpn, listeners};
use hawser_api::proto::admin::{ObjectRef, WhyStep};
use hawser_api::proto::listener::{FilterChain, Listener};
use hawser_mesh::Transport as Speaks;
use hawser_routing::{Seen, Transport, choose};
use hawser_xds::TypeUrl;

use super::resource::{Serves, chains, get};
use super::upstream::Target;
use super::verdict::{self, Arriving, Said};
use super::{client_of, reference};
use crate::compiler::{Compiler, Sight};
use crate::registry::model::{ConfigOutcome, Member};
use crate::registry::{Snapshot, selects};

/// What becomes of a connection there.
pub(super) struct Taken {
    pub(super) accepted: bool,
    pub(super) says: String,
    pub(super) decided_by: Vec<ObjectRef>,
    /// What takes it, if a proxy does.
    pub(super) chain: Option<FilterChain>,
}

/// Whether a workload takes a connection as the caller makes it.
pub(super) fn takes(
    compiler: &Compiler,
    snapshot: &Snapshot,
    member: &Arc<Member>,
    target: &Target,
    requests: bool,
) -> Taken {
    let workload = &member.workload;
    let decided = snapshot.rules.mode_decided_by(&workload.key.namespace, &workload.labels, target.port);
    let decided_by: Vec<ObjectRef> = decided.map(reference).into_iter().collect();
    let mode = format!("{:?}", member.modes.of(target.port)).to_uppercase();
    if workload.transport == Speaks::Plaintext {
        let says = format!("it has no proxy: port {} is reached in plaintext", target.port);
        return Taken { accepted: !target.mtls, says, decided_by: Vec::new(), chain: None };
    }
    let client = client_of(member);
    let sight = Sight::new(compiler, &client, snapshot);
    let Some(listener) = get::<Listener>(&sight, &TypeUrl::LISTENER, listeners::VIRTUAL_INBOUND) else {
        return Taken { accepted: true, says: format!("port {}: {mode}", target.port), decided_by, chain: None };
    };
    let all = chains(&listener);
    let protocols: &[&str] = match (target.mtls, requests) {
        (true, true) => &alpn::HTTP1,
        (true, false) => &alpn::TCP,
        (false, true) => &["http/1.1"],
        (false, false) => &[],
    };
    let seen = Seen {
        port: target.port,
        address: target.address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])),
        transport: if target.mtls { Transport::Tls } else { Transport::Raw },
        server_name: None,
        protocols: protocols.iter().map(|p| p.as_bytes()).collect(),
    };
    let chain = choose(&all, &seen).map(|chosen| chosen.chain).or(listener.default_filter_chain.as_ref());
    let spoken = if target.mtls { "mTLS" } else { "plaintext" };
    match chain {
        Some(chain) => {
            let kind = match Serves::of(chain) {
                Serves::Http(..) => "requests",
                _ => "connections",
            };
            let says = format!("port {} takes {spoken} ({mode}): {kind}, by chain {}", target.port, chain.name);
            Taken { accepted: true, says, decided_by, chain: Some(chain.clone()) }
        }
        None => {
            let says = format!("port {} does not take {spoken} ({mode}): the connection is closed", target.port);
            Taken { accepted: false, says, decided_by, chain: None }
        }
    }
}

/// What the policies of a workload say of a call that a chain of its proxy takes.
pub(super) fn policies(snapshot: &Snapshot, member: &Member, chain: &FilterChain, arriving: &Arriving<'_>) -> Said {
    let name = member.workload.key.to_string();
    let mut said = verdict::ask(chain, &name, arriving);
    if said.steps.is_empty() {
        let (says, decided_by) = match selecting(snapshot, member) {
            all if all.is_empty() => ("no authorization policy selects it: every call is allowed", all),
            all => ("none of the policies that select it has a say in this call", all),
        };
        said.steps.push(WhyStep { what: "policy".to_owned(), name, says: says.to_owned(), decided_by });
    }
    said
}

/// Their names.
pub(super) fn selecting(snapshot: &Snapshot, member: &Member) -> Vec<ObjectRef> {
    let workload = &member.workload;
    let (own, root) = (&*workload.key.namespace, snapshot.settings.root_namespace.as_str());
    let counts = snapshot
        .configs
        .iter()
        .filter(|state| !matches!(state.outcome, ConfigOutcome::Shadowed | ConfigOutcome::Rejected));
    let mut all = Vec::new();
    for state in counts {
        let (Some(object), Some(resource)) = (&state.object, &state.resource) else { continue };
        let selector = match &resource.spec {
            Spec::AuthorizationPolicy(policy) => &policy.selector,
            Spec::RequestAuthentication(policy) => &policy.selector,
            _ => continue,
        };
        let chosen = selector.as_ref().is_none_or(|s| selects(&s.match_labels, &workload.labels));
        if chosen && (object.namespace == own || object.namespace == root) {
            all.push(reference(object));
        }
    }
    all
}
