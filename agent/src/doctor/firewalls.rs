//! Other people's firewalls: who has one here, whether it lets in what this host serves, and who would flush ours.
//!
//! In: names of chains, tables that have a chain of the input hook, files. Out: what an operator should know. Nothing of it
//! is ever changed, and what can't be read is said to be so.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::passage::{Passage, through};
use super::{Finding, blocking};
use crate::redirect;

const CHECK: &str = "firewall";
/// A port that no rule names: what becomes of it becomes of all that are not named.
const NOBODYS: u16 = 1;
/// More tables with an input chain than any host has.
const MOST_TABLES: usize = 16;
/// Files that `nftables.service` loads, and what says that it is enabled.
const FILES: [&str; 2] = ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"];
const ENABLED: [&str; 2] = [
    "/etc/systemd/system/sysinit.target.wants/nftables.service",
    "/etc/systemd/system/multi-user.target.wants/nftables.service",
];
const FIREWALLD: &str = "/etc/firewalld/firewalld.conf";
const LARGEST_FILE: u64 = 4 << 20;

/// A chain by name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: String,
}

/// Reads and judges.
pub(super) async fn findings(declared: Vec<u16>) -> Vec<Finding> {
    let chains = match redirect::chains().await {
        Ok(listing) => chains(&listing),
        Err(_) => {
            let sentence = "other firewalls of this host can't be seen without nft";
            return vec![Finding::unknown(CHECK, sentence, "see what is said of nft")];
        }
    };
    let mut findings = Vec::new();
    let inputs = chains.iter().filter(|chain| chain.hook == "input" && ["ip", "inet"].contains(&chain.family.as_str()));
    for chain in inputs.take(MOST_TABLES) {
        let table = redirect::table_of_others(&chain.family, &chain.table).await;
        findings.extend(judge_input(chain, table.ok().as_ref(), &declared));
    }
    let files = blocking(CHECK, move || {
        let mut findings = present(&chains, &legacy(), std::fs::read_to_string(FIREWALLD).ok().as_deref());
        let enabled = ENABLED.iter().any(|path| Path::new(path).is_symlink());
        let flushing = FILES.iter().find(|path| flushes(&read(path)));
        findings.extend(flushing.map(|path| judge_flush(path, enabled)));
        findings
    });
    findings.extend(files.await);
    findings
}

/// Every chain but ours.
fn chains(listing: &Value) -> Vec<Chain> {
    let objects = listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let chain = |object: &Value| {
        let chain = object.get("chain")?;
        let text = |name: &str| chain[name].as_str().unwrap_or_default().to_owned();
        Some(Chain { family: text("family"), table: text("table"), name: text("name"), hook: text("hook") })
    };
    let ours = |chain: &Chain| chain.family == "inet" && chain.table == "hawser";
    objects.iter().filter_map(chain).filter(|chain| !ours(chain)).collect()
}

