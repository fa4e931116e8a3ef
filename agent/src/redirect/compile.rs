//! Intent to ruleset, without I/O.
//!
//! Read from the top: each chain is a function named after what it does, and each rule after what it says. What the host
//! sends is decided in `output`; what arrives in `inbound` (who gets it) and `destination` (nobody rewrites it
//! later); `input` and `refuse` close what must not be open. No rule touches forwarded traffic that is not for a
//! virtual address, and none sets a mark.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hawser_api::names::ports;
use ipnet::IpNet;

use super::intent::{self, Exclusion, InboundMode, Intent, OnProxyFailure, Scope};
use super::ruleset::{Action, Chain, Element, Equality, Family, Hook, Match, Point, Rule, Ruleset, Set, SetKind};

/// Connections captured on their way out.
pub(super) const COUNTER_OUTBOUND: &str = "outbound";
/// Connections captured on their way in.
pub(super) const COUNTER_INBOUND: &str = "inbound";
/// Connections of other hosts or containers captured.
pub(super) const COUNTER_FORWARDED: &str = "forwarded";
/// Questions for names captured.
pub(super) const COUNTER_DNS: &str = "names";
/// Inbound connection attempts dropped because nobody took them.
pub(super) const COUNTER_CLOSED: &str = "closed";
/// Packets from outside to our own listeners, or to virtual addresses, dropped.
pub(super) const COUNTER_DROPPED: &str = "dropped";
/// Packets of the host to virtual addresses that nothing captured, refused.
pub(super) const COUNTER_REFUSED: &str = "refused";

/// The table that an intent asks for.
pub(super) fn ruleset(intent: &Intent) -> Ruleset {
    let mut chains = vec![take(intent)];
    if intent.inbound_mode == InboundMode::Tproxy {
        chains.extend(Family::BOTH.map(|family| to_listener(family, intent.on_proxy_failure)));
    }
    chains.extend([inbound(intent), destination(intent), output(intent), input(intent), refuse()]);
    Ruleset {
        counters: vec![
            COUNTER_CLOSED,
            COUNTER_DROPPED,
            COUNTER_FORWARDED,
            COUNTER_INBOUND,
            COUNTER_DNS,
            COUNTER_OUTBOUND,
            COUNTER_REFUSED,
        ],
        sets: sets(intent),
        chains,
    }
}

/// Names of a set of either family.
struct Pair(&'static str, &'static str);

impl Pair {
    fn of(&self, family: Family) -> &'static str {
        match family {
            Family::V4 => self.0,
            Family::V6 => self.1,
        }
    }
}

const VIRTUAL: Pair = Pair("virtual4", "virtual6");
const RANGES: Pair = Pair("ranges4", "ranges6");
const WIDE: Pair = Pair("wide4", "wide6");
const TARGETS: Pair = Pair("targets4", "targets6");
const TARGET_NETS: Pair = Pair("target_nets4", "target_nets6");
const INBOUND: Pair = Pair("inbound4", "inbound6");
const INBOUND_PORTS: &str = "inbound_ports";
const SERVERS: Pair = Pair("servers4", "servers6");

/// The sets that lead into capture: emptied, nothing new is taken.
pub(super) fn capturing_sets() -> Vec<&'static str> {
    let pairs = [RANGES, WIDE, TARGETS, TARGET_NETS, INBOUND, SERVERS];
    pairs.iter().flat_map(|p| [p.0, p.1]).chain([INBOUND_PORTS]).collect()
}

/// The sets whose elements expire unless renewed.
pub(super) fn expiring_sets() -> [&'static str; 2] {
    [SERVERS.0, SERVERS.1]
}

/// The sets of declared ports.
pub(super) fn inbound_sets() -> [&'static str; 3] {
    [INBOUND.0, INBOUND.1, INBOUND_PORTS]
}

