//! One probe: HTTP GET or TCP connect to the workload on this host, bounded in time and size.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hawser_api::proto::host::probe::Kind;
use hawser_api::proto::host::{HttpProbe, Probe};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Probes once. The error says why the port is not healthy.
pub(crate) async fn probe(probe: &Probe, port: u32, address: IpAddr, within: Duration) -> Result<(), String> {
    let result = match &probe.kind {
        Some(Kind::Http(http)) => timeout(within, get(http, target(http.port, port, address)?)).await,
        Some(Kind::Tcp(tcp)) => timeout(within, connect(target(tcp.port, port, address)?)).await,
        None => return Ok(()),
    };
    result.unwrap_or_else(|_| Err(format!("no answer in {} ms", within.as_millis())))
}

fn target(probed: u32, declared: u32, address: IpAddr) -> Result<SocketAddr, String> {
    let port = if probed == 0 { declared } else { probed };
    let port = u16::try_from(port).map_err(|_| format!("{port} is not a port"))?;
    Ok(SocketAddr::new(address, port))
}

async fn connect(target: SocketAddr) -> Result<(), String> {
    TcpStream::connect(target).await.map(drop).map_err(|error| error.to_string())
}

async fn get(probe: &HttpProbe, target: SocketAddr) -> Result<(), String> {
    if probe.scheme.eq_ignore_ascii_case("https") {
        return Err("a probe by HTTPS is not possible in this version".into());
    }
    let stream = TcpStream::connect(target).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let path = if probe.path.starts_with('/') { probe.path.clone() } else { format!("/{}", probe.path) };
    let host = if probe.host.is_empty() { target.to_string() } else { probe.host.clone() };
    let mut request = http::Request::get(path).header("user-agent", "hawser-probe");
    if !probe.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", host);
    }
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200..=399 => Ok(()),
            status => Err(format!("HTTP {status}")),
        }
    };
    tokio::select! {
        result = exchange => result,
        // The connection's own task ends first only by an error.
        ended = connection => Err(ended.err().map_or("it closed the connection".into(), |error| error.to_string())),
    }
}