/// What a chain of the input hook makes of declared ports; of any port while none is known.
fn judge_input(chain: &Chain, table: Option<&Value>, declared: &[u16]) -> Vec<Finding> {
    let name = format!("chain {} of table {} {}", chain.name, chain.family, chain.table);
    let Some(table) = table else {
        let cure = format!("see that it does: nft list table {} {}", chain.family, chain.table);
        return vec![Finding::unknown(
            CHECK,
            format!("whether {name} lets in what this host serves can't be read"),
            cure,
        )];
    };
    if declared.is_empty() {
        return match through(table, &chain.name, NOBODYS) {
            Passage::LetIn => Vec::new(),
            Passage::Kept => vec![Finding::warning(
                CHECK,
                format!("{name} lets in only what it names"),
                "let in the ports that this host is to serve; 15008 too if callers of ambient meshes come",
            )],
            Passage::Depends => vec![Finding::unknown(
                CHECK,
                format!("whether {name} lets in what this host is to serve depends on more than the port"),
                "see that it does; once the host is joined, `inbound` says what discovery sees",
            )],
        };
    }
    let of = |passage| {
        let ports = declared.iter().filter(|port| through(table, &chain.name, **port) == passage);
        ports.map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut findings = Vec::new();
    let (kept, depends) = (of(Passage::Kept), of(Passage::Depends));
    if !kept.is_empty() {
        let sentence = format!("{name} keeps out declared ports: {}", kept.join(", "));
        findings.push(Finding::failure(
            CHECK,
            sentence,
            "let them in there, as for an application; the mesh comes by them too",
        ));
    }
    if !depends.is_empty() {
        let ports = depends.join(", ");
        let sentence = format!("whether {name} lets in declared ports depends on more than the port: {ports}");
        findings.push(Finding::unknown(CHECK, sentence, "see what discovery sees of them, under `inbound`"));
    }
    findings
}

/// Who else has rules here.
fn present(chains: &[Chain], legacy: &[String], firewalld: Option<&str>) -> Vec<Finding> {
    let mut known: BTreeSet<&str> = chains.iter().filter_map(owner).collect();
    if known.is_empty() && chains.iter().any(|chain| !chain.hook.is_empty()) {
        known.insert("rules of its own");
    }
    let mut findings = Vec::new();
    if !legacy.is_empty() {
        let tables = legacy.join(", ");
        let sentence = format!("iptables-legacy has tables here ({tables}), whose rules nft does not show");
        let cure = "see that they let in what this host serves: iptables-legacy-save";
        findings.push(Finding::warning(CHECK, sentence, cure));
    }
    if known.contains("firewalld") {
        let cure = "ReloadPolicy=INPUT:DROP,FORWARD:DROP,OUTPUT:ACCEPT in /etc/firewalld/firewalld.conf";
        match firewalld {
            Some(settings) if lets_out(settings) => {}
            Some(_) => {
                let sentence = "firewalld drops what this host begins to send while it reloads";
                findings.push(Finding::warning(CHECK, sentence, cure));
            }
            None => {
                let sentence = "whether firewalld drops what this host begins to send while it reloads can't be read";
                findings.push(Finding::unknown(CHECK, sentence, cure));
            }
        }
    }
    let who: Vec<&str> = known.into_iter().collect();
    let sentence = match who.is_empty() {
        true => "this host has no other firewall".to_owned(),
        false => format!("beside Hawser this host has {}, which is left as it is", who.join(", ")),
    };
    findings.push(Finding::ok(CHECK, sentence));
    findings
}

/// Whether firewalld's settings let out what the host sends while it reloads.
fn lets_out(settings: &str) -> bool {
    let value = settings.lines().find_map(|line| line.trim().strip_prefix("ReloadPolicy="));
    value.is_some_and(|value| value.trim() == "ACCEPT" || value.contains("OUTPUT:ACCEPT"))
}

/// Whose a chain is, by the names that they give.
fn owner(chain: &Chain) -> Option<&'static str> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| chain.name.starts_with(prefix));
    match chain.table.as_str() {
        "firewalld" => return Some("firewalld"),
        "netavark" => return Some("Podman"),
        "docker-bridges" => return Some("Docker"),
        "libvirt_network" => return Some("libvirt"),
        _ => {}
    }
    [
        (&["ufw-", "ufw6-"][..], "ufw"),
        (&["DOCKER"], "Docker"),
        (&["NETAVARK", "CNI-"], "Podman"),
        (&["LIBVIRT_"], "libvirt"),
        (&["KUBE-"], "Kubernetes"),
    ]
    .into_iter()
    .find_map(|(prefixes, who)| starts(prefixes).then_some(who))
}

/// Tables of iptables-legacy, as far as we may see them.
fn legacy() -> Vec<String> {
    let files = ["/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names"];
    let mut tables: Vec<String> = files.iter().flat_map(|path| legacy_tables(&read(path))).collect();
    tables.sort();
    tables.dedup();
    tables
}

