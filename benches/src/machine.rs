//! What a run ran on, in a line.

/// Processor, cores, memory, kernel.
pub(crate) fn line() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let value = text.lines().find_map(|l| l.strip_prefix(key)?.split_once(':').map(|(_, v)| v.trim().to_owned()));
        value.unwrap_or_else(|| "?".to_owned())
    };
    let cpus = read("/proc/cpuinfo");
    let memory: f64 =
        after(&read("/proc/meminfo"), "MemTotal").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    format!(
        "{}, {} cores, {:.0} GB, Linux {}, load before {}",
        after(&cpus, "model name"),
        cpus.matches("processor\t").count(),
        memory / 1e6,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}
