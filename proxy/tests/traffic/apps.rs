//! Programs that know nothing of a mesh: servers behind the callee's proxy, clients before the caller's.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Starts all servers on 10.77.0.2.
pub(crate) async fn start() {
    let web = TcpListener::bind("10.77.0.2:9080").await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = web.accept().await {
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(connection.with_upgrades());
        }
    });
    let rpc = TcpListener::bind("10.77.0.2:9090").await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = rpc.accept().await {
            tokio::spawn(serve_h2(stream));
        }
    });
    let bytes = TcpListener::bind("10.77.0.2:9100").await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = bytes.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(format!("{} bytes", all.len()).as_bytes()).await.unwrap();
            });
        }
    });
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 4];
            stream.read_exact(&mut buffer).await.unwrap();
            stream.write_all(&buffer).await.unwrap();
        });
        let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        return Ok(response.body(Full::default()).unwrap());
    }
    let mut text = format!("saw: {} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if !body.is_empty() {
        text = body.len().to_string();
    }
    Ok(Response::new(Full::from(text)))
}

async fn serve_h2(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.headers().get("te").unwrap(), "trailers");
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"pong"), false).unwrap();
        let trailers: HeaderMap = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
        stream.send_trailers(trailers).unwrap();
    }
}

/// Two requests on one connection; the second answer.
pub(crate) async fn get(to: &str, path: &str, headers: &[&str]) -> io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let extra: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    for close in [false, true] {
        let connection = if close { "close" } else { "keep-alive" };
        let head = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: {connection}\r\n{extra}\r\n");
        stream.write_all(head.as_bytes()).await?;
        if !close {
            read_one(&mut stream).await?;
        }
    }
    let mut all = String::new();
    stream.read_to_string(&mut all).await?;
    if all.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(all) }
}

/// Reads one response of known length.
async fn read_one(stream: &mut TcpStream) -> io::Result<()> {
    let mut seen = Vec::new();
    loop {
        if stream.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&seen).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let done = match head.split_once("content-length: ") {
            Some((_, length)) => body.len() >= length.lines().next().unwrap().parse::<usize>().unwrap(),
            None => body.ends_with("0\r\n\r\n"),
        };
        if done {
            return Ok(());
        }
    }
}

pub(crate) async fn post(to: &str, path: &str, size: usize) -> io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let head = format!("POST {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b'x'; size]).await?;
    let mut all = String::new();
    stream.read_to_string(&mut all).await?;
    Ok(all)
}

pub(crate) async fn call_h2(to: &str) -> (u16, Vec<u8>, HeaderMap) {
    let (client, connection) = h2::client::handshake(TcpStream::connect(to).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let request =
        Request::post(format!("http://{to}/x.Y/Z")).header("content-type", "application/grpc").header("te", "trailers");
    let mut client = client.ready().await.unwrap();
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(b"ping"), true).unwrap();
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let mut stream = response.into_body();
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        all.extend_from_slice(&data.unwrap());
    }
    (status, all, stream.trailers().await.unwrap().unwrap())
}

pub(crate) async fn half_close(to: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(all)
}

/// Becomes a WebSocket connection, as far as the proxies know, and sends four bytes.
pub(crate) async fn upgrade(to: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    let head = format!("GET /ws HTTP/1.1\r\nhost: {to}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert!(seen.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&seen));
    stream.write_all(b"echo").await?;
    let mut echoed = vec![0; 4];
    stream.read_exact(&mut echoed).await?;
    Ok(echoed)
}

/// Waits for something to become true.
pub(crate) async fn eventually(mut is: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut every = tokio::time::interval(Duration::from_millis(20));
    while !is().await {
        assert!(tokio::time::Instant::now() < deadline, "it did not come true");
        every.tick().await;
    }
}

/// Says back what it hears.
#[allow(dead_code, reason = "not every test has one")]
pub(crate) async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                let _ = write.shutdown().await;
            }
        });
    }
}
