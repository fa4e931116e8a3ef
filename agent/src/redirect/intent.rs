//! What is to be redirected, in words of the mesh.
//!
//! The agent makes an [`Intent`] from its record, its configuration and what discovery sends; it is the only input of
//! the ruleset and the only thing kept on disk. [`Intent::refusals`] says what in it can't be honoured and why;
//! [`Capture::admissible`] drops what discovery may not ask for. Both are pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hawser_api::names::ports;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Everything that redirection depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Declared inbound ports.
    #[serde(default)]
    pub inbound: BTreeSet<Inbound>,
    /// Where each workload's outbound connections go; narrower scopes win over wider ones.
    #[serde(default)]
    pub outbound: BTreeSet<Outbound>,
    /// What is captured on its way out.
    #[serde(default)]
    pub capture: Capture,
    /// What is never captured on its way out.
    #[serde(default)]
    pub exempt: Exempt,
    /// Name resolution; absent leaves port 53 alone.
    #[serde(default)]
    pub dns: Option<Dns>,
    /// What becomes of inbound connections while nobody takes them.
    #[serde(default)]
    pub on_proxy_failure: OnProxyFailure,
    /// How inbound connections get to the proxy.
    #[serde(default)]
    pub inbound_mode: InboundMode,
    /// Interfaces whose forwarded connections are captured, with the outbound port of the workload they act as. The
    /// listener of such a port must be bound to the unspecified address, and the host's firewall must let the
    /// interface reach it.
    #[serde(default)]
    pub capture_interfaces: BTreeMap<String, u16>,
    /// What of a workload's outbound connections is left alone, by workload.
    #[serde(default)]
    pub exclusions: BTreeMap<String, Exclusion>,
    /// The uid of an Envoy, whose calls to its own host come back over loopback; only in [`InboundMode::Redirect`].
    #[serde(default)]
    pub envoy_uid: Option<u32>,
}

/// A declared port of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Inbound {
    /// Absent: any address of the host.
    pub address: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// Whose port it is, for people.
    pub workload: String,
}

/// A workload's outbound port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Outbound {
    /// Whose connections.
    pub scope: Scope,
    /// Where they go.
    pub port: u16,
    /// The workload, for people.
    pub workload: String,
}

/// Which processes are a workload. In order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Those in a control group, by path below the hierarchy's root: `system.slice/nginx.service`.
    Cgroup(String),
    /// Those of a user.
    User(u32),
    /// All that no other scope takes.
    Host,
}

/// Addresses that are captured on their way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The mesh's virtual addresses: TCP is captured whole, anything else is refused, routes to them are added.
    #[serde(default)]
    pub virtual_ranges: BTreeSet<IpNet>,
    /// Further ranges of real addresses, where a policy widens capture.
    #[serde(default)]
    pub wide_ranges: BTreeSet<IpNet>,
    /// Addresses of services outside the virtual ranges.
    #[serde(default)]
    pub targets: BTreeSet<Target>,
}

/// An address, or several, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// One address is a prefix of full length.
    pub net: IpNet,
    /// TCP port.
    pub port: u16,
}

/// Whose traffic is left alone: the proxy's, the agent's, what the operator names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exempt {
    /// Users.
    #[serde(default)]
    pub uids: BTreeSet<u32>,
    /// Packet marks, for where there is only one user.
    #[serde(default)]
    pub marks: BTreeSet<Mark>,
    /// Control groups, by path.
    #[serde(default)]
    pub cgroups: BTreeSet<String>,
    /// Groups.
    #[serde(default)]
    pub gids: BTreeSet<u32>,
    /// Interfaces, for what comes in over them too.
    #[serde(default)]
    pub interfaces: BTreeSet<String>,
    /// Where to, whoever calls.
    #[serde(default)]
    pub to: Exclusion,
}

/// Destinations that are left alone. Names are looked up all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// Ranges of addresses.
    #[serde(default)]
    pub nets: BTreeSet<IpNet>,
    /// TCP ports, first and last.
    #[serde(default)]
    pub ports: BTreeSet<(u16, u16)>,
}

impl Exclusion {
    /// Ranges of a family, none within another.
    pub(super) fn nets_of(&self, v4: bool) -> BTreeSet<IpNet> {
        let family = self.nets.iter().map(IpNet::trunc).filter(|net| net.addr().is_ipv4() == v4);
        without_contained(family.collect())
    }

    /// Ports in order, none twice.
    pub(super) fn port_ranges(&self) -> Vec<(u16, u16)> {
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in &self.ports {
            match merged.last_mut() {
                Some(before) if u32::from(*first) <= u32::from(before.1) + 1 => before.1 = before.1.max(*last),
                _ => merged.push((*first, *last)),
            }
        }
        merged
    }
}

