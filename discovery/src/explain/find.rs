//! Whom people mean: workloads by the names that they have for them, and the client that a workload's proxy is.

use std::sync::Arc;

use hawser_api::names::HAWSER_XDS;

use crate::registry::model::Member;
use crate::registry::{ServiceState, Snapshot, choice};
use crate::view::{Class, Client};

/// Workloads that a name means, by name: `namespace/name`, `namespace/group`, the name of a host, an instance id.
pub fn workloads<'a>(snapshot: &'a Snapshot, name: &str) -> Vec<&'a Arc<Member>> {
    let all = snapshot.workloads();
    let (namespace, short) = match name.split_once('/') {
        Some((namespace, short)) => (Some(namespace), short),
        None => (None, name),
    };
    let within = |m: &&&Arc<Member>| namespace.is_none_or(|namespace| *m.workload.key.namespace == *namespace);
    let exact = |m: &&&Arc<Member>| {
        let workload = &m.workload;
        let instance = workload.instance.as_ref().map(|instance| &*instance.instance_id);
        *workload.key.name == *short
            || namespace.is_none() && (workload.node.as_deref() == Some(short) || instance == Some(short))
    };
    let grouped = |m: &&&Arc<Member>| m.workload.group.as_deref() == Some(short);
    let found: Vec<_> = all.iter().filter(within).filter(exact).copied().collect();
    if !found.is_empty() {
        return found;
    }
    all.iter().filter(within).filter(grouped).copied().collect()
}

/// The client that the proxy of a workload is, whether it is connected or not.
pub fn client_of(member: &Member) -> Client {
    let workload = &member.workload;
    let (network, addresses) =
        workload.addresses.iter().next().map(|(n, a)| (n.clone(), a.clone())).unwrap_or_default();
    Client {
        node_id: node_name(member),
        class: if workload.hawser { Class::Hawser(HAWSER_XDS) } else { Class::Envoy },
        namespace: workload.key.namespace.clone(),
        labels: workload.labels.clone(),
        network,
        plaintext: false,
        locality: workload.locality.clone(),
        instance: workload.instance.clone(),
        addresses,
        ipv6: false,
        former: false,
    }
}

/// As the third part of a node id says it.
pub fn node_name(member: &Member) -> String {
    format!("{}.{}", member.workload.key.name, member.workload.key.namespace)
}

/// The definition of a name that counts for a client: of those that its Sidecar names, else of those that routes may lead to.
pub(super) fn counting<'a>(
    snapshot: &Snapshot,
    client: &Client,
    states: &'a [ServiceState],
) -> Option<&'a ServiceState> {
    let scope = snapshot.rules.scope(&client.namespace, &client.labels, &snapshot.settings);
    choice(states, &client.namespace, scope.as_deref()).or_else(|| choice(states, &client.namespace, None))
}