/// All sets with their elements.
pub(super) fn sets(intent: &Intent) -> BTreeMap<&'static str, Set> {
    let mut sets = expiring(intent);
    for family in Family::BOTH {
        let mut add = |pair: &Pair, kind: SetKind, elements: BTreeSet<Element>| {
            sets.insert(pair.of(family), Set { kind, timeout: None, elements });
        };
        let capture = &intent.capture;
        let nets = |nets: &BTreeSet<IpNet>| -> BTreeSet<Element> {
            nets.iter().filter(|n| Family::of(n) == family).map(|n| Element::Net(*n)).collect()
        };
        let targets = |single: bool| -> BTreeSet<Element> {
            let of_kind = capture.targets.iter().filter(|t| intent::is_single(&t.net) == single);
            of_kind.filter(|t| Family::of(&t.net) == family).map(|t| Element::NetPort(t.net, t.port)).collect()
        };
        // While capture ends there is no outbound port left, and virtual addresses are only refused.
        let ranges = if intent.outbound.is_empty() { BTreeSet::new() } else { nets(&capture.virtual_ranges) };
        add(&VIRTUAL, SetKind::Net(family), nets(&capture.virtual_ranges));
        add(&RANGES, SetKind::Net(family), ranges);
        add(&WIDE, SetKind::Net(family), nets(&capture.wide_ranges));
        add(&TARGETS, SetKind::Socket(family), targets(true));
        add(&TARGET_NETS, SetKind::NetPort(family), targets(false));
        let declared = intent.inbound.iter().filter_map(|i| Some((IpNet::from(i.address?), i.port)));
        let declared =
            declared.filter(|(net, _)| Family::of(net) == family).map(|(net, port)| Element::NetPort(net, port));
        add(&INBOUND, SetKind::Socket(family), declared.collect());
    }
    let any = intent.inbound.iter().filter(|i| i.address.is_none()).map(|i| Element::Port(i.port)).collect();
    sets.insert(INBOUND_PORTS, Set { kind: SetKind::Port, timeout: None, elements: any });
    sets
}

/// The sets whose elements expire: the servers that names are asked of.
pub(super) fn expiring(intent: &Intent) -> BTreeMap<&'static str, Set> {
    let life = intent.dns.as_ref().map_or(5, |dns| u32::try_from(dns.timeout.as_secs()).unwrap_or(u32::MAX));
    let servers = |family| {
        let all = intent.dns.iter().flat_map(|dns| &dns.servers).map(|server| IpNet::from(*server));
        all.filter(move |net| Family::of(net) == family).map(Element::Net).collect()
    };
    let set = |family| Set { kind: SetKind::Address(family), timeout: Some(life.max(1)), elements: servers(family) };
    Family::BOTH.map(|family| (SERVERS.of(family), set(family))).into()
}

/// Who gets what arrives for the host. Before routing and before anybody's address translation.
fn inbound(intent: &Intent) -> Chain {
    let mut rules = vec![Rule::new("the host's own", vec![from_loopback()], vec![Action::Return])];
    let interfaces: BTreeSet<String> = intent.capture_interfaces.keys().cloned().collect();
    for family in Family::BOTH {
        if !interfaces.is_empty() {
            rules.push(Rule::new(
                "captured interfaces may",
                vec![Match::From(Equality::Is, interfaces.clone()), Match::To(family, VIRTUAL.of(family))],
                vec![Action::Return],
            ));
        }
        rules.push(Rule::new(
            "nobody routes through us to a virtual address",
            vec![Match::To(family, VIRTUAL.of(family))],
            vec![Action::Count(COUNTER_DROPPED), Action::Drop],
        ));
    }
    rules.extend(exempt_interfaces(intent));
    if intent.inbound_mode == InboundMode::Tproxy {
        let lead = |(family, matches)| Rule::new("declared", matches, vec![Action::Goto(LISTENER.of(family).into())]);
        rules.extend(declared().into_iter().map(lead));
    }
    Chain { name: "inbound".into(), hook: hook(false, Point::Prerouting, -150), rules }
}

const LISTENER: Pair = Pair("to_listener4", "to_listener6");

