//! Follows one cluster: a watch for each kind, what they mean together, what is told of it.
//!
//! In: a way to the API server, a driver. Out: through the driver. One task; what watches say comes in through one
//! bounded queue, so a slow discovery slows them down. Invariant: nothing is said of a cluster before its services,
//! slices, pods and namespaces were each heard whole, and of resources before all of their kind were.

mod troubles;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_api::istio::Kind;
use hawser_mesh::{Event, Origin};
use hawser_registry_source::{Closed, Driver, Heard, Unseen};
use tokio::sync::{mpsc, watch};

use self::troubles::Troubles;
use crate::access::Access;
use crate::adapter::Mesh;
use crate::clusters::{Clusters, Kept, SELECTOR};
use crate::configs::{self, Configs};
use crate::name::Name;
use crate::out::{Out, Step};
use crate::probe;
use crate::watch::{self as watching, Change, Failure, Limits, Said, Waker, Watched};
use crate::wire::{Config, Item, Named, Pod, Secret, Service, Slice};
use crate::world::{Part, Told, World};

/// What waits to be taken in: then watches wait.
const QUEUE: usize = 256;
/// Taken in at once before anything is told.
const BATCH: usize = 1024;
/// Time between two looks at what went wrong.
const LOOK: Duration = Duration::from_secs(1);
/// Objects that are reported at most: a broken cluster must not fill everybody's listing.
const REPORTED: usize = 1000;
/// Namespaces that are shown by name.
const SHOWN: usize = 1000;

/// A cluster, and what of it is followed.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) access: Arc<Access>,
    pub(crate) mesh: Mesh,
    /// Its Istio resources are configuration.
    pub(crate) istio: bool,
    pub(crate) cluster_addresses: bool,
    pub(crate) network: String,
    /// Namespace of the secrets that name other clusters, where these are followed.
    pub(crate) secrets: Option<String>,
    /// Most objects of one kind.
    pub(crate) most: usize,
}

/// Other clusters, which this one knows of.
pub(crate) trait Others: Send + fmt::Debug {
    /// Starts those that were known before.
    fn remembered(&mut self);

    /// These are all; those that `keep` says stay as they are.
    fn set(&mut self, wanted: &BTreeMap<String, Kept>, keep: &dyn Fn(&str) -> bool);
}

/// What watches say.
#[derive(Debug)]
enum Message {
    Namespaces(Said<Named>),
    Nodes(Said<Named>),
    Services(Said<Service>),
    Slices(Said<Slice>),
    Pods(Said<Pod>),
    Config(Kind, Said<Config>),
    Secrets(Said<Secret>),
}

/// Follows a cluster.
#[derive(Debug)]
pub(crate) struct Follower {
    cluster: Cluster,
    driver: Driver,
    world: World,
    configs: Configs,
    clusters: Clusters,
    others: Option<Box<dyn Others>>,
    troubles: Troubles,
    /// What was reported, by origin.
    reported: BTreeMap<Origin, String>,
    /// Kinds that we may not see, which counts as seen: what was stored of them stays.
    unseen: BTreeSet<Kind>,
    /// Some kind was listed anew since what is missing was last looked at.
    listed: bool,
    others_changed: bool,
    /// What is not seen may be something else than was shown.
    unseen_changed: bool,
    /// What is written into it.
    out: Option<Out>,
}

impl Follower {
    pub(crate) fn new(cluster: Cluster, driver: Driver, others: Option<Box<dyn Others>>, out: Option<Out>) -> Self {
        let (mesh, network) = (cluster.mesh.clone(), cluster.network.clone());
        let world = World::new(mesh, network, cluster.cluster_addresses, cluster.selectors());
        Self {
            world,
            configs: Configs::default(),
            clusters: Clusters::default(),
            others,
            troubles: Troubles::default(),
            reported: BTreeMap::new(),
            unseen: BTreeSet::new(),
            listed: false,
            others_changed: false,
            unseen_changed: false,
            out,
            cluster,
            driver,
        }
    }

    /// Follows until nobody listens any more.
    pub(crate) async fn run(&mut self) -> Closed {
        match self.follow().await {
            Ok(()) | Err(Closed) => Closed,
        }
    }

    /// Takes back all that was said.
    pub(crate) async fn end(self) -> Result<(), Closed> {
        self.driver.end().await
    }

