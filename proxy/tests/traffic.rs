//! Two proxies in a network namespace of their own, captured by real nftables rules, configured over xDS.
//!
//! In: the built program. Out: requests and connections that pass caller's and callee's proxy, seen from both ends.
//! The test starts itself again inside the namespace; nothing is done to the machine's own network.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "traffic/ads.rs"]
mod ads;
#[path = "traffic/apps.rs"]
mod apps;
#[path = "traffic/resources.rs"]
mod resources;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ads::Ads;
use resources::{Accept, Pki};
use tokio::time::timeout;

const INSIDE: &str = "HAWSER_TEST_INSIDE";
const RULES: &str = "
table ip t {
  chain out {
    type nat hook output priority -100;
    ip daddr 240.240.0.0/16 meta l4proto tcp redirect to :15001
    ip daddr 10.77.0.2 ip saddr != 10.77.0.6 tcp dport { 9080, 9090, 9100 } redirect to :15006
  }
}";

#[test]
fn requests_and_connections_pass_a_pair_of_proxies() {
    if std::env::var_os(INSIDE).is_none() {
        return enter("requests_and_connections_pass_a_pair_of_proxies");
    }
    for command in [
        "ip link set lo up",
        "ip addr add 10.77.0.1/32 dev lo",
        "ip addr add 10.77.0.2/32 dev lo",
        "ip addr add 10.77.0.6/32 dev lo",
        "ip route add local 240.240.0.0/16 dev lo",
    ] {
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    }
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), RULES).unwrap();
    assert!(Command::new("nft").arg("-f").arg(rules.path()).status().unwrap().success());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(story());
}

/// Runs this test again in a new network namespace.
fn enter(name: &str) {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    let flags = if root { "-n" } else { "-rn" };
    let mut command = Command::new("unshare");
    command.arg(flags).arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let status = command.status().expect("unshare is there");
    assert!(status.success(), "see above");
}

async fn story() {
    let _ = rustls_provider();
    apps::start().await;
    let pki = Pki::new();
    let (caller_dir, callee_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let caller_ads = Ads::start(caller_dir.path(), resources::caller(&pki));
    let callee_ads = Ads::start(callee_dir.path(), resources::callee(&pki, Accept::Permissive));
    let _caller = Proxy::start(caller_dir.path(), "outbound=0.0.0.0:15001", 15000, 15021);
    let _callee = Proxy::start(callee_dir.path(), "inbound=0.0.0.0:15006", 15100, 15121);
    for port in [15021, 15121] {
        apps::eventually(async || {
            apps::get(&format!("127.0.0.1:{port}"), "/healthz/ready", &[])
                .await
                .is_ok_and(|r| r.starts_with("HTTP/1.1 200"))
        })
        .await;
    }

    // HTTP/1.1: two requests on one connection, over mTLS, with the caller's identity for the callee's application.
    let seen =
        apps::get("240.240.0.1:9080", "/hello?x=1", &["x-forwarded-client-cert: URI=spiffe://evil"]).await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    assert!(seen.contains("saw: GET /hello?x=1 HTTP/1.1"), "{seen}");
    assert!(seen.contains("host: 240.240.0.1:9080"), "{seen}");
    assert!(seen.contains("URI=spiffe://cluster.local/ns/default/sa/caller"), "{seen}");
    assert!(!seen.contains("evil") && !seen.contains("x-hawser-protocol"), "{seen}");

    // A body that is larger than any window.
    let posted = apps::post("240.240.0.1:9080", "/count", 3 << 20).await.unwrap();
    assert!(posted.ends_with("3145728"), "{posted}");

    // HTTP/2 with trailers, as gRPC has them.
    let (status, body, trailers) = apps::call_h2("240.240.0.1:9090").await;
    assert_eq!((status, body.as_slice()), (200, &b"pong"[..]));
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");

    // TCP: the client finishes first, the answer comes all the same.
    let answer =
        timeout(Duration::from_secs(10), apps::half_close("240.240.0.1:9100", b"ping")).await.unwrap().unwrap();
    assert_eq!(answer, b"4 bytes");

    // Upgrades: between the proxies they share connections, one a worker of the caller's.
    let before = inbound_connections().await;
    for _ in 0..8 {
        let echoed = timeout(Duration::from_secs(10), apps::upgrade("240.240.0.1:9080")).await.unwrap().unwrap();
        assert_eq!(echoed, b"echo");
    }
    let made = inbound_connections().await - before;
    assert!((1..=2).contains(&made), "{made}");

    // Both ends counted.
    let metrics = apps::get("127.0.0.1:15000", "/metrics", &[]).await.unwrap();
    let line = |text: &str, parts: &[&str]| text.lines().any(|l| parts.iter().all(|p| l.contains(p)));
    assert!(
        line(
            &metrics,
            &[
                "istio_requests_total",
                "reporter=\"source\"",
                "destination_service_name=\"reviews\"",
                "response_code=\"200\""
            ]
        ),
        "{metrics}"
    );
    assert!(line(&metrics, &["istio_tcp_connections_opened_total", " 1"]), "{metrics}");
    let metrics = apps::get("127.0.0.1:15100", "/metrics", &[]).await.unwrap();
    assert!(
        line(
            &metrics,
            &["istio_requests_total", "mutual_tls", "source_principal=\"cluster.local/ns/default/sa/caller\""]
        ),
        "{metrics}"
    );

    // Plaintext is taken by a permissive port, without a word of who called, and not by a strict one.
    let plain = apps::get("10.77.0.2:9080", "/plain", &["x-forwarded-client-cert: URI=spiffe://evil"]).await.unwrap();
    assert!(plain.contains("saw: GET /plain") && !plain.contains("evil"), "{plain}");
    callee_ads.set(resources::callee(&pki, Accept::Strict));
    apps::eventually(async || apps::get("10.77.0.2:9080", "/plain", &[]).await.is_err()).await;
    let strict = apps::get("240.240.0.1:9080", "/strict", &[]).await.unwrap();
    assert!(strict.contains("saw: GET /strict"), "{strict}");

    // Nobody's address: closed soon. A capture port itself: closed.
    let nobody = timeout(Duration::from_secs(4), apps::get("240.240.9.9:80", "/", &[])).await.unwrap();
    assert!(nobody.is_err(), "{nobody:?}");
    let direct = timeout(Duration::from_secs(4), apps::get("127.0.0.1:15001", "/", &[])).await.unwrap();
    assert!(direct.is_err(), "{direct:?}");

    // Nobody to say anything: what is known goes on.
    drop((caller_ads, callee_ads));
    let alone = apps::get("240.240.0.1:9080", "/alone", &[]).await.unwrap();
    assert!(alone.contains("saw: GET /alone"), "{alone}");
}

/// How many connections the callee's proxy has taken.
async fn inbound_connections() -> u64 {
    let page = apps::get("127.0.0.1:15100", "/metrics", &[]).await.unwrap();
    let line = page.lines().find(|l| l.starts_with("hawser_proxy_connections_total{direction=\"inbound\"}")).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn rustls_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::aws_lc_rs::default_provider().install_default()
}

/// A proxy, ended with the test.
struct Proxy(Child);

impl Proxy {
    fn start(run_dir: &std::path::Path, bind: &str, admin: u16, readiness: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_hawser-proxy"))
            .arg("--run-dir")
            .arg(run_dir)
            .args(["--workers", "2", "--bind", bind])
            .args(["--admin", &format!("127.0.0.1:{admin}"), "--readiness", &format!("127.0.0.1:{readiness}")])
            .env("HAWSER_LOG", "hawser_proxy=debug,warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
