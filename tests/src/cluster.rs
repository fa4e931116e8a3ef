//! A Kubernetes cluster in the lab: an API server on a host of its own, and hosts that stand for pods.
//!
//! In: a [`Lab`], objects. Out: [`Cluster`], whose API server is the double that is held against recordings of a real one, or
//! a real one where the environment asks for it; [`Pod`]s on a network of their own. Nothing here but what the API server is
//! asked for in its own words.

pub mod objects;
mod pod;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

pub use pod::Pod;

use crate::apiserver::{self, Plan};
use crate::{Host, Lab, Process, wait};

/// A real one takes its time to start.
const READY: Duration = Duration::from_secs(120);
/// Until a new kind is served.
const SERVED: Duration = Duration::from_secs(20);
/// Where the double is told to go wrong, on its own host.
const CONTROL: &str = "127.0.0.1:6444";
/// Whom the tokens of pods are for.
pub const AUDIENCE: &str = "istio-ca";

/// A cluster: its API server, and a kubeconfig for everything.
#[derive(Debug)]
pub struct Cluster {
    /// Where the API server is.
    pub host: Host,
    /// In the order in which they may end.
    programs: Vec<Process>,
    kubeconfig: String,
    token: String,
}

impl Cluster {
    /// An API server that is ready, without anything in it: a real one where the tests ask for that.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start(lab: &mut Lab) -> Result<Self> {
        Self::start_as(lab, apiserver::is_asked_for())
    }

    /// The same, a real one or the double.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start_as(lab: &mut Lab, real: bool) -> Result<Self> {
        let host = lab.host("cluster")?;
        let mut cluster = Self { host, programs: Vec::new(), kubeconfig: String::new(), token: String::new() };
        if real {
            cluster.start_real()?
        } else {
            cluster.start_double()?
        }
        wait::for_true("accounts are made", READY, || {
            cluster.ask("GET", "/api/v1/namespaces/default/serviceaccounts/default", None).is_ok_and(|(s, _)| s == 200)
        })?;
        Ok(cluster)
    }

    fn start_double(&mut self) -> Result<()> {
        let (address, file) = (self.host.v4().to_string(), self.host.disk().join("admin.yaml"));
        let (listen, kubeconfig) = (format!("{address}:6443"), file.display().to_string());
        let args = ["hawser-kube-double", "--listen", &listen, "--name", &address, "--kubeconfig", &kubeconfig];
        let mut server = self.host.spawn("kube", &[&args[..], &["--no-kubelet", "--control", CONTROL]].concat())?;
        server.says("ready", Duration::from_secs(10))?;
        self.programs = vec![server];
        self.kubeconfig = std::fs::read_to_string(&file)?;
        let line = self.kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token: "));
        self.token = line.context("its kubeconfig has a token")?.to_owned();
        Ok(())
    }

    fn start_real(&mut self) -> Result<()> {
        let Plan { etcd, server, controllers, kubeconfig, .. } =
            apiserver::plan(self.host.disk(), self.host.v4().into(), [2379, 2380, 6443])?;
        (self.kubeconfig, self.token) = (kubeconfig, apiserver::ADMIN.to_owned());
        let etcd = self.host.spawn("etcd", &etcd)?;
        let server = self.host.spawn("kube-apiserver", &server)?;
        let ready = wait::for_true("the API server is ready", READY, || {
            self.ask("GET", "/readyz", None).is_ok_and(|(status, _)| status == 200)
        });
        ready.with_context(|| crate::process::tail(&server.log()))?;
        let controllers = self.host.spawn("kube-controller-manager", &controllers)?;
        self.programs = vec![controllers, server, etcd];
        Ok(())
    }

    /// Has the double go wrong; false if the API server is a real one, which can't be told.
    ///
    /// # Errors
    /// If the double does not know such a fault.
    pub fn fault(&self, fault: &Value) -> Result<bool> {
        if apiserver::is_asked_for() {
            return Ok(false);
        }
        let (url, fault) = (format!("http://{CONTROL}/fault"), fault.to_string());
        let seen = self.host.curl(&["--fail-with-body", "-X", "POST", "-d", &fault, &url])?;
        ensure!(seen.ok(), "{}{}", seen.out, seen.err);
        Ok(true)
    }

    /// The API server is gone, as after a power cut.
    pub fn kill(&mut self) {
        self.programs.clear();
    }

    /// A kubeconfig for everything, in a file that everybody can read.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        self.kubeconfig_with("kubeconfig", &self.token)
    }

    /// A kubeconfig with a token of somebody.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn kubeconfig_with(&self, name: &str, token: &str) -> Result<PathBuf> {
        let file = self.host.disk().join(name);
        std::fs::write(&file, self.kubeconfig.replace(&self.token, token))?;
        Ok(file)
    }

    /// Asks the API server for something; status and answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<(u16, Value)> {
        let url = format!("https://{}:6443{path}", self.host.v4());
        let bearer = format!("authorization: Bearer {}", self.token);
        let mut args =
            vec!["curl", "-sk", "--max-time", "20", "-X", method, "-H", &bearer, "-w", "\n%{http_code}", &url];
        let (kind, text);
        if let Some((content, value)) = body {
            kind = format!("content-type: {content}");
            text = value.to_string();
            args.extend(["-H", &kind, "--data-binary", "@-"]);
        } else {
            text = String::new();
        }
        let seen = self.host.run_with_input(&args, body.is_some().then_some(text.as_str()))?;
        let (answer, status) = seen.out.rsplit_once('\n').with_context(|| format!("{method} {path}: {}", seen.err))?;
        let answer = serde_json::from_str(answer).unwrap_or_else(|_| answer.into());
        Ok((status.parse()?, answer))
    }

    /// Asks for something that must be given.
    ///
    /// # Errors
    /// If it is not.
    pub fn must(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Value> {
        let (status, answer) = self.ask(method, path, body)?;
        ensure!((200..300).contains(&status), "{method} {path}: {status}: {answer}");
        Ok(answer)
    }

    /// Applies the documents of a YAML text, their status too.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let all: Vec<Value> = serde_saphyr::from_multiple(yaml).context("this is no YAML")?;
        let all: Vec<Value> = all.into_iter().filter(Value::is_object).collect();
        for mut object in all.iter().cloned() {
            let path = path(&object);
            let status = object.as_object_mut().and_then(|o| o.remove("status"));
            let how = "?fieldManager=lab&force=true";
            let content = "application/apply-patch+yaml";
            self.must("PATCH", &format!("{path}{how}"), Some((content, &object)))?;
            if let Some(status) = status {
                object["status"] = status;
                let metadata =
                    json!({"name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"]});
                let (kind, version) = (&object["kind"], &object["apiVersion"]);
                let part =
                    json!({"kind": kind, "apiVersion": version, "metadata": metadata, "status": object["status"]});
                self.must("PATCH", &format!("{path}/status{how}"), Some((content, &part)))?;
            }
        }
        for definition in all.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
            self.served(definition)?;
        }
        Ok(())
    }

    /// Waits until a kind is served, in every version.
    fn served(&self, definition: &Value) -> Result<()> {
        let part = |at: &str| definition.pointer(at).and_then(Value::as_str).unwrap_or_default();
        for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
            let version = version["name"].as_str().unwrap_or_default();
            let path = format!("/apis/{}/{version}/{}?limit=1", part("/spec/group"), part("/spec/names/plural"));
            wait::for_true(&path, SERVED, || self.ask("GET", &path, None).is_ok_and(|(status, _)| status == 200))?;
        }
        Ok(())
    }

    /// A token of a service account for an audience, bound to a pod if one is named; the API server's own if none.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn account_token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        pod: Option<&str>,
    ) -> Result<String> {
        let mut spec = json!({"expirationSeconds": 3600});
        if let Some(audience) = audience {
            spec["audiences"] = json!([audience]);
        }
        if let Some(name) = pod {
            let pod = self.must("GET", &format!("/api/v1/namespaces/{namespace}/pods/{name}"), None)?;
            let uid = &pod["metadata"]["uid"];
            spec["boundObjectRef"] = json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid});
        }
        let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.must("POST", &path, Some(("application/json", &request)))?;
        Ok(answer["status"]["token"].as_str().context("a token")?.to_owned())
    }

    /// Makes the cluster ready for discovery, by the manifest and with its rights alone; gives the file of registries.
    ///
    /// # Errors
    /// If the API server refuses a part of it.
    pub fn prepare(&self) -> Result<String> {
        let manifest = self.host.ok(&["hawser", "manifest", "generate", "--outside"])?;
        self.apply(&manifest)?;
        let account = self.account_token("hawser-system", "hawser-discovery", None, None)?;
        self.registries(&self.kubeconfig_with("discovery.kubeconfig", &account)?)
    }

    /// A registries file that names this cluster with that kubeconfig.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn registries(&self, kubeconfig: &std::path::Path) -> Result<String> {
        let file = self.host.disk().join("registries.yaml");
        let text = format!(
            "registries:\n- name: main\n  kubernetes: {{kubeconfig: {:?}, remoteClusters: {{disabled: true}}}}\n",
            kubeconfig.display().to_string()
        );
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

/// Where an object is.
fn path(object: &Value) -> String {
    let part = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let (version, namespace, name) = (part("/apiVersion"), part("/metadata/namespace"), part("/metadata/name"));
    let root = if version.contains('/') { "apis" } else { "api" };
    let space = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    format!("/{root}/{version}{space}/{}/{name}", plural(part("/kind")))
}

fn plural(kind: &str) -> String {
    let word = kind.to_lowercase();
    match word.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        _ => format!("{word}s"),
    }
}
