//! A ruleset in nft's own language: what `hawser redirect plan` shows, and what is loaded where JSON lacks a word.

use std::fmt::Write;

use super::intent::Mark;
use super::ruleset::{
    Action, Chain, Element, Equality, Family, Hook, Match, Point, Rule, Ruleset, Set, SetKind, TABLE,
};

/// The table as nft writes it, and reads it.
pub(super) fn render(ruleset: &Ruleset) -> String {
    let mut out = format!("table inet {TABLE} {{\n");
    for counter in &ruleset.counters {
        _ = writeln!(out, "\tcounter {counter} {{ }}");
    }
    for (name, set) in &ruleset.sets {
        out.push('\n');
        render_set(&mut out, name, set);
    }
    for chain in &ruleset.chains {
        out.push('\n');
        render_chain(&mut out, chain);
    }
    out.push_str("}\n");
    out
}

/// The same as one transaction that replaces whatever the table was.
pub(super) fn replace(ruleset: &Ruleset) -> String {
    format!("table inet {TABLE} {{ }}\ndelete table inet {TABLE}\n{}", render(ruleset))
}

fn render_set(out: &mut String, name: &str, set: &Set) {
    let (kind, interval) = match set.kind {
        SetKind::Address(family) => (address_type(family).to_owned(), false),
        SetKind::Net(family) => (address_type(family).to_owned(), true),
        SetKind::Socket(family) => (format!("{} . inet_service", address_type(family)), false),
        SetKind::NetPort(family) => (format!("{} . inet_service", address_type(family)), true),
        SetKind::Port => ("inet_service".to_owned(), false),
    };
    _ = writeln!(out, "\tset {name} {{\n\t\ttype {kind}");
    if interval {
        out.push_str("\t\tflags interval\n");
    }
    if let Some(seconds) = set.timeout {
        _ = writeln!(out, "\t\ttimeout {seconds}s");
    }
    if !set.elements.is_empty() {
        let elements: Vec<String> = set.elements.iter().map(element).collect();
        _ = writeln!(out, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t     "));
    }
    out.push_str("\t}\n");
}

/// An element as nft writes it.
pub(super) fn element(element: &Element) -> String {
    match element {
        Element::Net(n) => net(n),
        Element::NetPort(n, port) => format!("{} . {port}", net(n)),
        Element::Port(port) => port.to_string(),
    }
}

fn net(net: &ipnet::IpNet) -> String {
    if super::intent::is_single(net) { net.addr().to_string() } else { net.to_string() }
}

fn render_chain(out: &mut String, chain: &Chain) {
    _ = writeln!(out, "\tchain {} {{", chain.name);
    if let Some(Hook { nat, point, priority }) = chain.hook {
        let kind = if nat { "nat" } else { "filter" };
        let point = match point {
            Point::Prerouting => "prerouting",
            Point::Input => "input",
            Point::Output => "output",
        };
        _ = writeln!(out, "\t\ttype {kind} hook {point} priority {priority}; policy accept;");
    }
    for rule in &chain.rules {
        _ = writeln!(out, "\t\t{}", render_rule(rule));
    }
    out.push_str("\t}\n");
}

fn render_rule(rule: &Rule) -> String {
    let words: Vec<String> = rule.matches.iter().map(condition).chain(rule.actions.iter().map(action)).collect();
    format!("{} comment \"{}\"", words.join(" "), rule.comment)
}

fn condition(m: &Match) -> String {
    let not = |equality: &Equality| if *equality == Equality::IsNot { "!= " } else { "" };
    match m {
        Match::From(equality, names) => {
            format!("iifname {}{}", not(equality), some(names.iter().map(|n| format!("{n:?}"))))
        }
        Match::OutLoopback => "oifname \"lo\"".into(),
        Match::Over(names) => format!("oifname {}", some(names.iter().map(|n| format!("{n:?}")))),
        Match::Tcp(equality) => format!("meta l4proto {}tcp", not(equality)),
        Match::Family(Family::V4) => "meta nfproto ipv4".into(),
        Match::Family(Family::V6) => "meta nfproto ipv6".into(),
        Match::LocalDestination(equality) => format!("fib daddr type {}local", not(equality)),
        Match::To(family, set) => format!("{} daddr @{set}", family.keyword()),
        Match::ToNets(family, nets) => format!("{} daddr {}", family.keyword(), some(nets.iter().map(net))),
        Match::ToSocket(family, set) => format!("{} daddr . tcp dport @{set}", family.keyword()),
        Match::ToPortSet(set) => format!("tcp dport @{set}"),
        Match::TcpPorts(equality, ports) => {
            format!("tcp dport {}{}", not(equality), some(ports.iter().map(port_range)))
        }
        Match::UdpPort(port) => format!("udp dport {port}"),
        Match::Syn(Equality::Is) => "tcp flags & (fin | syn | rst | ack) == syn".into(),
        Match::Syn(Equality::IsNot) => "tcp flags & (fin | syn | rst | ack) != syn".into(),
        Match::Transparent => "socket transparent 1".into(),
        // Any mark, where there can be one.
        Match::WholeSocket => "socket mark >= 0".into(),
        Match::Begun => "ct direction original".into(),
        Match::Translated => "ct status dnat".into(),
        Match::SourceIsNot(address) => {
            let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            format!("{} saddr != {address}", family.keyword())
        }
        Match::Uids(uids) => format!("meta skuid {}", some(uids.iter().map(u32::to_string))),
        Match::Gids(gids) => format!("meta skgid {}", some(gids.iter().map(u32::to_string))),
        Match::Mark(Mark { value, mask }) => format!("meta mark & {mask:#010x} == {value:#010x}"),
        Match::Cgroup(path) => format!("socket cgroupv2 level {} \"{path}\"", path.split('/').count()),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Count(counter) => format!("counter name \"{counter}\""),
        Action::Return => "return".into(),
        Action::Accept => "accept".into(),
        Action::Drop => "drop".into(),
        Action::Reset => "reject with tcp reset".into(),
        Action::Prohibit => "reject with icmpx admin-prohibited".into(),
        Action::Redirect(port) => format!("redirect to :{port}"),
        Action::Tproxy(Family::V4, port) => format!("tproxy ip to 127.0.0.1:{port}"),
        Action::Tproxy(Family::V6, port) => format!("tproxy ip6 to [::1]:{port}"),
        Action::KeepDestination(family) => format!("dnat {0} to {0} daddr", family.keyword()),
        Action::Goto(chain) => format!("goto {chain}"),
    }
}

fn port_range((first, last): &(u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// One as it is, several as an anonymous set.
fn some(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match &items[..] {
        [one] => one.clone(),
        _ => format!("{{ {} }}", items.join(", ")),
    }
}

fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}
