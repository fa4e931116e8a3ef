//! EndpointSlices: which addresses back a service, and how each is.

use serde::Deserialize;

use super::{Item, Meta, nullable};
use crate::name::Name;

/// A slice.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Slice {
    pub(crate) metadata: Meta,
    #[serde(default)]
    pub(crate) address_type: AddressType,
    /// `null` where there are none.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) endpoints: Vec<Endpoint>,
    /// `null` as long as there are no endpoints, in slices that the cluster makes.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) ports: Vec<SlicePort>,
}

/// What the addresses are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub(crate) enum AddressType {
    #[default]
    IPv4,
    IPv6,
    #[serde(rename = "FQDN")]
    Fqdn,
    /// Of a later API.
    #[serde(other)]
    Other,
}

/// An endpoint, with one address or several that are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    #[serde(deserialize_with = "nullable")]
    pub(crate) addresses: Vec<String>,
    pub(crate) conditions: Conditions,
    pub(crate) target_ref: Option<TargetRef>,
    pub(crate) node_name: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) hints: Option<Hints>,
}

/// How it is; what is not said means the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
}

/// What it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(crate) struct TargetRef {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Whom it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Hints {
    #[serde(deserialize_with = "nullable")]
    pub(crate) for_zones: Vec<ForZone>,
}

/// A zone that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(crate) struct ForZone {
    pub(crate) name: String,
}

/// Where the endpoints listen, by the name of the service's port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    #[serde(deserialize_with = "text")]
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
}

/// Label of whoever makes a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who we are there.
pub(crate) const WE: &str = "hawser.io";
/// Label of the service that a slice belongs to.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Slice {
    /// Whether it is our own word.
    pub(crate) fn is_ours(&self) -> bool {
        self.metadata.labels.get(MANAGED_BY).is_some_and(|by| by == WE)
    }

    /// The service that it belongs to; those that nobody made for a service have none.
    pub(crate) fn service(&self) -> Option<&str> {
        self.metadata.labels.get(SERVICE_NAME).map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl Endpoint {
    /// The pod that it is.
    pub(crate) fn pod(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref().filter(|target| target.kind == "Pod" && !target.name.is_empty())
    }
}

impl Item for Slice {
    fn name(&self) -> Name {
        self.metadata.full_name()
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}
