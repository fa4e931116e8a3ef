//! Which addresses a host announces.
//!
//! In: what the operator named, or the address by which discovery was reached. Out: addresses in order of preference:
//! the one of the route first, then what else the same interface has, one of each family.

use std::net::{IpAddr, SocketAddr};

use hawser_api::names::reasons;
use hawser_api::proto::host::HostAddress;
use nix::ifaddrs::getifaddrs;
use tonic::Code;

use crate::refusal::Refusal;

const MOST: usize = 16;

/// What to announce.
pub(crate) fn announced(named: Vec<HostAddress>, route: SocketAddr) -> Result<Vec<HostAddress>, Refusal> {
    if named.is_empty() {
        let found = found(route.ip().to_canonical(), &interfaces());
        return Ok(found
            .into_iter()
            .map(|ip| HostAddress { address: ip.to_string(), network: String::new() })
            .collect());
    }
    if named.len() > MOST {
        return Err(refused(format!("{} addresses were named: {MOST} are possible", named.len())));
    }
    for address in &named {
        if address.address.parse::<IpAddr>().is_err() {
            return Err(refused(format!("{:?} is not an IP address", address.address)));
        }
    }
    Ok(named)
}

fn refused(sentence: String) -> Refusal {
    Refusal::new(Code::InvalidArgument, reasons::ADDRESS_REFUSED, sentence)
}

/// The route's address, and one of the other family from the same interface. Where discovery is on this very host,
/// the route tells nothing: then the first interface that has an address to announce counts.
fn found(route: IpAddr, interfaces: &[(String, IpAddr)]) -> Vec<IpAddr> {
    let usable = |ip: &IpAddr| announceable(*ip);
    let first = if announceable(route) { Some(route) } else { interfaces.iter().map(|(_, ip)| *ip).find(usable) };
    let Some(first) = first else { return vec![route] };
    let interface = interfaces.iter().find(|(_, ip)| *ip == first).map(|(name, _)| name);
    let other = interfaces
        .iter()
        .filter(|(name, ip)| Some(name) == interface && ip.is_ipv4() != first.is_ipv4())
        .map(|(_, ip)| *ip)
        .find(usable);
    std::iter::once(first).chain(other).collect()
}

fn announceable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

fn interfaces() -> Vec<(String, IpAddr)> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    addresses.filter_map(|entry| Some((entry.interface_name.clone(), ip(entry.address?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_route_decides_and_the_other_family_follows() {
        let interfaces: Vec<_> = [
            ("lo", "127.0.0.1"),
            ("docker0", "172.17.0.1"),
            ("eth0", "10.0.0.5"),
            ("docker0", "fd01::1"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::5"),
        ]
        .map(|(name, address)| (name.to_owned(), ip(address)))
        .into();
        assert_eq!(found(ip("10.0.0.5"), &interfaces), [ip("10.0.0.5"), ip("fd00::5")]);
        assert_eq!(found(ip("fd00::5"), &interfaces), [ip("fd00::5"), ip("10.0.0.5")]);
        assert_eq!(found(ip("127.0.0.1"), &interfaces), [ip("172.17.0.1"), ip("fd01::1")]);
        assert_eq!(found(ip("127.0.0.1"), &[]), [ip("127.0.0.1")]);
    }
}