    async fn follow(&mut self) -> Result<(), Closed> {
        let (sender, mut messages) = mpsc::channel(QUEUE);
        let (reconnect, reconnects) = watch::channel(0);
        let waker = Waker { reconnect: reconnects, arrived: Arc::new(watch::channel(0).0) };
        // Ended with this future, wherever it is dropped.
        let mut tasks = tokio::task::JoinSet::new();
        self.watch(&mut tasks, &sender, &waker);
        drop(sender);
        let (answered, mut answers) = mpsc::channel(1);
        tasks.spawn(probe::run(self.cluster.access.clone(), reconnect, answered));
        if let Some(others) = &mut self.others {
            others.remembered();
        }
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                closed = self.driver.idle() => return Err(closed),
                Some(message) = messages.recv() => {
                    self.take(message);
                    for _ in 1..BATCH {
                        let Ok(message) = messages.try_recv() else { break };
                        self.take(message);
                    }
                    self.tell().await?;
                    self.write().await?;
                }
                step = next(&mut self.out) => {
                    if let Some(out) = &mut self.out {
                        out.step(step);
                    }
                    self.write().await?;
                }
                Some(answer) = answers.recv() => {
                    self.troubles.probed(answer, Instant::now());
                    self.look().await?;
                }
                _ = looks.tick() => if self.troubles.any() {
                    self.look().await?;
                },
            }
        }
    }

    fn watch(&self, tasks: &mut tokio::task::JoinSet<()>, sender: &mpsc::Sender<Message>, waker: &Waker) {
        fn at(path: &str) -> (Watched, Limits) {
            (Watched::at(path), Limits::builtin())
        }
        let mut start = Start { tasks, access: &self.cluster.access, most: self.cluster.most, sender, waker };
        start.kind(at("/api/v1/namespaces"), Message::Namespaces);
        start.kind(at("/api/v1/nodes"), Message::Nodes);
        start.kind(at("/api/v1/services"), Message::Services);
        start.kind(at("/apis/discovery.k8s.io/v1/endpointslices"), Message::Slices);
        start.kind(at("/api/v1/pods"), Message::Pods);
        // Entries of ours have to be seen to be kept, whatever entries mean.
        let entries = self.out.as_ref().is_some_and(Out::entries) && !self.cluster.istio;
        for kind in self.kinds().chain(entries.then_some(Kind::WorkloadEntry)) {
            let path = |version: &&str| format!("/apis/{}/{version}/{}", kind.group(), kind.plural());
            let places: Vec<String> = kind.versions().iter().map(path).collect();
            let limits = Limits::new(places.len());
            start.kind((Watched { places, query: String::new() }, limits), move |said| Message::Config(kind, said));
        }
        if let Some(namespace) = &self.cluster.secrets {
            let path = format!("/api/v1/namespaces/{namespace}/secrets");
            let watched = Watched { places: vec![path], query: SELECTOR.to_owned() };
            start.kind((watched, Limits::builtin()), Message::Secrets);
        }
    }

    /// Kinds of resources that are followed.
    fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let all = if self.cluster.istio { &Kind::ALL[..] } else { &[] };
        all.iter().copied()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Namespaces(said) => {
                if let Some(change) = self.troubles.sort("namespaces", said) {
                    self.take_namespaces(change);
                }
            }
            Message::Nodes(said) => {
                if let Some(change) = self.troubles.sort(NODES, said) {
                    self.world.nodes(change);
                }
            }
            Message::Services(said) => {
                if let Some(change) = self.troubles.sort("services", said) {
                    self.out.iter_mut().for_each(|out| out.services(&change));
                    self.world.services(change);
                }
            }
            Message::Slices(said) => {
                if let Some(change) = self.troubles.sort("endpointslices", said) {
                    self.out.iter_mut().for_each(|out| out.slices(&change));
                    self.world.slices(change);
                }
            }
            Message::Pods(said) => {
                if let Some(change) = self.troubles.sort("pods", said) {
                    self.world.pods(change);
                }
            }
            Message::Config(kind, said) => {
                if let Some(change) = self.troubles.sort(kind.plural(), said) {
                    self.unseen.remove(&kind);
                    self.out.iter_mut().for_each(|out| out.configs(kind, &change));
                    if self.cluster.istio {
                        self.configs.take(kind, change);
                    } else if let Change::Whole(_) = change {
                        self.configs.hear(kind);
                    }
                }
            }
            Message::Secrets(said) => {
                if let Some(change) = self.troubles.sort(SECRETS, said) {
                    self.clusters.take(change);
                    self.others_changed = true;
                }
            }
        }
    }

    fn take_namespaces(&mut self, change: Change<Named>) {
        let touched: Vec<Arc<str>> = match &change {
            Change::Whole(_) => self.configs_namespaces(),
            Change::Set(item) => vec![item.name().name],
            Change::Gone(name) => vec![name.name.clone()],
        };
        self.out.iter_mut().for_each(|out| out.namespaces(&change));
        let before: Vec<bool> = touched.iter().map(|name| self.world.counts(name)).collect();
        self.world.namespaces(change);
        self.unseen_changed = true;
        for (name, before) in touched.iter().zip(before) {
            if self.world.counts(name) != before {
                self.configs.touch(name);
            }
        }
    }

    fn configs_namespaces(&self) -> Vec<Arc<str>> {
        let all: HashSet<Arc<str>> = self.configs.parts(|_| true).map(|(part, _)| part.1.namespace.clone()).collect();
        all.into_iter().collect()
    }

    /// Tells what changed.
    async fn tell(&mut self) -> Result<(), Closed> {
        for name in self.tell_parts().await? {
            let why = self.world.warnings(&name);
            self.report(Origin { name: format!("Service {name}").into(), line: 0 }, why).await?;
        }
        for (part, refusal) in self.configs.refusals() {
            self.out.iter_mut().for_each(|out| out.refusal(&part, refusal.as_ref()));
            self.report(configs::origin(&part), refusal.map(|refusal| refusal.text())).await?;
        }
        self.tell_others().await?;
        if self.troubles.changed() {
            self.look().await?;
        }
        Ok(())
    }

    /// Sends what is to be written.
    async fn write(&mut self) -> Result<(), Closed> {
        if let Some(out) = &mut self.out {
            out.go(&self.world, self.configs.was_heard(Kind::WorkloadEntry));
            for (origin, why) in out.reports() {
                self.report(Origin { name: origin.into(), line: 0 }, why).await?;
            }
        }
        self.show_unseen();
        Ok(())
    }

    /// Shows operators what of the cluster is not seen.
    fn show_unseen(&mut self) {
        if !std::mem::take(&mut self.unseen_changed) {
            return;
        }
        let mut left_out = self.world.left_out();
        let left_out_count = left_out.len();
        left_out.truncate(SHOWN);
        let said = self.reported.iter().filter(|(origin, _)| is_refusal(origin));
        let said = said.map(|(origin, why)| format!("{}: {why}", origin.name.trim_start_matches(RBAC)));
        let refused = self.troubles.refused(Instant::now()).into_iter().chain(said).collect();
        self.driver.unseen(Unseen { left_out, left_out_count, refused });
    }

    /// Tells parts that changed; services among them.
    async fn tell_parts(&mut self) -> Result<Vec<Name>, Closed> {
        let (mut is, mut gone) = (Vec::new(), Vec::new());
        let mut sort = |part: String, told: Told| match told {
            Told::Is(objects) => is.push(Heard { part: part.into(), fingerprint: None, objects }),
            Told::Gone => gone.push(Arc::from(part)),
            Told::Missing => {}
        };
        let (changed, listed) = self.world.take();
        self.listed |= listed;
        let services: Vec<Name> = changed
            .iter()
            .filter_map(|(part, _)| match part {
                Part::Service(name) => Some(name.clone()),
                Part::Pod(_) => None,
            })
            .collect();
        changed.into_iter().for_each(|(part, told)| sort(part.to_string(), told));
        // Namespaces decide which resources count.
        if self.world.is_whole() {
            let (changed, listed) = self.configs.changed(|namespace| self.world.counts(namespace));
            self.listed |= listed;
            changed.into_iter().for_each(|(part, told)| sort(part.to_string(), told));
        }
        if !is.is_empty() || !gone.is_empty() {
            self.driver.change(is, &gone).await?;
        }
        self.settle().await?;
        Ok(services)
    }

    /// Looks at what is missing, once everything that can be seen was heard.
    async fn settle(&mut self) -> Result<(), Closed> {
        let seen = |kind: Kind| self.configs.was_heard(kind) || self.unseen.contains(&kind);
        if !self.listed || !self.world.is_whole() || !self.kinds().all(seen) {
            return Ok(());
        }
        self.listed = false;
        let mut all: Vec<String> = self.world.parts().map(|part| part.to_string()).collect();
        let mut passed: Vec<String> = Vec::new();
        let known = |name: &String| self.driver.ledger().contains(name);
        for (part, good) in self.configs.parts(|namespace| self.world.counts(namespace)) {
            let name = part.to_string();
            // Of what was never right there may be a version that an earlier run knew.
            if good {
                all.push(name);
            } else if known(&name) {
                passed.push(name);
            }
        }
        for kind in &self.unseen {
            let prefix = configs::prefix(*kind);
            let stored = self.driver.ledger().names().filter(|name| name.starts_with(&prefix));
            passed.extend(stored.map(|name| name.to_string()));
        }
        self.driver.parts(all.iter().chain(&passed).map(String::as_str)).await?;
        for name in &passed {
            self.driver.pass(name).await?;
        }
        Ok(())
    }

    async fn tell_others(&mut self) -> Result<(), Closed> {
        let Some(others) = &mut self.others else { return Ok(()) };
        if !std::mem::take(&mut self.others_changed) || !self.clusters.is_whole() {
            return Ok(());
        }
        let own = self.driver.registry().name.clone();
        let wanted = self.clusters.wanted(&own);
        others.set(&wanted.clusters, &|name| wanted.unusable.contains_key(name));
        let prefix = "cluster ";
        let origin = |cluster: &String| {
            let shown: String = cluster.chars().filter(|c| !c.is_control()).take(80).collect();
            Origin { name: format!("{prefix}{shown}").into(), line: 0 }
        };
        let wrong: BTreeMap<Origin, String> =
            wanted.unusable.into_iter().map(|(cluster, why)| (origin(&cluster), why)).collect();
        let over: Vec<Origin> =
            self.reported.keys().filter(|o| o.name.starts_with(prefix) && !wrong.contains_key(*o)).cloned().collect();
        for origin in over {
            self.report(origin, None).await?;
        }
        for (origin, why) in wrong {
            self.report(origin, Some(why)).await?;
        }
        Ok(())
    }

    /// Looks at what goes wrong: whether the cluster is silent, and what of it we may not see.
    async fn look(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        for (kind, failure) in self.troubles.denied(now) {
            let stays =
                if kind == NODES { "pods are where their own labels say" } else { "what was known of it stays" };
            let why = format!("{failure}; {stays}; give it list and watch of {kind}: docs/kubernetes.md has the role");
            self.report(Origin { name: format!("{RBAC}{kind}").into(), line: 0 }, Some(why)).await?;
            if kind == NODES {
                self.world.without_nodes();
            }
            if let Some(kind) = Kind::ALL.into_iter().find(|of| of.plural() == kind) {
                self.unseen.insert(kind);
            }
            self.listed = true;
        }
        let allowed: Vec<Origin> = self
            .reported
            .keys()
            .filter(|origin| origin.name.strip_prefix(RBAC).is_some_and(|kind| !self.troubles.is_denied(kind)))
            .cloned()
            .collect();
        for origin in allowed {
            self.report(origin, None).await?;
        }
        match self.troubles.silence(now) {
            Some(why) => self.driver.failed(why).await?,
            None if self.troubles.answered() => self.driver.spoke().await?,
            None => {}
        }
        if self.listed {
            self.tell_parts().await?;
        }
        self.unseen_changed = true;
        self.show_unseen();
        Ok(())
    }

    /// Reports something, or takes it back; once.
    async fn report(&mut self, origin: Origin, why: Option<String>) -> Result<(), Closed> {
        self.unseen_changed |= is_refusal(&origin);
        match why {
            Some(why) if self.reported.get(&origin) != Some(&why) => {
                if self.reported.len() >= REPORTED && !self.reported.contains_key(&origin) {
                    return Ok(());
                }
                self.reported.insert(origin.clone(), why.clone());
                self.driver.report(Event::Rejected { origin, message: why }).await
            }
            None if self.reported.remove(&origin).is_some() => self.driver.report(Event::Cleared(origin)).await,
            _ => Ok(()),
        }
    }
}

