//! A ruleset, and changes of its sets, as the JSON that `nft -j -f -` loads.
//!
//! Every batch is one transaction of the kernel: all of it or nothing.

use std::collections::{BTreeSet, HashSet};

use nftables::batch::Batch;
use nftables::expr::{self, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, SetItem};
use nftables::schema::{self, FlushObject, NfCmd, NfListObject, Nftables, SetFlag, SetType, SetTypeValue, Table};
use nftables::stmt::{self, JumpTarget, NAT, NATFamily, Operator, Statement, TProxy};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};

use super::ruleset::{Action, Chain, Element, Equality, Family, Match, Point, Rule, Ruleset, Set, SetKind, TABLE};

/// Replaces whatever the table was.
pub(super) fn replace(ruleset: &Ruleset) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(table()));
    batch.delete(NfListObject::Table(table()));
    batch.add(NfListObject::Table(table()));
    for counter in &ruleset.counters {
        batch.add(NfListObject::Counter(counter_object(counter)));
    }
    for (name, set) in &ruleset.sets {
        batch.add(NfListObject::Set(Box::new(set_object(name, set))));
    }
    for chain in &ruleset.chains {
        batch.add(NfListObject::Chain(chain_object(chain)));
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            batch.add(NfListObject::Rule(rule_object(&chain.name, rule)));
        }
    }
    batch.to_nftables()
}

/// Deletes the table, whether it is there or not.
pub(super) fn delete() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(table()));
    batch.delete(NfListObject::Table(table()));
    batch.to_nftables()
}

/// A change of what sets hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SetChange {
    /// Which set.
    pub(super) set: &'static str,
    /// Whether it is emptied first.
    pub(super) flush: bool,
    /// What goes.
    pub(super) remove: BTreeSet<Element>,
    /// What comes.
    pub(super) add: BTreeSet<Element>,
}

impl SetChange {
    /// Empties a set.
    pub(super) fn empty(set: &'static str) -> Self {
        Self { set, flush: true, ..Self::default() }
    }
}

/// Changes of sets, in one transaction.
pub(super) fn change_sets(changes: &[SetChange]) -> Nftables<'static> {
    let mut batch = Batch::new();
    for change in changes {
        if change.flush {
            // Only name and table count for a flush; the type is a formality of the schema.
            let set = schema::Set {
                family: NfFamily::INet,
                table: TABLE.into(),
                name: change.set.into(),
                ..Default::default()
            };
            batch.add_cmd(NfCmd::Flush(FlushObject::Set(Box::new(set))));
        }
        if !change.remove.is_empty() {
            batch.delete(NfListObject::Element(elements(change.set, &change.remove)));
        }
        if !change.add.is_empty() {
            batch.add(NfListObject::Element(elements(change.set, &change.add)));
        }
    }
    batch.to_nftables()
}

fn table() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn counter_object(name: &'static str) -> schema::Counter<'static> {
    schema::Counter {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        packets: Some(0),
        bytes: Some(0),
        handle: None,
    }
}

fn set_object(name: &'static str, set: &Set) -> schema::Set<'static> {
    let address = |family| match family {
        Family::V4 => SetType::Ipv4Addr,
        Family::V6 => SetType::Ipv6Addr,
    };
    let with_port = |family| SetTypeValue::Concatenated(vec![address(family), SetType::InetService].into());
    let (set_type, interval) = match set.kind {
        SetKind::Address(family) => (SetTypeValue::Single(address(family)), false),
        SetKind::Net(family) => (SetTypeValue::Single(address(family)), true),
        SetKind::Socket(family) => (with_port(family), false),
        SetKind::NetPort(family) => (with_port(family), true),
        SetKind::Port => (SetTypeValue::Single(SetType::InetService), false),
    };
    schema::Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type,
        flags: interval.then(|| HashSet::from([SetFlag::Interval])),
        timeout: set.timeout,
        elem: (!set.elements.is_empty()).then(|| set.elements.iter().map(element).collect::<Vec<_>>().into()),
        ..Default::default()
    }
}

fn elements(set: &'static str, of: &BTreeSet<Element>) -> schema::Element<'static> {
    let elem: Vec<Expression<'static>> = of.iter().map(element).collect();
    schema::Element { family: NfFamily::INet, table: TABLE.into(), name: set.into(), elem: elem.into() }
}

fn element(element: &Element) -> Expression<'static> {
    match element {
        Element::Net(n) => net(n),
        Element::NetPort(n, port) => {
            Expression::Named(NamedExpression::Concat(vec![net(n), Expression::Number((*port).into())]))
        }
        Element::Port(port) => Expression::Number((*port).into()),
    }
}

fn net(net: &ipnet::IpNet) -> Expression<'static> {
    let address = string(net.addr());
    if super::intent::is_single(net) {
        return address;
    }
    let prefix = expr::Prefix { addr: Box::new(address), len: net.prefix_len().into() };
    Expression::Named(NamedExpression::Prefix(prefix))
}

