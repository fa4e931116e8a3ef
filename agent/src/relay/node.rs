//! Who a local client is, in discovery's words.
//!
//! In: the node as the client named itself, and the host's record. Out: a complete node: the record decides name,
//! namespace, labels and addresses; the client decides its dialect only.

use hawser_api::names::{HAWSER_XDS, metadata};
use hawser_api::proto::core::Node;
use hawser_api::proto::host::{Record, Workload};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// Completes a node for the workload it names, or for the host's first one.
pub(crate) fn complete(node: &Node, record: &Record) -> Node {
    let mut node = node.clone();
    let Some(workload) = workload_of(&node, record) else { return node };
    let ip = record.addresses.first().map(|address| address.address.clone()).unwrap_or_default();
    let domain = record.mesh.as_ref().map(|mesh| mesh.domain.as_str()).filter(|domain| !domain.is_empty());
    let domain = domain.unwrap_or(hawser_api::names::DEFAULT_DOMAIN);
    let (name, namespace) = (&workload.name, &workload.namespace);
    node.id = format!("sidecar~{ip}~{name}.{namespace}~{namespace}.svc.{domain}");
    if node.cluster.is_empty() {
        node.cluster = format!("{}.{namespace}", workload.group);
    }
    let fields = &mut node.metadata.get_or_insert_default().fields;
    let labels = workload.labels.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let labels = Value { kind: Some(Kind::StructValue(Struct { fields: labels })) };
    let addresses: Vec<&str> = record.addresses.iter().map(|address| address.address.as_str()).collect();
    let network = record.addresses.first().map(|address| address.network.as_str()).unwrap_or_default();
    fields.insert(metadata::NAMESPACE.into(), text(namespace));
    fields.insert(metadata::LABELS.into(), labels);
    fields.insert(metadata::SERVICE_ACCOUNT.into(), text(&workload.service_account));
    fields.insert(metadata::NETWORK.into(), text(network));
    fields.insert(metadata::WORKLOAD.into(), text(&workload.id));
    fields.insert(metadata::INSTANCE_IPS.into(), text(&addresses.join(",")));
    node
}

/// The agent's own node.
pub(crate) fn own() -> Node {
    let fields = [(metadata::HAWSER_XDS.to_owned(), text(&HAWSER_XDS.to_string()))].into();
    Node { metadata: Some(Struct { fields }), user_agent_name: "hawser-agent".into(), ..Node::default() }
}

/// The workload that a node is for.
pub(crate) fn workload_of<'a>(node: &Node, record: &'a Record) -> Option<&'a Workload> {
    let named = string(node, metadata::WORKLOAD);
    let found = named.and_then(|id| record.workloads.iter().find(|workload| workload.id == id));
    found.or_else(|| record.workloads.first())
}

/// Whether another proxy serves in its place.
pub(crate) fn is_former(node: &Node) -> bool {
    string(node, metadata::FORMER) == Some("true")
}

/// Which cache a client shares: its dialect and its workload.
pub(crate) fn cache_name(node: &Node, record: &Record) -> String {
    let dialect = match string(node, metadata::HAWSER_XDS) {
        Some(number) => format!("hawser-{number}"),
        None => "envoy".to_owned(),
    };
    let workload = workload_of(node, record).map(|workload| workload.id.as_str()).unwrap_or_default();
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '@' { c } else { '_' };
    format!("{dialect}-{workload}").chars().map(safe).take(100).collect()
}

fn string<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use hawser_api::proto::host::HostAddress;

    use super::*;

    #[test]
    fn the_record_decides_all_but_the_dialect() {
        let workload = Workload {
            id: "reviews".into(),
            namespace: "default".into(),
            name: "reviews-1234".into(),
            group: "reviews".into(),
            labels: [("app".to_owned(), "reviews".to_owned())].into(),
            ..Workload::default()
        };
        let address = HostAddress { address: "10.0.0.5".into(), network: "dc1".into() };
        let record = Record { workloads: vec![workload], addresses: vec![address], ..Record::default() };
        let mut liar = own();
        let fields = &mut liar.metadata.as_mut().unwrap().fields;
        fields.insert(metadata::NAMESPACE.into(), text("kube-system"));
        let node = complete(&liar, &record);
        assert_eq!(node.id, "sidecar~10.0.0.5~reviews-1234.default~default.svc.cluster.local");
        assert_eq!(string(&node, metadata::NAMESPACE), Some("default"));
        assert_eq!(string(&node, metadata::HAWSER_XDS), Some("1"));
        assert_eq!(string(&node, metadata::NETWORK), Some("dc1"));
        assert_eq!(cache_name(&node, &record), "hawser-1-reviews");
    }
}
