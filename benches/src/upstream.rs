//! The server behind the proxies: as cheap as one can be, so that it does not hide what proxies cost.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TINY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n";

/// Serves until killed: HTTP/1.1 (any request without a body; `/1k` answers 1,024 bytes) and TCP echo.
pub(crate) async fn run(http: SocketAddr, tcp: SocketAddr) -> anyhow::Result<()> {
    let kilobyte =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1024\r\n\r\n{}", "x".repeat(1024));
    let kilobyte: &'static [u8] = kilobyte.leak().as_bytes();
    let (http, tcp) = (TcpListener::bind(http).await?, TcpListener::bind(tcp).await?);
    loop {
        tokio::select! {
            accepted = http.accept() => {
                let (stream, _) = accepted?;
                tokio::task::spawn_local(serve_http(stream, kilobyte));
            }
            accepted = tcp.accept() => {
                let (stream, _) = accepted?;
                tokio::task::spawn_local(echo(stream));
            }
        }
    }
}

async fn serve_http(mut stream: TcpStream, kilobyte: &'static [u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8192);
    let mut answers = Vec::with_capacity(8192);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut start = 0;
        while let Some(end) = find(&buffer[start..], b"\r\n\r\n") {
            let is_kilobyte = buffer[start..].starts_with(b"GET /1k ");
            answers.extend_from_slice(if is_kilobyte { kilobyte } else { TINY });
            start += end + 4;
        }
        buffer.drain(..start);
        stream.write_all(&answers).await?;
        answers.clear();
        if buffer.len() > 64 * 1024 {
            return Ok(());
        }
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        // A first byte of `D` marks bulk that is thrown away: only one direction is measured.
        if buffer[0] != b'D' {
            stream.write_all(&buffer[..count]).await?;
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}
