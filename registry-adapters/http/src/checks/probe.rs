//! One question to one target.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{CheckKind, HealthCheck};

/// Whether it is answered well, in time.
pub(super) async fn ask(check: &HealthCheck, target: SocketAddr) -> bool {
    let address = check.port.map_or(target, |port| SocketAddr::new(target.ip(), port));
    let asked = async {
        let stream = TcpStream::connect(address).await.ok()?;
        match check.kind {
            CheckKind::Tcp => Some(true),
            CheckKind::Http => get(check, address, stream).await,
        }
    };
    tokio::time::timeout(check.timeout, asked).await.ok().flatten().unwrap_or(false)
}

/// The head of the answer is enough.
async fn get(check: &HealthCheck, address: SocketAddr, stream: TcpStream) -> Option<bool> {
    let host = if check.host.is_empty() { address.to_string() } else { check.host.clone() };
    let request = Request::get(check.path.as_str())
        .header(HOST, host)
        .header(USER_AGENT, concat!("hawser-discovery/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let mut connection = std::pin::pin!(connection);
    let response = tokio::select! {
        response = &mut answer => response,
        // A server that answers and closes at once may be seen to close first.
        _ = &mut connection => answer.await,
    };
    Some(check.status.contain(response.ok()?.status().as_u16()))
}
