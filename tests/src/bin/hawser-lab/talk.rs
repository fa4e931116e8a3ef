//! One connection that is kept: what is said comes back, until stdin ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::TalkReport;
use hawser_tests::wait::between_looks;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `host:port`
    address: String,
    /// Asks for an upgrade first, as a WebSocket does
    #[arg(long)]
    upgrade: bool,
    /// Says nothing between the first line and the last
    #[arg(long)]
    idle: bool,
    /// Milliseconds between two lines
    #[arg(long, default_value_t = 50)]
    pause: u64,
    /// Longest wait for an answer, milliseconds
    #[arg(long, default_value_t = 10_000)]
    limit: u64,
}

#[allow(clippy::print_stdout)]
pub(crate) fn run(args: &Args) -> Result<()> {
    let end = Arc::new(AtomicBool::new(false));
    let flag = end.clone();
    crate::on_end_of_input(move || flag.store(true, Ordering::Relaxed));
    let start = Instant::now();
    let mut report = TalkReport::default();
    if let Err(error) = talk(args, &end, &mut report) {
        report.failure = Some(format!("at {} ms: {error:#}", start.elapsed().as_millis()));
    }
    report.seconds = start.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn talk(args: &Args, end: &AtomicBool, report: &mut TalkReport) -> Result<()> {
    let limit = Duration::from_millis(args.limit);
    let to = args.address.to_socket_addrs()?.next().context("no address")?;
    let stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    if args.upgrade {
        upgrade(&mut stream, &args.address)?;
    }
    loop {
        // Whoever said that it was the end hears one more line.
        let last = end.load(Ordering::Relaxed);
        if report.rounds == 0 || last || !args.idle {
            round(&mut stream, report.rounds)?;
            report.rounds += 1;
            if report.rounds == 1 {
                crate::ready();
            }
        }
        if last {
            return Ok(());
        }
        between_looks(Duration::from_millis(args.pause));
    }
}

fn round(stream: &mut BufReader<TcpStream>, number: u64) -> Result<()> {
    let said = format!("line {number}\n");
    stream.get_mut().write_all(said.as_bytes())?;
    let mut heard = String::new();
    stream.read_line(&mut heard)?;
    ensure!(heard == said, "said {said:?}, heard {heard:?}");
    Ok(())
}

fn upgrade(stream: &mut BufReader<TcpStream>, host: &str) -> Result<()> {
    let request = format!(
        "GET /talk HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let mut first = String::new();
    stream.read_line(&mut first)?;
    ensure!(first.starts_with("HTTP/1.1 101"), "the answer is {first:?}");
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the answer ended in its head");
        if line == "\r\n" {
            return Ok(());
        }
    }
}
