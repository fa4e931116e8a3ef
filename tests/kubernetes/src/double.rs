//! The double itself, as tests hold it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::auth::User;
use crate::delete::{self, Gone, Options as Deletion};
use crate::faults::Fault;
use crate::identity::Identity;
use crate::kinds::{Kind, Place};
use crate::load::{self, Load};
use crate::server::{Found, Seen, Server, Timing, locked};
use crate::store::{Kept, Store};
use crate::tokens::{self, Bound, ISSUER};
use crate::world::{self, Running};
use crate::write::Writing;
use crate::{patch, serve};

/// What a double is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 is any that is free.
    pub listen: SocketAddr,
    /// Further names and addresses that its certificate is for.
    pub names: Vec<String>,
    /// How long things take.
    pub timing: Timing,
    /// Nodes bring pods up, and end them so long after they were asked to; without it, tests do.
    pub kubelet: Option<Duration>,
    /// EndpointSlices are made of services and pods.
    pub slices: bool,
    /// The version that it begins with.
    pub version: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            names: Vec::new(),
            timing: Timing::default(),
            kubelet: Some(Duration::from_millis(200)),
            slices: true,
            version: 100,
        }
    }
}

/// A double that runs. Ends when it is dropped.
#[derive(Debug)]
pub struct Double {
    server: Arc<Server>,
    identity: Identity,
    address: SocketAddr,
    token: String,
    sockets: Mutex<Option<JoinHandle<()>>>,
    world: JoinHandle<()>,
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.close());
        self.world.abort();
    }
}

