//! Command lines of a real API server, its controllers and its etcd, as far as tests need them.
//!
//! In: a directory, an address, ports. Out: three programs with their arguments, in the order in which they are started;
//! certificates and keys in the directory. The caller starts and ends them.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

use crate::testbeds;

/// The token of its admin.
pub const ADMIN: &str = "static-admin-token";

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `address:port` of the API server.
    pub address: String,
    /// The certificate that its own is signed by.
    pub authority: String,
    /// A kubeconfig for everything.
    pub kubeconfig: String,
    /// etcd, with its arguments.
    pub etcd: Vec<String>,
    /// The API server.
    pub server: Vec<String>,
    /// Its controllers, once it is ready.
    pub controllers: Vec<String>,
}

/// Whether the environment asks for one, as `cargo xtask test kubernetes-real` does.
pub fn is_asked_for() -> bool {
    std::env::var_os("HAWSER_TEST_KUBERNETES_REAL").is_some_and(|v| v == "1")
}

/// A command of a program with its arguments.
pub fn command(line: &[String]) -> Command {
    let mut command = Command::new(line.first().map(String::as_str).unwrap_or_default());
    command.args(line.iter().skip(1));
    command
}

/// Prepares one; ports are those of etcd for clients and peers, and its own.
///
/// # Errors
/// If a program is missing, or the directory can't be written.
pub fn plan(dir: &Path, ip: IpAddr, [clients, peers, port]: [u16; 3]) -> Result<Plan> {
    let (server, controllers) = testbeds::kubernetes()
        .context("HAWSER_TEST_KUBE_APISERVER and HAWSER_TEST_KUBE_CONTROLLER_MANAGER name the programs")?;
    let etcd = testbeds::etcd()?;
    let at = |name: &str| dir.join(name).display().to_string();
    let authority = certificates(dir, ip)?;
    let (address, store) = (format!("{ip}:{port}"), format!("http://127.0.0.1:{clients}"));
    std::fs::write(at("tokens.csv"), format!("{ADMIN},admin,admin,\"system:masters\"\n"))?;
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "real",
        "clusters": [{"name": "real", "cluster": {"server": format!("https://{address}"), "certificate-authority": at("ca.crt")}}],
        "users": [{"name": "real", "user": {"token": ADMIN}}],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}]})
    .to_string();
    std::fs::write(at("kubeconfig"), &kubeconfig)?;
    let line = |program: &Path, switches: &[&str], flags: &[(&str, String)]| {
        let flags = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
        let switches = switches.iter().map(|s| (*s).to_owned());
        std::iter::once(program.display().to_string()).chain(switches).chain(flags).collect::<Vec<_>>()
    };
    let etcd = line(
        &etcd,
        &["--unsafe-no-fsync", "--log-level=error"],
        &[
            ("data-dir", at("etcd")),
            ("listen-client-urls", store.clone()),
            ("advertise-client-urls", store.clone()),
            ("listen-peer-urls", format!("http://127.0.0.1:{peers}")),
        ],
    );
    let server = line(
        &server,
        &[
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
            "--enable-priority-and-fairness=false",
        ],
        &[
            ("bind-address", ip.to_string()),
            ("advertise-address", ip.to_string()),
            ("etcd-servers", store),
            ("secure-port", port.to_string()),
            ("tls-cert-file", at("server.crt")),
            ("tls-private-key-file", at("server.key")),
            ("client-ca-file", at("ca.crt")),
            ("token-auth-file", at("tokens.csv")),
            ("service-account-signing-key-file", at("sa.key")),
            ("service-account-key-file", at("sa.pub")),
            ("cert-dir", at("certs")),
        ],
    );
    let controllers = line(
        &controllers,
        &["--secure-port=0", "--leader-elect=false"],
        &[
            (
                "controllers",
                "endpointslice-controller,serviceaccount-controller,namespace-controller,\
                 root-ca-certificate-publisher-controller,garbage-collector-controller"
                    .to_owned(),
            ),
            ("kubeconfig", at("kubeconfig")),
            ("service-account-private-key-file", at("sa.key")),
            ("root-ca-file", at("ca.crt")),
        ],
    );
    Ok(Plan { address, authority, kubeconfig, etcd, server, controllers })
}

/// Writes certificates and keys; gives the authority's.
fn certificates(dir: &Path, ip: IpAddr) -> Result<String> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let root = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate()?;
    let leaf = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned(), ip.to_string()])?;
    let signed = leaf.signed_by(&own, &issuer)?;
    let account = KeyPair::generate()?;
    for (name, text) in [
        ("ca.crt", root.clone()),
        ("server.crt", signed.pem()),
        ("server.key", own.serialize_pem()),
        ("sa.key", account.serialize_pem()),
        ("sa.pub", account.public_key_pem()),
    ] {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(root)
}
