//! Which addresses a host may announce. Pure.

use std::net::IpAddr;

use hawser_api::proto::host::HostAddress;
use ipnet::IpNet;

use super::refusal::Refusal;

/// Addresses of one host at most.
const MOST: usize = 8;

/// Checks what a host announces: at least one address, none that others can't reach it at, one of each family in
/// a network. Gives them back in canonical form.
///
/// # Errors
/// Which one is refused, and why.
pub(super) fn check(announced: &[HostAddress], virtual_ranges: &[IpNet]) -> Result<Vec<HostAddress>, Refusal> {
    if announced.is_empty() {
        return Err(Refusal::AddressRefused("(none)".into(), "a host announces at least one".into()));
    }
    if announced.len() > MOST {
        return Err(Refusal::Malformed(format!("a host announces at most {MOST} addresses")));
    }
    let mut checked: Vec<(IpAddr, HostAddress)> = Vec::new();
    for HostAddress { address, network } in announced {
        let refuse = |why: &str| Refusal::AddressRefused(address.chars().take(64).collect(), why.to_owned());
        let ip: IpAddr = address.parse().map_err(|_| refuse("it is no IP address"))?;
        let ip = ip.to_canonical();
        if network.len() > 253 {
            return Err(refuse("its network's name is too long"));
        }
        if let Some(why) = unusable(ip, virtual_ranges) {
            return Err(refuse(why));
        }
        let same =
            |(other, known): &(IpAddr, HostAddress)| known.network == *network && other.is_ipv4() == ip.is_ipv4();
        if checked.iter().any(same) {
            return Err(refuse("there is another of its family in the same network"));
        }
        checked.push((ip, HostAddress { address: ip.to_string(), network: network.clone() }));
    }
    Ok(checked.into_iter().map(|(_, address)| address).collect())
}

/// Whether one of the announced addresses is where the connection comes from.
pub(super) fn seen(announced: &[HostAddress], source: IpAddr) -> bool {
    let source = source.to_canonical();
    announced.iter().any(|a| a.address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical() == source))
}

fn unusable(ip: IpAddr, virtual_ranges: &[IpNet]) -> Option<&'static str> {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Some("it is a loopback address, which means another host everywhere else")
    } else if link_local {
        Some("it is a link-local address, which does not reach beyond one link")
    } else if ip.is_multicast() {
        Some("it is a multicast address")
    } else if ip.is_unspecified() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0) {
        Some("it is the address of no host")
    } else if virtual_ranges.iter().any(|range| range.contains(&ip)) {
        Some("it lies in the ranges of virtual addresses")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<HostAddress> {
        list.iter().map(|a| HostAddress { address: (*a).into(), network: String::new() }).collect()
    }

    #[test]
    fn what_others_can_not_reach_is_refused() {
        let ranges = ["240.240.0.0/16".parse().unwrap(), "2001:2::/48".parse().unwrap()];
        for bad in [
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "240.240.3.4",
            "2001:2::7",
            "::ffff:127.0.0.1",
            "example.com",
            "",
        ] {
            let refusal = check(&addresses(&[bad]), &ranges).unwrap_err();
            assert_eq!(refusal.reason(), "address-refused", "{bad}");
        }
        assert!(check(&[], &ranges).is_err());
        assert!(check(&addresses(&["10.0.0.1", "10.0.0.2"]), &ranges).is_err());
    }

    #[test]
    fn one_of_each_family_in_a_network_is_taken() {
        let both = check(&addresses(&["10.0.0.1", "fd00::1"]), &[]).unwrap();
        assert!(seen(&both, "::ffff:10.0.0.1".parse().unwrap()));
        assert!(!seen(&both, "10.0.0.2".parse().unwrap()));
    }
}
