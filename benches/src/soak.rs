//! The soak: load on a real mesh for a long time, while everything changes that may change.
//!
//! In: how long. Out: a line every ten seconds, then a summary. Requests come in an open loop at 70 % of what the mesh was
//! first seen to take: HTTP on connections that stay and on new ones, gRPC, TCP both ways. Meanwhile routes and policies
//! are edited every second, a host leaves and joins, and certificates are renewed every half minute. It fails if a request
//! fails, if a daemon grows, or if it keeps descriptors when the load is gone.

mod changes;
mod loads;
mod place;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loads::Running;
use place::Place;
use watch::Watched;

/// How a soak is done.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// How long the load lasts
    #[arg(long, default_value_t = 900)]
    seconds: u32,
    /// Share of what the mesh can take
    #[arg(long, default_value_t = 0.7)]
    load: f64,
    /// Life of certificates; they are renewed at half of it
    #[arg(long, default_value_t = 60)]
    certificate_life: u32,
    /// Keep the directory of all logs, whatever comes out
    #[arg(long)]
    keep: bool,
}

/// Memory is compared with what it was after as long, or a third of the soak.
const WARM: Duration = Duration::from_secs(120);
/// Below this, memory is still what pools and tables take when they are first filled.
const TELLS_GROWTH: Duration = Duration::from_secs(300);
/// How often a line is printed.
const LINE: Duration = Duration::from_secs(10);

/// Runs it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut place = Place::new(args.certificate_life)?;
    if args.keep {
        place.keep();
    }
    let outcome = soak(args, &mut place);
    if outcome.is_err() {
        hawser_tests::lab::show_logs(place.dir());
        place.keep();
        say(&format!("logs are kept in {}", place.dir().display()));
    }
    outcome
}

fn soak(args: &Args, place: &mut Place) -> anyhow::Result<()> {
    let mut watched = Watched::begin(place.processes()?)?;
    let rates = loads::saturation(place, args.load)?;
    let span = Duration::from_secs(args.seconds.into());
    let mut running = Running::start(place, &rates, args.seconds)?;
    let start = Instant::now();
    let warm = WARM.min(span / 3);
    let over = AtomicBool::new(false);
    let place = &*place;
    let (edits, moves) = std::thread::scope(|scope| {
        let edits = scope.spawn(|| changes::edit(place, &over));
        let moves = scope.spawn(|| changes::come_and_go(place, &over));
        let looked = look(start, span, warm, &mut running, &mut watched);
        over.store(true, Ordering::Relaxed);
        let (edits, moves) = (joined(edits.join()), joined(moves.join()));
        looked.and_then(|()| Ok((edits?, moves?)))
    })?;
    let seen = running.finish()?;
    watched.settle(Duration::from_secs(90))?;
    let renewals = place.renewals();
    let mut problems = loads::report(&seen, say);
    let long = span >= TELLS_GROWTH;
    problems.extend(watched.report(long, say));
    say(&format!("{edits} edits, {moves} times a host left and joined, certificates renewed {renewals:?} times"));
    if edits == 0 || moves == 0 {
        problems.push("not everything changed that should have".to_owned());
    }
    let due = start.elapsed().as_secs_f64() / f64::from(args.certificate_life) * 2.0;
    for (host, count) in renewals {
        // At half their life with jitter; the first ones came before the load.
        if (count as f64) < (due - 1.0).floor() || count as f64 > due * 1.5 + 3.0 {
            problems.push(format!("{host} renewed its certificates {count} times, for about {due:.0}"));
        }
    }
    anyhow::ensure!(problems.is_empty(), "the soak found:\n{}", problems.join("\n"));
    say(if long { "nothing failed, nothing grew, nothing leaked" } else { "nothing failed, nothing leaked" });
    Ok(())
}

/// Until the load ends: a line now and then, and what memory was once everything is warm.
fn look(
    start: Instant,
    span: Duration,
    warm: Duration,
    running: &mut Running,
    watched: &mut Watched,
) -> anyhow::Result<()> {
    let mut next = start + LINE;
    while start.elapsed() < span {
        hawser_tests::wait::between_looks(Duration::from_millis(500));
        if start.elapsed() >= warm {
            watched.sample()?;
        }
        if Instant::now() >= next {
            next += LINE;
            say(&format!("{:>5} s  {}  {}", start.elapsed().as_secs(), running.line()?, watched.line()?));
        }
    }
    Ok(())
}

fn joined<T>(outcome: std::thread::Result<anyhow::Result<T>>) -> anyhow::Result<T> {
    outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the soak ended")))
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
