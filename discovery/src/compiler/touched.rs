//! Which names may differ from one snapshot to the next.
//!
//! In: what changed in the registry. Out: names of resources, for one view. Invariant: a name too many costs a lookup,
//! one too few a stall: old and new names of whatever changed are all there.

use std::collections::BTreeSet;
use std::sync::Arc;

use hawser_api::names::{self, OutboundCluster, listeners};
use hawser_mesh::Hostname;
use hawser_xds::{Changes, TypeUrl};

use super::{Compiler, agent, inbound, listener, route};
use crate::registry::model::WorkloadId;
use crate::registry::{ServiceState, Snapshot};
use crate::view::{Class, View};

/// Names that may differ between `before` and `after`.
pub(super) fn of(
    compiler: &Compiler,
    view: &Arc<View>,
    workload: Option<&WorkloadId>,
    before: &Snapshot,
    after: &Snapshot,
) -> Changes {
    let Some(changes) = after.changes_since(before.revision).filter(|changes| !changes.rules) else {
        return Changes::all();
    };
    // Which addresses clients have asked for that such a service may take, they alone know.
    let is_wide = |host: &Hostname| {
        let mut states = [before, after].into_iter().flat_map(|s| s.definitions(host));
        states.any(|state| state.service.is_wide())
    };
    if matches!(view.class, Class::Hawser(_)) && changes.defined.iter().any(is_wide) {
        return Changes::all();
    }
    // Whether a service is among what a Sidecar leaves may depend on routes of others.
    if view.scope.is_some() && !changes.defined.is_empty() {
        return Changes::all();
    }
    let shared = compiler.touched(view, (before.revision, after.revision), || {
        let mut all = Changes::default();
        for host in &changes.defined {
            let versions = [before, after].into_iter().flat_map(|s| s.definitions(host));
            versions.for_each(|state| definition(state, view, before, &mut all));
            all.add(TypeUrl::NAME, host.as_str());
        }
        for host in changes.populated.difference(&changes.defined) {
            for state in [before, after].into_iter().flat_map(|s| s.definitions(host)) {
                population(state, view, &mut all);
            }
        }
        if view.class == Class::Envoy {
            for port in &changes.ports {
                all.add(TypeUrl::LISTENER, format!("0.0.0.0_{port}"));
                all.add(TypeUrl::ROUTE, port.to_string());
            }
        }
        if !changes.addresses.is_empty() {
            // Who shares an address with what changed may have to give way or take its place.
            let sharers: BTreeSet<&Hostname> = changes
                .addresses
                .iter()
                .flat_map(|address| before.at_address(*address).chain(after.at_address(*address)))
                .filter_map(|states| states.first().map(|state| &state.service.host))
                .collect();
            for host in sharers.into_iter().filter(|host| !changes.defined.contains(*host)) {
                for state in [before, after].into_iter().flat_map(|s| s.definitions(host)) {
                    for port in &state.service.ports {
                        all.add(TypeUrl::ROUTE, names::route(host, port.port));
                    }
                }
            }
        }
        all
    });
    let mut all = (*shared).clone();
    if let Some(id) = workload
        && changes.workloads.contains(id)
    {
        all.add(TypeUrl::LISTENER, listeners::VIRTUAL_INBOUND);
        for snapshot in [before, after] {
            let Some(member) = snapshot.workload(id) else { continue };
            let bound = inbound::bound_of(snapshot, member).into_iter();
            bound.for_each(|at| all.add(TypeUrl::LISTENER, listener::bound::name(view.class, at)));
            inbound::clusters_of(snapshot, member).into_iter().for_each(|name| all.add(TypeUrl::CLUSTER, name));
        }
    } else if changes.defined.iter().any(|host| asked(after, host)) {
        // Policies may ask it, or must deny in its place.
        all.add(TypeUrl::LISTENER, listeners::VIRTUAL_INBOUND);
        let bound = workload.and_then(|id| after.workload(id)).into_iter().flat_map(|m| inbound::bound_of(after, m));
        bound.for_each(|at| all.add(TypeUrl::LISTENER, listener::bound::name(view.class, at)));
    } else if workload.is_none() && (changes.policies || !changes.workloads.is_empty()) {
        // Its workload may have been registered, or may have gone.
        all.add(TypeUrl::LISTENER, listeners::VIRTUAL_INBOUND);
    }
    all
}

/// Whether a service is one that authorizes.
fn asked(snapshot: &Snapshot, host: &Hostname) -> bool {
    snapshot.settings.authorization.values().any(|provider| provider.host == *host)
}

fn definition(state: &ServiceState, view: &View, before: &Snapshot, all: &mut Changes) {
    population(state, view, all);
    let service = &state.service;
    let addresses = service.dialled();
    for port in &service.ports {
        all.add(TypeUrl::ROUTE, names::route(&service.host, port.port));
        for subset in subsets(state) {
            all.add(TypeUrl::CLUSTER, cluster(state, port.port, subset));
        }
        match view.class {
            Class::Grpc => {
                let domain = &before.settings.domain;
                let names = std::iter::once(&service.host).chain(service.aliases.iter().map(|alias| &alias.host));
                let forms = names.flat_map(|name| {
                    let short = route::short_names(name, &view.namespace, domain);
                    std::iter::once(name.to_string()).chain(short)
                });
                for form in forms {
                    all.add(TypeUrl::LISTENER, format!("{form}:{}", port.port));
                    all.add(TypeUrl::LISTENER, form);
                }
            }
            _ => addresses.iter().for_each(|a| all.add(TypeUrl::LISTENER, names::listener(*a, port.port))),
        }
    }
    if matches!(view.class, Class::Hawser(_)) {
        agent::shards_of(service).for_each(|shard| all.add(TypeUrl::CAPTURE, shard));
    }
}

fn population(state: &ServiceState, view: &View, all: &mut Changes) {
    // Envoy's clusters list the identities of all instances, and those of names their endpoints.
    let clusters = view.class == Class::Envoy || state.service.is_looked_up();
    for port in &state.service.ports {
        for subset in subsets(state) {
            let name = cluster(state, port.port, subset);
            if clusters {
                all.add(TypeUrl::CLUSTER, name.as_str());
            }
            all.add(TypeUrl::ENDPOINTS, name);
        }
    }
}

fn subsets(state: &ServiceState) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(state.rules.subsets())
}

fn cluster(state: &ServiceState, port: u16, subset: &str) -> String {
    OutboundCluster::with_subset(state.service.host.clone(), port, subset).to_string()
}
