//! What is asked of hawser-proxy, row by row, and whether it does it.

use serde::Serialize;

use crate::System;
use crate::case::{BULK, FRESH, GRPC, HALF, KILOBYTE, MESSAGES, NEW, ONE, TCP_NEW, THOUSAND, TINY, TWO, TWO_KILOBYTE};
use crate::figures::{Field, Figures};
use crate::memory::Sides;
use crate::rounds::Results;

/// A row, judged.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) measure: &'static str,
    /// How the proxies are configured there.
    pub(crate) runs: &'static str,
    /// Ours.
    pub(crate) figure: Option<f64>,
    pub(crate) unit: &'static str,
    /// Who is the measure, and its figure.
    pub(crate) peer: Option<(System, Option<f64>)>,
    /// What is judged: the figure, its ratio to the peer's, or what it would be on the machine that the limits were set on.
    pub(crate) value: Option<f64>,
    pub(crate) must: f64,
    pub(crate) goal: f64,
    pub(crate) verdict: Verdict,
}

/// How a row came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// The goal is reached.
    Goal,
    /// What must be is so.
    Met,
    /// It is not.
    Missed,
    /// Nobody knows.
    NotMeasured,
}

const MESH: &str = "mesh";
const PLAIN: &str = "plain";
const ANY: &str = "";

const CPU: Field = |f| f.cpu_us;
const CPU_BOTH: Field = |f| f.cpu_pair_us;
const CPU_GB: Field = |f| f.cpu_per_gb;
const P50: Field = |f| f.p50;
const P99: Field = |f| f.p99;

/// Every row.
pub(crate) fn rows(results: &Results) -> Vec<Row> {
    use System::{Envoy, Haproxy};
    let to =
        |measure, case, field, unit, peer, must, goal| against(results, measure, case, field, unit, peer, must, goal);
    let own = |measure, runs, what, unit, yardstick, must, goal| {
        scaled(results, measure, runs, what, unit, yardstick, must, goal)
    };
    let memory = results.memory.get(&System::Hawser);
    let most = |sides: Option<Sides>, unit: f64| sides.map(|[a, b]| a.max(b) as f64 / unit).filter(|v| *v > 0.0);
    let of = |field: fn(&crate::memory::Memory) -> Option<Sides>, unit: f64| most(memory.and_then(field), unit);
    let size = results.size.get(&System::Hawser).map(|bytes| *bytes as f64 / 1e6);
    let change = results.change.as_ref().map(|c| c.p99 / 1e3);
    vec![
        to("HTTP, 16 connections, tiny: CPU a request", TINY, CPU, "us", Haproxy, 1.0, 0.6),
        to("HTTP, 16 connections, tiny: CPU a request", TINY, CPU, "us", Envoy, 0.2, 0.12),
        to("HTTP, 16 connections, 1 KB: CPU a request", KILOBYTE, CPU, "us", Haproxy, 1.0, 0.6),
        to("HTTP, 16 connections, 1 KB: CPU a request", KILOBYTE, CPU, "us", Envoy, 0.2, 0.12),
        to("HTTP, 64 connections, 2 workers, tiny: CPU", TWO, CPU, "us", Envoy, 0.25, 0.15),
        to("HTTP, 64 connections, 2 workers, 1 KB: CPU", TWO_KILOBYTE, CPU, "us", Envoy, 0.25, 0.15),
        to("gRPC unary: CPU a request", GRPC, CPU, "us", Envoy, 0.3, 0.15),
        to("one connection: CPU a request", ONE, CPU, "us", Haproxy, 0.6, 0.4),
        to("one connection: p50", ONE, P50, "us", Haproxy, 0.6, 0.4),
        to("1,000 requests/s: CPU a request", THOUSAND, CPU, "us", Haproxy, 0.7, 0.45),
        to("1,000 requests/s: p50", THOUSAND, P50, "us", Haproxy, 1.0, 0.8),
        to("1,000 requests/s: p99", THOUSAND, P99, "us", Envoy, 1.0, 0.5),
        to("half of Envoy's saturation: p99", HALF, P99, "us", Envoy, 1.0, 0.5),
        own("TCP, 16 connections: CPU a message", PLAIN, (MESSAGES, CPU), "us", (MESSAGES, 12.2), 6.0, 3.5),
        own("TCP in bulk: CPU a gigabyte", PLAIN, (BULK, CPU_GB), "s", (BULK, 0.54), 0.40, 0.33),
        own("new connection, pooled behind it: CPU, both", MESH, (NEW, CPU_BOTH), "us", (NEW, 186.0), 60.0, 30.0),
        own("new connection, new handshake: CPU, both", MESH, (FRESH, CPU_BOTH), "us", (TCP_NEW, 1143.0), 600.0, 550.0),
        absolute("RSS idle", ANY, of(|m| Some(m.idle), 1e6), "MB", 12.0, 8.0),
        absolute("RSS, 10,000 services of which 5 are used", ANY, of(|m| m.many, 1e6), "MB", 14.0, 9.0),
        absolute("RSS an idle connection, HTTP", MESH, of(|m| m.per_http, 1e3), "KB", 20.0, 8.0),
        absolute("RSS an idle connection, TCP", PLAIN, of(|m| m.per_tcp, 1e3), "KB", 20.0, 8.0),
        absolute("stripped program", ANY, size, "MB", 15.0, 8.0),
        absolute("a change's arrival to its use, p99", ANY, change, "ms", 10.0, 2.0),
    ]
}

