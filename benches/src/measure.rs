//! What a process costs, by the kernel's own counters.

use anyhow::Context as _;

/// CPU time of a process with all its threads, user and system, in seconds.
pub(crate) fn cpu_seconds(pid: i32) -> anyhow::Result<f64> {
    // Nanoseconds on CPU of each thread: finer than the ticks of `stat`.
    let mut total = 0u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))? {
        let path = task?.path().join("schedstat");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        total += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(total as f64 / 1e9)
}

/// Resident memory.
pub(crate) fn resident_bytes(pid: i32) -> anyhow::Result<u64> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has ended"))?;
    let kib: u64 = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:")?.trim().trim_end_matches("kB").trim().parse().ok())
        .context("no VmRSS")?;
    Ok(kib * 1024)
}

/// Open descriptors.
pub(crate) fn descriptors(pid: i32) -> anyhow::Result<usize> {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| format!("process {pid} has ended"))?;
    Ok(all.count())
}

/// TCP connections that programs of a process's network have opened so far.
pub(crate) fn connections_opened(pid: i32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/snmp"))?;
    let mut lines = text.lines().filter(|l| l.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = lines.next().zip(lines.next()).context("no counters of TCP")?;
    let value = names.zip(values).find(|(name, _)| *name == "ActiveOpens").and_then(|(_, v)| v.parse().ok());
    value.context("no count of opened connections")
}

/// The median; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_process_has_cost_something_and_is_somewhere() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(cpu_seconds(pid).unwrap() > 0.0);
        assert!(resident_bytes(pid).unwrap() > 1 << 20);
        assert!(descriptors(pid).unwrap() > 2);
        let before = connections_opened(pid).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(connections_opened(pid).unwrap() > before);
    }
}
