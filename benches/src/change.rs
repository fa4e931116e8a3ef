//! How soon a proxy uses a change that its agent has.
//!
//! In: a proxy on a host of its own, with this program in its agent's place. Out: the time from handing over changed
//! endpoints, or a changed route, to the first answer that came by them. Invariant: requests run all the while, one after
//! the other, and each gets an answer.

mod ads;
mod world;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hawser_tests::{Lab, programs};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::load::histogram::Histogram;
use crate::tool::me;
use ads::Ads;
use world::{App, World};

/// What was found, in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Changes {
    pub(crate) count: u32,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

const ADDRESS: &str = "240.240.0.1";
const PORT: u16 = 9080;
const RULES: &str = "table ip t { chain out { type nat hook output priority -100; \
                     ip daddr 240.240.0.0/16 meta l4proto tcp redirect to :15001; }; }";
/// A change that takes longer than this is lost.
const LOST: Duration = Duration::from_secs(5);

/// Measures in a network of its own.
pub(crate) fn measure(count: u32) -> anyhow::Result<Changes> {
    crate::rounds::progress("changes: Hawser");
    let mut lab = Lab::new()?;
    let host = lab.host("change")?;
    host.ok(&["ip", "route", "add", "local", "240.240.0.0/16", "dev", "lo"])?;
    host.ok(&["nft", RULES])?;
    let dir = host.disk().join("agent");
    std::fs::create_dir(&dir)?;
    let (me, dir, count) = (me()?, dir.display().to_string(), count.to_string());
    let seen = host.run(&[&me, "change", &dir, "--count", &count])?;
    anyhow::ensure!(seen.ok(), "measuring changes: {}{}", seen.out, seen.err);
    let line = seen.out.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("changes: {line:?}"))
}

/// Stands in for the agent, starts the proxy, changes what it is told, and watches.
pub(crate) fn run(dir: &Path, count: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut world = World::default();
    for app in App::ALL {
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, app.port())))?;
        runtime.spawn(serve(listener, app.letter()));
    }
    let ads = runtime.block_on(async { Ads::start(&dir.join("proxy.sock"), world.resources()) })?;
    let mut proxy = std::process::Command::new(programs::find("hawser-proxy")?);
    proxy.args(["--workers", "1", "--bind", "outbound=0.0.0.0:15001", "--run-dir"]).arg(dir);
    let mut proxy = proxy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::io::stderr()).spawn()?;
    let changes = changes(&ads, &mut world, count);
    proxy.kill()?;
    proxy.wait()?;
    crate::load::say(&serde_json::to_string(&changes?)?)
}

fn changes(ads: &Ads, world: &mut World, count: u32) -> anyhow::Result<Changes> {
    let target = SocketAddr::new(ADDRESS.parse()?, PORT);
    let mut caller = connected(target, world.answers().letter())?;
    let mut found = Histogram::default();
    for number in 0..count {
        // The first half of the changes is of endpoints, the other of a route.
        if number < count / 2 {
            world.move_endpoint()
        } else {
            world.move_route()
        }
        let expected = world.answers().letter();
        let start = Instant::now();
        ads.set(world.resources());
        while caller.ask().with_context(|| format!("change {number}"))? != expected {
            anyhow::ensure!(start.elapsed() < LOST, "change {number} was never used");
        }
        found.add(u64::try_from(start.elapsed().as_nanos())?);
        // Not in step with anything.
        hawser_tests::wait::between_looks(Duration::from_micros(2000 + u64::from(number) * 37 % 3000));
    }
    Ok(Changes { count, p50: found.micros_at(0.5), p99: found.micros_at(0.99), max: found.micros_at(1.0) })
}

/// A connection through the proxy, once that has what it needs.
fn connected(target: SocketAddr, letter: u8) -> anyhow::Result<Caller> {
    let limit = Duration::from_secs(10);
    hawser_tests::wait::until("the proxy answers", limit, || {
        let mut caller = Caller::open(target).ok()?;
        (caller.ask().ok()? == letter).then_some(caller)
    })
}

struct Caller(TcpStream);

impl Caller {
    fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, LOST)?;
        stream.set_read_timeout(Some(LOST))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// The letter that an application answers.
    fn ask(&mut self) -> anyhow::Result<u8> {
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", world::HOST);
        self.0.write_all(request.as_bytes())?;
        let mut answer = vec![];
        let mut chunk = [0; 4096];
        loop {
            let read = self.0.read(&mut chunk)?;
            anyhow::ensure!(read > 0, "the connection was closed");
            answer.extend_from_slice(&chunk[..read]);
            if let Some(head) = answer.windows(4).position(|w| w == b"\r\n\r\n")
                && let Some(letter) = answer.get(head + 4)
            {
                anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
                return Ok(*letter);
            }
        }
    }
}

/// An application: its letter to everybody.
async fn serve(listener: TcpListener, letter: u8) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            let answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", &[letter][..]].concat();
            while stream.read(&mut buffer).await? > 0 {
                stream.write_all(&answer).await?;
            }
            std::io::Result::Ok(())
        });
    }
}
