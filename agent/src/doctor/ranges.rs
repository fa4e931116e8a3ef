//! Virtual ranges, and what of the host's own network is in them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hawser_api::names::DEFAULT_VIRTUAL_RANGES;
use ipnet::IpNet;

use super::{Finding, way::Told};
use crate::member::Member;
use crate::redirect::{self, Foreign};

const CHECK: &str = "routes";
/// The most that are told.
const MOST: usize = 8;
const CURE: &str = "move that network, or give the mesh other virtual addresses: `hawser-discovery --virtual-range`, one of each \
                    family, for the whole mesh";

/// Reads routes and addresses, and judges them by the ranges of the mesh, as far as they are known.
pub(super) async fn findings(member: Option<&Member>, told: Option<Told>) -> Vec<Finding> {
    let own = member.and_then(|member| member.holder.current().record.mesh.clone()).map(|mesh| mesh.virtual_ranges);
    let texts = own.into_iter().chain(told.map(|told| told.virtual_ranges)).find(|texts| !texts.is_empty());
    let known = texts.is_some();
    let texts = texts.unwrap_or_else(|| DEFAULT_VIRTUAL_RANGES.map(str::to_owned).into());
    let ranges: BTreeSet<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    let matters = |net: &IpNet| ranges.iter().any(|range| overlap(range, net));
    match redirect::other_routes(matters, MOST).await {
        Ok(routes) => judge(&ranges, known, &addresses(), &routes),
        Err(error) => vec![Finding::split(CHECK, &error.to_string())],
    }
}

/// What is in the way of the ranges. Where they are only supposed, that is no reason not to ask; nor is a wider network, of
/// which the mesh takes a part, or a route that may never be looked up.
fn judge(ranges: &BTreeSet<IpNet>, known: bool, addresses: &[(String, IpAddr)], routes: &[Foreign]) -> Vec<Finding> {
    let mut found = Vec::new();
    for range in ranges {
        for (device, address) in addresses.iter().filter(|(_, address)| range.contains(address)) {
            found.push((true, format!("{address} of {device} is in the mesh's virtual range {range}")));
        }
        for route in routes.iter().filter(|route| in_the_way(range, route)) {
            let to = route.device.as_ref().map(|device| format!(" by {device}")).unwrap_or_default();
            let within = range.contains(&route.net);
            let how = if within { "is in" } else { "is wider than, and loses," };
            let sentence = format!("the route to {}{to} {how} the mesh's virtual range {range}", route.net);
            found.push((within && route.main, sentence));
        }
    }
    found.truncate(MOST);
    let shown: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    if found.is_empty() {
        return vec![Finding::ok(CHECK, format!("nothing of this host is in the virtual ranges {}", shown.join(", ")))];
    }
    let finding = |(bad, sentence)| match (known, bad) {
        (true, true) => Finding::failure(CHECK, sentence, CURE),
        (true, false) => Finding::warning(CHECK, sentence, CURE),
        (false, _) => Finding::warning(CHECK, format!("{sentence}, if the mesh has the usual ones"), CURE),
    };
    found.into_iter().map(finding).collect()
}

/// Wider routes that throw away are no reason: ours goes before them.
fn in_the_way(range: &IpNet, route: &Foreign) -> bool {
    overlap(range, &route.net) && (!route.discards || range.contains(&route.net))
}

/// A default route, in one piece or in few, overlaps everything and means nothing.
fn overlap(range: &IpNet, net: &IpNet) -> bool {
    let default = if net.addr().is_ipv4() { 1 } else { 3 };
    net.prefix_len() > default && (range.contains(net) || net.contains(range))
}

/// The host's addresses by interface.
fn addresses() -> Vec<(String, IpAddr)> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let ip = v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
        Some((interface.interface_name, ip))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn route(net: &str, discards: bool) -> Foreign {
        Foreign { net: net.parse().unwrap(), discards, main: true, device: Some("vpn0".into()) }
    }

    fn verdicts(known: bool, addresses: &[(String, IpAddr)], routes: &[Foreign]) -> Vec<Verdict> {
        let ranges = DEFAULT_VIRTUAL_RANGES.map(|range| range.parse().unwrap()).into();
        judge(&ranges, known, addresses, routes).into_iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn routes_that_overlap_are_told_and_default_routes_are_not() {
        for net in ["240.240.0.0/16", "240.240.7.0/24", "2001:2::/64"] {
            assert_eq!(verdicts(true, &[], &[route(net, false)]), [Verdict::Failure], "{net}");
            assert_eq!(verdicts(false, &[], &[route(net, false)]), [Verdict::Warning], "{net}");
            let of_another_table = Foreign { main: false, ..route(net, false) };
            assert_eq!(verdicts(true, &[], &[of_another_table]), [Verdict::Warning], "{net}");
        }
        for net in ["240.0.0.0/4", "2001::/16"] {
            assert_eq!(verdicts(true, &[], &[route(net, false)]), [Verdict::Warning], "{net}");
            assert_eq!(verdicts(false, &[], &[route(net, false)]), [Verdict::Warning], "{net}");
        }
        for net in ["0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/8", "240.241.0.0/16", "::/0", "2000::/3", "2001:3::/48"] {
            assert_eq!(verdicts(true, &[], &[route(net, false)]), [Verdict::Ok], "{net}");
        }
    }

    #[test]
    fn who_throws_away_is_in_the_way_only_within_the_range() {
        assert_eq!(verdicts(true, &[], &[route("240.0.0.0/4", true)]), [Verdict::Ok]);
        assert_eq!(verdicts(true, &[], &[route("240.240.1.0/24", true)]), [Verdict::Failure]);
    }

    #[test]
    fn an_address_in_a_range_is_told_by_its_interface() {
        let addresses =
            [("eth1".to_owned(), "240.240.3.4".parse().unwrap()), ("lo".to_owned(), "::1".parse().unwrap())];
        assert_eq!(verdicts(true, &addresses, &[]), [Verdict::Failure]);
    }
}
