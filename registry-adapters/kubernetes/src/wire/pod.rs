//! Pods: where they are, who they are, how they are.

use serde::Deserialize;

use super::{Item, Meta, nullable};
use crate::name::Name;

/// A pod.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pod {
    pub(crate) metadata: Meta,
    #[serde(default)]
    pub(crate) spec: PodSpec,
    #[serde(default)]
    pub(crate) status: PodStatus,
}

/// How it is meant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: String,
    pub(crate) service_account_name: String,
    pub(crate) host_network: bool,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
}

/// How it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    reason: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pod_ips: Vec<PodIp>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
}

/// Whether a pod takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It does.
    Ready,
    /// It does not say so, or says no.
    NotReady,
    /// Nobody knows what became of it: its node is silent.
    Lost,
}

impl Pod {
    /// It has ended, and will not come back.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Its addresses.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let several = self.status.pod_ips.iter().map(|of| of.ip.clone());
        let mut all: Vec<String> = several.filter(|ip| !ip.is_empty()).collect();
        if all.is_empty() && !self.status.pod_ip.is_empty() {
            all.push(self.status.pod_ip.clone());
        }
        all
    }

    /// Whether it has a container of that name, be it one that is started first and stays.
    pub(crate) fn has_container(&self, name: &str) -> bool {
        self.spec.containers.iter().chain(&self.spec.init_containers).any(|container| container.name == name)
    }

    /// Whether it takes requests. When a node falls silent, its pods are said to be not ready while their containers
    /// still are: nobody was there to say otherwise.
    pub(crate) fn readiness(&self) -> Readiness {
        let find = |kind: &str| self.status.conditions.iter().find(|c| c.kind == kind);
        match (find("Ready"), find("ContainersReady")) {
            (Some(ready), _) if ready.status == "True" => Readiness::Ready,
            _ if self.status.reason == "NodeLost" || self.status.phase == "Unknown" => Readiness::Lost,
            (Some(ready), Some(containers))
                if containers.status == "True" && ready.reason != "ReadinessGatesNotReady" =>
            {
                Readiness::Lost
            }
            _ => Readiness::NotReady,
        }
    }
}

impl Item for Pod {
    fn name(&self) -> Name {
        self.metadata.full_name()
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}
