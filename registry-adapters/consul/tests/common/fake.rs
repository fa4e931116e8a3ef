//! NOT Consul: a small imitation of its HTTP API, for what the Consul that tests can have does not do yet (partitions,
//! namespaces, answers from streams, HTTP/2, refusals by rate, marks of filtering) and for what none does when asked to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What the imitation answers.
#[derive(Clone, Debug)]
pub struct State {
    pub index: u64,
    /// Port of the only instance, by service.
    pub services: BTreeMap<String, u16>,
    /// Headers besides the usual ones, which win.
    pub headers: BTreeMap<&'static str, String>,
    /// Answer everything with this status.
    pub status: Option<u16>,
    /// Answer with this body where the path ends so.
    pub bodies: BTreeMap<&'static str, String>,
    /// What was asked, and over which version of HTTP.
    pub asked: Vec<(String, http::Version)>,
    /// Questions that are out, and the most that were.
    pub waiting: usize,
}

/// A running imitation.
pub struct Fake {
    pub url: String,
    pub state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    /// The root of its certificate, if it speaks TLS.
    pub root: Option<PathBuf>,
    dir: tempfile::TempDir,
}

impl Fake {
    pub async fn start() -> Self {
        Self::listen(false).await
    }

    /// Over TLS, with HTTP/2.
    pub async fn with_tls() -> Self {
        Self::listen(true).await
    }

    async fn listen(tls: bool) -> Self {
        let state = State {
            index: 10,
            services: BTreeMap::from([("consul".to_owned(), 8300), ("web".to_owned(), 8080)]),
            headers: BTreeMap::new(),
            status: None,
            bodies: BTreeMap::new(),
            asked: Vec::new(),
            waiting: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, root) = match tls {
            true => {
                let (acceptor, pem) = acceptor();
                let file = dir.path().join("root.pem");
                std::fs::write(&file, pem).unwrap();
                (Some(acceptor), Some(file))
            }
            false => (None, None),
        };
        let (changed, watched) = watch::channel(0);
        tokio::spawn(serve(listener, acceptor, state.clone(), watched));
        let url = format!("{}://localhost:{port}", if tls { "https" } else { "http" });
        Self { url, state, changed, root, dir }
    }

    /// Changes something, and wakes what waits.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.index += 1;
        self.changed.send_replace(state.index);
    }

    /// Changes something that nobody is woken by.
    pub fn quietly(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state, changed) = (tls.clone(), state.clone(), changed.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, state.clone(), changed.clone()));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    }
                }
                None => {
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                }
            }
        });
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    state: Arc<Mutex<State>>,
    mut changed: watch::Receiver<u64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let uri = request.uri().clone();
    state.lock().asked.push((uri.path_and_query().unwrap().to_string(), request.version()));
    let query: BTreeMap<&str, &str> =
        uri.query().unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    if let Some(index) = query.get("index").and_then(|i| i.parse::<u64>().ok()) {
        state.lock().waiting += 1;
        let newer = changed.wait_for(|_| state.lock().index > index);
        let _ = tokio::time::timeout(Duration::from_secs(60), newer).await.map(|r| r.map(drop));
        state.lock().waiting -= 1;
    }
    let state = state.lock().clone();
    let mut response = Response::builder()
        .header("X-Consul-Index", state.index.to_string())
        .header("X-Consul-KnownLeader", "true")
        .header("X-Consul-LastContact", "0");
    if let Some(headers) = response.headers_mut() {
        for (name, value) in &state.headers {
            headers.insert(*name, value.parse().unwrap());
        }
    }
    let path = uri.path();
    let (status, body) = match (state.status, state.bodies.iter().find(|(end, _)| path.ends_with(**end))) {
        (Some(status), _) => (status, String::new()),
        (None, Some((_, body))) => (200, body.clone()),
        (None, None) => usual(path, &state),
    };
    Ok(response.status(status).body(Full::new(Bytes::from(body))).unwrap())
}

fn usual(path: &str, state: &State) -> (u16, String) {
    let instance = |name: &str, port: u16| -> Value {
        json!([{"Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"}, "Service": {"ID": name, "Service": name, "Port": port}, "Checks": []}])
    };
    let body = match path {
        "/v1/agent/self" => json!({"Config": {"Datacenter": "dc1", "Version": "none"}}),
        "/v1/catalog/services" => state.services.keys().map(|name| (name.clone(), json!([]))).collect(),
        "/v1/health/state/critical" | "/v1/health/state/warning" | "/v1/config/service-defaults" => json!([]),
        "/v1/catalog/nodes" => json!([{"Node": "n1", "Address": "10.0.0.1"}]),
        "/v1/acl/token/self" => return (401, "ACL support disabled".to_owned()),
        other => match other.strip_prefix("/v1/health/service/") {
            Some(name) => state.services.get(name).map_or(json!([]), |port| instance(name, *port)),
            None => return (404, String::new()),
        },
    };
    (200, body.to_string())
}

/// A server's end of TLS with a certificate for localhost, and its root.
fn acceptor() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}
