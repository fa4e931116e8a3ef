//! Services.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Item, Meta, nullable};
use crate::name::Name;

/// A service.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) metadata: Meta,
    #[serde(default)]
    pub(crate) spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

/// How it is meant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: ServiceType,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<Port>,
    pub(crate) selector: Option<BTreeMap<String, String>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    external_ips: Vec<String>,
    pub(crate) external_name: String,
    pub(crate) traffic_distribution: String,
    pub(crate) publish_not_ready_addresses: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ip_families: Vec<String>,
}

/// Kinds of service; what is not known is like the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum ServiceType {
    NodePort,
    LoadBalancer,
    ExternalName,
    #[default]
    #[serde(other)]
    ClusterIP,
}

/// A port that callers dial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
    pub(crate) port: u16,
    pub(crate) target_port: Option<TargetPort>,
}

/// Where instances listen: a number, or the name of a container's port, which differs from pod to pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum TargetPort {
    Number(u16),
    Name(String),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "nullable")]
    ingress: Vec<Ingress>,
}

/// Where a load balancer takes what is for the service: by address, or only by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: String,
}

impl Service {
    /// Addresses for those outside of the cluster.
    pub(crate) fn external_ips(&self) -> impl Iterator<Item = &str> {
        let ingress = self.status.load_balancer.ingress.iter().map(|at| at.ip.as_str());
        ingress.chain(self.spec.external_ips.iter().map(String::as_str)).filter(|ip| !ip.is_empty())
    }

    /// Whether it has no address of its own.
    pub(crate) fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }

    /// Addresses within the cluster; none for headless ones.
    pub(crate) fn cluster_ips(&self) -> impl Iterator<Item = &str> {
        let several = self.spec.cluster_ips.iter().map(String::as_str);
        let one = Some(self.spec.cluster_ip.as_str()).filter(|_| self.spec.cluster_ips.is_empty());
        several.chain(one).filter(|ip| !ip.is_empty() && *ip != "None")
    }
}

impl Item for Service {
    fn name(&self) -> Name {
        self.metadata.full_name()
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}
