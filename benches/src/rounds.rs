//! The run: pairs stand side by side, rounds go through all of them, medians are taken at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::load::{Kind, Seen};
use crate::measure::{cpu_seconds, median, resident_mib};
use crate::mesh::{HTTP, Hosts, Side, TCP};
use crate::peers::{Kit, Pair};
use crate::{RunArgs, System, certificates, report, wrk};

/// A load as it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    tool: Tool,
    connections: usize,
}

/// What makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    /// HTTP at saturation.
    Wrk { path: &'static str, new_connections: bool },
    /// A load of ours; requests a second, 0 is as many as go.
    Own { kind: Kind, rate: u32 },
}

const TINY: Tool = Tool::Wrk { path: "/", new_connections: false };

/// Every load.
pub(crate) const CASES: [Case; 8] = [
    Case { name: "http c1", tool: TINY, connections: 1 },
    Case { name: "http c16", tool: TINY, connections: 16 },
    Case { name: "http c16 1k", tool: Tool::Wrk { path: "/1k", new_connections: false }, connections: 16 },
    Case { name: "http c64", tool: TINY, connections: 64 },
    Case { name: "http new", tool: Tool::Wrk { path: "/", new_connections: true }, connections: 16 },
    Case { name: "http 1000/s", tool: Tool::Own { kind: Kind::Http, rate: 1000 }, connections: 16 },
    Case { name: "tcp c16", tool: Tool::Own { kind: Kind::Message, rate: 0 }, connections: 16 },
    Case { name: "tcp bulk", tool: Tool::Own { kind: Kind::Bulk, rate: 0 }, connections: 1 },
];

/// Figures of one system in one case.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Requests or messages a second.
    pub(crate) per_second: f64,
    /// Microseconds of CPU for each, a proxy (mean of the pair).
    pub(crate) cpu_us: f64,
    /// CPU seconds a gigabyte, a proxy.
    pub(crate) cpu_per_gb: f64,
    /// Gigabits a second.
    pub(crate) gbits: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    /// Requests that failed.
    pub(crate) failed: f64,
}

/// Everything a run found: by system, by case; memory by system (caller's side, server's side, idle then after load).
#[derive(Default, Serialize)]
pub(crate) struct Results {
    pub(crate) rounds: usize,
    pub(crate) cases: BTreeMap<String, BTreeMap<&'static str, Figures>>,
    pub(crate) memory: BTreeMap<String, [f64; 4]>,
}

/// Runs everything and prints it.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let certificates = certificates::Certificates::new()?;
    let me = std::env::current_exe()?.display().to_string();
    let envoy = match &args.envoy {
        Some(path) => path.display().to_string(),
        None => hawser_tests::testbeds::Testbed::provide()?.envoy(),
    };
    let systems = if args.only.is_empty() {
        vec![System::Direct, System::Hawser, System::Envoy, System::Haproxy]
    } else {
        args.only.clone()
    };
    let hosts = Hosts::new(args.core, systems.contains(&System::Hawser))?;
    let kit = Kit { hosts: &hosts, certificates: &certificates, envoy: &envoy };
    let mut upstreams = vec![];
    // A second one whose ports no member declared, so that a direct caller meets no proxy.
    for (name, http, tcp) in [("upstream", HTTP, TCP), ("upstream-direct", HTTP + 100, TCP + 100)] {
        let args = [&me, "upstream", &format!("0.0.0.0:{http}"), &format!("0.0.0.0:{tcp}")].map(str::to_owned);
        upstreams.push(hosts.spawn(Side::Server, name, &args)?);
    }
    let mut pairs = vec![];
    for system in systems {
        let pair = kit.start(system).with_context(|| format!("starting {system:?}"))?;
        ready(&kit, &me, &pair).inspect_err(|_| hawser_tests::lab::show_logs(hosts.dir()))?;
        pairs.push(pair);
    }
    let results = measure(args, &kit, &me, &pairs).inspect_err(|_| hawser_tests::lab::show_logs(hosts.dir()))?;
    report::print(&results, args.json)
}