impl Double {
    /// Starts one on the current runtime.
    ///
    /// # Errors
    /// If its address can't be had.
    pub async fn start(options: Options) -> Result<Self> {
        let listener = serve::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let identity = Identity::new(address.ip(), &options.names)?;
        let token = uuid::Uuid::new_v4().to_string();
        let tokens = BTreeMap::from([(token.clone(), User::admin())]);
        let server = Arc::new(Server::new(Store::new(options.version), tokens, options.timing));
        *locked(&server.address) = address.to_string();
        let running = Running { slices: options.slices, kubelet: options.kubelet };
        let world = tokio::spawn(world::run(Arc::clone(&server), running));
        let double = Self { server, identity, address, token, sockets: Mutex::new(None), world };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            double.put(json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}))?;
        }
        double.open(listener)?;
        Ok(double)
    }

    fn open(&self, listener: TcpListener) -> Result<()> {
        let serving = serve::run(listener, self.identity.server_config()?, Arc::clone(&self.server));
        *locked(&self.sockets) = Some(tokio::spawn(serving));
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that its own is signed by, in PEM.
    pub fn authority(&self) -> &str {
        self.identity.authority()
    }

    /// A token for everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A kubeconfig for everything.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_with(&self.token)
    }

    /// A kubeconfig with a token.
    pub fn kubeconfig_with(&self, token: &str) -> String {
        self.identity.kubeconfig(self.address, token)
    }

    /// A token of somebody who may do what roles give them.
    pub fn user(&self, user: User) -> String {
        let token = uuid::Uuid::new_v4().to_string();
        locked(&self.server.tokens).insert(token.clone(), user.authenticated());
        token
    }

    /// A token of a service account, for these audiences or the server itself; the account is made if it is not there.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn service_account(&self, namespace: &str, name: &str, audiences: &[&str], seconds: i64) -> Result<String> {
        let place = Place::new("", "serviceaccounts");
        if self.server.store().get(&place, namespace, name).is_none() {
            self.put(json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace}}))?;
        }
        let account = self.server.store().get(&place, namespace, name).context("the account is not there")?;
        let own = [ISSUER];
        let audiences = if audiences.is_empty() { &own[..] } else { audiences };
        let audiences: Vec<String> = audiences.iter().map(|a| (*a).to_owned()).collect();
        let claims = tokens::claims((namespace, name, &account.uid), &audiences, seconds, &Bound::default());
        self.server.signer.sign(&claims).context("no key to sign with")
    }

    /// Applies all documents of a YAML text, their status too; namespaces that are missing are made.
    ///
    /// # Errors
    /// If a document is no object, is of a kind that there is not, or breaks its rules.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        for object in documents(yaml)? {
            self.put(object)?;
        }
        Ok(())
    }

    /// Makes an object, or replaces it, its status too.
    ///
    /// # Errors
    /// As [`Double::apply`].
    pub fn put(&self, object: Value) -> Result<Value> {
        let mut found = self.found_of(&object)?;
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(namespace) = found.namespace.clone()
            && self.server.store().get(&Place::new("", "namespaces"), "", &namespace).is_none()
        {
            self.put(json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": namespace}}))?;
        }
        found.name = Some(name.clone());
        let status = Found { sub: Some("status".to_owned()), ..found.clone() };
        let refused =
            |refusal: crate::refusal::Refusal| anyhow!("{} {name}: {}", found.kind.name, refusal.status()["message"]);
        let writing = Writing::own(&self.server, self.server.store(), &found, "double");
        let (store, mut kept) = writing.upsert(&name, object.clone()).map_err(refused)?;
        if found.kind.has("status") && object["status"].is_object() {
            let writing = Writing::own(&self.server, store, &status, "double");
            kept = writing.upsert(&name, object).map_err(refused)?.1;
        }
        Ok(kept)
    }

    /// Keeps recorded objects as they are, versions included; nothing is checked, nobody is told.
    ///
    /// # Errors
    /// If they are of a kind that there is not.
    pub fn put_as_is(&self, object: &Value) -> Result<()> {
        let found = self.found_of(object)?;
        self.server.store().put_as_is(&found.kind.place, object);
        Ok(())
    }

    /// Keeps an object as it is, but at the next version, and tells those who watch.
    ///
    /// # Errors
    /// If it is of a kind that there is not.
    pub fn put_next(&self, object: &Value) -> Result<()> {
        let found = self.found_of(object)?;
        self.server.store().put(&found.kind.place, object);
        Ok(())
    }

    /// Removes an object at once, whatever holds it. False if it is not there.
    pub fn erase(&self, kind: &str, name: &str) -> bool {
        let Some((found, namespace, name)) = self.named(kind, name) else { return false };
        self.server.store().remove(&found.kind.place, &namespace, &name).is_some()
    }

    /// Changes an object by a merge patch, its status too.
    ///
    /// # Errors
    /// If it is not there, or the result breaks its rules.
    pub fn merge(&self, kind: &str, name: &str, change: &Value) -> Result<Value> {
        let mut object = self.get(kind, name).with_context(|| format!("{kind} {name} is not there"))?;
        patch::merge(&mut object, change);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        self.put(object)
    }

    /// An object: `("Pod", "shop/web-1")`, or `("pods", ...)`, or `("WorkloadEntry.networking.istio.io", ...)`.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let (found, namespace, name) = self.named(kind, name)?;
        let entry = self.server.store().get(&found.kind.place, &namespace, &name)?;
        Some(self.whole(&found, entry.value()))
    }

    /// All objects of a kind, of one namespace or of all.
    pub fn list(&self, kind: &str, namespace: Option<&str>) -> Vec<Value> {
        let Some((found, ..)) = self.named(kind, "x") else { return Vec::new() };
        let entries = self.server.store().list(&found.kind.place, namespace);
        entries.iter().map(|entry| self.whole(&found, entry.value())).collect()
    }

    /// Deletes an object, as a client would. False if it is not there.
    pub fn delete(&self, kind: &str, name: &str) -> bool {
        self.end(kind, name, None)
    }

    /// Removes a pod at once, as its node does at the end.
    pub fn remove_pod(&self, name: &str) -> bool {
        self.end("Pod", name, Some(0))
    }

    fn end(&self, kind: &str, name: &str, grace: Option<i64>) -> bool {
        let Some((found, namespace, name)) = self.named(kind, name) else { return false };
        let mut store = self.server.store();
        let Some(entry) = store.get(&found.kind.place, &namespace, &name) else { return false };
        let options = Deletion { grace, ..Deletion::default() };
        matches!(delete::begin(&mut store, &found, &entry, &options), Gone::Removed(_) | Gone::Ending(_))
    }

    fn whole(&self, found: &Found, mut object: Value) -> Value {
        object["kind"] = found.kind.name.as_str().into();
        object["apiVersion"] = found.api_version().into();
        object
    }

    fn named(&self, kind: &str, name: &str) -> Option<(Found, String, String)> {
        let (short, group) = kind.split_once('.').unwrap_or((kind, ""));
        let store = self.server.store();
        let is = |k: &&Arc<Kind>| k.name == short || k.place.plural == short;
        let found = store.kinds().filter(is).find(|k| group.is_empty() || k.place.group == group).cloned()?;
        drop(store);
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (namespace, name),
            None if found.namespaced => ("default", name),
            None => ("", name),
        };
        let version = found.storage().to_owned();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let place = Found { kind: found, version, namespace: None, name: Some(name.clone()), sub: None };
        Some((place, namespace, name))
    }

    fn found_of(&self, object: &Value) -> Result<Found> {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let (kind, api_version) = (text("/kind"), text("/apiVersion"));
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let found = self.server.store().kind_named(group, kind);
        let found = found.filter(|k| k.version(version).is_some());
        let found =
            found.with_context(|| format!("there is no kind {kind} in {api_version}; is its definition applied?"))?;
        let namespace = text("/metadata/namespace");
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        Ok(Found {
            namespace: found.namespaced.then(|| namespace.to_owned()),
            kind: found,
            version: version.to_owned(),
            name: None,
            sub: None,
        })
    }

    /// Something goes wrong from now on.
    pub fn fault(&self, fault: Fault) {
        drop(self.server.faults.add(fault));
    }

    /// Nothing goes wrong any more; watches that went wrong stay as they are.
    pub fn clear_faults(&self) {
        self.server.faults.clear();
    }

    /// The faults, and how often each happened.
    pub fn faults_used(&self) -> Vec<(Fault, u64)> {
        self.server.faults.used()
    }

    /// Freezes it: connections stay, nothing is answered, nothing ends.
    pub fn freeze(&self) {
        self.server.frozen.send_replace(true);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.server.frozen.send_replace(false);
    }

    /// Stops it as a kill would: connections break, new ones are refused from then on.
    pub async fn stop(&self) {
        if let Some(sockets) = self.close() {
            // Its end, by being aborted, is what was asked for.
            let _ = sockets.await;
        }
    }

    fn close(&self) -> Option<JoinHandle<()>> {
        let sockets = locked(&self.sockets).take()?;
        sockets.abort();
        self.server.run.send_modify(|run| *run += 1);
        Some(sockets)
    }

    /// Starts it again where it was; what happened before it stopped is not known any more.
    ///
    /// # Errors
    /// If its address can't be had any more.
    pub async fn start_again(&self) -> Result<()> {
        self.stop().await;
        self.server.store().forget();
        self.open(serve::bind(self.address).await?)
    }

    /// All open watches break off, as when a load balancer goes; new ones are taken.
    pub fn break_watches(&self) {
        self.server.run.send_modify(|run| *run += 1);
    }

    /// From now on it starts: all but its admins get 403 for a while, then 503 for what definitions add.
    pub fn starting(&self, forbidden: Duration, unavailable: Duration) {
        self.server.begin_start(forbidden, unavailable);
    }

    /// Forgets what was: watches and pages of older versions are answered with 410.
    pub fn forget(&self) {
        self.server.store().forget();
    }

    /// The current version.
    pub fn version(&self) -> u64 {
        self.server.store().version()
    }

    /// Lets the version go on, as writes elsewhere do.
    pub fn advance(&self, by: u64) {
        self.server.store().advance(by);
    }

    /// All that is there, to go back to.
    pub fn keep_aside(&self) -> Kept {
        self.server.store().keep_aside()
    }

    /// Goes back to it, versions included, as a restored data base does. Watches break off.
    pub fn restore(&self, kept: Kept) {
        self.server.store().restore(kept);
        self.break_watches();
    }

    /// What it was asked, the last 10,000.
    pub fn requests(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// Forgets what it was asked.
    pub fn forget_requests(&self) {
        self.server.forget_seen();
    }

    /// Fills it with many services and pods.
    pub fn generate(&self, load: &Load) {
        load::fill(&self.server, load);
    }
}

/// The documents of a YAML text.
fn documents(yaml: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).context("this is no YAML")?;
    let mut out = Vec::new();
    for document in all.into_iter().filter(|d| !d.is_null()) {
        match document["items"].as_array() {
            Some(items) if document["kind"].as_str().is_some_and(|k| k.ends_with("List")) => {
                out.extend(items.iter().cloned())
            }
            _ => out.push(document),
        }
    }
    Ok(out)
}
