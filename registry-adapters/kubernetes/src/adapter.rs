//! A cluster as a registry, and the clusters that it knows of: from settings to tasks that follow them.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hawser_api::istio::mesh_config::MeshLabelSelector;
use hawser_mesh::{Publisher, RegistryAdapter, RegistryId, RegistryKind, TrustDomain};
use hawser_registry_source::settings::digest;
use hawser_registry_source::{Closed, Context, Driver};
use kube::config::Kubeconfig;
use tokio::sync::{mpsc, watch};

use crate::access::{Access, Source};
use crate::clusters::{Kept, Memory};
use crate::follow::{Cluster, Follower, Others};
use crate::out::{Exports, Out};
use crate::requests::{self, Minter};
use crate::settings::Settings;
use crate::tokens::Tokens;
use crate::world::Selectors;

/// What of the mesh decides what a cluster means.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Trust domain of identities.
    pub trust_domain: TrustDomain,
    /// DNS suffix of services.
    pub domain: String,
    /// Namespace whose configuration counts for the whole mesh.
    pub root_namespace: String,
    /// Namespaces that are part of it, by their labels; none: all.
    pub discovery_selectors: Vec<MeshLabelSelector>,
}

/// Who takes in registries that come and go while discovery runs.
pub trait Registrar: Send + Sync + fmt::Debug + 'static {
    /// Takes in a registry: where it speaks, and what it gets.
    fn register(&self, id: &RegistryId) -> (Publisher, Context);

    /// A registry is no more.
    fn remove(&self, id: &RegistryId);

    /// A cluster of this name can be asked about tokens; with nothing, no more.
    fn vouch(&self, cluster: &str, tokens: Option<Tokens>);
}

/// A cluster by the name that an operator gave it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What is said of it.
    pub settings: Settings,
}

/// Follows a cluster, and those whose kubeconfigs it keeps.
#[derive(Debug)]
pub struct KubernetesAdapter {
    entry: Entry,
    mesh: Mesh,
    context: Context,
    states: Memory,
    registrar: Arc<dyn Registrar>,
    exports: Option<Exports>,
    minter: Option<Arc<dyn Minter>>,
}

impl Entry {
    /// The registry that the cluster itself is.
    pub fn id(&self) -> RegistryId {
        id(&self.name)
    }

    /// Those of which it kept kubeconfigs when it was last heard, as stored under `states`.
    pub fn remembered(&self, states: &Path) -> Vec<RegistryId> {
        let memory = Memory::new(Some(states), &self.name);
        let others = if self.settings.remote_clusters.disabled { Vec::new() } else { memory.names() };
        others.iter().map(|other| other_id(&self.name, other)).collect()
    }
}

impl KubernetesAdapter {
    /// An adapter of the cluster; it starts those that the cluster knows of itself, through the registrar.
    pub fn new(
        entry: Entry,
        mesh: Mesh,
        context: Context,
        states: Option<&Path>,
        registrar: Arc<dyn Registrar>,
    ) -> Self {
        let states = Memory::new(states, &entry.name);
        Self { entry, mesh, context, states, registrar, exports: None, minter: None }
    }

    /// Writes of the mesh into the cluster what its settings say.
    #[must_use]
    pub fn with_exports(self, exports: Exports) -> Self {
        Self { exports: Some(exports), ..self }
    }

    /// Has this one make the join tokens that are asked for in the cluster.
    #[must_use]
    pub fn with_minter(self, minter: Arc<dyn Minter>) -> Self {
        Self { minter: Some(minter), ..self }
    }

    async fn follow(self, publisher: Publisher) -> Result<(), Closed> {
        let Self { entry: Entry { name, settings }, mesh, context, states, registrar, exports, minter } = self;
        let source = match &settings.kubeconfig {
            Some(file) => Source::File { file: file.clone(), context: settings.context.clone() },
            None => Source::InCluster,
        };
        let access = Arc::new(Access::new(source));
        registrar.vouch(&name, Some(Tokens::new(access.clone())));
        // Ended with this future.
        let mut requests = tokio::task::JoinSet::new();
        if let Some(minter) = minter.filter(|_| !settings.ignore_join_requests) {
            let limited = !mesh.discovery_selectors.is_empty();
            let selectors = limited.then(|| Selectors::new(&mesh.discovery_selectors, &mesh.root_namespace));
            requests.spawn(requests::run(access.clone(), minter, selectors));
        }
        let others = match settings.remote_clusters.disabled {
            true => None,
            false => {
                Some(Remotes { own: name.clone(), settings: settings.clone(), mesh: mesh.clone(), registrar, states })
            }
        };
        let secrets = settings.remote_clusters.namespace.clone().unwrap_or_else(|| mesh.root_namespace.clone());
        let out = exports.map(|exports| {
            let (writes, mesh) = (settings.writes(exports.first), mesh.trust_domain.to_string());
            Out::new(writes, mesh, access.clone(), exports)
        });
        let cluster = Cluster {
            access,
            istio: !settings.ignore_istio,
            cluster_addresses: !settings.virtual_addresses,
            network: settings.network.clone(),
            mesh,
            secrets: others.is_some().then_some(secrets),
            most: settings.most(),
        };
        let driver = start(publisher, context, &cluster, &settings).await?;
        let others = others.map(|remotes| Box::new(Running { remotes, running: HashMap::new() }) as Box<dyn Others>);
        Err(Follower::new(cluster, driver, others, out).run().await)
    }
}