/// To the transparent listener; where there is none, nowhere or to the application.
fn to_listener(family: Family, on_failure: OnProxyFailure) -> Chain {
    let elsewhere = vec![Match::LocalDestination(Equality::IsNot)];
    let mut rules = vec![
        Rule::new("for another host", elsewhere, vec![Action::Return]),
        Rule::new("on its way into a container since before us", vec![Match::Translated], vec![Action::Return]),
    ];
    let tcp = vec![Match::Family(family), Match::Tcp(Equality::Is)];
    let to_proxy = Action::Tproxy(family, ports::INBOUND);
    if on_failure == OnProxyFailure::Open {
        rules.push(Rule::new("to the proxy", tcp, vec![to_proxy, Action::Accept]));
    } else {
        let goes_on = [&tcp[..], &[Match::Syn(Equality::IsNot)]].concat();
        rules.push(Rule::new("to the proxy", goes_on, vec![to_proxy.clone(), Action::Accept]));
        // From a port that was used a moment ago, the kernel leads it to the connection that it remembers (TIME-WAIT)
        // where nobody listens any more, and from there to whoever listens on the port: the application. (A SYN that is
        // said again before the handshake is over is lost here too: its answer is said again without it.)
        rules.push(Rule::new("to the proxy, if it is there", tcp, vec![to_proxy]));
        let there = vec![Match::Syn(Equality::Is), Match::Transparent, Match::WholeSocket];
        rules.push(Rule::new("it is", there, vec![Action::Accept]));
        rules.push(Rule::new(
            "nobody there to take it: closed",
            vec![Match::Syn(Equality::Is)],
            vec![Action::Count(COUNTER_CLOSED), Action::Drop],
        ));
    }
    Chain { name: LISTENER.of(family).into(), hook: None, rules }
}

/// What the destination becomes: for declared ports what it is, before somebody else's translation.
fn destination(intent: &Intent) -> Chain {
    let mut rules = vec![Rule::new("the host's own", vec![from_loopback()], vec![Action::Return])];
    rules.extend(exempt_interfaces(intent));
    for (family, declared) in declared() {
        let (comment, action) = match intent.inbound_mode {
            InboundMode::Tproxy => ("nobody translates it later", Action::KeepDestination(family)),
            InboundMode::Redirect => ("declared ports to the proxy", Action::Redirect(ports::INBOUND)),
        };
        let matches = [&declared[..], &[LOCAL]].concat();
        rules.push(Rule::new(comment, matches, vec![Action::Count(COUNTER_INBOUND), action]));
    }
    if !intent.capture_interfaces.is_empty() {
        rules.extend(excluded(&intent.exempt.to, &[]));
    }
    for (interface, port) in &intent.capture_interfaces {
        let from = Match::From(Equality::Is, [interface.clone()].into());
        for wanted in wanted() {
            let matches = [&[from.clone(), Match::Tcp(Equality::Is), protected(Equality::IsNot)], &wanted[..]].concat();
            let actions = vec![Action::Count(COUNTER_FORWARDED), Action::Redirect(*port)];
            rules.push(Rule::new("of a captured interface", matches, actions));
        }
    }
    Chain { name: "destination".into(), hook: hook(true, Point::Prerouting, -110), rules }
}

/// What the host sends.
fn output(intent: &Intent) -> Chain {
    let mut rules = Vec::new();
    if let (InboundMode::Redirect, Some(uid)) = (intent.inbound_mode, intent.envoy_uid) {
        rules.extend(calls_to_own_host(uid));
    }
    rules.extend(exemptions(intent));
    if let Some(dns) = &intent.dns {
        for family in Family::BOTH {
            for protocol in [Match::UdpPort(53), Match::TcpPorts(Equality::Is, vec![(53, 53)])] {
                rules.push(Rule::new(
                    "names",
                    vec![Match::To(family, SERVERS.of(family)), protocol],
                    vec![Action::Count(COUNTER_DNS), Action::Redirect(dns.port)],
                ));
            }
        }
    }
    if !intent.outbound.is_empty() {
        rules.push(Rule::new("only TCP", vec![Match::Tcp(Equality::IsNot)], vec![Action::Return]));
        rules.push(Rule::new("never SSH, never our own", vec![protected(Equality::Is)], vec![Action::Return]));
        let over = intent.exempt.interfaces.clone();
        if !over.is_empty() {
            rules.push(Rule::new("exempt", vec![Match::Over(over)], vec![Action::Return]));
        }
        rules.extend(excluded(&intent.exempt.to, &[]));
        rules.extend(
            wanted().into_iter().map(|matches| Rule::new("of the mesh", matches, vec![Action::Goto(TAKE.into())])),
        );
    }
    Chain { name: "output".into(), hook: hook(true, Point::Output, -110), rules }
}

