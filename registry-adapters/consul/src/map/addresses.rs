//! Where an instance is reached, by network.
//!
//! In: an instance and its node. Out: its address and port for callers in the default network, addresses for callers in
//! others. Order: the address tagged for callers from other datacenters if this is another one, the service's own,
//! its tagged one for the same network, then the node's. Invariant: an address that no caller could mean (none, any,
//! loopback, multicast, link-local) is refused.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hawser_mesh::Hostname;

use super::names::Scope;
use crate::wire::{Entry, TaggedAddress};

const LAN: &str = "lan";
const WAN: &str = "wan";

/// Where an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// By network of the mesh; the default one is empty.
    pub(crate) by_network: BTreeMap<String, Vec<String>>,
    /// On this port.
    pub(crate) port: u16,
    /// The address in the default network is a host name.
    pub(crate) by_name: bool,
}

/// Checks an instance's addresses; or says what is wrong and what to do.
pub(crate) fn addresses(scope: &Scope, entry: &Entry) -> Result<Addresses, String> {
    if !entry.service.socket_path.is_empty() {
        return Err("it listens on a Unix socket, which other hosts can't reach; register a port".to_owned());
    }
    let far = (!scope.local).then(|| tagged(entry, WAN)).flatten();
    let (text, said) = far.or_else(|| own(entry)).ok_or("it has no address, and its node has none")?;
    let (address, by_name) = check(text)?;
    let port = u16::try_from(said).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("{said} is not a port; register the port that it listens on"))?;
    let mut first = vec![address];
    if !by_name {
        // The other family, for callers that have only that one.
        let family = |text: &str| text.parse::<IpAddr>().ok().map(|a| a.is_ipv6());
        let [v4, v6] = if far.is_some() { ["wan_ipv4", "wan_ipv6"] } else { ["lan_ipv4", "lan_ipv6"] };
        for tag in [v4, v6] {
            let Some((other, port)) = tagged(entry, tag) else { continue };
            if port == said
                && let Ok((other, false)) = check(other)
                && first.iter().all(|known| family(known) != family(&other))
            {
                first.push(other);
            }
        }
    }
    let mut by_network = BTreeMap::from([(String::new(), first)]);
    for (tag, network) in &scope.settings.networks {
        if let Some((text, _)) = tagged(entry, tag).filter(|(_, port)| *port == said) {
            let (address, _) = check(text).map_err(|why| format!("tagged address {tag}: {why}"))?;
            by_network.insert(network.clone(), vec![address]);
        }
    }
    Ok(Addresses { by_network, port, by_name })
}

fn own(entry: &Entry) -> Option<(&str, i64)> {
    let port = entry.port();
    let service = Some((entry.service.address.as_str(), port)).filter(|(a, _)| !a.is_empty());
    let node = Some((entry.node.address.as_str(), port)).filter(|(a, _)| !a.is_empty());
    service
        .or_else(|| tagged(entry, LAN))
        .or_else(|| tagged(entry, "lan_ipv4"))
        .or_else(|| tagged(entry, "lan_ipv6"))
        .or(node)
}

/// The service's address of that tag, else the node's with the service's port.
fn tagged<'a>(entry: &'a Entry, tag: &str) -> Option<(&'a str, i64)> {
    let port = entry.port();
    let own = entry.service.tagged_addresses.get(tag);
    let own = own.map(|TaggedAddress { address, port: p }| (address.as_str(), if *p > 0 { *p } else { port }));
    let of_node = || entry.node.tagged_addresses.get(tag).map(|address| (address.as_str(), port));
    // A service with an address of its own is not where its node is.
    let own = own.or_else(|| if entry.service.address.is_empty() { of_node() } else { None });
    own.filter(|(address, _)| !address.is_empty())
}

/// An IP address as it is written everywhere, or a host name.
fn check(text: &str) -> Result<(String, bool), String> {
    let shown = || text.chars().take(100).collect::<String>();
    let Ok(address) = text.parse::<IpAddr>() else {
        let host = text.parse::<Hostname>().ok().filter(|h| !h.is_wildcard());
        let host = host.ok_or_else(|| format!("{:?} is neither an IP address nor a host name", shown()))?;
        return Ok((host.to_string(), true));
    };
    let address = address.to_canonical();
    let unusable = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
    if unusable {
        return Err(format!("no other host reaches {address}; register the address that its callers use"));
    }
    Ok((address.to_string(), false))
}
