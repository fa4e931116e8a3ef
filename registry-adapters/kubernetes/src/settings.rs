//! What an operator says about a cluster.
//!
//! In: a document of the registries file. Out: [`Settings`], checked. Invariant: a key that is not known is refused,
//! and every refusal names the key and what to write instead.

use std::path::PathBuf;
use std::time::Duration;

use hawser_registry_source::Freeze;
use serde::Deserialize;

use crate::watch::OBJECTS;

/// A cluster as a registry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// A kubeconfig. None: discovery runs in the cluster, with its pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// Which of its contexts. None: the current one.
    pub context: Option<String>,
    /// Network of the cluster's pods, where neither they nor the root namespace name one. Empty: the default one.
    pub network: String,
    /// Callers do not dial the addresses that the cluster gave its services: the mesh gives them virtual ones.
    pub virtual_addresses: bool,
    /// Its Istio resources are no configuration of the mesh.
    pub ignore_istio: bool,
    /// Requests for join tokens that are made in it are not answered.
    pub ignore_join_requests: bool,
    /// Clusters whose kubeconfigs it keeps. None: those that Istio's secrets of the root namespace name.
    pub remote_clusters: Remote,
    /// What of the mesh is written into it.
    pub write: Write,
    /// When a loss is not believed; 50 % and 10 at least, for a minute, unless said.
    pub freeze: Option<Freeze>,
    /// Most objects of one kind that are taken in; 200000 unless said.
    pub most_objects: Option<usize>,
}

/// Where a cluster keeps kubeconfigs of others.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Remote {
    /// Nowhere.
    pub disabled: bool,
    /// The namespace of the secrets. None: the root namespace.
    pub namespace: Option<String>,
}

/// What is written into a cluster. Where nothing is said: everything into the first cluster of the file, nothing into others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Write {
    /// A WorkloadEntry for each joined host.
    pub workload_entries: Option<bool>,
    /// EndpointSlices with joined hosts, of services whose selectors take them.
    pub endpoint_slices: Option<bool>,
    /// What became of Istio's resources, in their status.
    pub status: Option<bool>,
    /// Events of resources that are refused.
    pub events: Option<bool>,
}

/// What is written, decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    pub(crate) entries: bool,
    pub(crate) slices: bool,
    pub(crate) status: bool,
    pub(crate) events: bool,
}

/// A setting that can't be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kubernetes.{field}: {message}")]
pub struct SettingsError {
    /// Which.
    pub field: &'static str,
    /// Why, and what to write instead.
    pub message: String,
}

impl Settings {
    /// Checks what types can't say.
    ///
    /// # Errors
    /// The first setting that can't be meant.
    pub fn check(&self) -> Result<(), SettingsError> {
        let wrong = |field, message: &str| Err(SettingsError { field, message: message.to_owned() });
        if self.context.is_some() && self.kubeconfig.is_none() {
            return wrong("context", "only a kubeconfig has contexts; write kubeconfig too, or leave this out");
        }
        if self.kubeconfig.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            return wrong("kubeconfig", "it is empty; write the path of a file, or leave it out in a cluster");
        }
        if !is_word(&self.network, 253) && !self.network.is_empty() {
            return wrong(
                "network",
                "a name has letters, digits, '-', '_' and '.', as the label topology.istio.io/network",
            );
        }
        if self.remote_clusters.namespace.as_ref().is_some_and(|name| !is_word(name, 63)) {
            return wrong("remoteClusters.namespace", "it is no name of a namespace");
        }
        for (field, said) in [("write.status", self.write.status), ("write.events", self.write.events)] {
            if self.ignore_istio && said == Some(true) {
                return wrong(
                    field,
                    "of resources that are ignored nothing is said; leave it out, or leave out ignoreIstio",
                );
            }
        }
        if self.most_objects.is_some_and(|most| !(1_000..=2_000_000).contains(&most)) {
            return wrong("mostObjects", "write a number from 1000 to 2000000, or leave it out for 200000");
        }
        Ok(())
    }

    /// Most objects of a kind.
    pub(crate) fn most(&self) -> usize {
        self.most_objects.unwrap_or(OBJECTS)
    }

    /// What is written into the cluster, which is the first of the file or is not.
    pub(crate) fn writes(&self, first: bool) -> Writes {
        let said = |said: Option<bool>| said.unwrap_or(first);
        Writes {
            entries: said(self.write.workload_entries),
            slices: said(self.write.endpoint_slices),
            status: said(self.write.status) && !self.ignore_istio,
            events: said(self.write.events) && !self.ignore_istio,
        }
    }

    pub(crate) fn freeze(&self) -> Freeze {
        self.freeze.unwrap_or(Freeze {
            percent: 50,
            at_least: 10,
            window: Duration::from_secs(10),
            accept_after: Some(Duration::from_secs(60)),
        })
    }
}

/// Whether a text may be a name, a label's value, a part of a path.
pub(crate) fn is_word(text: &str, longest: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= longest && bytes.iter().all(|byte| fits(*byte)) && ends(bytes.first()) && ends(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Settings {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn the_first_cluster_is_written_to_unless_it_is_said_otherwise() {
        let all = Writes { entries: true, slices: true, status: true, events: true };
        assert_eq!((read("{}").writes(true), read("{}").writes(false)), (all, Writes::default()));
        let some = read("{write: {endpointSlices: false, status: false}}").writes(true);
        assert_eq!(some, Writes { slices: false, status: false, ..all });
        let second = read("{write: {workloadEntries: true}}").writes(false);
        assert!(second.entries && !second.slices);
        let ignored = read("{ignoreIstio: true}").writes(true);
        assert_eq!(ignored, Writes { status: false, events: false, ..all });
    }

    #[test]
    fn what_can_not_be_written_is_refused_by_its_name() {
        let wrong = read("{mostObjects: 10}").check().unwrap_err().to_string();
        assert!(wrong.starts_with("kubernetes.mostObjects: write a number from 1000"), "{wrong}");
        assert_eq!((read("{mostObjects: 5000}").most(), read("{}").most()), (5000, 200_000));
        let wrong = read("{ignoreIstio: true, write: {status: true}}").check().unwrap_err();
        assert!(wrong.to_string().starts_with("kubernetes.write.status: of resources that are ignored"), "{wrong}");
        let unknown = serde_saphyr::from_str::<Settings>("{write: {entries: true}}").unwrap_err().to_string();
        assert!(unknown.contains("entries") && unknown.contains("workloadEntries"), "{unknown}");
        assert!(serde_saphyr::from_str::<Settings>("{write: {status: sometimes}}").is_err());
    }
}
