//! Consul's JSON: only what is read of it, and whatever a server may leave out or say as `null`.
//!
//! In: bodies. Out: values of strings and numbers, not yet checked. Invariants: a field that is missing, `null` or new
//! never makes a whole answer unreadable; lists are bounded, whatever a body of that size could hold.

mod bounded;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

pub(crate) use self::bounded::{First, Listed};

/// Instances of a service, as far as they are used.
pub(crate) type Entries = First<Entry, 20_000>;
/// Checks of one status.
pub(crate) type Checks = First<Check, 500_000>;
/// Nodes.
pub(crate) type Nodes = First<Node, 200_000>;
/// Configuration entries.
pub(crate) type Defaults = First<ServiceDefaults, 100_000>;

/// One instance of a service with its node and the checks that count for it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Entry {
    #[serde(deserialize_with = "or_default")]
    pub(crate) node: Node,
    #[serde(deserialize_with = "or_default")]
    pub(crate) service: Service,
    #[serde(deserialize_with = "or_default")]
    pub(crate) checks: Vec<Check>,
}

impl Entry {
    /// The port that the instance listens on: its only one, or the first that it names.
    pub(crate) fn port(&self) -> i64 {
        let named = || self.service.ports.first().map(|named| named.port);
        Some(self.service.port).filter(|port| *port != 0).or_else(named).unwrap_or_default()
    }
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Node {
    #[serde(deserialize_with = "or_default")]
    pub(crate) node: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) address: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tagged_addresses: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) meta: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) locality: Locality,
}

/// A service as an agent registered it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Service {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub(crate) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) address: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tagged_addresses: BTreeMap<String, TaggedAddress>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) meta: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) port: i64,
    #[serde(deserialize_with = "lenient")]
    pub(crate) ports: Vec<NamedPort>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) socket_path: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) weights: Option<Weights>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) connect: Connect,
    #[serde(deserialize_with = "or_default")]
    pub(crate) locality: Locality,
}

/// An address for callers of one kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TaggedAddress {
    #[serde(deserialize_with = "or_default")]
    pub(crate) address: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) port: i64,
}

/// A port of an instance that has several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NamedPort {
    #[serde(alias = "name")]
    pub(crate) name: String,
    #[serde(alias = "port")]
    pub(crate) port: i64,
}

/// Shares of requests by state.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Weights {
    pub(crate) passing: i64,
    pub(crate) warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// How the instance takes part in Consul's own mesh.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Connect {
    #[serde(deserialize_with = "or_default")]
    pub(crate) native: bool,
}

/// Where something runs.
#[derive(Clone, Debug, Default, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Locality {
    #[serde(deserialize_with = "or_default")]
    pub(crate) region: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) zone: String,
}

/// A check of a node or of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Check {
    #[serde(deserialize_with = "or_default")]
    pub(crate) node: String,
    #[serde(rename = "CheckID", deserialize_with = "or_default")]
    pub(crate) check_id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) service_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) status: String,
}

/// A configuration entry of kind `service-defaults`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ServiceDefaults {
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) protocol: String,
}

/// How a peering is, and what comes by it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Peering {
    #[serde(deserialize_with = "or_default")]
    pub(crate) state: String,
    pub(crate) stream_status: Option<StreamStatus>,
}

/// Part of [`Peering`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StreamStatus {
    /// Names, with partition and namespace before them where Consul has these. `null` is an empty list; older Consuls
    /// do not have it at all.
    #[serde(deserialize_with = "there")]
    pub(crate) imported_services: Option<First<String, 100_000>>,
}

/// What an agent says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct AgentSelf {
    #[serde(deserialize_with = "or_default")]
    pub(crate) config: AgentConfig,
}

/// Part of [`AgentSelf`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct AgentConfig {
    #[serde(deserialize_with = "or_default")]
    pub(crate) datacenter: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) version: String,
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A value that is there, though perhaps as `null`.
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// For fields whose form may be another one in other versions: what does not fit is left out.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(match value {
        serde_json::Value::Array(list) => list.into_iter().filter_map(|v| serde_json::from_value(v).ok()).collect(),
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_missing_fields_are_empty_and_new_fields_are_passed_over() {
        let text = r#"[{"Node":{"Node":"n","Meta":null,"TaggedAddresses":null,"New":{"x":[1]}},
            "Service":{"ID":"a","Tags":null,"Port":80,"Ports":{"other":"form"},"Weights":null,"Connect":null},
            "Checks":null}, {"Node":null,"Service":null}, {}]"#;
        let entries: Vec<Entry> = serde_json::from_str(text).unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!((entries[0].service.port, entries[0].service.ports.len()), (80, 0));
        assert!(entries[0].checks.is_empty() && entries[0].service.weights.is_none());
    }
}
