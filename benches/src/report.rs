//! Tables and ratios.

use std::fmt::Write as _;

use crate::rounds::{CASES, Figures, Results};

/// Prints results.
#[allow(clippy::print_stdout)]
pub(crate) fn print(results: &Results, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(results)?);
    } else {
        print!("{}", render(results));
    }
    Ok(())
}

fn render(results: &Results) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\nmedians of {} interleaved round(s), the whole chain on one core\n", results.rounds);
    let _ = writeln!(
        out,
        "{:<12} {:<8} {:>10} {:>14} {:>9} {:>9} {:>9} {:>10}",
        "case", "system", "req/s", "CPU us/req", "p50 us", "p99 us", "Gbit/s", "CPU s/GB"
    );
    for case in CASES {
        for (system, figures) in &results.cases {
            let Some(f) = figures.get(case.name) else { continue };
            let _ = writeln!(
                out,
                "{:<12} {:<8} {:>10.0} {:>14.2} {:>9.0} {:>9.0} {:>9} {:>10}{}",
                case.name,
                system,
                f.per_second,
                f.cpu_us,
                f.p50,
                f.p99,
                dash(f.gbits),
                dash(f.cpu_per_gb),
                if f.failed > 0.0 { format!("  {} FAILED", f.failed) } else { String::new() },
            );
        }
    }
    let _ = writeln!(out, "\nRSS MiB      idle caller/server    after load caller/server");
    for (system, m) in &results.memory {
        if m[0] > 0.0 {
            let _ = writeln!(out, "{system:<12} {:>8.1} / {:<8.1} {:>12.1} / {:<8.1}", m[0], m[1], m[2], m[3]);
        }
    }
    ratios(results, &mut out);
    out
}

fn ratios(results: &Results, out: &mut String) {
    let Some(ours) = results.cases.get("hawser") else { return };
    for peer in ["haproxy", "envoy"] {
        let Some(theirs) = results.cases.get(peer) else { continue };
        let _ = writeln!(out, "\nhawser / {peer} (below 1 is better)");
        for case in CASES {
            let (Some(a), Some(b)) = (ours.get(case.name), theirs.get(case.name)) else { continue };
            let ratio = |field: fn(&Figures) -> f64| match (field(a), field(b)) {
                (_, 0.0) => "-".to_owned(),
                (a, b) => format!("{:.2}", a / b),
            };
            let _ = writeln!(
                out,
                "{:<12} CPU/req {:>6}   p50 {:>6}   p99 {:>6}   CPU/GB {:>6}",
                case.name,
                ratio(|f| f.cpu_us),
                ratio(|f| f.p50),
                ratio(|f| f.p99),
                ratio(|f| f.cpu_per_gb)
            );
        }
    }
}

fn dash(value: f64) -> String {
    if value > 0.0 { format!("{value:.2}") } else { "-".to_owned() }
}
