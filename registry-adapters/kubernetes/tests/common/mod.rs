//! An API server of a few lines, and what an adapter says of it.

#![allow(dead_code, clippy::unwrap_used)] // helpers of tests fail by panic

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hawser_api::istio::mesh_config::MeshLabelSelector;
use hawser_mesh::{Event, Object, ObjectKey, Publisher, RegistryAdapter as _, RegistryId, Workload};
use hawser_registry_kubernetes::{Entry, Exports, KubernetesAdapter, Mesh, Registrar, Settings, Tokens};
use hawser_registry_source::{Context, Handle, Unseen};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub(crate) const ENTRIES: &str = "/apis/networking.istio.io/v1/serviceentries";
pub(crate) const POLICIES: &str = "/apis/security.istio.io/v1/authorizationpolicies";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";
const CORE: [&str; 6] = [NAMESPACES, NODES, SERVICES, PODS, SLICES, SECRETS];

/// An API server. It keeps its objects over a stop.
pub(crate) struct Server {
    pub(crate) state: Arc<State>,
    port: u16,
    running: Option<JoinSet<()>>,
}

pub(crate) struct State {
    inner: Mutex<Inner>,
    moved: watch::Sender<u64>,
    /// Connections are taken, and nothing is said on any.
    hangs: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    kinds: BTreeMap<String, BTreeMap<String, Value>>,
    /// What happened, by version, kind.
    log: Vec<(u64, String, Value)>,
    denied: BTreeSet<String>,
    no_streams: bool,
    /// Somebody else answers, who knows nothing.
    strange: bool,
    asked: Vec<String>,
}

