//! A real API server, its controllers and its etcd, for the scenarios that both are asked.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use hawser_tests::{Process, testbeds};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::cluster::until;

/// The token of its admin.
pub(crate) const ADMIN: &str = "static-admin-token";

/// A cluster of one server. Ends when it is dropped.
pub(crate) struct Real {
    pub(crate) address: String,
    pub(crate) authority: String,
    // In the order in which they may end.
    _controllers: Process,
    _server: Process,
    _etcd: Process,
    _dir: TempDir,
}

impl Real {
    /// Whether the environment asks for one, as `cargo xtask test kubernetes-real` does.
    pub(crate) fn is_asked_for() -> bool {
        std::env::var_os("HAWSER_TEST_KUBERNETES_REAL").is_some_and(|v| v == "1")
    }

    pub(crate) async fn start() -> Self {
        let (server, controllers) = testbeds::kubernetes().expect("HAWSER_TEST_KUBE_APISERVER names a program");
        let etcd = testbeds::etcd().expect("etcd can be had");
        let dir = tempfile::Builder::new().prefix("hawser-kube-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let [client_port, peer_port, port] = free_ports();
        let authority = certificates(dir.path());
        let store = format!("http://127.0.0.1:{client_port}");
        let mut command = Command::new(etcd);
        command.args(["--unsafe-no-fsync", "--log-level=error"]).arg(format!("--data-dir={}", at("etcd")));
        for flag in ["listen-client-urls", "advertise-client-urls"] {
            command.arg(format!("--{flag}={store}"));
        }
        command.arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"));
        let etcd = Process::spawn("etcd", command, dir.path().join("etcd.log"), false).unwrap();
        std::fs::write(at("tokens.csv"), format!("{ADMIN},admin,admin,\"system:masters\"\n")).unwrap();
        let mut command = Command::new(server);
        command.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
            "--enable-priority-and-fairness=false",
        ]);
        for (flag, value) in [
            ("etcd-servers", store),
            ("secure-port", port.to_string()),
            ("tls-cert-file", at("server.crt")),
            ("tls-private-key-file", at("server.key")),
            ("client-ca-file", at("ca.crt")),
            ("token-auth-file", at("tokens.csv")),
            ("service-account-signing-key-file", at("sa.key")),
            ("service-account-key-file", at("sa.pub")),
            ("cert-dir", at("certs")),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        let mut server = Process::spawn("kube-apiserver", command, dir.path().join("server.log"), false).unwrap();
        let address = format!("127.0.0.1:{port}");
        let client = Client::new(&address, &authority);
        let ready = async || {
            let headers = [];
            let asked = client.send(Some(ADMIN), "GET", "/readyz", &headers, Vec::new()).await;
            asked.ok().filter(|(_, response)| response.status() == 200).map(|_| ())
        };
        within(&mut server, "the API server is ready", ready).await;
        std::fs::write(at("kubeconfig"), kubeconfig(&address, &at("ca.crt"))).unwrap();
        let mut command = Command::new(controllers);
        command.args([
            "--secure-port=0",
            "--leader-elect=false",
            "--controllers=endpointslice-controller,\
                       serviceaccount-controller,namespace-controller,root-ca-certificate-publisher-controller,\
                       garbage-collector-controller",
        ]);
        for (flag, value) in [
            ("kubeconfig", at("kubeconfig")),
            ("service-account-private-key-file", at("sa.key")),
            ("root-ca-file", at("ca.crt")),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        let mut controllers =
            Process::spawn("kube-controller-manager", command, dir.path().join("controllers.log"), false).unwrap();
        let account = async || {
            let path = "/api/v1/namespaces/default/serviceaccounts/default";
            let answer = client.ask(Some(ADMIN), "GET", path, &[], Vec::new()).await;
            (answer.status == 200).then_some(())
        };
        within(&mut controllers, "the controllers work", account).await;
        Self { address, authority, _controllers: controllers, _server: server, _etcd: etcd, _dir: dir }
    }
}

/// Waits; what the program said is said if it takes too long.
async fn within(program: &mut Process, what: &str, mut look: impl AsyncFnMut() -> Option<()>) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    while look().await.is_none() {
        let runs = program.is_running();
        let said = hawser_tests::process::tail(&program.log());
        assert!(runs && tokio::time::Instant::now() < end, "{what}: not in time; {} said:\n{said}", program.name());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Once it answers, it goes on to.
    until(what, look).await;
}

fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|l| l.local_addr().unwrap().port())
}

/// Writes certificates and keys; gives the authority's.
fn certificates(dir: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let signed = leaf.signed_by(&own, &issuer).unwrap();
    let account = KeyPair::generate().unwrap();
    for (name, text) in [
        ("ca.crt", root.clone()),
        ("server.crt", signed.pem()),
        ("server.key", own.serialize_pem()),
        ("sa.key", account.serialize_pem()),
        ("sa.pub", account.public_key_pem()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    root
}

fn kubeconfig(address: &str, authority: &str) -> String {
    let value: Value = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "real",
        "clusters": [{"name": "real", "cluster": {"server": format!("https://{address}"), "certificate-authority": authority}}],
        "users": [{"name": "real", "user": {"token": ADMIN}}],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}]});
    value.to_string()
}