const TAKE: &str = "take";

/// To which outbound port: the narrowest scope wins.
fn take(intent: &Intent) -> Chain {
    let nothing = Exclusion::default();
    let rules = |outbound: &intent::Outbound| {
        let scope = match &outbound.scope {
            Scope::Cgroup(path) => vec![Match::Cgroup(path.clone())],
            Scope::User(uid) => vec![Match::Uids([*uid].into())],
            Scope::Host => Vec::new(),
        };
        let mut rules = excluded(intent.exclusions.get(&outbound.workload).unwrap_or(&nothing), &scope);
        let matches = [&[Match::Tcp(Equality::Is)], &scope[..]].concat();
        let take = vec![Action::Count(COUNTER_OUTBOUND), Action::Redirect(outbound.port)];
        rules.push(Rule::new("a workload's", matches, take));
        rules
    };
    // In the order of scopes: groups, users, the host.
    Chain { name: TAKE.into(), hook: None, rules: intent.outbound.iter().flat_map(rules).collect() }
}

/// Destinations that are left alone, of those that `who` says.
fn excluded(what: &Exclusion, who: &[Match]) -> Vec<Rule> {
    let leave = |to: Match| Rule::new("left alone", [who, &[to]].concat(), vec![Action::Return]);
    let ports = what.port_ranges();
    let ports = (!ports.is_empty()).then(|| leave(Match::TcpPorts(Equality::Is, ports)));
    let nets = Family::BOTH.map(|family| (family, what.nets_of(family == Family::V4)));
    let nets = nets.into_iter().filter(|(_, nets)| !nets.is_empty()).map(|(f, nets)| leave(Match::ToNets(f, nets)));
    ports.into_iter().chain(nets).collect()
}

/// What comes in over an interface that is left alone.
fn exempt_interfaces(intent: &Intent) -> Option<Rule> {
    let names = intent.exempt.interfaces.clone();
    (!names.is_empty()).then(|| Rule::new("exempt", vec![Match::From(Equality::Is, names)], vec![Action::Return]))
}

/// An Envoy that calls an endpoint of its own host reaches its own inbound side.
fn calls_to_own_host(uid: u32) -> Vec<Rule> {
    let inbound_source = [IpAddr::from([127, 0, 0, 6]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 6])];
    let rule = |(family, declared): (Family, Vec<Match>)| {
        let who = [Match::Uids([uid].into()), Match::OutLoopback];
        let not_inbound = Match::SourceIsNot(inbound_source[usize::from(family == Family::V6)]);
        let matches = [&who[..], &declared[..], &[not_inbound]].concat();
        Rule::new("the proxy calls its own host", matches, vec![Action::Redirect(ports::INBOUND)])
    };
    declared().into_iter().map(rule).collect()
}

fn exemptions(intent: &Intent) -> Vec<Rule> {
    let exempt = &intent.exempt;
    let leave = |what: Match| Rule::new("exempt", vec![what], vec![Action::Return]);
    let uids = (!exempt.uids.is_empty()).then(|| leave(Match::Uids(exempt.uids.clone())));
    let gids = (!exempt.gids.is_empty()).then(|| leave(Match::Gids(exempt.gids.clone())));
    let marks = exempt.marks.iter().map(|mark| leave(Match::Mark(*mark)));
    let cgroups = exempt.cgroups.iter().map(|path| leave(Match::Cgroup(path.clone())));
    uids.into_iter().chain(gids).chain(marks).chain(cgroups).collect()
}

