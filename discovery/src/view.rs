//! Who asks: the client as it described itself and as it was verified, and the view that it shares with its like.
//!
//! In: an xDS node, the peer's identity, the record of a joined host. Out: a [`Client`]. Invariant: what a client may
//! see is decided by what was verified, never by its metadata alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::names::{HAWSER_XDS, metadata};
use hawser_api::proto::core::Node;
use hawser_mesh::{InstanceRef, Locality};
use prost_types::value::Kind;

use crate::registry::model::WorkloadId;
use crate::registry::{Scope, Snapshot};

/// Which dialect a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// hawser-proxy, of this version of the dialect.
    Hawser(u32),
    /// Envoy.
    Envoy,
    /// A gRPC program without a proxy.
    Grpc,
}

impl Class {
    /// As listings and metrics say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hawser(_) => "hawser",
            Self::Envoy => "envoy",
            Self::Grpc => "grpc",
        }
    }

    /// Whether it asks for what it needs by name.
    pub fn by_name(self) -> bool {
        self != Self::Envoy
    }
}

/// What makes the content of one name differ from one client to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    /// Dialect.
    pub class: Class,
    /// Namespace of the workload.
    pub namespace: Arc<str>,
    /// Those of its labels that some rule reads.
    pub labels: BTreeMap<String, String>,
    /// Network of the workload.
    pub network: String,
    /// It has no certificates, so nothing that it gets mentions TLS.
    pub plaintext: bool,
    /// Where it is; for clients that do not rank localities themselves and rules that look at it.
    pub locality: Option<Locality>,
    /// It is an Envoy that listens on IPv6 too.
    pub ipv6: bool,
    /// What its Sidecar leaves of the mesh.
    pub scope: Option<Arc<Scope>>,
}

/// A client.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its node id.
    pub node_id: String,
    /// Dialect.
    pub class: Class,
    /// Namespace of its workload.
    pub namespace: Arc<str>,
    /// Labels of its workload.
    pub labels: BTreeMap<String, String>,
    /// Network of its workload.
    pub network: String,
    /// It came without TLS.
    pub plaintext: bool,
    /// Where it is.
    pub locality: Locality,
    /// Its workload, if it is a joined host's.
    pub instance: Option<InstanceRef>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// It says that its host speaks IPv6.
    pub ipv6: bool,
    /// It says that another proxy serves in its place: nobody waits for it, or asks it.
    pub former: bool,
}

impl Client {
    /// From a node alone. What was verified is put over it by the caller.
    pub fn from_node(node: &Node, plaintext: bool) -> Self {
        let parts: Vec<&str> = node.id.split('~').collect();
        let (ip, name, domain) = match parts.as_slice() {
            [_, ip, name, domain] => (*ip, *name, *domain),
            _ => ("", "", ""),
        };
        let namespace = text(node, metadata::NAMESPACE)
            .or_else(|| name.rsplit_once('.').map(|(_, namespace)| namespace))
            .or_else(|| domain.split_once(".svc.").map(|(namespace, _)| namespace))
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or("default");
        let listed = text(node, metadata::INSTANCE_IPS).unwrap_or(ip);
        let addresses = listed.split(',').map(str::trim).filter(|a| !a.is_empty()).take(64).map(str::to_owned);
        let locality = node.locality.clone().unwrap_or_default();
        Self {
            node_id: node.id.clone(),
            class: class(node),
            namespace: namespace.into(),
            labels: labels(node),
            network: text(node, metadata::NETWORK).unwrap_or_default().to_owned(),
            plaintext,
            locality: Locality { region: locality.region, zone: locality.zone, sub_zone: locality.sub_zone },
            instance: None,
            addresses: addresses.collect(),
            ipv6: text(node, metadata::IPV6) == Some("true"),
            former: text(node, metadata::FORMER) == Some("true"),
        }
    }

    /// The view of this client in a snapshot.
    pub fn view(&self, snapshot: &Snapshot) -> View {
        let read = snapshot.rules.label_keys();
        let labels = self.labels.iter().filter(|(key, _)| read.contains(*key));
        View {
            class: self.class,
            namespace: self.namespace.clone(),
            labels: labels.map(|(k, v)| (k.clone(), v.clone())).collect(),
            network: self.network.clone(),
            plaintext: self.plaintext || self.class == Class::Grpc,
            // Of ours only where some rule looks at it: it makes views many.
            locality: (!matches!(self.class, Class::Hawser(_)) || snapshot.reads_locality())
                .then(|| self.place(snapshot)),
            ipv6: self.ipv6 && self.class == Class::Envoy,
            scope: snapshot.rules.scope(&self.namespace, &self.labels, &snapshot.settings),
        }
    }

    /// Where it is: where its workload is said to be, else where it says it is itself.
    fn place(&self, snapshot: &Snapshot) -> Locality {
        let member = self.workload(snapshot).and_then(|id| snapshot.workload(&id).cloned());
        let place = member.map(|member| member.workload.locality.clone());
        place.filter(|place| !place.region.is_empty()).unwrap_or_else(|| self.locality.clone())
    }

    /// The workload whose inbound side the client serves: the joined host's, else the one of its namespace that has
    /// one of its addresses.
    pub fn workload(&self, snapshot: &Snapshot) -> Option<WorkloadId> {
        if let Some(instance) = &self.instance {
            return snapshot.of_instance(instance).map(|member| member.id.clone());
        }
        let members = self.addresses.iter().flat_map(|address| snapshot.at_workload_address(address));
        members.filter(|m| m.id.key.namespace == self.namespace).map(|m| m.id.clone()).min()
    }
}

/// A text of the node's metadata.
pub fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match &node.metadata.as_ref()?.fields.get(key)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

fn class(node: &Node) -> Class {
    if let Some(version) = text(node, metadata::HAWSER_XDS).and_then(|v| v.parse::<u32>().ok()) {
        // Never more than we know; the client takes what is older than itself.
        return Class::Hawser(version.clamp(1, HAWSER_XDS));
    }
    let grpc = text(node, metadata::GENERATOR) == Some("grpc")
        || node.user_agent_name.starts_with("grpc-")
        || node.user_agent_name.starts_with("gRPC ");
    if grpc { Class::Grpc } else { Class::Envoy }
}

fn labels(node: &Node) -> BTreeMap<String, String> {
    let field = node.metadata.as_ref().and_then(|m| m.fields.get(metadata::LABELS));
    let Some(Kind::StructValue(labels)) = field.and_then(|f| f.kind.as_ref()) else { return BTreeMap::new() };
    let texts = labels.fields.iter().filter_map(|(key, value)| match &value.kind {
        Some(Kind::StringValue(value)) => Some((key.clone(), value.clone())),
        _ => None,
    });
    texts.take(256).collect()
}