fn chain_object(chain: &Chain) -> schema::Chain<'static> {
    schema::Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: chain.name.clone().into(),
        _type: chain.hook.map(|h| if h.nat { NfChainType::NAT } else { NfChainType::Filter }),
        hook: chain.hook.map(|h| match h.point {
            Point::Prerouting => NfHook::Prerouting,
            Point::Input => NfHook::Input,
            Point::Output => NfHook::Output,
        }),
        prio: chain.hook.map(|h| h.priority),
        policy: chain.hook.map(|_| NfChainPolicy::Accept),
        ..Default::default()
    }
}

fn rule_object(chain: &str, rule: &Rule) -> schema::Rule<'static> {
    let statements: Vec<Statement<'static>> =
        rule.matches.iter().map(condition).chain(rule.actions.iter().map(action)).collect();
    schema::Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.to_owned().into(),
        expr: statements.into(),
        comment: Some(rule.comment.into()),
        ..Default::default()
    }
}

fn condition(m: &Match) -> Statement<'static> {
    let with = |left, op, right| Statement::Match(stmt::Match { left, op, right });
    let op = |equality: &Equality| if *equality == Equality::Is { Operator::EQ } else { Operator::NEQ };
    match m {
        Match::From(equality, names) => {
            with(meta(MetaKey::Iifname), op(equality), some(names.iter().map(string).collect()))
        }
        Match::OutLoopback => with(meta(MetaKey::Oifname), Operator::EQ, string("lo")),
        Match::Over(names) => with(meta(MetaKey::Oifname), Operator::EQ, some(names.iter().map(string).collect())),
        Match::Tcp(equality) => with(meta(MetaKey::L4proto), op(equality), string("tcp")),
        Match::Family(Family::V4) => with(meta(MetaKey::Nfproto), Operator::EQ, string("ipv4")),
        Match::Family(Family::V6) => with(meta(MetaKey::Nfproto), Operator::EQ, string("ipv6")),
        Match::LocalDestination(equality) => {
            let fib = Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) };
            with(Expression::Named(NamedExpression::Fib(fib)), op(equality), string("local"))
        }
        Match::To(family, set) => with(payload(family.keyword(), "daddr"), Operator::EQ, set_ref(set)),
        Match::ToNets(family, nets) => {
            with(payload(family.keyword(), "daddr"), Operator::EQ, some(nets.iter().map(net).collect()))
        }
        Match::ToSocket(family, set) => {
            let both = vec![payload(family.keyword(), "daddr"), payload("tcp", "dport")];
            with(Expression::Named(NamedExpression::Concat(both)), Operator::EQ, set_ref(set))
        }
        Match::ToPortSet(set) => with(payload("tcp", "dport"), Operator::EQ, set_ref(set)),
        Match::TcpPorts(equality, ports) => {
            with(payload("tcp", "dport"), op(equality), some(ports.iter().map(port_range).collect()))
        }
        Match::UdpPort(port) => with(payload("udp", "dport"), Operator::EQ, Expression::Number((*port).into())),
        Match::Syn(equality) => {
            // Two at a time: nft before 1.0 knows no longer lists.
            let flags = ["fin", "syn", "rst"].into_iter().rfold(string("ack"), |rest, flag| {
                Expression::BinaryOperation(Box::new(expr::BinaryOperation::OR(vec![string(flag), rest])))
            });
            with(masked(payload("tcp", "flags"), flags), op(equality), string("syn"))
        }
        Match::Transparent => with(socket(expr::SocketAttr::Transparent), Operator::EQ, Expression::Number(1)),
        // Any mark, where there can be one.
        Match::WholeSocket => with(socket(expr::SocketAttr::Mark), Operator::GEQ, Expression::Number(0)),
        Match::Begun => {
            let direction = expr::CT { key: "direction".into(), family: None, dir: None };
            with(Expression::Named(NamedExpression::CT(direction)), Operator::EQ, string("original"))
        }
        Match::Translated => {
            let status = expr::CT { key: "status".into(), family: None, dir: None };
            with(Expression::Named(NamedExpression::CT(status)), Operator::IN, string("dnat"))
        }
        Match::SourceIsNot(address) => {
            let protocol = if address.is_ipv4() { "ip" } else { "ip6" };
            with(payload(protocol, "saddr"), Operator::NEQ, string(address))
        }
        Match::Uids(uids) => {
            with(meta(MetaKey::Skuid), Operator::EQ, some(uids.iter().map(|uid| Expression::Number(*uid)).collect()))
        }
        Match::Gids(gids) => {
            with(meta(MetaKey::Skgid), Operator::EQ, some(gids.iter().map(|gid| Expression::Number(*gid)).collect()))
        }
        Match::Mark(mark) => {
            let bits = masked(meta(MetaKey::Mark), Expression::Number(mark.mask));
            with(bits, Operator::EQ, Expression::Number(mark.value))
        }
        // A ruleset with this match is loaded as text: see `Ruleset::needs_text`.
        Match::Cgroup(path) => with(socket(expr::SocketAttr::Cgroupv2), Operator::EQ, string(path)),
    }
}