/// What is captured on its way out, cheapest and likeliest first.
fn wanted() -> Vec<Vec<Match>> {
    let each = |matches: fn(Family) -> Vec<Match>| Family::BOTH.map(matches);
    [
        each(|f| vec![Match::To(f, RANGES.of(f))]),
        each(|f| vec![Match::ToSocket(f, TARGETS.of(f))]),
        each(|f| vec![Match::ToSocket(f, TARGET_NETS.of(f)), Match::LocalDestination(Equality::IsNot)]),
        each(|f| vec![Match::To(f, WIDE.of(f)), Match::LocalDestination(Equality::IsNot)]),
    ]
    .concat()
}

/// Connections from outside to our own listeners.
fn input(intent: &Intent) -> Chain {
    let mut rules = vec![Rule::new("the host's own", vec![from_loopback()], vec![Action::Return])];
    let translated = |port: u16, from: Option<&String>| {
        let from = from.map(|name| Match::From(Equality::Is, [name.clone()].into()));
        let matches = from.into_iter().chain([Match::TcpPorts(Equality::Is, vec![(port, port)]), Match::Translated]);
        Rule::new("we led it here", matches.collect(), vec![Action::Return])
    };
    if intent.inbound_mode == InboundMode::Redirect {
        rules.push(translated(ports::INBOUND, None));
    }
    rules.extend(intent.capture_interfaces.iter().map(|(name, port)| translated(*port, Some(name))));
    let own = [ports::OUTBOUND, ports::INBOUND, ports::DNS].map(|p| (p, p));
    let own = own.into_iter().chain([(ports::OUTBOUND_FIRST, ports::OUTBOUND_LAST)]).collect();
    let lost = || vec![Action::Count(COUNTER_DROPPED), Action::Drop];
    // What answers a call of the host's own from such a port comes in too: only who begins is turned away.
    let begins = vec![Match::TcpPorts(Equality::Is, own), Match::Syn(Equality::Is)];
    rules.push(Rule::new("nobody connects to capture directly", begins, lost()));
    // Of UDP the host's own questions are told by who spoke first.
    rules.push(Rule::new("nor asks us for names", vec![Match::UdpPort(ports::DNS), Match::Begun], lost()));
    Chain { name: "input".into(), hook: hook(false, Point::Input, -10), rules }
}

/// What the host sends to a virtual address and nothing took: it fails at once instead of hanging.
fn refuse() -> Chain {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let to = || Match::To(family, VIRTUAL.of(family));
        let count = Action::Count(COUNTER_REFUSED);
        rules.push(Rule::new("not captured", vec![to(), Match::Tcp(Equality::Is)], vec![count.clone(), Action::Reset]));
        rules.push(Rule::new("not captured", vec![to()], vec![count, Action::Prohibit]));
    }
    Chain { name: "refuse".into(), hook: hook(false, Point::Output, 0), rules }
}

/// The declared (address, port) of workloads, for each family: by address, and of any address.
fn declared() -> Vec<(Family, Vec<Match>)> {
    let by_address = Family::BOTH.map(|f| (f, vec![Match::ToSocket(f, INBOUND.of(f))]));
    let by_port = Family::BOTH.map(|f| (f, vec![Match::Family(f), Match::ToPortSet(INBOUND_PORTS)]));
    [by_address, by_port].concat()
}

fn hook(nat: bool, point: Point, priority: i32) -> Option<Hook> {
    Some(Hook { nat, point, priority })
}

fn from_loopback() -> Match {
    Match::From(Equality::Is, ["lo".to_owned()].into())
}

fn protected(equality: Equality) -> Match {
    Match::TcpPorts(equality, intent::protected_ports().iter().map(|r| (*r.start(), *r.end())).collect())
}

const LOCAL: Match = Match::LocalDestination(Equality::Is);