impl RegistryAdapter for KubernetesAdapter {
    fn id(&self) -> RegistryId {
        self.entry.id()
    }

    async fn run(self, publisher: Publisher) {
        let (Ok(()) | Err(Closed)) = self.follow(publisher).await;
    }
}

async fn start(
    publisher: Publisher,
    context: Context,
    cluster: &Cluster,
    settings: &Settings,
) -> Result<Driver, Closed> {
    let source = hawser_registry_source::Settings { freeze: settings.freeze() };
    Driver::start(publisher, context, &source, cluster.digest()).await
}

/// What other clusters are started with.
#[derive(Clone, Debug)]
struct Remotes {
    own: String,
    settings: Settings,
    mesh: Mesh,
    registrar: Arc<dyn Registrar>,
    states: Memory,
}

/// Other clusters that are followed.
#[derive(Debug)]
struct Running {
    remotes: Remotes,
    running: HashMap<String, Remote>,
}

/// One of them.
#[derive(Debug)]
struct Remote {
    kept: Option<Kept>,
    kubeconfig: watch::Sender<Option<Arc<Kubeconfig>>>,
    access: Arc<Access>,
    /// A word ends it: it takes back all that it said. That nobody can say it any more does not.
    end: mpsc::Sender<()>,
}

impl Others for Running {
    /// Starts those that were known when the cluster was last heard: until it is, with what is stored.
    fn remembered(&mut self) {
        for name in self.remotes.states.names() {
            self.start(&name, None);
        }
    }

    fn set(&mut self, wanted: &std::collections::BTreeMap<String, Kept>, keep: &dyn Fn(&str) -> bool) {
        let before: Vec<String> = self.running.keys().cloned().collect();
        for name in before.iter().filter(|name| !wanted.contains_key(*name) && !keep(name)) {
            tracing::info!(cluster = name, "cluster is no longer followed: no secret names it");
            self.remotes.registrar.vouch(name, None);
            if let Some(remote) = self.running.remove(name) {
                // There is room for one word, and nobody says another.
                let _ = remote.end.try_send(());
            }
        }
        for (name, kept) in wanted {
            match self.running.get_mut(name) {
                Some(remote) if remote.kept.as_ref() == Some(kept) => {}
                Some(remote) => {
                    remote.kept = Some(kept.clone());
                    remote.kubeconfig.send_replace(Some(kept.kubeconfig.clone()));
                    remote.access.forget();
                }
                None => self.start(name, Some(kept.clone())),
            }
        }
        let mut now: Vec<String> = self.running.keys().cloned().collect();
        now.sort();
        let memory = self.remotes.states.clone();
        // A file of a few names: the next change writes it again if this fails.
        drop(tokio::task::spawn_blocking(move || {
            if now != memory.names()
                && let Err(error) = memory.keep(&now)
            {
                tracing::warn!(%error, "names of clusters are not written down");
            }
        }));
    }
}

impl Running {
    fn start(&mut self, name: &str, kept: Option<Kept>) {
        tracing::info!(cluster = name, known = kept.is_some(), "cluster is followed");
        let Remotes { own, settings, mesh, registrar, .. } = self.remotes.clone();
        let id = other_id(&own, name);
        let (kubeconfig, source) = watch::channel(kept.as_ref().map(|kept| kept.kubeconfig.clone()));
        let access = Arc::new(Access::new(Source::Kept(source)));
        registrar.vouch(name, Some(Tokens::new(access.clone())));
        let (end, mut ended) = mpsc::channel(1);
        let cluster = Cluster {
            access: access.clone(),
            // Configuration is that of the cluster that keeps the others.
            istio: false,
            // Each cluster gives out addresses of its own, which mean something else in the next one.
            cluster_addresses: false,
            network: String::new(),
            mesh,
            secrets: None,
            most: settings.most(),
        };
        tokio::spawn(async move {
            let (publisher, context) = registrar.register(&id);
            let Ok(driver) = start(publisher, context, &cluster, &settings).await else { return };
            let mut follower = Follower::new(cluster, driver, None, None);
            tokio::select! {
                _closed = follower.run() => return,
                word = ended.recv() => if word.is_none() { return },
            }
            if follower.end().await.is_ok() {
                registrar.remove(&id);
            }
        });
        self.running.insert(name.to_owned(), Remote { kept, kubeconfig, access, end });
    }
}

impl Cluster {
    /// Everything that decides what is said of the same cluster.
    fn digest(&self) -> u64 {
        let mesh = (&self.mesh.trust_domain, &self.mesh.domain, &self.mesh.root_namespace);
        let own = (self.istio, self.cluster_addresses, &self.network);
        digest(&format!("{mesh:?} {own:?} {:?}", self.mesh.discovery_selectors))
    }

    pub(crate) fn selectors(&self) -> Selectors {
        Selectors::new(&self.mesh.discovery_selectors, &self.mesh.root_namespace)
    }
}

fn id(name: &str) -> RegistryId {
    RegistryId { kind: RegistryKind::Kubernetes, name: name.into() }
}

/// The registry of a cluster that another one knows of.
fn other_id(own: &str, name: &str) -> RegistryId {
    id(&format!("{own}/{name}"))
}
