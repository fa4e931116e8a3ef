//! The ruleset as a value: sets, counters, chains and rules of table `inet hawser`.
//!
//! Only what redirection needs can be said in it, so that both renderings (`json` for loading, `text` for people and for
//! what JSON can't say) cover it whole. Equal rulesets render to equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::intent::Mark;

/// The table's name, in family `inet`.
pub(super) const TABLE: &str = "hawser";

/// The whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    /// Named counters.
    pub(super) counters: Vec<&'static str>,
    /// Sets by name.
    pub(super) sets: BTreeMap<&'static str, Set>,
    /// Chains; those that are jumped to stand first.
    pub(super) chains: Vec<Chain>,
}

/// A named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// What its elements are.
    pub(super) kind: SetKind,
    /// Seconds that an element lives after it was added.
    pub(super) timeout: Option<u32>,
    /// What it holds.
    pub(super) elements: BTreeSet<Element>,
}

/// The type of a set's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetKind {
    /// Single addresses.
    Address(Family),
    /// Ranges of addresses.
    Net(Family),
    /// Address and port.
    Socket(Family),
    /// Range of addresses and port.
    NetPort(Family),
    /// TCP ports.
    Port,
}

/// An element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Element {
    /// Of [`SetKind::Address`] and [`SetKind::Net`].
    Net(IpNet),
    /// Of [`SetKind::Socket`] and [`SetKind::NetPort`].
    NetPort(IpNet, u16),
    /// Of [`SetKind::Port`].
    Port(u16),
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its name.
    pub(super) name: String,
    /// Where packets enter it; absent for chains that are jumped to.
    pub(super) hook: Option<Hook>,
    /// Its rules.
    pub(super) rules: Vec<Rule>,
}

/// Where a base chain stands; its policy is accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// Address translation or filter.
    pub(super) nat: bool,
    /// The kernel's hook.
    pub(super) point: Point,
    /// Lower runs earlier.
    pub(super) priority: i32,
}

/// The kernel's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Everything that comes in, before routing.
    Prerouting,
    /// What is for the host itself.
    Input,
    /// What the host sends.
    Output,
}

/// A rule: all matches, then the actions in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What packets it is for.
    pub(super) matches: Vec<Match>,
    /// What becomes of them.
    pub(super) actions: Vec<Action>,
    /// Why, in a few words.
    pub(super) comment: &'static str,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It came in over an interface, or over any but this one.
    From(Equality, BTreeSet<String>),
    /// It goes out over loopback.
    OutLoopback,
    /// It goes out over one of these interfaces.
    Over(BTreeSet<String>),
    /// TCP, or anything else.
    Tcp(Equality),
    /// Of this family.
    Family(Family),
    /// Its destination is an address of the host, or is not.
    LocalDestination(Equality),
    /// Its destination is in the set.
    To(Family, &'static str),
    /// Its destination is in one of these ranges, which do not overlap.
    ToNets(Family, BTreeSet<IpNet>),
    /// Its destination and TCP port are in the set.
    ToSocket(Family, &'static str),
    /// Its TCP port is in the set.
    ToPortSet(&'static str),
    /// Its TCP port is in one of these ranges, or in none.
    TcpPorts(Equality, Vec<(u16, u16)>),
    /// Its UDP port.
    UdpPort(u16),
    /// It opens a connection, or does not.
    Syn(Equality),
    /// Its socket may take connections to any address.
    Transparent,
    /// Its socket listens or is connected, instead of being about to, or remembered only.
    WholeSocket,
    /// It comes from whoever spoke first.
    Begun,
    /// Its connection's destination was changed by a translation.
    Translated,
    /// Its source is not this.
    SourceIsNot(IpAddr),
    /// Its socket belongs to one of these users.
    Uids(BTreeSet<u32>),
    /// Its socket belongs to one of these groups.
    Gids(BTreeSet<u32>),
    /// These bits of its mark.
    Mark(Mark),
    /// Its socket was made in this control group or below.
    Cgroup(String),
}

/// Whether a condition or its opposite is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Equality {
    /// It holds.
    Is,
    /// It does not.
    IsNot,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Adds to a named counter.
    Count(&'static str),
    /// Leaves our chain.
    Return,
    /// Takes the packet as far as our table is concerned.
    Accept,
    /// Loses the packet.
    Drop,
    /// Answers with a TCP reset.
    Reset,
    /// Answers that it is prohibited.
    Prohibit,
    /// To this port of the host.
    Redirect(u16),
    /// To the transparent listener on this port, destination untouched.
    Tproxy(Family, u16),
    /// Fixes the destination to what it is.
    KeepDestination(Family),
    /// On to another chain for good.
    Goto(String),
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in order.
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of a net.
    pub(super) fn of(net: &IpNet) -> Self {
        if net.addr().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `ip` or `ip6`.
    pub(super) fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

impl Rule {
    /// A rule.
    pub(super) fn new(comment: &'static str, matches: Vec<Match>, actions: Vec<Action>) -> Self {
        Self { matches, actions, comment }
    }
}

impl Ruleset {
    /// Whether it says something that nft's JSON has no word for (the level of a control group).
    pub(super) fn needs_text(&self) -> bool {
        self.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.matches).any(|m| matches!(m, Match::Cgroup(_)))
    }
}
