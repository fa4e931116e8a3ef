//! Which filter chain of a listener serves a connection.
//!
//! In: what was seen of the connection. Out: one chain. The rule is Envoy's: criterion by criterion (port, address,
//! server name, transport, application protocols) the most specific match wins, and there is no way back.

use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::proto::listener as proto;
use smallvec::SmallVec;

use crate::{Refused, refuse};

/// Something that is chosen by a match.
pub trait Matched {
    /// Its match.
    fn matches(&self) -> &ChainMatch;
}

impl<T: Matched> Matched for Arc<T> {
    fn matches(&self) -> &ChainMatch {
        T::matches(self)
    }
}

/// Criteria; an absent one takes all.
#[derive(Clone, Debug, Default)]
pub struct ChainMatch {
    /// Where the connection was going.
    pub port: Option<u16>,
    /// The same, as ranges.
    pub ranges: Vec<(IpAddr, u8)>,
    /// Server names: exact, or `*.suffix`.
    pub server_names: Vec<String>,
    /// Transport.
    pub transport: Option<Transport>,
    /// Application protocols of the ClientHello, or what plaintext was detected to be.
    pub protocols: Vec<String>,
}

impl ChainMatch {
    /// Checks a match.
    ///
    /// # Errors
    /// If something in it is not supported.
    pub fn new(m: &proto::FilterChainMatch) -> Result<Self, Refused> {
        let port = match m.destination_port.map(u16::try_from) {
            None => None,
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => refuse!("destination_port is no port"),
        };
        let mut ranges = Vec::with_capacity(m.prefix_ranges.len());
        for range in &m.prefix_ranges {
            let Ok(ip) = range.address_prefix.parse::<IpAddr>() else {
                refuse!("prefix_ranges: {:?} is no IP address", range.address_prefix);
            };
            let most = if ip.is_ipv4() { 32 } else { 128 };
            match u8::try_from(range.prefix_len.unwrap_or(most)) {
                Ok(length) if u32::from(length) <= most => ranges.push((ip, length)),
                _ => refuse!("prefix_ranges: {}/{:?} is no range", ip, range.prefix_len),
            }
        }
        let transport = match m.transport_protocol.as_str() {
            "" => None,
            "raw_buffer" => Some(Transport::Raw),
            "tls" => Some(Transport::Tls),
            other => refuse!("transport_protocol: {other:?} is neither raw_buffer nor tls"),
        };
        let server_names = m.server_names.iter().map(|n| n.to_ascii_lowercase()).collect();
        Ok(Self { port, ranges, server_names, transport, protocols: m.application_protocols.clone() })
    }
}

/// Transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plaintext.
    Raw,
    /// TLS.
    Tls,
}

/// What was seen of a connection.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Where it was going.
    pub port: u16,
    /// The same.
    pub address: IpAddr,
    /// Its transport.
    pub transport: Transport,
    /// Server name, lower case.
    pub server_name: Option<&'a str>,
    /// Application protocols offered; of plaintext `http/1.1`, `h2c` or none.
    pub protocols: SmallVec<[&'a [u8]; 4]>,
}

/// Chooses among `chains`; `None` if none takes it.
pub fn choose<'a, C: Matched>(chains: &'a [C], seen: &Seen<'_>) -> Option<&'a C> {
    let mut left = candidates(chains, seen.address, seen.port);
    narrow(&mut left, |m| server_name_rank(&m.server_names, seen.server_name));
    narrow(&mut left, |m| match m.transport {
        None => Some(0),
        Some(transport) => (transport == seen.transport).then_some(1),
    });
    narrow(&mut left, |m| {
        if m.protocols.is_empty() {
            return Some(0);
        }
        let hit = |p: &String| seen.protocols.contains(&p.as_bytes());
        m.protocols.iter().any(hit).then_some(1)
    });
    left.first().copied()
}

/// Chains that address and port leave: what has to be looked at depends on them.
pub fn candidates<C: Matched>(chains: &[C], address: IpAddr, port: u16) -> SmallVec<[&C; 8]> {
    let mut left: SmallVec<[&C; 8]> = chains.iter().collect();
    narrow(&mut left, |m| match m.port {
        None => Some(0),
        Some(p) => (p == port).then_some(1),
    });
    narrow(&mut left, |m| {
        if m.ranges.is_empty() {
            return Some(0);
        }
        let fits = m.ranges.iter().filter(|(prefix, length)| contains(*prefix, *length, address));
        fits.map(|(_, length)| u32::from(*length) + 1).max()
    });
    left
}

/// Keeps those of the highest rank.
fn narrow<C: Matched>(left: &mut SmallVec<[&C; 8]>, rank: impl Fn(&ChainMatch) -> Option<u32>) {
    let best = left.iter().filter_map(|c| rank(c.matches())).max();
    left.retain(|c| best.is_some() && rank(c.matches()) == best);
}

fn server_name_rank(names: &[String], seen: Option<&str>) -> Option<u32> {
    if names.is_empty() {
        return Some(0);
    }
    let seen = seen?;
    let rank = |name: &String| match name.strip_prefix('*') {
        None => (name == seen).then_some(u32::MAX),
        Some(suffix) => (seen.len() > suffix.len() && seen.ends_with(suffix)).then(|| 1 + name.len() as u32),
    };
    names.iter().filter_map(rank).max()
}

/// Whether a range of addresses contains one.
pub fn contains(prefix: IpAddr, length: u8, address: IpAddr) -> bool {
    match (prefix, address.to_canonical()) {
        (IpAddr::V4(p), IpAddr::V4(a)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            u32::from(p) & mask == u32::from(a) & mask
        }
        (IpAddr::V6(p), IpAddr::V6(a)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            u128::from(p) & mask == u128::from(a) & mask
        }
        _ => false,
    }
}
