//! Other clusters, whose kubeconfigs a cluster keeps in secrets, as Istio has them. No I/O but for the list of their
//! names, which is remembered: when the cluster that keeps them is away, they are still known.
//!
//! In: secrets. Out: clusters with their kubeconfigs, and what can't be used. Invariant: a kubeconfig of a secret runs no
//! program and reads no file of this host.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::Kubeconfig;

use crate::name::Name;
use crate::settings::is_word;
use crate::watch::Change;
use crate::wire::{Item as _, Secret};

/// Label of the secrets, as a selector in a URL.
pub(crate) const SELECTOR: &str = "labelSelector=istio%2FmultiCluster%3Dtrue";
/// Most clusters.
const MANY: usize = 64;
/// Largest kubeconfig.
const MOST: usize = 1 << 20;

/// A kubeconfig as it is written, and read.
#[derive(Clone)]
pub(crate) struct Kept {
    text: Arc<str>,
    pub(crate) kubeconfig: Arc<Kubeconfig>,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

/// Kubeconfigs by secret.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    secrets: BTreeMap<Name, BTreeMap<String, Result<Kept, String>>>,
    heard: bool,
}

/// All clusters as they are to be now, and what is wrong with secrets, by secret and key.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) clusters: BTreeMap<String, Kept>,
    /// Clusters that a secret names, though its kubeconfig can't be used: they stay as they are.
    pub(crate) unusable: BTreeMap<String, String>,
}

impl Clusters {
    /// Whether all secrets were heard: only then one that is not there is none.
    pub(crate) fn is_whole(&self) -> bool {
        self.heard
    }

    pub(crate) fn take(&mut self, change: Change<Secret>) {
        match change {
            Change::Whole(all) => {
                self.heard = true;
                self.secrets = all.iter().map(|secret| (secret.name(), read(secret))).collect();
            }
            Change::Set(secret) => {
                self.secrets.insert(secret.name(), read(&secret));
            }
            Change::Gone(name) => {
                self.secrets.remove(&name);
            }
        }
    }

    /// What follows. Of two secrets that name one cluster the first by name counts.
    pub(crate) fn wanted(&self, own: &str) -> Wanted {
        let mut wanted = Wanted::default();
        let mut from: HashMap<&str, &Name> = HashMap::new();
        for (secret, clusters) in &self.secrets {
            for (cluster, kept) in clusters {
                let problem = if !is_word(cluster, 63) {
                    Some("a cluster's name has letters, digits, '-', '_' and '.', 63 at most".to_owned())
                } else if cluster == own {
                    Some("it is the name of the cluster that keeps the secret".to_owned())
                } else if let Some(first) = from.get(cluster.as_str()) {
                    Some(format!("secret {first} names the same cluster, and counts"))
                } else if wanted.clusters.len() >= MANY {
                    Some(format!("{MANY} clusters are the most"))
                } else {
                    kept.as_ref().err().cloned()
                };
                match (problem, kept) {
                    (Some(why), _) => drop(wanted.unusable.insert(cluster.clone(), format!("secret {secret}: {why}"))),
                    (None, Ok(kept)) => {
                        from.insert(cluster, secret);
                        wanted.clusters.insert(cluster.clone(), kept.clone());
                    }
                    (None, Err(_)) => {}
                }
            }
        }
        let usable = &wanted.clusters;
        wanted.unusable.retain(|cluster, _| !usable.contains_key(cluster) || !is_word(cluster, 63));
        wanted
    }
}

fn read(secret: &Secret) -> BTreeMap<String, Result<Kept, String>> {
    secret.data().map(|(cluster, data)| (cluster.to_owned(), kubeconfig(data))).collect()
}

fn kubeconfig(data: &str) -> Result<Kept, String> {
    if data.len() > MOST {
        return Err("the kubeconfig is larger than 1 MiB".to_owned());
    }
    let bytes = STANDARD.decode(data.trim()).map_err(|_| "it is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "the kubeconfig is not text")?;
    let kubeconfig = Kubeconfig::from_yaml(&text).map_err(|_| "it is no kubeconfig")?;
    for user in kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref()) {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("users with exec or auth-provider would run programs here; write a token".to_owned());
        }
        if user.token_file.is_some() || user.client_certificate.is_some() || user.client_key.is_some() {
            return Err("users with files would read files of this host; write the data itself".to_owned());
        }
    }
    for cluster in kubeconfig.clusters.iter().filter_map(|cluster| cluster.cluster.as_ref()) {
        if cluster.certificate_authority.is_some() {
            return Err("certificate-authority is a file of this host; write certificate-authority-data".to_owned());
        }
    }
    Ok(Kept { text: text.into(), kubeconfig: Arc::new(kubeconfig) })
}

/// Names of other clusters that a cluster kept kubeconfigs of when it was last heard.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Option<PathBuf>);

impl Memory {
    /// Of the cluster of this name, among stored states.
    pub(crate) fn new(states: Option<&Path>, name: &str) -> Self {
        Self(states.map(|states| states.join(format!("kubernetes-{name}.clusters"))))
    }

    /// The names; none if nothing is remembered.
    pub(crate) fn names(&self) -> Vec<String> {
        let text = self.0.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        text.lines().filter(|name| is_word(name, 63)).take(MANY).map(str::to_owned).collect()
    }

    /// Remembers these.
    pub(crate) fn keep(&self, names: &[String]) -> std::io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let beside = file.with_extension("clusters.new");
        let mut new = std::fs::File::create(&beside)?;
        names.iter().try_for_each(|name| writeln!(new, "{name}"))?;
        new.sync_all()?;
        std::fs::rename(&beside, file)
    }
}

#[cfg(test)]
mod tests;
