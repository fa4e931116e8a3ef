//! Load that wrk can't make: HTTP in an open loop at a fixed rate, small TCP messages, TCP bulk.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// `GET /`, an answer of 3 bytes.
    Http,
    /// 64 bytes there and back.
    Message,
    /// As many bytes as go, one way.
    Bulk,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests or messages answered.
    pub(crate) done: u64,
    /// Of them, not as expected.
    pub(crate) failed: u64,
    /// Bytes sent in bulk.
    pub(crate) bytes: u64,
    /// From first to last.
    pub(crate) seconds: f64,
    /// Median latency in microseconds, from when a request was due.
    pub(crate) p50: u32,
    /// 99th percentile.
    pub(crate) p99: u32,
}

/// Runs a load and prints what it saw as a line of JSON. `rate` 0 is a closed loop; else requests a second, open
/// loop: a late answer does not delay the next request's due time.
pub(crate) async fn run(
    kind: Kind,
    target: SocketAddr,
    connections: usize,
    rate: u32,
    seconds: f64,
) -> anyhow::Result<()> {
    let total = Rc::new(RefCell::new((Seen::default(), Vec::<u32>::new())));
    let start = Instant::now() + Duration::from_millis(50);
    let end = start + Duration::from_secs_f64(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..connections {
        let total = total.clone();
        let pace = Pace::new(start, rate, index, connections);
        tasks.spawn_local(async move { one(kind, target, pace, end, total).await });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let (mut seen, mut latencies) = total.take();
    seen.seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or_default();
    (seen.p50, seen.p99) = (at(0.5), at(0.99));
    print(&serde_json::to_string(&seen)?);
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print(line: &str) {
    println!("{line}");
}

/// When the next request of a connection is due.
struct Pace {
    next: Instant,
    step: Option<Duration>,
}

impl Pace {
    fn new(start: Instant, rate: u32, index: usize, connections: usize) -> Self {
        if rate == 0 {
            return Self { next: start, step: None };
        }
        let step = Duration::from_secs_f64(connections as f64 / f64::from(rate));
        Self { next: start + step.mul_f64(index as f64 / connections as f64), step: Some(step) }
    }

    async fn due(&mut self) -> Instant {
        match self.step {
            None => Instant::now().max(self.next),
            Some(step) => {
                let due = self.next;
                self.next += step;
                tokio::time::sleep_until(due).await;
                due
            }
        }
    }
}

type Total = Rc<RefCell<(Seen, Vec<u32>)>>;

async fn one(kind: Kind, target: SocketAddr, mut pace: Pace, end: Instant, total: Total) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    if kind == Kind::Bulk {
        return bulk(&mut stream, end, &total).await;
    }
    let request: &[u8] = match kind {
        Kind::Http => b"GET / HTTP/1.1\r\nhost: bench.default.svc.cluster.local\r\nuser-agent: hawser-bench\r\n\r\n",
        Kind::Message | Kind::Bulk => &[b'm'; 64],
    };
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let due = pace.due().await;
        if due >= end {
            return Ok(());
        }
        stream.write_all(request).await?;
        let good = match kind {
            Kind::Message => echo(&mut stream, request.len(), &mut buffer).await?,
            _ => answer(&mut stream, &mut buffer).await?,
        };
        let mut total = total.borrow_mut();
        total.0.done += 1;
        total.0.failed += u64::from(!good);
        total.1.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

async fn bulk(stream: &mut TcpStream, end: Instant, total: &Total) -> anyhow::Result<()> {
    let block = vec![b'D'; 256 * 1024];
    while Instant::now() < end {
        stream.write_all(&block).await?;
        total.borrow_mut().0.bytes += block.len() as u64;
    }
    Ok(())
}

async fn echo(stream: &mut TcpStream, length: usize, buffer: &mut Vec<u8>) -> anyhow::Result<bool> {
    buffer.clear();
    while buffer.len() < length {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
    }
    Ok(true)
}

/// Reads one answer with a `content-length` or in chunks; whether its status is 200.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<bool> {
    buffer.clear();
    let head = loop {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let good = buffer.starts_with(b"HTTP/1.1 200");
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    loop {
        let done = match length {
            Some(length) => buffer.len() >= head + length,
            None => buffer.ends_with(b"\r\n0\r\n\r\n") || (buffer.len() >= head + 5 && buffer.ends_with(b"0\r\n\r\n")),
        };
        if done {
            return Ok(good);
        }
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
    }
}