/// Whether as many connections were opened as the case is about: pooled means that only the loader opened one, a new
/// handshake that the caller's proxy opened one as well.
fn is_as_named(case: &str, figures: &Figures) -> bool {
    match case {
        NEW => figures.opened < 1.1,
        FRESH => figures.opened > 1.9,
        _ => true,
    }
}

#[expect(clippy::too_many_arguments, reason = "a row has as many columns")]
fn against(
    results: &Results,
    measure: &'static str,
    case: &'static str,
    field: Field,
    unit: &'static str,
    peer: System,
    must: f64,
    goal: f64,
) -> Row {
    let systems = results.cases.get(case);
    let ours = systems.and_then(|c| c.get(&System::Hawser));
    let theirs = systems.and_then(|c| c.get(&peer));
    let figure = |f: &Figures| Some(field(f)).filter(|v| *v > 0.0);
    let value = ours.zip(theirs).and_then(|(a, b)| a.ratio(b, field).ok());
    Row {
        measure,
        runs: MESH,
        figure: ours.and_then(|m| figure(&m.figures)),
        unit,
        peer: Some((peer, theirs.and_then(|m| figure(&m.figures)))),
        value,
        must,
        goal,
        verdict: verdict(value, must, goal),
    }
}

/// A limit that was set as so much time, on a machine where Envoy took `yardstick.1` for the case `yardstick.0`. This machine
/// is as fast or slow as Envoy is here.
#[expect(clippy::too_many_arguments, reason = "a row has as many columns")]
fn scaled(
    results: &Results,
    measure: &'static str,
    runs: &'static str,
    (case, field): (&'static str, Field),
    unit: &'static str,
    yardstick: (&'static str, f64),
    must: f64,
    goal: f64,
) -> Row {
    let figure = |system, case: &'static str| {
        let figures = results.cases.get(case).and_then(|c| c.get(&system)).map(|m| &m.figures)?;
        Some(field(figures)).filter(|v| *v > 0.0 && is_as_named(case, figures))
    };
    let (ours, theirs) = (figure(System::Hawser, case), figure(System::Envoy, yardstick.0));
    let value = ours.zip(theirs).map(|(ours, theirs)| ours / theirs * yardstick.1);
    let peer = Some((System::Envoy, theirs));
    Row { measure, runs, figure: ours, unit, peer, value, must, goal, verdict: verdict(value, must, goal) }
}

fn absolute(
    measure: &'static str,
    runs: &'static str,
    figure: Option<f64>,
    unit: &'static str,
    must: f64,
    goal: f64,
) -> Row {
    let value = figure.filter(|v| *v > 0.0);
    Row { measure, runs, figure: value, unit, peer: None, value, must, goal, verdict: verdict(value, must, goal) }
}

fn verdict(value: Option<f64>, must: f64, goal: f64) -> Verdict {
    match value {
        None => Verdict::NotMeasured,
        Some(value) if value <= goal => Verdict::Goal,
        Some(value) if value <= must => Verdict::Met,
        Some(_) => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{ONE_CORE, Setting, TWO_CORES};
    use crate::figures::Measured;

    fn measured(setting: Setting, cpu_us: f64) -> Measured {
        Measured::of(&[(setting, Figures { cpu_us, p50: 1.0, p99: 1.0, ..Figures::default() })]).unwrap()
    }

    fn tiny() -> Setting {
        ONE_CORE[0].setting(ONE_CORE[0].load(1000, None).unwrap(), 1)
    }

    fn first(ours: Measured, theirs: Measured) -> Row {
        let mut results = Results::default();
        results.cases.insert(TINY, [(System::Hawser, ours), (System::Haproxy, theirs)].into());
        rows(&results).remove(0)
    }

    #[test]
    fn a_row_is_judged_by_its_ratio() {
        for (ours, expected) in [(5.9, Verdict::Goal), (9.9, Verdict::Met), (10.1, Verdict::Missed)] {
            assert_eq!(first(measured(tiny(), ours), measured(tiny(), 10.0)).verdict, expected);
        }
    }

    #[test]
    fn a_limit_in_time_is_one_of_the_machine_that_it_was_set_on() {
        let setting = ONE_CORE.iter().find(|c| c.name == MESSAGES).unwrap();
        let setting = setting.setting(setting.load(1000, None).unwrap(), 1);
        for (ours, expected) in [(6.9, Verdict::Goal), (11.9, Verdict::Met), (12.1, Verdict::Missed)] {
            let mut results = Results::default();
            // Half as fast.
            let systems = [(System::Hawser, measured(setting, ours)), (System::Envoy, measured(setting, 24.4))];
            results.cases.insert(MESSAGES, systems.into());
            let row = rows(&results).into_iter().find(|r| r.measure.contains("CPU a message")).unwrap();
            assert_eq!((row.figure, row.verdict), (Some(ours), expected));
        }
    }

    #[test]
    fn figures_of_another_load_judge_nothing() {
        let other = Setting { workers: 2, ..tiny() };
        let row = first(measured(tiny(), 1.0), measured(other, 10.0));
        assert_eq!((row.verdict, row.value), (Verdict::NotMeasured, None));
    }

    #[test]
    fn a_handshake_that_was_not_made_is_not_judged() {
        let case = ONE_CORE.iter().find(|c| c.name == FRESH).unwrap();
        let setting = case.setting(case.load(1000, None).unwrap(), 1);
        let envoy = ONE_CORE.iter().find(|c| c.name == TCP_NEW).unwrap();
        let envoy = envoy.setting(envoy.load(1000, None).unwrap(), 1);
        let verdict = |opened| {
            let figures = Figures { cpu_us: 50.0, cpu_pair_us: 100.0, opened, ..Figures::default() };
            let mut results = Results::default();
            let measured = Measured::of(&[(setting, figures)]).unwrap();
            results.cases.insert(FRESH, [(System::Hawser, measured)].into());
            let figures = Figures { cpu_pair_us: 1143.0, ..Figures::default() };
            results.cases.insert(TCP_NEW, [(System::Envoy, Measured::of(&[(envoy, figures)]).unwrap())].into());
            rows(&results).into_iter().find(|r| r.measure.contains("new handshake")).unwrap().verdict
        };
        assert_eq!((verdict(2.0), verdict(1.0)), (Verdict::Goal, Verdict::NotMeasured));
    }

    #[test]
    fn every_row_has_a_case_that_is_measured() {
        let mut results = Results::default();
        for (cores, cases) in [(1, &ONE_CORE[..]), (2, &TWO_CORES[..])] {
            for case in cases {
                let setting = case.setting(case.load(1000, Some(5)).unwrap(), cores);
                let (cpu_us, opened) = (1.0, if case.name == FRESH { 2.0 } else { 1.0 });
                let figures = Figures {
                    cpu_us,
                    cpu_pair_us: 2.0,
                    cpu_per_gb: 0.1,
                    p50: 1.0,
                    p99: 1.0,
                    opened,
                    ..Figures::default()
                };
                let measured = Measured::of(&[(setting, figures)]).unwrap();
                let all = System::COMPARED.map(|system| (system, measured.clone()));
                results.cases.insert(case.name, all.into());
            }
        }
        for row in rows(&results) {
            let needs_more = row.measure.contains("RSS") || row.measure.contains("program") || row.unit == "ms";
            assert_eq!(row.verdict == Verdict::NotMeasured, needs_more, "{row:?}");
            assert!(row.goal < row.must, "{row:?}");
        }
    }
}
