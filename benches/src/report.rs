//! The tables: what was asked and what came out, then everything that was measured.

use std::fmt::Write as _;

use serde_json::json;

use crate::System;
use crate::case::{ONE_CORE, TWO_CORES};
use crate::judge::{Row, Verdict, rows};
use crate::memory::Sides;
use crate::rounds::Results;

/// Prints results.
#[allow(clippy::print_stdout)]
pub(crate) fn print(results: &Results, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&json!({ "rows": rows(results), "results": results }))?);
    } else {
        print!("{}", render(results));
    }
    Ok(())
}

/// A request that failed is an error, whatever it would have cost; so is, if `strict`, a row that misses.
pub(crate) fn check(results: &Results, strict: bool) -> anyhow::Result<()> {
    let mut failed = vec![];
    for (case, systems) in &results.cases {
        for (system, measured) in systems.iter().filter(|(_, m)| m.figures.failed > 0) {
            let f = &measured.figures;
            failed.push(format!("{case}, {system:?}: {} requests failed: {:?}", f.failed, f.first_failures));
        }
    }
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    anyhow::ensure!(!strict || results.without_log.is_empty(), "{}", without_log(results));
    let missed: Vec<_> =
        rows(results).into_iter().filter(|r| r.verdict == Verdict::Missed).map(|r| r.measure).collect();
    anyhow::ensure!(!strict || missed.is_empty(), "missed: {}", missed.join("; "));
    Ok(())
}

fn render(results: &Results) -> String {
    let mut out = format!(
        "\n{}\nmedians of {} interleaved round(s); the whole chain on one core, with 2 workers on two\n",
        results.machine, results.rounds
    );
    out.push_str(
        "runs \"mesh\": access log, metrics, retries, request ids, 20 header routes and a regular expression\n\n",
    );
    let _ = writeln!(
        out,
        "{:<45} {:<5} {:>10} {:>18} {:>7} {:>6} {:>6}  ",
        "measure", "runs", "hawser", "peer", "value", "must", "goal"
    );
    for row in rows(results) {
        line(&mut out, &row);
    }
    out.push_str(&without_log(results));
    everything(results, &mut out);
    memory(results, &mut out);
    out
}

/// Who did less than a mesh asks for.
fn without_log(results: &Results) -> String {
    let one = |(system, bytes): (&System, &f64)| {
        format!("{system:?} wrote {bytes:.0} bytes of access log a request: its rows are not as a mesh runs\n")
    };
    results.without_log.iter().map(one).collect()
}

fn line(out: &mut String, row: &Row) {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{} {}", short(v), row.unit));
    let peer = row.peer.map(|(peer, value)| format!("{} {}", format!("{peer:?}").to_lowercase(), figure(value)));
    let value = row.value.map_or_else(|| "-".to_owned(), short);
    let verdict = match row.verdict {
        Verdict::Goal => "goal",
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::NotMeasured => "not measured",
    };
    let _ = writeln!(
        out,
        "{:<45} {:<5} {:>10} {:>18} {:>7} {:>6} {:>6}  {verdict}",
        row.measure,
        row.runs,
        figure(row.figure),
        peer.unwrap_or_default(),
        value,
        short(row.must),
        short(row.goal),
    );
}

fn everything(results: &Results, out: &mut String) {
    let _ = writeln!(
        out,
        "\n{:<15} {:<8} {:>9} {:>11} {:>15} {:>10} {:>10} {:>8} {:>9} {:>9}",
        "case", "system", "req/s", "CPU us/req", "rounds", "p50 us", "p99 us", "conn/req", "Gbit/s", "CPU s/GB"
    );
    for case in ONE_CORE.iter().chain(&TWO_CORES) {
        for (system, measured) in results.cases.get(case.name).into_iter().flatten() {
            let f = &measured.figures;
            let _ = writeln!(
                out,
                "{:<15} {:<8} {:>9.0} {:>11} {:>15} {:>10.0} {:>10.0} {:>8} {:>9} {:>9}{}",
                case.name,
                format!("{system:?}").to_lowercase(),
                f.per_second,
                dash(f.cpu_us),
                format!("{}..{}", short(measured.spread[0]), short(measured.spread[1])),
                f.p50,
                f.p99,
                dash(f.opened),
                dash(f.gbits),
                dash(f.cpu_per_gb),
                if f.failed > 0 { format!("  {} FAILED", f.failed) } else { String::new() },
            );
        }
    }
}

fn memory(results: &Results, out: &mut String) {
    let _ = writeln!(
        out,
        "\n{:<8} {:>17} {:>17} {:>17} {:>17} {:>17} {:>10}",
        "system", "idle MB", "many services MB", "agents then MB", "KB/HTTP conn", "KB/TCP conn", "program MB"
    );
    let pair = |sides: Option<Sides>, unit: f64| match sides {
        Some([0, 0]) | None => "-".to_owned(),
        Some([a, b]) => format!("{:.1} / {:.1}", a as f64 / unit, b as f64 / unit),
    };
    for (system, m) in &results.memory {
        let size =
            results.size.get(system).map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", *bytes as f64 / 1e6));
        let _ = writeln!(
            out,
            "{:<8} {:>17} {:>17} {:>17} {:>17} {:>17} {size:>10}",
            format!("{system:?}").to_lowercase(),
            pair(Some(m.idle), 1e6),
            pair(m.many, 1e6),
            pair(m.agents, 1e6),
            pair(m.per_http, 1e3),
            pair(m.per_tcp, 1e3),
        );
    }
    if let Some(c) = &results.change {
        let _ = writeln!(
            out,
            "\n{} changes, arrival to use: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
            c.count,
            c.p50 / 1e3,
            c.p99 / 1e3,
            c.max / 1e3
        );
    }
}

/// As many digits as mean something.
fn short(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn dash(value: f64) -> String {
    if value > 0.0 { short(value) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::TINY;
    use crate::figures::{Figures, Measured};

    #[test]
    fn a_failed_request_fails_the_run() {
        let setting = ONE_CORE[0].setting(ONE_CORE[0].load(1000, None).unwrap(), 1);
        let results = |failed| {
            let mut results = Results::default();
            let figures = Figures { cpu_us: 1.0, failed, ..Figures::default() };
            let measured = Measured::of(&[(setting, figures)]).unwrap();
            results.cases.insert(TINY, [(System::Envoy, measured)].into());
            results
        };
        assert!(check(&results(0), false).is_ok());
        let error = check(&results(2), false).unwrap_err().to_string();
        assert!(error.contains("2 requests failed") && error.contains(TINY), "{error}");
        assert!(render(&results(2)).contains("2 FAILED"));
    }
}
