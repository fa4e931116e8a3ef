//! Short questions to the proxy over loopback HTTP: is it ready, what are its metrics, what is it busy with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hawser_api::names::ports;
use http::Method;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::ProxyKind;

const PATIENCE: Duration = Duration::from_secs(2);
const LARGEST: usize = 16 << 20;

/// Whether the proxy says that it is ready.
pub(super) async fn is_ready() -> bool {
    matches!(timeout(PATIENCE, get(ports::READINESS, "/healthz/ready")).await, Ok(Some((200, _))))
}

/// The proxy's metrics, if it answers: those of an Envoy as Prometheus writes them, ours as OpenMetrics.
pub(crate) async fn metrics(kind: ProxyKind) -> Option<String> {
    let path = match kind {
        ProxyKind::Hawser => "/metrics",
        ProxyKind::Envoy => "/stats/prometheus?usedonly",
    };
    page(path).await.filter(|(status, _)| *status == 200).map(|(_, text)| text)
}

/// A page of the proxy's own, with its status.
pub(super) async fn page(path: &str) -> Option<(u16, String)> {
    let (status, body) = timeout(PATIENCE, get(ports::PROXY_ADMIN, path)).await.ok()??;
    Some((status, String::from_utf8(body.to_vec()).ok()?))
}

/// Something that the proxy is to do; whether it took it.
pub(super) async fn tell(path: &str) -> bool {
    matches!(timeout(PATIENCE, ask(Method::POST, ports::PROXY_ADMIN, path)).await, Ok(Some((200, _))))
}

async fn get(port: u16, path: &str) -> Option<(u16, Bytes)> {
    ask(Method::GET, port, path).await
}

async fn ask(method: Method, port: u16, path: &str) -> Option<(u16, Bytes)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("host", address.to_string()).header("connection", "close");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LARGEST).collect().await.ok()?.to_bytes();
    connection.abort();
    Some((status, body))
}