/// Some bits of a packet's mark; the others belong to somebody else and are neither read nor written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Within the mask.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

/// The mark that our own sockets carry where they can't be told by user: one bit that nobody known uses. It is only ever
/// matched: no rule of ours sets a mark, and none is needed, as only traffic for the host's own addresses is
/// proxied transparently.
pub const OWN_MARK: Mark = Mark { value: 0x0800_0000, mask: 0x0800_0000 };

/// Capture of name resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// The servers that the host is configured to ask.
    pub servers: BTreeSet<IpAddr>,
    /// Where the agent answers, on loopback, both families.
    pub port: u16,
    /// How long capture outlives the last [`renew_dns`](super::Redirection::renew_dns).
    pub timeout: Duration,
}

impl Dns {
    /// The agent's port and a life of five seconds.
    pub fn new(servers: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { servers: servers.into_iter().collect(), port: ports::DNS, timeout: Duration::from_secs(5) }
    }
}

/// What becomes of inbound connections while nobody listens at the inbound port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnProxyFailure {
    /// They are dropped: no policy is bypassed.
    #[default]
    Closed,
    /// They reach the application as they are.
    Open,
}

/// How inbound connections get to the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InboundMode {
    /// With their own destination port, to a transparent listener.
    #[default]
    Tproxy,
    /// With a rewritten one, for a proxy that can't be transparent. Always closed.
    Redirect,
}

/// The most ranges of addresses, and the most of ports, that can be left alone.
pub const MOST_EXCLUSIONS: usize = 1024;
/// The most targets of a host; more are refused.
pub const MOST_TARGETS: usize = 65_536;
/// The most ranges of a kind.
pub const MOST_RANGES: usize = 256;

impl Intent {
    /// What can't be honoured, with its cure; empty if all can.
    pub fn refusals(&self) -> Vec<String> {
        let mut refused = Vec::new();
        for inbound in &self.inbound {
            if is_protected(inbound.port) {
                refused.push(format!(
                    "port {} of workload {} can't be captured: {}; declare another port",
                    inbound.port,
                    inbound.workload,
                    if inbound.port == 22 { "SSH must stay reachable" } else { "the mesh itself uses it" }
                ));
            }
            if let Some(address) = inbound.address.filter(|a| a.is_loopback() || a.is_multicast() || a.is_unspecified())
            {
                refused.push(format!(
                    "address {address} of workload {} can't be captured: name an address that others reach, or none",
                    inbound.workload
                ));
            }
        }
        let outbound_ports = self.outbound.iter().map(|o| o.port).chain(self.capture_interfaces.values().copied());
        for port in outbound_ports.filter(|port| !is_outbound(*port)) {
            refused.push(format!("{port} is no outbound port: use 15001, or 15100 to 15163"));
        }
        let paths = self.outbound.iter().filter_map(|o| match &o.scope {
            Scope::Cgroup(path) => Some(path),
            _ => None,
        });
        for path in paths.chain(&self.exempt.cgroups).filter(|path| !is_cgroup_path(path)) {
            refused.push(format!("{path:?} is no path of a control group: write it like system.slice/nginx.service"));
        }
        for name in self.capture_interfaces.keys().filter(|name| !is_interface_name(name) || *name == "lo") {
            refused
                .push(format!("{name:?} is no interface to capture from: name one that containers or neighbours use"));
        }
        for name in self.exempt.interfaces.iter().filter(|name| !is_interface_name(name) || *name == "lo") {
            refused.push(format!("{name:?} is no interface to exempt: name one as `ip link` shows it, and not lo"));
        }
        for name in self.exempt.interfaces.iter().filter(|name| self.capture_interfaces.contains_key(*name)) {
            refused.push(format!("interface {name} is both captured and exempt: remove one of the two"));
        }
        for exclusion in self.exclusions.values().chain([&self.exempt.to]) {
            if exclusion.nets.len().max(exclusion.ports.len()) > MOST_EXCLUSIONS {
                refused.push(format!("more than {MOST_EXCLUSIONS} ranges or ports are exempt: name wider ranges"));
            }
            for (first, last) in exclusion.ports.iter().filter(|(first, last)| first > last || *first == 0) {
                refused.push(format!("{first}-{last} are no ports to exempt: write the lower one first, from 1"));
            }
        }
        for mark in self.exempt.marks.iter().filter(|m| m.mask == 0 || m.value & !m.mask != 0) {
            refused.push(format!(
                "mark {:#x}/{:#x} matches nothing or everything: correct its mask",
                mark.value, mark.mask
            ));
        }
        if let Some(dns) = self.dns.as_ref().filter(|dns| dns.timeout < Duration::from_secs(1)) {
            refused.push(format!("a life of {:?} is too short for name capture: use at least 1s", dns.timeout));
        }
        refused
    }