fn action(action: &Action) -> Statement<'static> {
    let port = |port: &u16| Some(Expression::Number((*port).into()));
    match action {
        Action::Count(name) => Statement::Counter(stmt::Counter::Named((*name).into())),
        Action::Return => Statement::Return(None),
        Action::Accept => Statement::Accept(None),
        Action::Drop => Statement::Drop(None),
        Action::Reset => Statement::Reject(Some(stmt::Reject::new(Some(stmt::RejectType::TCPReset), None))),
        Action::Prohibit => {
            Statement::Reject(Some(stmt::Reject::new(Some(stmt::RejectType::ICMPX), Some(RejectCode::AdminProhibited))))
        }
        Action::Redirect(to) => {
            Statement::Redirect(Some(NAT { addr: None, family: None, port: port(to), flags: None }))
        }
        Action::Tproxy(family, to) => Statement::TProxy(TProxy {
            family: Some(family.keyword().into()),
            port: *to,
            addr: Some(if *family == Family::V4 { "127.0.0.1" } else { "::1" }.into()),
        }),
        Action::KeepDestination(family) => Statement::DNAT(Some(NAT {
            addr: Some(payload(family.keyword(), "daddr")),
            family: Some(if *family == Family::V4 { NATFamily::IP } else { NATFamily::IP6 }),
            port: None,
            flags: None,
        })),
        Action::Goto(chain) => Statement::Goto(JumpTarget { target: chain.clone().into() }),
    }
}

fn string(text: impl ToString) -> Expression<'static> {
    Expression::String(text.to_string().into())
}

fn set_ref(name: &str) -> Expression<'static> {
    string(format!("@{name}"))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn socket(key: expr::SocketAttr) -> Expression<'static> {
    Expression::Named(NamedExpression::Socket(expr::Socket { key: std::borrow::Cow::Owned(key) }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = expr::PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(expr::Payload::PayloadField(field)))
}

fn masked(value: Expression<'static>, mask: Expression<'static>) -> Expression<'static> {
    Expression::BinaryOperation(Box::new(expr::BinaryOperation::AND(value, mask)))
}

fn port_range((first, last): &(u16, u16)) -> Expression<'static> {
    let number = |port: &u16| Expression::Number((*port).into());
    if first == last {
        number(first)
    } else {
        Expression::Range(Box::new(expr::Range { range: [number(first), number(last)] }))
    }
}

fn some(mut items: Vec<Expression<'static>>) -> Expression<'static> {
    if items.len() == 1 {
        items.remove(0)
    } else {
        Expression::Named(NamedExpression::Set(items.into_iter().map(SetItem::Element).collect()))
    }
}
