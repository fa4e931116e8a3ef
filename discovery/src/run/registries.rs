//! The file of registries of other systems: which there are, and starting each.
//!
//! In: `registries.yaml`. Out: adapters that run, handles on them. The file is strict, and read at start: when it
//! changes, that it can be used, or why not, is said, and a restart makes it count. Adding a kind is a field of
//! [`Entry`], an arm of [`Kind::ids`] and one of [`Kind::start`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hawser_api::istio::mesh_config::MeshLabelSelector;
use hawser_daemon::drain;
use hawser_mesh::{Hostname, Publisher, RegistryAdapter, RegistryId};
use hawser_registry_consul::ConsulAdapter;
use hawser_registry_http::{DnsSrv, FileSd, HttpSd, Mesh, Source, TargetsAdapter};
use hawser_registry_kubernetes::{KubernetesAdapter, Tokens};
use hawser_registry_source::{Context, Interest};
use serde::Deserialize;

use super::minting::Minting;
use super::{exports, follow};
use crate::identity::accounts::{Accounts, NoReview, Review, Reviewer};
use crate::registry::{EventSender, Settings, Snapshots};
use crate::sources::Sources;

/// Where it is, unless it is named.
const DEFAULT: &str = "/etc/hawser/registries.yaml";
/// Where states are stored, in the data directory.
const STATES: &str = "registries";
/// Largest file.
const MOST: u64 = 4 << 20;
/// Most registries.
const MANY: usize = 256;
/// What an entry may be.
const KINDS: &str = "kubernetes, consul, http_sd, file_sd and dns_srv";
/// Time between two looks whether the file changed.
const LOOK: Duration = Duration::from_secs(5);

/// The registries of a file.
#[derive(Debug, Default)]
pub(super) struct Registries {
    file: Option<PathBuf>,
    text: String,
    all: Vec<(String, Kind)>,
}

/// What registries are started with.
pub(super) struct Started<'a> {
    pub(super) settings: &'a Settings,
    pub(super) data_dir: &'a Path,
    /// Namespaces of clusters that are part of the mesh.
    pub(super) discovery_selectors: &'a [MeshLabelSelector],
    pub(super) interest: Interest,
    pub(super) sources: &'a Sources,
    pub(super) accounts: &'a Accounts,
    /// Who makes the join tokens that are asked for in clusters.
    pub(super) minting: &'a Minting,
    pub(super) snapshots: &'a Snapshots,
    pub(super) events: EventSender,
    pub(super) drain: drain::Watch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    registries: Vec<Entry>,
}

/// One registry: its name, and the settings of exactly one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    consul: Option<hawser_registry_consul::Settings>,
    #[serde(default)]
    kubernetes: Option<hawser_registry_kubernetes::Settings>,
    #[serde(default)]
    http_sd: Option<HttpSd>,
    #[serde(default)]
    file_sd: Option<FileSd>,
    #[serde(default)]
    dns_srv: Option<DnsSrv>,
}

/// A registry of some kind, checked.
#[derive(Debug)]
enum Kind {
    Consul(Box<hawser_registry_consul::Settings>),
    Kubernetes(Box<hawser_registry_kubernetes::Settings>),
    Targets(Box<Source>),
}

impl Entry {
    fn kind(self) -> anyhow::Result<(String, Kind)> {
        let Self { name, consul, kubernetes, http_sd, file_sd, dns_srv } = self;
        check_name(&name)?;
        let mut kinds: Vec<Kind> = Vec::new();
        kinds.extend(consul.map(|of| Kind::Consul(Box::new(of))));
        kinds.extend(kubernetes.map(|of| Kind::Kubernetes(Box::new(of))));
        kinds.extend(http_sd.map(|of| Kind::Targets(Box::new(Source::HttpSd(of)))));
        kinds.extend(file_sd.map(|of| Kind::Targets(Box::new(Source::FileSd(of)))));
        kinds.extend(dns_srv.map(|of| Kind::Targets(Box::new(Source::DnsSrv(of)))));
        let one = kinds.len() == 1;
        match kinds.pop().filter(|_| one) {
            Some(kind) => {
                kind.check().with_context(|| format!("registry {name}"))?;
                Ok((name, kind))
            }
            None => bail!("registry {name}: it has one of {KINDS}, no more and no less"),
        }
    }
}

