//! The run: pairs stand side by side, rounds go through all of them, medians are taken at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::case::{Case, ONE_CORE, Setting, TINY, TWO_CORES};
use crate::figures::{Figures, Measured};
use crate::load::{Kind, Load, Seen};
use crate::measure::{connections_opened, cpu_seconds};
use crate::memory::{self, Memory};
use crate::mesh::{Door, Hosts, Side, UNDECLARED};
use crate::peers::{Kit, Pair};
use crate::tool::{Tool, me};
use crate::{RunArgs, System, certificates, change, machine, size};

/// Bytes of access logs that every request leaves at least, both sides together.
const LINE: f64 = 100.0;

/// Everything a run found.
#[derive(Default, Serialize)]
pub(crate) struct Results {
    /// What it ran on.
    pub(crate) machine: String,
    /// Rounds.
    pub(crate) rounds: usize,
    /// By case, by system.
    pub(crate) cases: BTreeMap<&'static str, BTreeMap<System, Measured>>,
    /// By system.
    pub(crate) memory: BTreeMap<System, Memory>,
    /// Bytes of the programs without their symbols.
    pub(crate) size: BTreeMap<System, u64>,
    /// Who wrote less to its access logs than the requests that it had: bytes a request.
    pub(crate) without_log: BTreeMap<System, f64>,
    /// From a change's arrival to its use.
    pub(crate) change: Option<change::Changes>,
}

/// Runs everything.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Results> {
    let certificates = certificates::Certificates::new()?;
    let envoy = match &args.envoy {
        Some(path) => path.display().to_string(),
        None => hawser_tests::testbeds::Testbed::provide()?.envoy(),
    };
    let systems = if args.only.is_empty() { System::COMPARED.to_vec() } else { args.only.clone() };
    let bench = Bench { args, certificates: &certificates, envoy: &envoy, systems: &systems };
    let rounds = if args.quick { 1 } else { args.rounds };
    // Before this program takes itself to one core.
    let second = args.second_core();
    let mut results = Results { machine: machine::line(), rounds, ..Results::default() };
    for system in &systems {
        if let Some(bytes) = size::stripped(*system, &envoy)? {
            results.size.insert(*system, bytes);
        }
    }
    bench.stage(&[args.core], &ONE_CORE, rounds, &mut results)?;
    match second {
        Some(second) => bench.stage(&[args.core, second], &TWO_CORES, rounds, &mut results)?,
        None => progress("this machine has one core: nothing is measured with two workers"),
    }
    if args.cases.is_empty() {
        bench.memory(&mut results)?;
        if systems.contains(&System::Hawser) {
            crate::mesh::pin(&[args.core].into_iter().chain(second).collect::<Vec<_>>())?;
            results.change = Some(change::measure(if args.quick { 20 } else { 200 })?);
        }
    }
    Ok(results)
}

struct Bench<'a> {
    args: &'a RunArgs,
    certificates: &'a certificates::Certificates,
    envoy: &'a str,
    systems: &'a [System],
}

