//! A host that stands for a pod: an address of the pods' network, an object at the API server, a program, and where it is to
//! have one a hawser-proxy beside it that gets its certificate for the token of the pod's service account.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{AUDIENCE, Cluster, objects};
use crate::mesh::{APP_USER, Mesh, PROXY_USER, as_user, has_users};
use crate::{Host, Lab, Process, programs, wait};

const READY: Duration = Duration::from_secs(15);
/// Where the program of a pod listens.
const PORT: u16 = 9080;
/// Addresses that clusters give their services.
const SERVICES: &str = "10.96.0.0/16";

/// A pod of namespace `default`.
#[derive(Debug)]
pub struct Pod {
    /// The host that stands for it.
    pub host: Host,
    /// Its address.
    pub address: Ipv4Addr,
    name: String,
    app: String,
    version: String,
    node: String,
    program: Option<Process>,
    sidecar: Vec<Process>,
}

impl Pod {
    /// A pod with a Bookinfo service, on a node; the API server does not know it yet.
    ///
    /// # Errors
    /// If the service does not start.
    pub fn new(lab: &mut Lab, name: &str, app: &str, version: &str, node: &str) -> Result<Self> {
        let (host, address) = lab.pod(name)?;
        let (name, app, version, node) = (name.to_owned(), app.to_owned(), version.to_owned(), node.to_owned());
        let mut pod = Self { host, address, name, app, version, node, program: None, sidecar: Vec::new() };
        pod.start_program()?;
        Ok(pod)
    }

    /// Its program, anew.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_program(&mut self) -> Result<()> {
        let args = ["hawser-bookinfo", &self.app, "--version", &self.version].map(str::to_owned);
        let mut program = self.host.spawn_command(&self.app, as_user(&self.host, APP_USER, &[], &args))?;
        program.says("ready", Duration::from_secs(5))?;
        self.program = Some(program);
        Ok(())
    }

    /// Its object, as its node reports it.
    pub fn object(&self, ready: bool) -> String {
        let Self { name, app, version, node, address, .. } = self;
        let is_ready = if ready { "True" } else { "False" };
        format!(
            "apiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, namespace: default, labels: {{app: {app}, version: {version}, security.istio.io/tlsMode: istio}}}}\n\
             spec: {{nodeName: {node}, serviceAccountName: default, containers: [{{name: main, image: none}}, {{name: hawser-proxy, image: none}}]}}\n\
             status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}], conditions: [{{type: Ready, status: '{is_ready}'}}]}}\n"
        )
    }

    /// A pod that runs a version of a service on a node, is known and ready, and has its part in the mesh.
    ///
    /// # Errors
    /// If one of its parts does not start, or the API server refuses it.
    pub fn with_sidecar(
        lab: &mut Lab,
        cluster: &Cluster,
        mesh: &Mesh,
        name: &str,
        (app, version, node): (&str, &str, &str),
    ) -> Result<Self> {
        let mut pod = Self::new(lab, name, app, version, node)?;
        pod.resolves(&objects::SERVICES)?;
        pod.report(cluster, true)?;
        pod.start_sidecar(cluster, mesh)?;
        Ok(pod)
    }

    /// Makes it known, or says that it is ready or not any more.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn report(&self, cluster: &Cluster, ready: bool) -> Result<()> {
        cluster.apply(&self.object(ready))
    }

    /// Begins its end, as `kubectl delete pod` does: what happens next is its own affair, until [`Pod::end`].
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn delete(&self, cluster: &Cluster) -> Result<()> {
        cluster.must("DELETE", &format!("/api/v1/namespaces/default/pods/{}", self.name), None).map(drop)
    }

    /// Its end: its program is gone, and its node says so.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn end(&mut self, cluster: &Cluster) -> Result<()> {
        self.program = None;
        let path = format!("/api/v1/namespaces/default/pods/{}?gracePeriodSeconds=0", self.name);
        cluster.must("DELETE", &path, None).map(drop)
    }

    /// Names and addresses of services, as the cluster's name server has them.
    ///
    /// # Errors
    /// If its file of them can't be put in place.
    pub fn resolves(&self, services: &[(&str, &str)]) -> Result<()> {
        let file = self.host.disk().join("hosts");
        let lines: String = services.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        std::fs::write(&file, format!("127.0.0.1 localhost\n{lines}"))?;
        self.host.ok(&["mount", "--bind", &file.display().to_string(), "/etc/hosts"]).map(drop)
    }

    /// Starts the proxy beside its program, and leads its traffic through.
    ///
    /// # Errors
    /// If the proxy does not become ready.
    pub fn start_sidecar(&mut self, cluster: &Cluster, mesh: &Mesh) -> Result<()> {
        let disk = self.host.disk().to_owned();
        let at = |name: &str| disk.join(name).display().to_string();
        std::fs::write(at("token"), cluster.account_token("default", "default", Some(AUDIENCE), Some(&self.name))?)?;
        std::fs::copy(mesh.root_certificate(), at("root.pem"))?;
        self.host.ok(&["mkdir", "-p", "/run/hawser"])?;
        if has_users() {
            self.host.ok(&["chown", &format!("{PROXY_USER}:{PROXY_USER}"), "/run/hawser", &at("token")])?;
        }
        let (discovery, address) = (mesh.address(), self.address.to_string());
        let (app, version) = (format!("app={}", self.app), format!("version={}", self.version));
        let (roots, token) = (at("root.pem"), at("token"));
        let lab = programs::find("hawser-lab")?.display().to_string();
        let agent = [
            &lab,
            "sidecar",
            "--discovery",
            &discovery,
            "--roots",
            &roots,
            "--token",
            &token,
            "--name",
            &self.name,
            "--address",
            &address,
            "--label",
            &app,
            "--label",
            &version,
        ]
        .map(str::to_owned);
        let mut agent = self.host.spawn_command("sidecar", as_user(&self.host, PROXY_USER, &[], &agent))?;
        agent.says("ready", READY)?;
        let proxy = programs::find("hawser-proxy")?.display().to_string();
        let proxy = [&proxy, "--workers", "1", "--bind", "outbound=0.0.0.0:15001", "--bind", "inbound=0.0.0.0:15006"];
        let proxy =
            self.host.spawn_command("proxy", as_user(&self.host, PROXY_USER, &[], &proxy.map(str::to_owned)))?;
        self.sidecar = vec![proxy, agent];
        let page = "http://127.0.0.1:15021/healthz/ready";
        wait::for_true("the sidecar is ready", READY, || self.host.curl(&["--fail", page]).is_ok_and(|s| s.ok()))
            .with_context(|| self.sidecar.iter().map(|p| crate::process::tail(&p.log())).collect::<String>())?;
        self.redirect()
    }

    /// What an init container does: calls of services, and those of its own port, go through the proxy.
    fn redirect(&self) -> Result<()> {
        let rules = format!(
            "table ip pod {{\n\
             chain out {{ type nat hook output priority -100; ip daddr {SERVICES} meta l4proto tcp redirect to :15001; }}\n\
             chain in {{ type nat hook prerouting priority dstnat; iifname eth0 tcp dport {PORT} redirect to :15006; }}\n}}\n"
        );
        let seen = self.host.run_with_input(&["nft", "-f", "-"], Some(&rules))?;
        anyhow::ensure!(seen.ok(), "{}", seen.err);
        Ok(())
    }

    /// What its sidecar says.
    pub fn sidecar_log(&self) -> String {
        self.sidecar.iter().map(|p| crate::process::tail(&p.log())).collect::<Vec<_>>().join("\n")
    }
}