impl Kind {
    fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Consul(settings) => Ok(settings.check()?),
            Self::Kubernetes(settings) => Ok(settings.check()?),
            Self::Targets(source) => source.check().map_err(anyhow::Error::msg),
        }
    }

    /// The registries that an entry is.
    fn ids(&self, name: &str) -> Vec<RegistryId> {
        match self {
            Self::Kubernetes(settings) => vec![cluster(name, settings).id()],
            Self::Consul(settings) => ConsulAdapter::registries(name, settings).into_iter().map(|(id, _)| id).collect(),
            Self::Targets(source) => vec![RegistryId { kind: source.kind(), name: name.into() }],
        }
    }

    /// Those that it brought along before, as stored under `states`.
    fn remembered(&self, name: &str, states: &Path) -> Vec<RegistryId> {
        match self {
            Self::Kubernetes(settings) => cluster(name, settings).remembered(states),
            Self::Consul(_) | Self::Targets(_) => Vec::new(),
        }
    }

    /// `first`: it is the first of its kind.
    fn start(self, name: &str, first: bool, with: &Started<'_>) {
        match self {
            Self::Kubernetes(settings) => {
                let mesh = hawser_registry_kubernetes::Mesh {
                    trust_domain: with.settings.trust_domain.clone(),
                    domain: with.settings.domain.clone(),
                    root_namespace: with.settings.root_namespace.clone(),
                    discovery_selectors: with.discovery_selectors.to_vec(),
                };
                let entry = cluster(name, &settings);
                let states = with.data_dir.join(STATES);
                let (registrar, context) = (Arc::new(with.registrar()), with.context(&entry.id()));
                let minter = Arc::new(with.minting.clone());
                let exports = exports::follow(entry.id(), first, with.snapshots.clone(), with.drain.clone());
                let adapter = KubernetesAdapter::new(entry, mesh, context, Some(&states), registrar);
                with.run(adapter.with_exports(exports).with_minter(minter));
            }
            Self::Consul(settings) => {
                for (id, part) in ConsulAdapter::registries(name, &settings) {
                    let (context, domain) = (with.context(&id), &with.settings.domain);
                    with.run(ConsulAdapter::new(id, part, (*settings).clone(), context, domain));
                }
            }
            Self::Targets(source) => {
                let domain = with.settings.domain.clone();
                let mesh = Mesh { trust_domain: with.settings.trust_domain.clone(), domain };
                let id = RegistryId { kind: source.kind(), name: name.into() };
                let context = with.context(&id);
                with.run(TargetsAdapter::new(name, *source, mesh, context));
            }
        }
    }
}

/// Takes in registries that come and go while discovery runs.
#[derive(Debug)]
struct Registrar {
    states: PathBuf,
    interest: Interest,
    sources: Sources,
    accounts: Accounts,
    events: EventSender,
}

impl Registrar {
    fn context(&self, id: &RegistryId) -> Context {
        let (context, handle) = Context::new(id, Some(&self.states), self.interest.clone());
        self.sources.add(id.clone(), handle);
        context
    }
}

impl hawser_registry_kubernetes::Registrar for Registrar {
    fn register(&self, id: &RegistryId) -> (Publisher, Context) {
        (Publisher::new(id.clone(), self.events.clone()), self.context(id))
    }

    fn remove(&self, id: &RegistryId) {
        self.sources.remove(id);
    }

    fn vouch(&self, cluster: &str, tokens: Option<Tokens>) {
        match tokens {
            Some(tokens) => self.accounts.follow(cluster, Arc::new(Reviews(tokens))),
            None => self.accounts.leave(cluster),
        }
    }
}

/// A cluster's API server, asked about tokens.
struct Reviews(Tokens);

#[tonic::async_trait]
impl Reviewer for Reviews {
    async fn review(&self, token: &str, audience: &str) -> Result<Review, NoReview> {
        let status = self.0.review(token, audience).await.map_err(NoReview)?;
        serde_json::from_value(status).map_err(|_| NoReview("its answer is no TokenReview".to_owned()))
    }
}

fn cluster(name: &str, settings: &hawser_registry_kubernetes::Settings) -> hawser_registry_kubernetes::Entry {
    hawser_registry_kubernetes::Entry { name: name.to_owned(), settings: settings.clone() }
}

