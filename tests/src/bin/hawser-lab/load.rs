//! Requests at a steady rate, and what became of each.

use std::io::Read as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hawser_tests::http::{Connection, Url};
use hawser_tests::mesh::LoadReport;
use hawser_tests::wait::between_looks;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// `http://host:port/path`, or `tcp://host:port` to connect and read one byte
    #[arg(long)]
    url: String,
    /// Requests a second, over all workers; 0: as fast as they are answered
    #[arg(long, default_value_t = 100)]
    rate: u64,
    #[arg(long, default_value_t = 4)]
    workers: u64,
    /// Ends after as many requests; 0: when stdin ends
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// A connection for each request
    #[arg(long)]
    fresh: bool,
    /// Longest wait for an answer, milliseconds
    #[arg(long, default_value_t = 15_000)]
    limit: u64,
    #[arg(long = "header")]
    headers: Vec<String>,
}

#[allow(clippy::print_stdout)]
pub(crate) fn run(args: Args) -> Result<()> {
    let end = Arc::new(AtomicBool::new(false));
    if args.count == 0 {
        let flag = end.clone();
        crate::on_end_of_input(move || flag.store(true, Ordering::Relaxed));
    }
    let next = Arc::new(AtomicU64::new(0));
    let report = Arc::new(Mutex::new((LoadReport::default(), Vec::new())));
    let start = Instant::now();
    let workers: Vec<_> = (0..args.workers)
        .map(|_| {
            let (args, end, next, report) = (args.clone(), end.clone(), next.clone(), report.clone());
            std::thread::spawn(move || work(&args, start, &end, &next, &report))
        })
        .collect();
    for worker in workers {
        let _ = worker.join();
    }
    let mut guard = report.lock().unwrap_or_else(PoisonError::into_inner);
    let (report, times) = &mut *guard;
    times.sort_unstable();
    report.max_ms = times.last().copied().unwrap_or_default();
    report.p99_ms = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    report.seconds = start.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

type Shared = Mutex<(LoadReport, Vec<u64>)>;

fn work(args: &Args, start: Instant, end: &AtomicBool, next: &AtomicU64, report: &Shared) {
    let mut connection = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if args.count > 0 && number >= args.count {
            return;
        }
        if let Some(offset) = (number * 1_000_000).checked_div(args.rate) {
            let due = start + Duration::from_micros(offset);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                between_looks(left.min(Duration::from_millis(100)));
            }
        }
        if end.load(Ordering::Relaxed) {
            return;
        }
        let asked = Instant::now();
        let outcome = request(args, &mut connection);
        let took = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut shared = report.lock().unwrap_or_else(PoisonError::into_inner);
        shared.1.push(took);
        let report = &mut shared.0;
        report.requests += 1;
        match outcome {
            Ok((status, headers, by)) => {
                let count = report.statuses.entry(status.to_string()).or_default();
                *count += 1;
                if *count == 1 {
                    let first = format!("at {} ms after {took} ms: {headers}", start.elapsed().as_millis());
                    report.first.insert(status.to_string(), first);
                }
                if status < 500 {
                    *report.served_by.entry(by).or_default() += 1;
                } else {
                    fail(report, format!("status {status} after {took} ms: {by}"), start);
                }
            }
            Err(error) => {
                connection = None;
                fail(report, format!("{error:#} after {took} ms"), start);
            }
        }
    }
}

fn fail(report: &mut LoadReport, text: String, start: Instant) {
    report.failures += 1;
    if report.first_failures.len() < 10 {
        report.first_failures.push(format!("at {} ms: {text}", start.elapsed().as_millis()));
    }
}

fn request(args: &Args, connection: &mut Option<Connection>) -> Result<(u16, String, String)> {
    let limit = Duration::from_millis(args.limit);
    if let Some(address) = args.url.strip_prefix("tcp://") {
        let to = address.to_socket_addrs()?.next().context("no address")?;
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut first = [0; 64];
        let n = stream.read(&mut first)?;
        anyhow::ensure!(n > 0, "nothing was said");
        return Ok((200, String::new(), String::from_utf8_lossy(&first[..n]).trim().to_owned()));
    }
    let url = Url::parse(&args.url)?;
    let headers: Vec<_> = (args.headers.iter())
        .filter_map(|h| h.split_once(':'))
        .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
        .collect();
    let mut open = match connection.take() {
        Some(open) if !args.fresh => open,
        _ => Connection::open(&url.host, url.port, limit)?,
    };
    let answer = open.get(&url, &headers)?;
    let closed = answer.headers.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
    if !args.fresh && !closed {
        *connection = Some(open);
    }
    let by = answer.headers.get("x-served-by").cloned();
    let by = by.unwrap_or_else(|| answer.body.chars().take(120).collect());
    Ok((answer.status, format!("{:?}", answer.headers), by))
}
