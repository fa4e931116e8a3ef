//! A network namespace with two hosts in it, and the proxies of both.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::apps;

const INSIDE: &str = "HAWSER_TEST_INSIDE";
/// The callee's address.
pub(crate) const CALLEE: &str = "10.77.0.2";
/// The callee's inbound side calls its applications from here, so that it is not captured again.
pub(crate) const OWN: &str = "10.77.0.6";
const RULES: &str = "
table ip t {
  chain out {
    type nat hook output priority -100;
    ip daddr 240.240.0.0/16 meta l4proto tcp redirect to :15001
    ip daddr 10.77.0.2 ip saddr != 10.77.0.6 tcp dport { 3306, 8443, 9080, 9100 } redirect to :15006
  }
}";

/// Runs a story in a namespace of its own; `name` is the test's.
pub(crate) fn inside<F: Future<Output = ()>>(name: &str, story: fn() -> F) {
    if std::env::var_os(INSIDE).is_none() {
        let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
        let flags = if root { "-n" } else { "-rn" };
        let mut command = Command::new("unshare");
        command
            .arg(flags)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1");
        assert!(command.status().expect("unshare is there").success(), "see above");
        return;
    }
    for command in [
        "ip link set lo up",
        "ip addr add 10.77.0.1/32 dev lo",
        "ip addr add 10.77.0.2/32 dev lo",
        "ip addr add 10.77.0.3/32 dev lo",
        "ip addr add 10.77.0.6/32 dev lo",
        "ip route add local 240.240.0.0/16 dev lo",
    ] {
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    }
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), RULES).unwrap();
    assert!(Command::new("nft").arg("-f").arg(rules.path()).status().unwrap().success());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(story());
}

/// A proxy, ended with the test.
pub(crate) struct Proxy {
    child: Child,
    admin: u16,
}

impl Proxy {
    /// Starts one; ready when it returns.
    pub(crate) async fn start(run_dir: &Path, arguments: &[&str], admin: u16) -> Self {
        let readiness = admin + 21;
        let child = Command::new(env!("CARGO_BIN_EXE_hawser-proxy"))
            .arg("--run-dir")
            .arg(run_dir)
            .args(["--workers", "2"])
            .args(arguments)
            .args(["--admin", &format!("127.0.0.1:{admin}"), "--readiness", &format!("127.0.0.1:{readiness}")])
            .env("HAWSER_LOG", "hawser_proxy=debug,warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let proxy = Self { child, admin };
        apps::eventually(async || {
            apps::get(&format!("127.0.0.1:{readiness}"), "/healthz/ready", &[])
                .await
                .is_ok_and(|r| r.starts_with("HTTP/1.1 200"))
        })
        .await;
        proxy
    }

    /// The value of a metric, 0 if it is not there; `parts` are all in its line.
    pub(crate) async fn metric(&self, parts: &[&str]) -> u64 {
        let page = apps::get(&format!("127.0.0.1:{}", self.admin), "/metrics", &[]).await.unwrap();
        let lines = page.lines().filter(|line| !line.starts_with('#') && parts.iter().all(|p| line.contains(p)));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `address:port`.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}
