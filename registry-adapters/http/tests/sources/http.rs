//! `http_sd` against servers of our own.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hawser_registry_http::{HttpSd, Source};
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::follower::Follower;

/// What the server answers now: status, content type, body. And the headers it was asked with.
#[derive(Clone)]
struct Server {
    answer: Arc<Mutex<(u16, &'static str, String)>>,
    asked: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
}

impl Server {
    async fn start(body: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            answer: Arc::new(Mutex::new((200, "application/json; charset=utf-8", body.to_owned()))),
            asked: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => server.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let answer = |request: Request<hyper::body::Incoming>| {
            let headers = request.headers().iter();
            let headers: Vec<_> = headers.map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
            self.asked.lock().unwrap().push(format!("{} {}", request.uri(), headers.join(", ")));
            let (status, kind, body) = self.answer.lock().unwrap().clone();
            let mut response = Response::builder().status(status).header("content-type", kind);
            if status == 302 {
                response = response.header("location", "/elsewhere");
            }
            let response = response.body(Full::new(Bytes::from(body))).unwrap();
            async move { Ok::<_, Infallible>(response) }
        };
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
    }

    fn says(&self, status: u16, kind: &'static str, body: &str) {
        *self.answer.lock().unwrap() = (status, kind, body.to_owned());
    }

    fn lists(&self, body: &str) {
        self.says(200, "application/json", body);
    }

    fn source(&self, more: &str) -> HttpSd {
        let yaml = format!(
            "{{url: 'http://{}/targets?x=1', refresh: 1s, service: {{port: {{number: 80}}}}{more}}}",
            self.address
        );
        let mut source: HttpSd = serde_saphyr::from_str(&yaml).unwrap();
        source.refresh = Duration::from_millis(200);
        source
    }
}

fn follow(source: HttpSd, directory: Option<&std::path::Path>) -> Follower {
    // The least that the file takes is longer than tests have time.
    let mut checked = source.clone();
    checked.refresh = Duration::from_secs(1);
    Source::HttpSd(checked).check().unwrap();
    Follower::start_unchecked(Source::HttpSd(source), directory)
}

const TWO: &str = r#"[{"targets": ["10.0.0.1:81", "10.0.0.2:82"], "labels": {"job": "x"}}]"#;

#[tokio::test]
async fn a_list_is_followed_and_what_a_failing_server_said_stays() {
    let server = Server::start(TWO, None).await;
    let mut follower = follow(server.source(""), None);
    follower.until(|f| f.synced == 1 && f.is(&["10.0.0.1:81 Healthy", "10.0.0.2:82 Healthy"])).await;
    assert!(follower.services.contains("legacy.default.svc.cluster.local"));
    server.lists(r#"[{"targets": ["10.0.0.2:82", "10.0.0.3:83"]}]"#);
    follower.until(|f| f.is(&["10.0.0.2:82 Healthy", "10.0.0.3:83 Healthy"])).await;
    for (status, kind, body, why) in [
        (500, "application/json", "[]", "500"),
        (200, "text/html", "[]", "application/json"),
        (200, "application/json", "[", "no list of targets"),
        (302, "application/json", "[]", "redirections are not followed"),
        (403, "application/json", "[]", "look at bearerTokenFile"),
    ] {
        server.says(status, kind, body);
        follower.until(|f| f.is_stale(why) || f.handle.status().messages().any(|m| m.contains(why))).await;
        assert_eq!(follower.workloads.len(), 2);
        server.lists(r#"[{"targets": ["10.0.0.2:82", "10.0.0.3:83"]}]"#);
        follower.until(|f| f.stale.is_none()).await;
    }
    assert_eq!(follower.synced, 1);
    follower.end().await;
}

#[tokio::test]
async fn secrets_come_from_files_that_are_read_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let (token, headers) = (dir.path().join("token"), dir.path().join("headers"));
    std::fs::write(&token, "secret-1\n").unwrap();
    std::fs::write(&headers, "# who asks\nX-Team: a\n").unwrap();
    let server = Server::start(TWO, None).await;
    let more = format!(", bearerTokenFile: {}, headersFile: {}", token.display(), headers.display());
    let mut follower = follow(server.source(&more), None);
    follower.until(|f| f.synced == 1).await;
    let asked = server.asked.lock().unwrap()[0].clone();
    for part in ["/targets?x=1 ", "authorization: Bearer secret-1", "x-team: a", "accept: application/json"] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    std::fs::write(&token, "secret-2").unwrap();
    server.lists(r#"[{"targets": ["10.0.0.9:9"]}]"#);
    follower.until(|f| f.workloads.values().any(|w| w.starts_with("10.0.0.9"))).await;
    assert!(server.asked.lock().unwrap().last().unwrap().contains("Bearer secret-2"));
    std::fs::remove_file(&token).unwrap();
    follower.until(|f| f.is_stale("bearerTokenFile")).await;
    assert!(!follower.stale.as_ref().unwrap().contains("secret"));
}

#[tokio::test]
async fn an_https_server_is_believed_by_the_roots_of_its_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()))
        .unwrap();
    let server = Server::start(TWO, Some(TlsAcceptor::from(Arc::new(config)))).await;
    let mut source = server.source(&format!(", caFile: {}", ca.display()));
    source.url = format!("https://localhost:{}/", server.address.port());
    let mut follower = follow(source.clone(), None);
    follower.until(|f| f.synced == 1 && f.workloads.len() == 2).await;
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&ca, other.cert.pem()).unwrap();
    follower.until(|f| f.is_stale("TLS fails")).await;
    assert_eq!(follower.workloads.len(), 2);
}