impl State {
    pub(crate) fn set(&self, kind: &str, mut object: Value) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let version = inner.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let name = key(&object);
        let new = inner.kinds.entry(kind.to_owned()).or_default().insert(name, object.clone()).is_none();
        let line = json!({"type": if new { "ADDED" } else { "MODIFIED" }, "object": object});
        inner.log.push((version, kind.to_owned(), line));
        self.moved.send_replace(version);
    }

    pub(crate) fn remove(&self, kind: &str, name: &str) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let version = inner.version;
        let Some(mut object) = inner.kinds.get_mut(kind).and_then(|all| all.remove(name)) else { return };
        object["metadata"]["resourceVersion"] = version.to_string().into();
        inner.log.push((version, kind.to_owned(), json!({"type": "DELETED", "object": object})));
        self.moved.send_replace(version);
    }

    /// Takes objects out without a word, as a restored store does: whoever watches from before is too late.
    pub(crate) fn lose(&self, kind: &str, gone: impl Fn(&str) -> bool) {
        let mut inner = self.inner.lock();
        inner.version += 100;
        if let Some(all) = inner.kinds.get_mut(kind) {
            all.retain(|name, _| !gone(name));
        }
        inner.log.clear();
    }

    pub(crate) fn deny(&self, kind: &str) {
        self.inner.lock().denied.insert(kind.to_owned());
    }

    pub(crate) fn allow(&self, kind: &str) {
        self.inner.lock().denied.remove(kind);
    }

    pub(crate) fn without_streams(&self) {
        self.inner.lock().no_streams = true;
    }

    pub(crate) fn estrange(&self, strange: bool) {
        self.inner.lock().strange = strange;
    }

    /// From now on nobody is answered, and no watch says anything; or all goes on where it stood.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    async fn goes_on(&self) {
        let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.lock().asked.clone()
    }

    fn answer(self: &Arc<Self>, request: &str) -> Response<BoxBody<Bytes, Infallible>> {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let mut inner = self.inner.lock();
        inner.asked.push(request.to_owned());
        if inner.strange {
            return whole(404, "404 page not found\n".to_owned());
        }
        if path == "/version" {
            return whole(200, "{}".to_owned());
        }
        if let Some(listing) = listing(path, inner.kinds.keys().map(String::as_str)) {
            return whole(200, listing.to_string());
        }
        if inner.denied.contains(path) {
            return whole(
                403,
                json!({"kind": "Status", "code": 403, "message": format!("{path} is forbidden")}).to_string(),
            );
        }
        let Some(all) = inner.kinds.get(path) else { return whole(404, "404 page not found\n".to_owned()) };
        let streams = parameter("sendInitialEvents").is_some();
        if streams && inner.no_streams {
            return whole(
                422,
                json!({"kind": "Status", "code": 422, "message": "sendInitialEvents is forbidden"}).to_string(),
            );
        }
        if parameter("watch").is_none() {
            let limit: usize = parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
            let from: usize = parameter("continue").and_then(|text| text.parse().ok()).unwrap_or_default();
            let items: Vec<&Value> = all.values().skip(from).take(limit).collect();
            let mut metadata = json!({"resourceVersion": inner.version.to_string()});
            if from + items.len() < all.len() {
                metadata["continue"] = (from + items.len()).to_string().into();
            }
            return whole(200, json!({"metadata": metadata, "items": items}).to_string());
        }
        let mut first = Vec::new();
        let from = match parameter("resourceVersion").filter(|_| !streams) {
            Some(version) => version.parse::<u64>().unwrap(),
            None => {
                first.extend(all.values().map(|object| json!({"type": "ADDED", "object": object})));
                let end = json!({"k8s.io/initial-events-end": "true"});
                let mark = json!({"metadata": {"annotations": end, "resourceVersion": inner.version.to_string()}});
                first.push(json!({"type": "BOOKMARK", "object": mark}));
                inner.version
            }
        };
        if inner.log.first().is_none_or(|(oldest, ..)| *oldest > from + 1) && inner.version > from {
            let gone =
                json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
            return whole(200, format!("{}\n", json!({"type": "ERROR", "object": gone})));
        }
        drop(inner);
        let (sender, receiver) = mpsc::channel::<Bytes>(64);
        tokio::spawn(self.clone().feed(path.to_owned(), first, from, sender));
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
        });
        Response::new(StreamBody::new(stream).boxed())
    }

    async fn feed(self: Arc<Self>, kind: String, first: Vec<Value>, mut from: u64, sender: mpsc::Sender<Bytes>) {
        for chunk in first.chunks(100) {
            let text: String = chunk.iter().map(|line| format!("{line}\n")).collect();
            if sender.send(text.into()).await.is_err() {
                return;
            }
        }
        let mut moved = self.moved.subscribe();
        loop {
            let lines: Vec<(u64, String)> = {
                let inner = self.inner.lock();
                let new = inner.log.iter().rev().take_while(|(version, ..)| *version > from);
                let mut new: Vec<(u64, String)> = new
                    .filter(|(_, of, _)| *of == kind)
                    .map(|(version, _, line)| (*version, format!("{line}\n")))
                    .collect();
                new.reverse();
                new
            };
            self.goes_on().await;
            for (version, line) in lines {
                from = version;
                if sender.send(line.into()).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sender.closed() => return,
                moved = moved.changed() => if moved.is_err() { return },
            }
        }
    }
}

fn key(object: &Value) -> String {
    let meta = &object["metadata"];
    match meta["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", meta["name"].as_str().unwrap()),
        None => meta["name"].as_str().unwrap().to_owned(),
    }
}

/// Groups, or the kinds of one of their versions.
fn listing<'a>(path: &str, kinds: impl Iterator<Item = &'a str>) -> Option<Value> {
    let all = kinds.filter_map(|kind| kind.strip_prefix("/apis/")?.rsplit_once('/'));
    if path == "/apis" {
        let groups = all.filter_map(|(of, _)| of.split_once('/'));
        let groups = groups.map(|(group, version)| json!({"name": group, "versions": [{"version": version}]}));
        return Some(json!({"kind": "APIGroupList", "groups": groups.collect::<Vec<_>>()}));
    }
    let within =
        all.filter(|(of, _)| path.strip_prefix("/apis/") == Some(*of)).map(|(_, plural)| json!({"name": plural}));
    let within: Vec<Value> = within.collect();
    (!within.is_empty()).then(|| json!({"kind": "APIResourceList", "resources": within}))
}

fn whole(status: u16, text: String) -> Response<BoxBody<Bytes, Infallible>> {
    Response::builder().status(status).body(Full::new(Bytes::from(text)).boxed()).unwrap()
}

