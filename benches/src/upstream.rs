//! The server behind the proxies: as cheap as one can be, so that it does not hide what proxies cost.
//!
//! In: requests that it checks. Out: the bytes of [`crate::bodies`]. A request that is not as the loader made it gets
//! another status.

mod grpc;

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bodies;
use crate::mesh::Door;

const LONGEST_HEAD: usize = 64 * 1024;

/// Serves every door until killed: HTTP/1.1 (`GET /` and `GET /1k`), gRPC, TCP echo. Its ports are `offset` above the
/// usual ones.
pub(crate) async fn run(address: IpAddr, offset: u16) -> anyhow::Result<()> {
    let mut servers = tokio::task::JoinSet::new();
    for door in Door::ALL {
        let listener = TcpListener::bind(SocketAddr::new(address, door.port() + offset)).await?;
        servers.spawn_local(serve(door, listener));
    }
    match servers.join_next().await {
        Some(ended) => Ok(ended??),
        None => Ok(()),
    }
}

/// One door.
pub(crate) async fn serve(door: Door, listener: TcpListener) -> std::io::Result<()> {
    let answers: &'static [Vec<u8>; 3] = Box::leak(Box::new([
        answer("200 OK", bodies::TINY),
        answer("200 OK", &bodies::kilobyte()),
        answer("400 Bad Request", b"not as it was sent\n"),
    ]));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match door {
            Door::Http | Door::Fresh => drop(tokio::task::spawn_local(http(stream, answers))),
            Door::Tcp => drop(tokio::task::spawn_local(tcp(stream))),
            Door::Grpc => drop(tokio::task::spawn_local(grpc::serve(stream))),
        }
    }
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn http(mut stream: TcpStream, [tiny, kilobyte, wrong]: &[Vec<u8>; 3]) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(8192);
    let mut answers = Vec::with_capacity(8192);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut start = 0;
        while let Some(end) = buffer[start..].windows(4).position(|w| w == b"\r\n\r\n") {
            let request = &buffer[start..start + end];
            answers.extend_from_slice(match () {
                () if request.starts_with(b"GET / HTTP/1.1\r\n") => tiny,
                () if request.starts_with(b"GET /1k HTTP/1.1\r\n") => kilobyte,
                () => wrong,
            });
            start += end + 4;
        }
        buffer.drain(..start);
        stream.write_all(&answers).await?;
        answers.clear();
        if buffer.len() > LONGEST_HEAD {
            return Ok(());
        }
    }
}

async fn tcp(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; bodies::BLOCK];
    let mut count = stream.read(&mut buffer).await?;
    // A first byte of `D` marks bulk that is not sent back: only one direction is measured.
    if buffer[0] == b'D' {
        return bulk(stream, buffer, count).await;
    }
    while count > 0 {
        stream.write_all(&buffer[..count]).await?;
        count = stream.read(&mut buffer).await?;
    }
    Ok(())
}

/// Compares what comes with what was sent, and says at the end how much it was.
async fn bulk(mut stream: TcpStream, mut buffer: Vec<u8>, mut count: usize) -> std::io::Result<()> {
    let block = bodies::block();
    let (mut bytes, mut whole) = (0u64, true);
    while count > 0 {
        let at = (bytes % block.len() as u64) as usize;
        let first = count.min(block.len() - at);
        whole &= buffer[..first] == block[at..at + first] && buffer[first..count] == block[..count - first];
        bytes += count as u64;
        count = stream.read(&mut buffer).await?;
    }
    stream.write_all(format!("{bytes} {}\n", if whole { "whole" } else { "damaged" }).as_bytes()).await
}
