//! An API server that takes connections and says nothing: at the start of the program, after it, and while the program runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../registry-adapters/kubernetes/tests/common/mod.rs"]
mod common;

use std::net::TcpListener as Free;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hawser_api::proto::admin::admin_client::AdminClient;
use hawser_api::proto::admin::{ListRegistriesRequest, ListServicesRequest, RegistryInfo, ServiceInfo};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

use common::{NAMESPACES, PODS, SERVICES, SLICES, Server, namespace, pod, service, slice};

const MAIN: &str = "kubernetes/main";
const WEB: &str = "web.shop.svc.cluster.local";

/// The program, with a cluster as its only registry.
struct Discovery {
    child: Child,
    page: u16,
    socket: PathBuf,
}

impl Drop for Discovery {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Discovery {
    fn start(dir: &Path, server: &Server) -> Self {
        let written = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name).display().to_string()
        };
        let kubeconfig = written("kubeconfig", &server.kubeconfig());
        let registries = format!("registries: [{{name: main, kubernetes: {{kubeconfig: {kubeconfig}}}}}]\n");
        let registries = written("registries.yaml", &registries);
        let mesh = "discoverySelectors: [{matchLabels: {mesh: \"yes\"}}]\n";
        let (mesh, socket) = (written("mesh.yaml", mesh), dir.join("admin.sock"));
        let [tls, plaintext, page] = free();
        let child = Command::new(env!("CARGO_BIN_EXE_hawser-discovery"))
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(["--registries", &registries, "--mesh-config", &mesh, "--advertise", "127.0.0.1:15012"])
            .args(["--listen-tls", &format!("127.0.0.1:{tls}"), "--listen-http", &format!("127.0.0.1:{page}")])
            .args(["--listen-plaintext", &format!("127.0.0.1:{plaintext}")])
            .arg("--admin-socket")
            .arg(&socket)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, page, socket }
    }

    /// Whether it is ready, and what it says of that.
    async fn readiness(&self) -> Option<(bool, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.page)).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some((answer.starts_with("HTTP/1.1 200"), answer))
    }

    async fn admin(&self) -> Option<AdminClient<Channel>> {
        let socket = self.socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://discovery").connect_with_connector(connector).await.ok()?;
        Some(AdminClient::new(channel))
    }

    async fn registry(&self) -> Option<RegistryInfo> {
        let answer = self.admin().await?.list_registries(ListRegistriesRequest {}).await.ok()?.into_inner();
        answer.registries.into_iter().find(|registry| registry.name == MAIN)
    }

    async fn services(&self) -> Vec<ServiceInfo> {
        let Some(mut admin) = self.admin().await else { return Vec::new() };
        let answer = admin.list_services(ListServicesRequest::default()).await;
        answer.map(|answer| answer.into_inner().services).unwrap_or_default()
    }

    /// Waits until the cluster is shown as it should be.
    async fn until(&self, what: &str, is: impl Fn(&RegistryInfo) -> bool) -> RegistryInfo {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let registry = self.registry().await;
            if let Some(registry) = registry.as_ref().filter(|registry| is(registry)) {
                return registry.clone();
            }
            assert!(Instant::now() < deadline, "not in time: {what}; {registry:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Ports that nobody has.
fn free() -> [u16; 3] {
    let all = [(); 3].map(|()| Free::bind("127.0.0.1:0").unwrap());
    all.map(|listener| listener.local_addr().unwrap().port())
}

fn is_silent(registry: &RegistryInfo) -> bool {
    let why = registry.messages.first().map(String::as_str).unwrap_or_default();
    registry.state == "stale" && why.contains("the API server does not answer: no answer in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_starts_beside_a_server_that_hangs_says_what_it_waits_for_and_keeps_what_it_knew() {
    let server = Server::start().await;
    server.state.set(NAMESPACES, json!({"metadata": {"name": "shop", "labels": {"mesh": "yes"}}}));
    server.state.set(NAMESPACES, namespace("lab"));
    server.state.set(SERVICES, service("web"));
    server.state.set(PODS, pod("web-1", "10.0.0.1", true));
    server.state.set(SLICES, slice("web", &[("web-1", "10.0.0.1", true)]));
    server.state.hang(true);
    let dir = tempfile::tempdir().unwrap();
    let discovery = Discovery::start(dir.path(), &server);

    // All else is served; of the cluster nothing is known yet, and that is said.
    let unheard = discovery.until("the silence is told", is_silent).await;
    assert_eq!((unheard.services, unheard.workloads), (0, 0));
    let (ready, why) = discovery.readiness().await.unwrap();
    assert!(!ready && why.contains("registry kubernetes/main"), "{why}");
    assert!(!server.state.asked().iter().any(|asked| asked.contains("limit=")), "nothing was answered");

    server.state.hang(false);
    let known = discovery.until("the cluster is heard", |r| r.state == "synced" && r.services == 1).await;
    assert_eq!((known.workloads, known.left_out), (1, vec!["lab".to_owned()]));
    let (ready, why) = discovery.readiness().await.unwrap();
    assert!(ready, "{why}");

    // It worked, and hangs: what it said stays, and discovery stays ready.
    server.state.hang(true);
    server.state.remove(SERVICES, "shop/web");
    let stale = discovery.until("the silence is told again", is_silent).await;
    assert_eq!((stale.services, stale.workloads), (1, 1));
    assert!(discovery.services().await.iter().any(|service| service.host == WEB));
    assert!(discovery.readiness().await.unwrap().0);

    server.state.hang(false);
    discovery.until("what happened meanwhile", |r| r.state == "synced" && r.services == 0).await;
}
