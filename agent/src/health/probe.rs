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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hawser_api::proto::host::TcpProbe;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LONG: Duration = Duration::from_secs(10);

    fn of(kind: Kind) -> Probe {
        Probe { kind: Some(kind), ..Probe::default() }
    }

    /// What an application that answers so is asked, and what came of it.
    async fn asked(http: HttpProbe, answer: &'static str) -> (String, Result<(), String>) {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serves = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            (String::from_utf8(head).unwrap(), stream)
        };
        let kind = of(Kind::Http(http));
        let ((head, _), result) = tokio::join!(serves, probe(&kind, port.into(), HERE, LONG));
        (head, result)
    }

    #[tokio::test]
    async fn a_probe_of_http_asks_for_its_path_with_its_fields_and_a_status_below_400_is_healthy() {
        let headers = [("x-probe".to_owned(), "yes".to_owned())].into();
        let said = HttpProbe { path: "/ready?now".into(), host: "app.test".into(), headers, ..HttpProbe::default() };
        let (head, result) = asked(said, "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n").await;
        assert!(head.starts_with("GET /ready?now HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: app.test\r\n") && head.contains("x-probe: yes\r\n"), "{head}");
        assert_eq!(result, Ok(()));
        let (head, result) = asked(HttpProbe::default(), "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n") && head.contains("host: 127.0.0.1:"), "{head}");
        assert_eq!(result, Err("HTTP 503".to_owned()));
        let own = HttpProbe { headers: [("Host".to_owned(), "b.test".to_owned())].into(), ..HttpProbe::default() };
        let (head, _) = asked(own, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert!(head.contains("b.test") && !head.contains("127.0.0.1"), "{head}");
    }

    #[tokio::test]
    async fn a_probe_of_tcp_connects_and_who_does_not_answer_in_time_is_not_healthy() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = u32::from(listener.local_addr().unwrap().port());
        let tcp = of(Kind::Tcp(TcpProbe { port }));
        assert_eq!(probe(&tcp, 1, HERE, LONG).await, Ok(()), "its own port goes before the declared one");
        let silent = of(Kind::Http(HttpProbe::default()));
        let short = Duration::from_millis(20);
        assert_eq!(probe(&silent, port, HERE, short).await, Err("no answer in 20 ms".to_owned()));
        let https = of(Kind::Http(HttpProbe { scheme: "HTTPS".into(), ..HttpProbe::default() }));
        assert!(probe(&https, port, HERE, LONG).await.unwrap_err().contains("HTTPS"));
        drop(listener);
        assert!(probe(&tcp, 1, HERE, LONG).await.is_err(), "nobody listens");
    }
}