impl Server {
    pub(crate) async fn start() -> Self {
        let inner =
            Inner { version: 1, kinds: CORE.map(|kind| (kind.to_owned(), BTreeMap::new())).into(), ..Inner::default() };
        let state =
            Arc::new(State { inner: Mutex::new(inner), moved: watch::channel(0).0, hangs: watch::channel(false).0 });
        let mut server = Self { state, port: 0, running: None };
        server.go_on().await;
        server
    }

    /// The kind exists from now on.
    pub(crate) fn install(&self, kind: &str) {
        self.state.inner.lock().kinds.entry(kind.to_owned()).or_default();
    }

    /// Is no longer there, and nor are its connections.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.shutdown().await;
        }
    }

    pub(crate) async fn go_on(&mut self) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let mut running = JoinSet::new();
        let state = self.state.clone();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (state, asked) = (state.clone(), request.uri().path_and_query().unwrap().to_string());
                    async move {
                        state.goes_on().await;
                        Ok::<_, Infallible>(state.answer(&asked))
                    }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        self.running = Some(running);
    }

    pub(crate) fn kubeconfig(&self) -> String {
        let port = self.port;
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\nusers: [{{name: a, user: {{token: t}}}}]\n"
        )
    }
}

/// What an adapter said, and is.
pub(crate) struct Follower {
    events: mpsc::Receiver<(RegistryId, Vec<Event>)>,
    pub(crate) objects: BTreeMap<(String, String), Object>,
    pub(crate) synced: BTreeSet<String>,
    pub(crate) stale: BTreeMap<String, String>,
    pub(crate) rejected: BTreeMap<String, String>,
    pub(crate) ended: BTreeSet<String>,
    pub(crate) deletes: usize,
    pub(crate) registrar: Arc<Registered>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct Registered {
    events: mpsc::Sender<(RegistryId, Vec<Event>)>,
    states: PathBuf,
    pub(crate) handles: Mutex<BTreeMap<String, Handle>>,
    pub(crate) tokens: Mutex<BTreeMap<String, Tokens>>,
}

impl Registrar for Registered {
    fn register(&self, id: &RegistryId) -> (Publisher, Context) {
        let (context, handle) = Context::alone(id, Some(&self.states));
        self.handles.lock().insert(id.to_string(), handle);
        (Publisher::new(id.clone(), self.events.clone()), context)
    }

    fn remove(&self, id: &RegistryId) {
        self.handles.lock().remove(&id.to_string());
    }

    fn vouch(&self, cluster: &str, tokens: Option<Tokens>) {
        match tokens {
            Some(tokens) => drop(self.tokens.lock().insert(cluster.to_owned(), tokens)),
            None => drop(self.tokens.lock().remove(cluster)),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// An adapter of `server`, whose states are in `dir`.
    pub(crate) fn of(server: &Server, dir: &Path, settings: Settings) -> Self {
        Self::at(server.kubeconfig(), dir, settings, None)
    }

    /// One of the server of a kubeconfig, which may write there.
    pub(crate) fn at(kubeconfig: String, dir: &Path, settings: Settings, exports: Option<Exports>) -> Self {
        Self::in_mesh(kubeconfig, dir, settings, exports, Vec::new())
    }

    /// One of a mesh whose namespaces are these.
    pub(crate) fn in_mesh(
        kubeconfig: String,
        dir: &Path,
        settings: Settings,
        exports: Option<Exports>,
        discovery_selectors: Vec<MeshLabelSelector>,
    ) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let file = dir.join("kubeconfig");
        std::fs::write(&file, kubeconfig).unwrap();
        let settings = Settings { kubeconfig: Some(file), ..settings };
        let (sender, events) = mpsc::channel(64);
        let registrar = Arc::new(Registered {
            events: sender,
            states: dir.to_owned(),
            handles: Mutex::default(),
            tokens: Mutex::default(),
        });
        let entry = Entry { name: "main".to_owned(), settings };
        let id = entry.id();
        let (publisher, context) = registrar.register(&id);
        let mesh = Mesh {
            trust_domain: "cluster.local".parse().unwrap(),
            domain: "cluster.local".to_owned(),
            root_namespace: "istio-system".to_owned(),
            discovery_selectors,
        };
        let adapter = KubernetesAdapter::new(entry, mesh, context, Some(dir), registrar.clone());
        let adapter = match exports {
            Some(exports) => adapter.with_exports(exports),
            None => adapter,
        };
        Self {
            events,
            objects: BTreeMap::new(),
            synced: BTreeSet::new(),
            stale: BTreeMap::new(),
            rejected: BTreeMap::new(),
            ended: BTreeSet::new(),
            deletes: 0,
            registrar,
            task: tokio::spawn(adapter.run(publisher)),
        }
    }

    /// Takes in what is said until it is so.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while !is(self) {
            match tokio::time::timeout_at(deadline.into(), self.events.recv()).await {
                Ok(Some((registry, events))) => events.into_iter().for_each(|event| self.take(&registry, event)),
                Ok(None) => panic!("the adapter ended before {what}"),
                Err(_) => panic!(
                    "not in time: {what}; objects {:?}, synced {:?}, stale {:?}, rejected {:?}",
                    self.objects.keys(),
                    self.synced,
                    self.stale,
                    self.rejected
                ),
            }
        }
    }

