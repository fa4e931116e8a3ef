//! wrk, for HTTP at saturation: it costs least itself, and what others measured was measured with it.

use std::net::SocketAddr;

use anyhow::Context as _;

use crate::load::Seen;

/// Its arguments.
pub(crate) fn arguments(
    target: SocketAddr,
    path: &str,
    connections: usize,
    new_connections: bool,
    seconds: f64,
) -> Vec<String> {
    let mut args = vec!["wrk".to_owned(), "--latency".to_owned(), "-t1".to_owned(), format!("-c{connections}")];
    // It knows whole seconds only.
    args.push(format!("-d{}s", seconds.ceil().max(1.0)));
    args.extend(["-H".to_owned(), format!("Host: {}", crate::mesh::SERVICE)]);
    if new_connections {
        args.extend(["-H".to_owned(), "Connection: close".to_owned()]);
    }
    args.push(format!("http://{target}{path}"));
    args
}

/// Reads what it prints.
pub(crate) fn read(output: &str) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    for line in output.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [requests, "requests", "in", time, ..] => {
                seen.done = requests.parse()?;
                seen.seconds = micros(time.trim_end_matches(','))? / 1e6;
            }
            ["50%", latency] => seen.p50 = micros(latency)? as u32,
            ["99%", latency] => seen.p99 = micros(latency)? as u32,
            ["Non-2xx", "or", "3xx", "responses:", count] => seen.failed += count.parse::<u64>()?,
            ["Socket", "errors:", "connect", a, "read", b, "write", c, "timeout", d] => {
                for count in [a, b, c, d] {
                    seen.failed += count.trim_end_matches(',').parse::<u64>()?;
                }
            }
            _ => {}
        }
    }
    anyhow::ensure!(seen.seconds > 0.0, "wrk said:\n{output}");
    Ok(seen)
}

/// `1.23ms` in microseconds.
fn micros(text: &str) -> anyhow::Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => anyhow::bail!("{text} is no time"),
    };
    Ok(digits.parse::<f64>().with_context(|| format!("{text} is no time"))? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_report_is_understood() {
        let seen = read(
            "Running 3s test @ http://10.0.0.1:9000/\n  1 threads and 16 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    \
             Latency     1.08ms    1.47ms  21.22ms   90.05%\n  Latency Distribution\n     50%  412.00us\n     75%    1.22ms\n     \
             90%    2.71ms\n     99%    7.05ms\n  74461 requests in 3.02s, 6.11MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n  \
             Non-2xx or 3xx responses: 4\nRequests/sec:  24656.84\n",
        );
        let seen = seen.unwrap();
        assert_eq!((seen.done, seen.p50, seen.p99, seen.failed), (74_461, 412, 7_050, 7));
        assert!((seen.seconds - 3.02).abs() < 1e-9);
    }
}