impl Started<'_> {
    fn context(&self, id: &RegistryId) -> Context {
        self.registrar().context(id)
    }

    fn registrar(&self) -> Registrar {
        Registrar {
            states: self.data_dir.join(STATES),
            interest: self.interest.clone(),
            sources: self.sources.clone(),
            accounts: self.accounts.clone(),
            events: self.events.clone(),
        }
    }

    fn run(&self, adapter: impl RegistryAdapter) {
        tokio::spawn(follow(adapter, self.events.clone(), self.drain.clone()));
    }
}

/// Reads the file; the default one need not exist.
///
/// # Errors
/// File, place, reason and cure.
pub(super) fn read(file: Option<&Path>) -> anyhow::Result<Registries> {
    let path = file.unwrap_or(Path::new(DEFAULT));
    if file.is_none() && !path.exists() {
        return Ok(Registries::default());
    }
    let name = path.display();
    let text = text(path).with_context(|| format!("--registries {name}"))?;
    let all = parse(&text).with_context(|| format!("--registries {name}"))?;
    Ok(Registries { file: Some(path.to_owned()), text, all })
}

impl Registries {
    /// Of all that there are.
    pub(super) fn ids(&self, data_dir: &Path) -> Vec<RegistryId> {
        let states = data_dir.join(STATES);
        let all = self.all.iter();
        all.flat_map(|(name, kind)| kind.ids(name).into_iter().chain(kind.remembered(name, &states))).collect()
    }

    /// Starts all, and looks after the file.
    pub(super) fn start(self, with: Started<'_>) {
        let mut clusters = 0;
        for (name, kind) in self.all {
            clusters += usize::from(matches!(kind, Kind::Kubernetes(_)));
            kind.start(&name, clusters == 1, &with);
        }
        if let Some(file) = self.file {
            let watch = watch(file, self.text, with.sources.clone());
            let drain = with.drain.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = drain.draining() => {}
                    () = watch => {}
                }
            });
        }
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    if std::fs::metadata(path)?.len() > MOST {
        bail!("it is larger than {} MiB", MOST >> 20);
    }
    Ok(std::fs::read_to_string(path)?)
}

fn parse(text: &str) -> anyhow::Result<Vec<(String, Kind)>> {
    let document: Option<Document> = serde_saphyr::from_str(text)?;
    let entries = document.map(|document| document.registries).unwrap_or_default();
    if entries.len() > MANY {
        bail!("it has {} registries; {MANY} are the most", entries.len());
    }
    let mut all = Vec::new();
    let mut names = BTreeSet::new();
    for entry in entries {
        let (name, kind) = entry.kind()?;
        for id in kind.ids(&name) {
            if !names.insert(id.clone()) {
                bail!("registry {name}: {id} stands twice; give one of them another name");
            }
        }
        all.push((name, kind));
    }
    Ok(all)
}

/// A name that may be a label of a host name.
fn check_name(name: &str) -> anyhow::Result<()> {
    let one_label = !name.contains(['.', '*', '_']) && name.parse::<Hostname>().is_ok_and(|host| host.as_str() == name);
    if !one_label {
        let shown: String = name.chars().take(80).collect();
        bail!("registry {shown:?}: a name has lower-case letters, digits and '-', 63 at most");
    }
    Ok(())
}

/// Tells when the file is no longer the one that was read.
async fn watch(file: PathBuf, read: String, sources: Sources) {
    let mut seen = Ok(read.clone());
    loop {
        tokio::time::sleep(LOOK).await;
        let path = file.clone();
        let looked = tokio::task::spawn_blocking(move || text(&path).map_err(|e| format!("{e:#}"))).await;
        let Ok(now) = looked else { return };
        if now == seen {
            continue;
        }
        let name = file.display();
        let note = match &now {
            Err(why) => Some(format!("{name}: {why}; the registries that run go on")),
            Ok(text) if *text == read => None,
            Ok(text) => Some(match parse(text) {
                Ok(_) => format!("{name} changed; restart hawser-discovery to make it count"),
                Err(why) => format!("{name} changed and can't be used: {why:#}; the registries that run go on"),
            }),
        };
        if let Some(note) = &note {
            tracing::warn!("{note}");
        }
        sources.note(note.into_iter().collect());
        seen = now;
    }
}

#[cfg(test)]
mod tests;