    /// Takes in what is said for some time.
    pub(crate) async fn listen(&mut self, time: Duration) {
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(Some((registry, events))) = tokio::time::timeout_at(deadline, self.events.recv()).await {
            events.into_iter().for_each(|event| self.take(&registry, event));
        }
    }

    fn take(&mut self, registry: &RegistryId, event: Event) {
        let of = registry.to_string();
        match event {
            Event::Upsert(object) => {
                let key = match &object {
                    Object::Service(service) => service.host.to_string(),
                    Object::Workload(workload) => format!("{}", workload.key),
                    Object::Config(resource, _) => resource.object_ref().to_string(),
                    Object::Gateway(gateway) => format!("gateway {}", gateway.key),
                };
                self.objects.insert((of, key), object);
            }
            Event::Delete(key) => {
                self.deletes += 1;
                let key = match key {
                    ObjectKey::Service(host) => host.to_string(),
                    ObjectKey::Workload(key) => key.to_string(),
                    ObjectKey::Config(object) => object.to_string(),
                    ObjectKey::Gateway(key) => format!("gateway {key}"),
                };
                self.objects.remove(&(of, key));
            }
            Event::Synced => drop(self.synced.insert(of)),
            Event::Stale(why) => drop(self.stale.insert(of, why)),
            Event::Fresh => drop(self.stale.remove(&of)),
            Event::Rejected { origin, message } => drop(self.rejected.insert(origin.to_string(), message)),
            Event::Cleared(origin) => drop(self.rejected.remove(&origin.to_string())),
            Event::Ended => {
                self.objects.retain(|(registry, _), _| *registry != of);
                self.ended.insert(of);
            }
        }
    }

    /// What operators are shown that is not seen, once it is as it should be.
    pub(crate) async fn unseen(&mut self, what: &str, is: impl Fn(&Unseen) -> bool) {
        let handle = self.registrar.handles.lock()["kubernetes/main"].clone();
        let deadline = Instant::now() + Duration::from_secs(40);
        while !is(&handle.status().unseen) {
            assert!(Instant::now() < deadline, "not in time: {what}; {:?}", handle.status().unseen);
            self.listen(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn has(&self, registry: &str, name: &str) -> bool {
        self.objects.contains_key(&(registry.to_owned(), name.to_owned()))
    }

    pub(crate) fn workload(&self, registry: &str, name: &str) -> Option<Arc<Workload>> {
        match self.objects.get(&(registry.to_owned(), name.to_owned()))? {
            Object::Workload(workload) => Some(workload.clone()),
            _ => None,
        }
    }
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

pub(crate) fn service(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.7", "selector": {"app": name},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

pub(crate) fn pod(name: &str, ip: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({"metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-a", "serviceAccountName": "web", "containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": status}]}})
}

pub(crate) fn slice(service: &str, pods: &[(&str, &str, bool)]) -> Value {
    let endpoint = |(name, ip, ready): &(&str, &str, bool)| {
        json!({"addresses": [ip], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": name}, "nodeName": "node-a"})
    };
    let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
    json!({"metadata": {"name": format!("{service}-1"), "namespace": "shop",
        "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "endpoints": if endpoints.is_empty() { Value::Null } else { endpoints.into() },
        "ports": [{"name": "http", "port": 8080}]})
}