/// Waits for something that concerns what is written.
async fn next(out: &mut Option<Out>) -> Step {
    match out {
        Some(out) => out.next().await,
        None => std::future::pending().await,
    }
}

/// How origins begin of what the cluster does not let us see, or write.
const RBAC: &str = "RBAC ";
const WRITING: &str = "Writing ";

fn is_refusal(origin: &Origin) -> bool {
    origin.name.starts_with(RBAC) || origin.name.starts_with(WRITING)
}

/// Kinds that need not be seen.
const NODES: &str = "nodes";
const SECRETS: &str = "secrets";

/// What a watch is started with.
struct Start<'a> {
    tasks: &'a mut tokio::task::JoinSet<()>,
    access: &'a Arc<Access>,
    most: usize,
    sender: &'a mpsc::Sender<Message>,
    waker: &'a Waker,
}

impl Start<'_> {
    fn kind<T: Item>(
        &mut self,
        (watched, limits): (Watched, Limits),
        wrap: impl Fn(Said<T>) -> Message + Send + Sync + 'static,
    ) {
        let (access, waker, sender) = (self.access.clone(), self.waker.clone(), self.sender.clone());
        let limits = limits.with_most(self.most);
        self.tasks.spawn(watching::run(access, watched, limits, waker, sender, wrap));
    }
}
