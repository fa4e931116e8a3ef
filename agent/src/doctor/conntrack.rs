//! Room in the kernel's table of connections: redirection makes it hold all of the host's.

use super::Finding;
use crate::redirect;

const CHECK: &str = "conntrack";
/// Fewer than this are soon used up on any host.
const FEW: u64 = 4096;
const CURE: &str = "raise it: sysctl -w net.netfilter.nf_conntrack_max=262144, and in a file of /etc/sysctl.d";

/// Reads the table's use and judges it.
pub(super) fn findings(joined: bool) -> Vec<Finding> {
    let sockets = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    vec![judge(redirect::tracked(), open(&sockets), joined)]
}

/// Entries and limit of the table, and the connections that the host has. What is tracked before a join is not more after it.
fn judge(table: Option<(u64, u64)>, open: u64, joined: bool) -> Finding {
    let Some((entries, limit)) = table.filter(|(_, limit)| *limit > 0) else {
        return Finding::ok(CHECK, "nothing tracks connections here yet; redirection will");
    };
    // A host whose rules never asked for it tracks nothing before it joins, and all of its connections then.
    let expected = entries.max(open);
    let ours = joined || open > entries;
    let said = format!("the kernel tracks {entries} connections of at most {limit}");
    if expected.saturating_mul(100) >= limit.saturating_mul(95) && ours {
        Finding::failure(CHECK, format!("{said}, and the host has {expected}: new ones would be dropped"), CURE)
    } else if expected.saturating_mul(10) >= limit.saturating_mul(8) {
        Finding::warning(CHECK, format!("{said}, and the host has {expected}"), CURE)
    } else if limit < FEW {
        Finding::warning(CHECK, format!("{said}, which is few"), CURE)
    } else {
        Finding::ok(CHECK, said)
    }
}

/// Connections of TCP by `/proc/net/sockstat`.
fn open(text: &str) -> u64 {
    let words = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let words: Vec<&str> = words.split_ascii_whitespace().collect();
    let value = |name: &str| -> u64 {
        let at = words.iter().position(|word| *word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or_default()
    };
    value("inuse").saturating_add(value("tw"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn headroom_is_judged_by_what_is_tracked_and_by_what_will_be() {
        let verdict = |table, open| judge(table, open, true).verdict;
        assert_eq!(verdict(Some((100, 262_144)), 10), Verdict::Ok);
        assert_eq!(verdict(None, 10), Verdict::Ok);
        assert_eq!(verdict(Some((0, 0)), 10), Verdict::Ok);
        assert_eq!(verdict(Some((0, 512)), 10), Verdict::Warning, "few");
        assert_eq!(verdict(Some((8000, 10_000)), 10), Verdict::Warning);
        assert_eq!(verdict(Some((9500, 10_000)), 10), Verdict::Failure);
        assert_eq!(verdict(Some((0, 10_000)), 20_000), Verdict::Failure, "nothing is tracked yet");
        assert_eq!(verdict(Some((u64::MAX, u64::MAX)), u64::MAX), Verdict::Failure);
        let before = |table, open| judge(table, open, false).verdict;
        assert_eq!(before(Some((9900, 10_000)), 100), Verdict::Warning, "it is full without us");
        assert_eq!(before(Some((0, 10_000)), 20_000), Verdict::Failure, "a join would fill it");
    }

    #[test]
    fn open_connections_are_read() {
        let text = "sockets: used 21\nTCP: inuse 27 orphan 0 tw 12 alloc 31 mem 149\nUDP: inuse 4 mem 0\n";
        assert_eq!(open(text), 39);
        assert_eq!(open("TCP: inuse"), 0);
        assert_eq!(open(""), 0);
    }
}
