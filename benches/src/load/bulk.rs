//! TCP in bulk: a pattern one way, counted and compared by the server.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{LOST, Seen, WARM};
use crate::bodies;

pub(super) fn run(target: SocketAddr, span: Duration) -> anyhow::Result<()> {
    send(target, WARM)?;
    super::told_to_begin()?;
    super::tell(send(target, span)?)
}

/// Sends for a while; then the server says how much of it came whole.
pub(super) fn send(target: SocketAddr, span: Duration) -> anyhow::Result<Seen> {
    let mut stream = TcpStream::connect_timeout(&target, LOST)?;
    stream.set_write_timeout(Some(LOST))?;
    stream.set_read_timeout(Some(LOST))?;
    let start = Instant::now();
    let mut seen = Seen::default();
    let count = pump(&mut stream, start + span, &mut seen.bytes);
    seen.seconds = start.elapsed().as_secs_f64();
    let expected = format!("{} whole", seen.bytes);
    let found = count.map_or_else(|error| format!("{error:#}"), |count| count.trim().to_owned());
    if found != expected {
        seen.failed = 1;
        seen.first_failures.push(format!("{found:?} for {expected:?}"));
    }
    Ok(seen)
}

/// What the server says in the end.
fn pump(stream: &mut TcpStream, end: Instant, bytes: &mut u64) -> anyhow::Result<String> {
    let block = bodies::block();
    while Instant::now() < end {
        stream.write_all(&block).context("sending in bulk")?;
        *bytes += block.len() as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the server's count")?;
    Ok(answer)
}
