//! Envoy's response flags: what went wrong with a request or connection, as a set that is written in the order in which
//! it came to be, as Envoy's is: a request whose retries are used up and that then fails is `URX,UF`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use parking_lot::Mutex;

/// A set of response flags; empty is written `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags {
    set: u32,
    /// The first ones of the set in their order: each is its bit's number and one, five bits long; the first is lowest.
    order: u32,
}

/// Bits of one place in the order, and how many places there are.
const PLACE: u32 = 5;
const PLACES: u32 = 6;

macro_rules! flags {
    ($($short:ident = $bit:literal $long:literal, $doc:literal;)+) => {
        impl Flags {
            $(#[doc = $doc] pub const $short: Self = Self { set: 1 << $bit, order: $bit + 1 };)+
        }

        /// By the numbers of their bits.
        const ALL: &[(Flags, &str, &str)] = &[$((Flags::$short, stringify!($short), $long),)+];
    };
}

flags! {
    LH = 0 "FailedLocalHealthCheck", "The own service failed its health check.";
    UH = 1 "NoHealthyUpstream", "No endpoint of the cluster is healthy.";
    UT = 2 "UpstreamRequestTimeout", "The endpoint did not answer in time.";
    LR = 3 "LocalReset", "We gave the exchange up.";
    UR = 4 "UpstreamRemoteReset", "The endpoint gave the exchange up.";
    UF = 5 "UpstreamConnectionFailure", "The endpoint could not be connected to.";
    UC = 6 "UpstreamConnectionTermination", "The connection to the endpoint broke.";
    UO = 7 "UpstreamOverflow", "A limit of the cluster was reached.";
    NR = 8 "NoRouteFound", "No route, or no filter chain, takes it.";
    DI = 9 "DelayInjected", "A fault was asked for: a delay.";
    FI = 10 "FaultInjected", "A fault was asked for: an answer.";
    RL = 11 "RateLimited", "Too many requests: limited here.";
    UAEX = 12 "UnauthorizedExternalService", "An authorization service refused it.";
    RLSE = 13 "RateLimitServiceError", "The service that limits rates failed.";
    DC = 14 "DownstreamConnectionTermination", "The client went away.";
    URX = 15 "UpstreamRetryLimitExceeded", "All tries were used up.";
    SI = 16 "StreamIdleTimeout", "Nothing moved for too long.";
    IH = 17 "InvalidEnvoyRequestHeaders", "A header that steers the proxy is malformed.";
    DPE = 18 "DownstreamProtocolError", "The client broke the rules of HTTP.";
    UMSDR = 19 "UpstreamMaxStreamDurationReached", "The exchange with the endpoint took too long.";
    RFCF = 20 "ResponseFromCacheFilter", "The response came from a cache.";
    NFCF = 21 "NoFilterConfigFound", "Configuration that it needs is not there.";
    DT = 22 "DurationTimeout", "The connection or request lasted too long.";
    UPE = 23 "UpstreamProtocolError", "The endpoint broke the rules of HTTP.";
    NC = 24 "NoClusterFound", "The cluster is not known.";
    OM = 25 "OverloadManagerTerminated", "The proxy is overloaded.";
    DF = 26 "DnsResolutionFailed", "The name of the endpoint was not resolved.";
    DO = 27 "DropOverload", "The control plane has a share of the load dropped.";
    DR = 28 "DownstreamRemoteReset", "The client gave the exchange up.";
    UDO = 29 "UnconditionalDropOverload", "The control plane has all load dropped.";
}

/// More different sets than the code of a proxy makes.
const MOST_SETS: usize = 1024;
static SETS: Mutex<BTreeMap<Flags, &'static str>> = Mutex::new(BTreeMap::new());

impl Flags {
    /// Nothing went wrong.
    pub const NONE: Self = Self { set: 0, order: 0 };

    /// Every flag.
    pub fn all() -> Self {
        ALL.iter().fold(Self::NONE, |all, (flag, ..)| all | *flag)
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.set == 0
    }

    /// Whether one of `others` is in it.
    pub fn has_any(self, others: Self) -> bool {
        self.set & others.set != 0
    }

    /// A flag by its short name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, short, _)| *short == name).map(|(flag, ..)| *flag)
    }

    /// A set as [`Flags::short`] writes it.
    pub fn parse(text: &str) -> Self {
        text.split(',').filter_map(Self::named).fold(Self::NONE, |all, one| all | one)
    }

    /// The set as it is written, short: `-`, `UH`, `URX,UF`.
    pub fn short(self) -> &'static str {
        if self.is_empty() {
            return "-";
        }
        if self.set.is_power_of_two() {
            return self.each().next().map_or("-", |(_, short, _)| short);
        }
        let mut sets = SETS.lock();
        if let Some(known) = sets.get(&self) {
            return known;
        }
        if sets.len() >= MOST_SETS {
            return "-";
        }
        // Kept for ever, as what code can combine is bounded.
        let text: &'static str = Box::leak(self.to_string().into_boxed_str());
        sets.insert(self, text);
        text
    }

    /// Writes the set in words.
    pub(super) fn write_long(self, out: &mut Vec<u8>) {
        let before = out.len();
        for (.., long) in self.each() {
            if out.len() > before {
                out.push(b',');
            }
            out.extend_from_slice(long.as_bytes());
        }
        if out.len() == before {
            out.push(b'-');
        }
    }

    /// Writes the set.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let before = out.len();
        for (_, short, _) in self.each() {
            if out.len() > before {
                out.push(b',');
            }
            out.extend_from_slice(short.as_bytes());
        }
        if out.len() == before {
            out.push(b'-');
        }
    }

    fn each(self) -> impl Iterator<Item = &'static (Self, &'static str, &'static str)> {
        let (mut left, mut order) = (self.set, self.order);
        std::iter::from_fn(move || {
            let bit = match order & ((1 << PLACE) - 1) {
                // What has no place follows by the numbers of the bits.
                0 => left.trailing_zeros(),
                place => place - 1,
            };
            order >>= PLACE;
            left &= !1_u32.checked_shl(bit)?;
            ALL.get(bit as usize)
        })
    }
}