    /// What is left while capture ends: nothing new is taken, virtual addresses are refused at once.
    pub fn draining(&self) -> Self {
        let capture = Capture { virtual_ranges: self.capture.virtual_ranges.clone(), ..Capture::default() };
        Self { inbound: BTreeSet::new(), outbound: BTreeSet::new(), capture, dns: None, ..self.clone() }
    }
}

impl Capture {
    /// Whether it captures a TCP connection, if nothing exempts it.
    pub(super) fn takes(&self, (address, port): (IpAddr, u16)) -> bool {
        let ranges = self.virtual_ranges.iter().chain(&self.wide_ranges);
        let exactly = Target { net: address.into(), port };
        let nets = wider(&exactly.net).any(|net| self.targets.contains(&Target { net, port }));
        nets || self.targets.contains(&exactly) || ranges.into_iter().any(|range| range.contains(&address))
    }

    /// The part of it that may be captured, and a sentence for each thing that may not. `own` are the host's addresses.
    pub fn admissible(&self, own: &[IpAddr]) -> (Self, Vec<String>) {
        let mut refused = Vec::new();
        let mut keep = |what: &str, ranges: &BTreeSet<IpNet>, judge: &dyn Fn(&IpNet) -> Option<&'static str>| {
            let mut kept = BTreeSet::new();
            for range in ranges.iter().map(IpNet::trunc) {
                let reason = judge(&range).or((kept.len() >= MOST_RANGES).then_some("there are too many"));
                match reason {
                    None => _ = kept.insert(range),
                    Some(reason) => refused.push(format!("{what} range {range} is not captured: {reason}")),
                }
            }
            without_contained(kept)
        };
        let virtual_ranges = keep("virtual", &self.virtual_ranges, &|range| {
            if range.prefix_len() < if range.addr().is_ipv4() { 8 } else { 16 } {
                Some("it is too wide for virtual addresses")
            } else if special(range) {
                Some("it is loopback, link-local, multicast or unspecified")
            } else if own.iter().any(|address| range.contains(address)) {
                Some("it contains an address of this host")
            } else {
                None
            }
        });
        let wide_ranges = keep("outbound", &self.wide_ranges, &|range| {
            (range.prefix_len() > 0 && special(range)).then_some("it is loopback, link-local or multicast")
        });
        let mut targets = BTreeSet::new();
        for target in &self.targets {
            let target = Target { net: target.net.trunc(), port: target.port };
            let reason = if target.port == 0 || is_protected(target.port) {
                "its port is never captured"
            } else if within_special(&target.net) || target.net.prefix_len() == 0 {
                "it is loopback, link-local, multicast or unspecified"
            } else if targets.len() >= MOST_TARGETS {
                "there are too many"
            } else {
                targets.insert(target);
                continue;
            };
            if refused.len() < 100 {
                refused.push(format!("{} port {} is not captured: {reason}", target.net, target.port));
            }
        }
        let nets: BTreeSet<Target> = targets.iter().filter(|t| !is_single(&t.net)).copied().collect();
        targets.retain(|target| !wider(&target.net).any(|net| nets.contains(&Target { net, port: target.port })));
        (Self { virtual_ranges, wide_ranges, targets }, refused)
    }
}

/// Whether no capture may ever take this port: SSH, and what the mesh's own programs use.
pub fn is_protected(port: u16) -> bool {
    protected_ports().iter().any(|range| range.contains(&port))
}

/// The ports that are never captured.
pub fn protected_ports() -> Vec<std::ops::RangeInclusive<u16>> {
    let single = |port| port..=port;
    vec![
        single(22),
        ports::PROXY_ADMIN..=ports::OUTBOUND,
        single(ports::INBOUND),
        single(ports::HBONE),
        single(ports::DISCOVERY_PLAINTEXT),
        single(ports::DISCOVERY),
        single(ports::DISCOVERY_HTTP),
        ports::METRICS..=ports::READINESS,
        single(ports::DNS),
        ports::OUTBOUND_FIRST..=ports::OUTBOUND_LAST,
    ]
}

/// Whether the net is one address.
pub(super) fn is_single(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

fn is_outbound(port: u16) -> bool {
    port == ports::OUTBOUND || (ports::OUTBOUND_FIRST..=ports::OUTBOUND_LAST).contains(&port)
}

fn is_cgroup_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@\\/".contains(c);
    !path.is_empty()
        && path.len() < 512
        && path.chars().all(plain)
        && path.split('/').all(|p| !matches!(p, "" | "." | ".."))
}

fn is_interface_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    !name.is_empty() && name.len() < 16 && name.chars().all(plain)
}

const SPECIAL: [&str; 10] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

