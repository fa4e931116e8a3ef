//! The control thread: everything that is not a connection.
//!
//! In: options, the agent's sockets, signals. Out: workers with listening sockets and a configuration, pages for people
//! and machines, an orderly end. Invariants: when the agent goes away, nothing here disturbs a connection; of a proxy that takes over
//! nothing can be seen before it may.

mod admin;
mod ads;
mod bound;
mod handover;
mod subscriptions;
mod succession;
mod threads;

pub use ads::Ads;
pub use threads::Threads;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use hawser_api::handover::End;
use hawser_daemon::readiness::Readiness;
use hawser_daemon::{Service, drain};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::handover::Handover;
use self::succession::Succession;

use crate::access_log::Writer;
use crate::config::Config;
use crate::options::{Options, Switch};
use crate::take_over::Starter;
use crate::telemetry::Counters;
use crate::worker::{Demand, Overload, Shared, default_limit};

/// How long the end of the process waits for a file of an access log.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long one that has made room goes on after a signal: whoever serves in its place ends too.
const LAST: Duration = Duration::from_secs(1);
/// Deadlines are ours.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Runs the proxy until it is told to end.
///
/// # Errors
/// If it can't start: a port that is taken, a thread that can't be made.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let readiness = Readiness::new();
    let service = if options.successor { Service::silent() } else { Service::default() };
    tokio::spawn(service.clone().live());
    let counters = Arc::new(Counters::default());
    let config = Arc::new(ArcSwap::from_pointee(Config::default()));
    let (demand, asked) = Demand::channel();
    let (trigger, watch) = drain::channel();
    let log_writer = Writer::new(counters.clone());
    tokio::spawn(reopen(signal(SignalKind::hangup())?, log_writer.clone()));
    let (changed, _) = watch::channel(());
    let overload = Arc::new(Overload::default());
    if let Some(limit) = options.max_memory.map(|mib| mib << 20).or_else(default_limit) {
        let overload = overload.clone();
        tokio::spawn(async move { overload.run(limit).await });
    }
    let shared = Shared {
        config: config.clone(),
        changed: changed.clone(),
        counters: counters.clone(),
        demand,
        drain: watch.clone(),
        yields: Arc::default(),
        overload: overload.clone(),
        most_connections: options.max_connections,
        tcp_tunnels: options.tcp_tunnels == Switch::On,
        access_logs: options.access_logs(),
        log_writer: log_writer.clone(),
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = Arc::new(Threads::start(options.workers.unwrap_or(cores).clamp(1, 256), &shared)?);

    let former = CancellationToken::new();
    let ads = Ads::new((config.clone(), changed), counters.clone(), &readiness);
    tokio::spawn(ads.run(options.run_dir.join("proxy.sock"), asked, former.clone()));
    let (told, mut orders) = watch::channel(None);
    let begun = if options.bind.is_empty() {
        let guard = readiness.guard("listening sockets");
        let starter = options.successor.then(Starter::on_stdin).transpose()?;
        let (begin, may_begin) = oneshot::channel();
        let succession = starter.map(|s| Succession::new(s, readiness.clone(), service.clone(), begin));
        let succeeds = succession.is_some();
        let handover = Handover::new(&options.run_dir, threads.clone(), told, guard, succession);
        let mut handover = tokio::spawn(handover.run());
        if succeeds {
            tokio::select! {
                begin = may_begin => begin.ok(),
                failed = &mut handover => return Err(failed?),
            }
        } else {
            None
        }
    } else {
        threads.bind(&options.bind)?;
        None
    };
    let (first, all_bound) = oneshot::channel();
    let bound = bound::run(config.clone(), shared.changed.subscribe(), threads.clone(), counters.clone(), first);
    let bound = tokio::spawn(bound);
    let pages = admin::serve(&options, admin::State { config, counters, threads, readiness: readiness.clone() })?;
    tokio::spawn(service.clone().follow(readiness));
    if let Some(begun) = begun {
        let _ = all_bound.await;
        let _ = begun.send(());
    }

    let mut signals = pin!(hawser_daemon::shutdown_signal());
    let (why, end) = tokio::select! {
        signal = &mut signals => (signal?, Within::soon(options.drain_time)),
        end = order(&mut orders) => ("the agent's order", end),
    };
    if end.yields {
        // What is new goes to another proxy; what is said of the service, too.
        service.hush();
        bound.abort();
        drop(pages);
        former.cancel();
        shared.yields.store(true, Relaxed);
    } else {
        // One that never had sockets ends in order too.
        service.ready();
        service.stopping("connections end");
    }
    tracing::info!(why, seconds = end.time.as_secs(), yields = end.yields, "draining");
    let mut until = Instant::now() + end.time;
    let mut drained = pin!(trigger.drain(FOR_EVER));
    let ended = loop {
        tokio::select! {
            ended = &mut drained => break ended,
            () = tokio::time::sleep_until(until) => break false,
            // Whoever asks again means it.
            end = order(&mut orders) => {
                until = Instant::now() + end.time;
                shared.yields.store(end.yields, Relaxed);
            }
            // A service that ends, or fails and is to be started again, waits for us.
            _ = &mut signals, if end.yields && until > Instant::now() + LAST => until = Instant::now() + LAST,
        }
    };
    if !ended {
        tracing::info!("some connections did not end in time");
    }
    // Nothing else runs on this thread any more.
    if !log_writer.flush(LAST_LINES) {
        tracing::warn!("the last lines of access logs could not be written in time");
    }
    Ok(())
}

/// The end, and how.
#[derive(Clone, Copy, Debug)]
struct Within {
    time: Duration,
    /// For another proxy, which serves what is new.
    yields: bool,
}

impl Within {
    fn soon(time: Duration) -> Self {
        Self { time, yields: false }
    }
}

/// Waits until the agent asks for the end.
async fn order(orders: &mut watch::Receiver<Option<End>>) -> Within {
    while orders.changed().await.is_ok() {
        if let Some(end) = *orders.borrow_and_update() {
            return Within { time: Duration::from_secs(end.end_within.into()), yields: end.yields };
        }
    }
    std::future::pending().await
}

/// Opens files of access logs again at each SIGHUP.
async fn reopen(mut hangup: Signal, writer: Writer) {
    while hangup.recv().await.is_some() {
        writer.reopen();
    }
}