fn measure(args: &RunArgs, kit: &Kit<'_>, me: &str, pairs: &[Pair]) -> anyhow::Result<Results> {
    let (rounds, seconds) = if args.quick { (1, 0.5) } else { (args.rounds, args.seconds) };
    let mut results = Results { rounds, ..Results::default() };
    let memory = |pair: &Pair| pair.proxies.iter().map(|p| resident_mib(*p)).collect::<anyhow::Result<Vec<_>>>();
    for pair in pairs {
        let idle = memory(pair)?;
        results.memory.insert(name(pair), [at(&idle, 0), at(&idle, 1), 0.0, 0.0]);
    }
    let mut samples: BTreeMap<(String, &'static str), Vec<Figures>> = BTreeMap::new();
    for round in 0..rounds {
        for case in CASES {
            for pair in pairs {
                progress(&format!("round {}/{rounds}: {:<12} {:?}", round + 1, case.name, pair.system));
                let figures =
                    once(kit, me, pair, case, seconds).with_context(|| format!("{:?}, {}", pair.system, case.name))?;
                samples.entry((name(pair), case.name)).or_default().push(figures);
            }
        }
    }
    for pair in pairs {
        let loaded = memory(pair)?;
        if let Some(entry) = results.memory.get_mut(&name(pair)) {
            (entry[2], entry[3]) = (at(&loaded, 0), at(&loaded, 1));
        }
    }
    for ((system, case), figures) in samples {
        let of = |field: fn(&Figures) -> f64| median(&figures.iter().map(field).collect::<Vec<_>>());
        let median = Figures {
            per_second: of(|f| f.per_second),
            cpu_us: of(|f| f.cpu_us),
            cpu_per_gb: of(|f| f.cpu_per_gb),
            gbits: of(|f| f.gbits),
            p50: of(|f| f.p50),
            p99: of(|f| f.p99),
            failed: figures.iter().map(|f| f.failed).sum(),
        };
        results.cases.entry(system).or_default().insert(case, median);
    }
    Ok(results)
}

fn once(kit: &Kit<'_>, me: &str, pair: &Pair, case: Case, seconds: f64) -> anyhow::Result<Figures> {
    let cost = || pair.proxies.iter().map(|p| cpu_seconds(*p)).sum::<anyhow::Result<f64>>();
    let before = cost()?;
    let seen = load(kit, me, pair, case, seconds)?;
    let spent = (cost()? - before) / pair.proxies.len().max(1) as f64;
    anyhow::ensure!(seen.done > 0 || seen.bytes > 0, "nothing came through");
    let gigabytes = seen.bytes as f64 / 1e9;
    Ok(Figures {
        per_second: seen.done as f64 / seen.seconds,
        cpu_us: if seen.done > 0 { spent * 1e6 / seen.done as f64 } else { 0.0 },
        cpu_per_gb: if gigabytes > 0.0 { spent / gigabytes } else { 0.0 },
        gbits: gigabytes * 8.0 / seen.seconds,
        p50: f64::from(seen.p50),
        p99: f64::from(seen.p99),
        failed: seen.failed as f64,
    })
}

fn load(kit: &Kit<'_>, me: &str, pair: &Pair, case: Case, seconds: f64) -> anyhow::Result<Seen> {
    use clap::ValueEnum as _;
    let args = match case.tool {
        Tool::Wrk { path, new_connections } => {
            wrk::arguments(pair.http, path, case.connections, new_connections, seconds)
        }
        Tool::Own { kind, rate } => {
            let target = if kind == Kind::Http { pair.http } else { pair.tcp };
            let kind = kind.to_possible_value().context("a kind without a name")?;
            let mut args: Vec<String> = [me, "load", kind.get_name()].map(str::to_owned).into();
            args.extend([target.to_string(), "--connections".to_owned(), case.connections.to_string()]);
            args.extend(["--rate".to_owned(), rate.to_string(), "--seconds".to_owned(), seconds.to_string()]);
            args
        }
    };
    let command = kit.hosts.command(Side::Caller, &args);
    let seen = hawser_tests::host::finish(command, None, Duration::from_secs_f64(seconds + 20.0))?;
    anyhow::ensure!(seen.ok(), "{}{}", seen.out.trim(), seen.err.trim());
    match case.tool {
        Tool::Wrk { .. } => wrk::read(&seen.out),
        Tool::Own { .. } => Ok(serde_json::from_str(&seen.out)?),
    }
}

/// Waits until a pair answers HTTP and TCP.
fn ready(kit: &Kit<'_>, me: &str, pair: &Pair) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    for kind in [Kind::Http, Kind::Message] {
        let case = Case { name: "ready", tool: Tool::Own { kind, rate: 100 }, connections: 1 };
        loop {
            let error = match load(kit, me, pair, case, 0.1) {
                Ok(seen) if seen.failed == 0 && seen.done > 0 => break,
                Ok(seen) => anyhow::anyhow!("{} of {} requests failed", seen.failed, seen.done),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(error.context(format!("{kind:?} through {:?} does not work", pair.system)));
            }
            hawser_tests::wait::between_looks(Duration::from_millis(100));
        }
    }
    Ok(())
}

fn name(pair: &Pair) -> String {
    format!("{:?}", pair.system).to_lowercase()
}

fn at(values: &[f64], index: usize) -> f64 {
    values.get(index).copied().unwrap_or_default()
}

#[allow(clippy::print_stderr)]
fn progress(line: &str) {
    eprintln!("{line}");
}
