//! Short questions to the proxy over loopback HTTP: is it ready, what are its metrics.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hawser_api::names::ports;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(2);
const LARGEST: usize = 16 << 20;

/// Whether the proxy says that it is ready.
pub(super) async fn is_ready() -> bool {
    matches!(timeout(PATIENCE, get(ports::READINESS, "/healthz/ready")).await, Ok(Some((200, _))))
}

/// The proxy's metrics, if it answers.
pub(crate) async fn metrics() -> Option<String> {
    let (status, body) = timeout(PATIENCE, get(ports::PROXY_ADMIN, "/metrics")).await.ok()??;
    (status == 200).then(|| String::from_utf8(body.to_vec()).ok())?
}

async fn get(port: u16, path: &str) -> Option<(u16, Bytes)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header("host", address.to_string()).header("connection", "close");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LARGEST).collect().await.ok()?.to_bytes();
    connection.abort();
    Some((status, body))
}
