//! The control thread: everything that is not a connection.
//!
//! In: options, the agent's sockets, signals. Out: workers with listening sockets and a configuration, pages for people
//! and machines, an orderly end. Invariant: when the agent goes away, nothing here disturbs a connection.

mod admin;
mod ads;
mod bound;
mod handover;
mod subscriptions;
mod threads;

pub use ads::Ads;
pub use threads::Threads;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hawser_daemon::readiness::Readiness;
use hawser_daemon::{Service, drain};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::access_log::Writer;
use crate::config::Config;
use crate::options::{Options, Switch};
use crate::telemetry::Counters;
use crate::worker::{Demand, Overload, Shared, default_limit};

/// How long the end of the process waits for a file of an access log.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Runs the proxy until it is told to end.
///
/// # Errors
/// If it can't start: a port that is taken, a thread that can't be made.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let readiness = Readiness::new();
    let service = Service::default();
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
        overload: overload.clone(),
        most_connections: options.max_connections,
        tcp_tunnels: options.tcp_tunnels == Switch::On,
        access_logs: options.access_logs(),
        log_writer: log_writer.clone(),
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = Arc::new(Threads::start(options.workers.unwrap_or(cores).clamp(1, 256), &shared)?);

    let ads = Ads::new((config.clone(), changed), counters.clone(), &readiness);
    tokio::spawn(ads.run(options.run_dir.join("proxy.sock"), asked));
    tokio::spawn(bound::run(config.clone(), shared.changed.subscribe(), threads.clone(), counters.clone()));
    let (told, mut orders) = watch::channel(None);
    if options.bind.is_empty() {
        let guard = readiness.guard("listening sockets");
        tokio::spawn(handover::run(options.run_dir.clone(), threads.clone(), told, guard));
    } else {
        threads.bind(&options.bind)?;
    }
    tokio::spawn(service.clone().follow(readiness.clone()));
    admin::serve(&options, admin::State { config, counters, threads, readiness }).await?;

    let (why, within) = tokio::select! {
        signal = hawser_daemon::shutdown_signal() => (signal?, options.drain_time),
        within = order(&mut orders) => ("the agent's order", within),
    };
    service.stopping("connections end");
    tracing::info!(why, seconds = within.as_secs(), "draining");
    let ended = tokio::select! {
        ended = trigger.drain(within) => ended,
        // Whoever asks again means it.
        () = async { tokio::time::sleep(order(&mut orders).await).await } => false,
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

/// Waits until the agent asks for the end; how long connections may end themselves.
async fn order(orders: &mut watch::Receiver<Option<Duration>>) -> Duration {
    while orders.changed().await.is_ok() {
        if let Some(within) = *orders.borrow_and_update() {
            return within;
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