/// Whether a range has anything to do with addresses that lead nowhere else.
fn special(range: &IpNet) -> bool {
    specials().any(|s| s.contains(range) || range.contains(&s))
}

/// Whether there is nothing else in it. Of wider ones with a port, what is local is left alone by the rule itself.
fn within_special(range: &IpNet) -> bool {
    specials().any(|s| s.contains(range))
}

fn specials() -> impl Iterator<Item = IpNet> {
    SPECIAL.iter().filter_map(|s| s.parse().ok())
}

/// The nets that contain this one, widest last.
fn wider(net: &IpNet) -> impl Iterator<Item = IpNet> {
    std::iter::successors(net.supernet(), IpNet::supernet)
}

fn without_contained(ranges: BTreeSet<IpNet>) -> BTreeSet<IpNet> {
    ranges
        .iter()
        .filter(|range| !ranges.iter().any(|wider| wider != *range && wider.contains(*range)))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_and_the_meshs_own_ports_are_refused() {
        let mut intent = Intent::default();
        for port in [22, 15006, 15012, 15100, 9080] {
            intent.inbound.insert(Inbound { address: None, port, workload: "w".into() });
        }
        assert_eq!(intent.refusals().len(), 4);
    }

    #[test]
    fn discovery_can_not_take_what_is_not_the_meshs() {
        let net = |s: &str| s.parse::<IpNet>().unwrap();
        let capture = Capture {
            virtual_ranges: ["240.240.0.0/16", "240.240.9.0/24", "0.0.0.0/0", "10.1.0.0/16", "127.0.0.0/8"]
                .map(net)
                .into(),
            wide_ranges: ["0.0.0.0/0", "fe80::/64"].map(net).into(),
            targets: [
                ("10.2.0.1/32", 22),
                ("10.2.0.1/32", 80),
                ("10.2.0.0/16", 80),
                ("127.0.0.1/32", 80),
                ("10.2.0.1/32", 81),
                ("0.0.0.0/1", 443),
                ("0.0.0.0/0", 443),
            ]
            .map(|(n, port)| Target { net: net(n), port })
            .into(),
        };
        let (kept, refused) = capture.admissible(&["10.1.2.3".parse().unwrap()]);
        assert_eq!(kept.virtual_ranges, [net("240.240.0.0/16")].into());
        assert_eq!(kept.wide_ranges, [net("0.0.0.0/0")].into());
        assert_eq!(
            kept.targets,
            [("10.2.0.0/16", 80), ("10.2.0.1/32", 81), ("0.0.0.0/1", 443)]
                .map(|(n, port)| Target { net: net(n), port })
                .into()
        );
        assert_eq!(refused.len(), 7, "{refused:?}");
        let takes = |address: &str, port| capture.takes((address.parse().unwrap(), port));
        assert!(takes("240.240.1.1", 1) && takes("10.2.3.4", 80) && takes("10.2.0.1", 81));
        let kept = |address: &str, port| {
            Capture { wide_ranges: BTreeSet::new(), ..kept.clone() }.takes((address.parse().unwrap(), port))
        };
        assert!(!kept("10.2.3.4", 81) && !kept("198.51.100.1", 443) && kept("98.51.100.1", 443));
    }

    #[test]
    fn what_is_left_alone_may_overlap_but_not_contradict() {
        let to = Exclusion {
            nets: ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"].map(|n| n.parse().unwrap()).into(),
            ports: [(80, 90), (85, 95), (96, 96), (443, 443)].into(),
        };
        assert_eq!(to.port_ranges(), [(80, 96), (443, 443)]);
        assert_eq!((to.nets_of(true).len(), to.nets_of(false).len()), (1, 1));
        let exempt = Exempt { interfaces: ["eth1".to_owned()].into(), to, ..Exempt::default() };
        let mut intent = Intent { exempt, ..Intent::default() };
        assert_eq!(intent.refusals(), Vec::<String>::new());
        intent.capture_interfaces.insert("eth1".into(), 15001);
        intent.exempt.interfaces.insert("lo".into());
        intent.exclusions.insert("w".into(), Exclusion { ports: [(9, 1)].into(), ..Exclusion::default() });
        assert_eq!(intent.refusals().len(), 3, "{:?}", intent.refusals());
    }

    #[test]
    fn an_intent_reads_back_from_its_file() {
        let intent = Intent {
            outbound: [Outbound {
                scope: Scope::Cgroup("system.slice/a.service".into()),
                port: 15100,
                workload: "a".into(),
            }]
            .into(),
            dns: Some(Dns::new(["10.0.0.2".parse().unwrap()])),
            exempt: Exempt { marks: [OWN_MARK].into(), ..Exempt::default() },
            ..Intent::default()
        };
        let text = serde_json::to_string(&intent).unwrap();
        assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), intent);
    }
}