fn legacy_tables(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Whether a file of nftables begins by taking everybody's tables away.
fn flushes(text: &str) -> bool {
    let statements =
        text.lines().map(|line| line.split('#').next().unwrap_or_default()).flat_map(|line| line.split(';'));
    statements.map(|text| text.split_ascii_whitespace().collect::<Vec<_>>()).any(|words| words == ["flush", "ruleset"])
}

fn judge_flush(path: &str, enabled: bool) -> Finding {
    if !enabled {
        return Finding::ok(CHECK, format!("{path} flushes all tables, but nothing loads it at boot"));
    }
    let sentence = format!("{path} flushes all tables, Hawser's too: who loads it again opens a gap of some 10 ms");
    let cure = "in place of `flush ruleset`, delete each table of your own: table inet mine; delete table inet mine";
    Finding::warning(CHECK, sentence, cure)
}

/// A file's beginning; nothing if it can't be read.
fn read(path: &str) -> String {
    use std::io::Read as _;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        _ = file.take(LARGEST_FILE).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use serde_json::json;

    fn chain(family: &str, table: &str, name: &str, hook: &str) -> Chain {
        Chain { family: family.into(), table: table.into(), name: name.into(), hook: hook.into() }
    }

    fn table() -> Value {
        let dport = json!({"payload": {"protocol": "tcp", "field": "dport"}});
        json!({"nftables": [
            {"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": "drop"}},
            {"rule": {"chain": "input", "expr": [
                {"match": {"op": "==", "left": dport, "right": {"set": [22, 9080]}}}, {"accept": null}]}},
        ]})
    }

    #[test]
    fn a_default_deny_chain_is_judged_by_the_ports_that_are_declared() {
        let input = chain("inet", "filter", "input", "input");
        let verdicts = |declared: &[u16]| {
            let findings = judge_input(&input, Some(&table()), declared);
            findings.into_iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&[]), [Verdict::Warning], "before a join nobody knows the ports");
        assert_eq!(verdicts(&[9080]), []);
        assert_eq!(verdicts(&[9080, 9090]), [Verdict::Failure]);
        let findings = judge_input(&input, Some(&table()), &[9080, 9090]);
        assert!(findings[0].sentence.ends_with("declared ports: 9090"), "{findings:?}");
        assert_eq!(judge_input(&input, None, &[9080])[0].verdict, Verdict::Unknown);
    }

    #[test]
    fn others_are_known_by_their_chains() {
        let all = [
            chain("ip", "filter", "ufw-before-input", ""),
            chain("ip", "nat", "DOCKER", ""),
            chain("inet", "netavark", "INPUT", "input"),
            chain("ip", "filter", "LIBVIRT_INP", ""),
            chain("inet", "firewalld", "filter_INPUT", "input"),
        ];
        let findings = present(&all, &["filter".into()], None);
        let last = &findings[findings.len() - 1].sentence;
        assert!(["Docker", "Podman", "firewalld", "libvirt", "ufw"].iter().all(|who| last.contains(who)), "{last}");
        assert_eq!((findings[0].verdict, findings[1].verdict), (Verdict::Warning, Verdict::Unknown));
        assert!(present(&[], &[], None)[0].sentence.contains("no other firewall"));
        assert!(present(&all[..0], &legacy_tables("nat\nfilter\n"), None)[0].sentence.contains("nat, filter"));
        assert!(present(&[chain("inet", "mine", "in", "input")], &[], None)[0].sentence.contains("rules of its own"));
    }

    #[test]
    fn a_reload_of_firewalld_is_judged_by_its_settings() {
        let all = [chain("inet", "firewalld", "filter_INPUT", "input")];
        let first = |settings| present(&all, &[], Some(settings))[0].verdict;
        assert_eq!(first("# ReloadPolicy=\nReloadPolicy=INPUT:DROP,FORWARD:DROP,OUTPUT:DROP\n"), Verdict::Warning);
        assert_eq!(first("DefaultZone=public\n"), Verdict::Warning);
        assert_eq!(first("ReloadPolicy=INPUT:DROP,FORWARD:DROP,OUTPUT:ACCEPT\n"), Verdict::Ok);
    }

    #[test]
    fn ours_is_none_of_them() {
        let listing = json!({"nftables": [
            {"metainfo": {}},
            {"chain": {"family": "inet", "table": "hawser", "name": "input", "hook": "input"}},
            {"chain": {"family": "ip", "table": "hawser", "name": "input", "hook": "input"}},
        ]});
        assert_eq!(chains(&listing), [chain("ip", "hawser", "input", "input")]);
        assert!(chains(&json!(7)).is_empty());
    }

    #[test]
    fn a_flush_is_found_where_it_counts() {
        assert!(flushes("#!/usr/sbin/nft -f\n\nflush  ruleset\n") && flushes("flush ruleset; table inet a { }"));
        assert!(!flushes("# flush ruleset\n") && !flushes("flush table inet mine\n") && !flushes(""));
        assert_eq!(judge_flush("/etc/nftables.conf", true).verdict, Verdict::Warning);
        assert_eq!(judge_flush("/etc/nftables.conf", false).verdict, Verdict::Ok);
    }
}