impl Bench<'_> {
    /// All rounds of some cases, with proxies of their own.
    fn stage(&self, cores: &[usize], cases: &[Case], rounds: usize, results: &mut Results) -> anyhow::Result<()> {
        let wanted = |case: &&Case| self.args.cases.is_empty() || self.args.cases.iter().any(|c| case.name.contains(c));
        let cases: Vec<Case> = cases.iter().filter(wanted).copied().collect();
        if cases.is_empty() {
            return Ok(());
        }
        self.with_pairs(cores, 0, |kit, pairs| {
            if cores.len() == 1 {
                for pair in pairs {
                    results.memory.entry(pair.system).or_default().idle = memory::resident(pair)?;
                }
            }
            let mut samples: BTreeMap<(&'static str, System), Vec<(Setting, Figures)>> = BTreeMap::new();
            let mut half = None;
            let mut logged = BTreeMap::<System, (u64, f64)>::new();
            for round in 0..rounds {
                for case in &cases {
                    // Nobody is always the first.
                    for index in 0..pairs.len() {
                        let pair = &pairs[(index + round) % pairs.len()];
                        let Some(load) = case.load(self.args.millis(), half) else { continue };
                        progress(&format!("round {}/{rounds}: {:<15} {:?}", round + 1, case.name, pair.system));
                        let before = kit.hosts.logged(pair.logs)?;
                        let figures = once(kit, pair, case.door, load)
                            .with_context(|| format!("{:?}, {}", pair.system, case.name))?;
                        if case.door != Door::Tcp {
                            let (bytes, requests) = logged.entry(pair.system).or_default();
                            *bytes += kit.hosts.logged(pair.logs)?.saturating_sub(before);
                            *requests += figures.per_second * f64::from(load.millis) / 1e3;
                        }
                        kit.hosts.empty_logs()?;
                        if case.name == TINY && pair.system == System::Envoy && half.is_none() {
                            half = Some((figures.per_second / 2.0) as u32);
                        }
                        let setting = case.setting(load, cores.len());
                        samples.entry((case.name, pair.system)).or_default().push((setting, figures));
                    }
                }
            }
            let wrote = |(bytes, requests): (u64, f64)| bytes as f64 / requests.max(1.0);
            for (system, seen) in logged.into_iter().filter(|(system, _)| *system != System::Direct) {
                // Twice: one on each side. What is written late goes into the next case.
                if wrote(seen) < LINE {
                    results.without_log.insert(system, wrote(seen));
                }
            }
            for ((case, system), rounds) in samples {
                results.cases.entry(case).or_default().insert(system, Measured::of(&rounds)?);
            }
            Ok(())
        })
    }

    /// What many services and idle connections cost in memory, in proxies that have done nothing else.
    fn memory(&self, results: &mut Results) -> anyhow::Result<()> {
        let (services, idle) = if self.args.quick { (200, 200) } else { (10_000, 2_000) };
        self.with_pairs(&[self.args.core], services, |kit, pairs| {
            for pair in pairs {
                progress(&format!("memory: {:?}", pair.system));
                let entry = results.memory.entry(pair.system).or_default();
                if pair.system == System::Hawser {
                    kit.hosts.use_some()?;
                    entry.many = Some(memory::settled(pair)?);
                    entry.agents = Some(memory::agents(kit.hosts)?);
                }
                entry.per_http = Some(memory::per_connection(kit, pair, Kind::Tiny, idle)?);
                entry.per_tcp = Some(memory::per_connection(kit, pair, Kind::Message, idle)?);
            }
            Ok(())
        })
    }

    /// Hosts, servers, and a pair of each system that answers.
    fn with_pairs(
        &self,
        cores: &[usize],
        services: usize,
        work: impl FnOnce(&Kit<'_>, &[Pair]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        progress(&format!("hosts on {} core(s)", cores.len()));
        let hosts = Hosts::new(cores, self.systems.contains(&System::Hawser), services)?;
        let kit = Kit { hosts: &hosts, certificates: self.certificates, envoy: self.envoy };
        let logs = |_: &anyhow::Error| hawser_tests::lab::show_logs(hosts.dir());
        let mut upstreams = vec![];
        // A second one whose ports no member declared, so that a direct caller meets no proxy.
        for (name, offset) in [("upstream", 0), ("upstream-direct", UNDECLARED)] {
            let args = [&me()?, "upstream", "0.0.0.0", "--offset", &offset.to_string()].map(str::to_owned);
            upstreams.push(hosts.spawn(Side::Server, name, &args)?);
        }
        let mut pairs = vec![];
        for system in self.systems {
            let pair = kit.start(*system).with_context(|| format!("starting {system:?}")).inspect_err(logs)?;
            ready(&kit, &pair).inspect_err(logs)?;
            pairs.push(pair);
        }
        work(&kit, &pairs).inspect_err(logs)
    }
}

/// Measures once; again if the machine stood still meanwhile.
fn once(kit: &Kit<'_>, pair: &Pair, door: Door, load: Load) -> anyhow::Result<Figures> {
    for _ in 0..3 {
        let (still, figures) = attempt(kit, pair, door, load)?;
        if still == 0.0 {
            return Ok(figures);
        }
        progress(&format!("the machine stood still for {still:.1} s: again"));
    }
    anyhow::bail!("the machine stands still again and again: nothing can be measured on it")
}

/// Seconds that the machine stood still, and figures.
fn attempt(kit: &Kit<'_>, pair: &Pair, door: Door, load: Load) -> anyhow::Result<(f64, Figures)> {
    let cost = || pair.proxies.iter().map(|p| cpu_seconds(*p)).sum::<anyhow::Result<f64>>();
    let opened = || connections_opened(kit.hosts.host(Side::Caller).init());
    let mut tool = Tool::load(kit.hosts, load, pair.address(door))?;
    let (before, open) = (cost()?, opened()?);
    let seen = tool.go()?;
    let (spent, opened) = (cost()? - before, opened()? - open);
    drop(tool);
    let still = seen.still;
    let figures = figures(seen, spent, pair.proxies.len().max(1), opened);
    Ok((still, figures))
}

fn figures(seen: Seen, spent: f64, proxies: usize, opened: u64) -> Figures {
    let (each, gigabytes) = (spent / proxies as f64, seen.bytes as f64 / 1e9);
    let by = |cost: f64, count: f64| if count > 0.0 { cost / count } else { 0.0 };
    let done = seen.done as f64;
    Figures {
        per_second: done / seen.seconds,
        cpu_us: by(each * 1e6, done),
        cpu_pair_us: by(spent * 1e6, done),
        cpu_per_gb: by(each, gigabytes),
        gbits: gigabytes * 8.0 / seen.seconds,
        p50: seen.p50,
        p99: seen.p99,
        opened: by(opened as f64, done),
        failed: seen.failed,
        first_failures: seen.first_failures,
    }
}

/// Waits until a pair answers at every door.
fn ready(kit: &Kit<'_>, pair: &Pair) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    for (door, kind) in
        [(Door::Http, Kind::Tiny), (Door::Fresh, Kind::TinyNew), (Door::Grpc, Kind::Grpc), (Door::Tcp, Kind::Message)]
    {
        let load = Load { kind, connections: 1, streams: 1, rate: 100, millis: 100 };
        loop {
            let error = match Tool::load(kit.hosts, load, pair.address(door)).and_then(|mut tool| tool.go()) {
                Ok(seen) if seen.failed == 0 && seen.done > 0 => break,
                Ok(seen) => anyhow::anyhow!("{} requests failed: {:?}", seen.failed, seen.first_failures),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(error.context(format!("{kind:?} through {:?} does not work", pair.system)));
            }
            hawser_tests::wait::between_looks(Duration::from_millis(100));
        }
    }
    if pair.system == System::Hawser { kit.hosts.routed() } else { Ok(()) }
}

#[allow(clippy::print_stderr)]
pub(crate) fn progress(line: &str) {
    eprintln!("{line}");
}