#[tokio::test]
async fn a_restart_while_the_server_is_away_begins_with_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(TWO, None).await;
    let mut follower = follow(server.source(""), Some(dir.path()));
    follower.until(|f| f.synced == 1).await;
    let file = dir.path().join("http_5fsd_2flegacy.state");
    tokio::time::timeout(crate::follower::DEADLINE, async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    follower.end().await;
    let mut source = server.source("");
    // Nobody listens there.
    source.url = "http://127.0.0.1:1/".to_owned();
    let mut follower = follow(source, Some(dir.path()));
    follower.until(|f| f.synced == 1 && f.is_stale("can't be reached")).await;
    assert!(follower.is(&["10.0.0.1:81 Healthy", "10.0.0.2:82 Healthy"]));
    assert!(follower.handle.status().loaded.is_some() && follower.handle.status().last_contact.is_none());
}

#[tokio::test]
async fn a_list_that_is_suddenly_empty_freezes_until_an_operator_says_that_it_is_meant() {
    let targets: Vec<String> = (1..=10).map(|n| format!("\"10.0.0.{n}:80\"")).collect();
    let server = Server::start(&format!("[{{\"targets\": [{}]}}]", targets.join(",")), None).await;
    let mut follower = follow(server.source(""), None);
    follower.until(|f| f.synced == 1 && f.workloads.len() == 10).await;
    server.lists("[]");
    let mut changes = follower.handle.changes();
    changes.wait_for(|status| status.frozen.is_some()).await.unwrap();
    assert_eq!(follower.workloads.len(), 10);
    assert!(follower.handle.status().messages().next().unwrap().contains("accept http_sd/legacy"));
    // What comes is taken, what goes is not.
    server.lists(r#"[{"targets": ["10.0.1.1:80"]}]"#);
    follower.until(|f| f.workloads.len() == 11).await;
    assert!(follower.handle.accept());
    follower.until(|f| f.is(&["10.0.1.1:80 Healthy"])).await;
    assert!(follower.handle.status().frozen.is_none());
}

#[tokio::test]
async fn targets_that_are_names_are_their_addresses() {
    let server = Server::start(r#"[{"targets": ["localhost:81"]}]"#, None).await;
    let mut follower = follow(server.source(""), None);
    follower.until(|f| f.is(&["127.0.0.1:81 Healthy"])).await;
    server.lists(r#"[{"targets": ["localhost:81", "no-such-name.invalid:82"]}]"#);
    follower.until(|f| f.problems.get("names").is_some_and(|why| why.contains("no-such-name.invalid"))).await;
    assert!(follower.is(&["127.0.0.1:81 Healthy"]));
}

#[tokio::test]
async fn health_is_checked_and_unknown_is_not_down() {
    let good = Server::start("ok", None).await;
    let bad = Server::start("no", None).await;
    bad.says(500, "text/plain", "no");
    let list = format!(r#"[{{"targets": ["{}", "{}"]}}]"#, good.address, bad.address);
    let server = Server::start(&list, None).await;
    let more = ", healthCheck: {kind: http, path: /healthz, interval: 100ms, timeout: 1s, unhealthyAfter: 2}";
    let mut follower = follow(server.source(more), None);
    follower.until(|f| f.workloads.values().all(|w| w.ends_with(" Healthy")) && f.synced == 1).await;
    let is = |f: &Follower, of: &Server, health: &str| {
        f.workloads.values().any(|w| *w == format!("{} {health}", of.address))
    };
    follower.until(|f| is(f, &bad, "Unhealthy") && is(f, &good, "Healthy")).await;
    assert!(bad.asked.lock().unwrap()[0].starts_with("/healthz "));
    good.says(503, "text/plain", "no");
    follower.until(|f| is(f, &bad, "Degraded") && is(f, &good, "Degraded")).await;
    bad.says(204, "text/plain", "");
    follower.until(|f| is(f, &bad, "Healthy") && is(f, &good, "Unhealthy")).await;
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_down_by_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (up, down) = (listener.local_addr().unwrap(), "127.0.0.1:1");
    let server = Server::start(&format!(r#"[{{"targets": ["{up}", "{down}"]}}]"#), None).await;
    let more = ", healthCheck: {kind: tcp, interval: 100ms, timeout: 1s}";
    let mut follower = follow(server.source(more), None);
    follower.until(|f| f.workloads.values().any(|w| w == "127.0.0.1:1 Unhealthy")).await;
    assert!(follower.workloads.values().any(|w| *w == format!("{up} Healthy")));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused() {
    let server = Server::start(TWO, None).await;
    let mut follower = follow(server.source(", timeout: 20s"), None);
    follower.until(|f| f.synced == 1).await;
    let mut body = Vec::with_capacity(33 << 20);
    write!(body, "[").unwrap();
    body.resize(33 << 20, b' ');
    server.lists(&String::from_utf8(body).unwrap());
    follower.until(|f| f.is_stale("32 MiB")).await;
    assert_eq!(follower.workloads.len(), 2);
}
