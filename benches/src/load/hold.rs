//! Connections that stay and say nothing more after one request each.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use super::answer::{Answer, look};
use super::{Kind, LOST};
use crate::bodies;

/// Opens `count` of them, says `ready`, and keeps them until its stdin ends.
pub(crate) fn run(kind: Kind, target: SocketAddr, count: u32) -> anyhow::Result<()> {
    let files = u64::from(count) + 100;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, files, files)
        .context("as many descriptors")?;
    let mut open = Vec::with_capacity(count as usize);
    for number in 0..count {
        open.push(one(kind, target, number).with_context(|| format!("connection {number} of {count}"))?);
    }
    super::say("ready")?;
    std::io::stdin().lock().read_to_end(&mut vec![])?;
    for stream in &mut open {
        let mut byte = [0];
        stream.set_nonblocking(true)?;
        let silent = matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        anyhow::ensure!(silent, "an idle connection was closed");
    }
    super::say("all still open")
}

fn one(kind: Kind, target: SocketAddr, number: u32) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, LOST)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![];
    let mut chunk = [0; 4096];
    let message = bodies::message(number.into());
    if kind.is_http() {
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\nuser-agent: hawser-bench/1\r\n\r\n", crate::mesh::SERVICE);
        stream.write_all(request.as_bytes())?;
    } else {
        stream.write_all(&message)?;
    }
    loop {
        let read = stream.read(&mut chunk)?;
        anyhow::ensure!(read > 0, "closed before its answer");
        buffer.extend_from_slice(&chunk[..read]);
        if !kind.is_http() {
            if buffer.len() >= message.len() {
                anyhow::ensure!(buffer == message, "another echo");
                return Ok(stream);
            }
            continue;
        }
        match look(&buffer, &kind.body()) {
            Answer::Partial => {}
            Answer::Good { close: false } => return Ok(stream),
            other => anyhow::bail!("{other:?}"),
        }
    }
}