impl BitOr for Flags {
    type Output = Self;

    /// Those of `other` that are not there yet follow.
    fn bitor(mut self, other: Self) -> Self {
        let before = self;
        for (flag, ..) in other.each().filter(|(flag, ..)| !before.has_any(*flag)) {
            let count = self.set.count_ones();
            if count < PLACES {
                self.order |= flag.order << (count * PLACE);
            }
            self.set |= flag.set;
        }
        self
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (i, (_, short, _)) in self.each().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(short)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_a_bit_of_its_own_and_its_name() {
        for (i, (flag, short, _)) in ALL.iter().enumerate() {
            assert_eq!((flag.set, flag.order), (1 << i, i as u32 + 1));
            assert_eq!(Flags::named(short), Some(*flag));
            assert_eq!(flag.short(), *short);
        }
        assert_eq!(Flags::named("XX"), None);
    }

    #[test]
    fn a_set_is_joined_by_commas_in_the_order_it_came_to_be() {
        let set = Flags::URX | Flags::UF;
        let mut long = Vec::new();
        set.write_long(&mut long);
        assert_eq!((set.short(), set.to_string().as_str()), ("URX,UF", "URX,UF"));
        assert_eq!(long, b"UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
        assert_eq!((Flags::parse("URX,UF"), Flags::parse("-")), (set, Flags::NONE));
        assert_eq!((Flags::UF | Flags::URX | Flags::UF).short(), "UF,URX");
        assert!(std::ptr::eq(set.short(), (Flags::URX | Flags::UF | Flags::URX).short()), "it is kept once");
        assert_eq!((Flags::NONE.short(), Flags::NONE.to_string().as_str()), ("-", "-"));
    }

    #[test]
    fn more_than_have_a_place_are_all_there() {
        let all = Flags::all();
        let mut names: Vec<_> = all.each().map(|(_, short, _)| *short).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|(flag, ..)| all.has_any(*flag)));
    }
}
