//! What of a workload's traffic is captured, as annotations of its WorkloadGroup say: `traffic.sidecar.istio.io/…`.
//!
//! In: annotations. Out: [`Traffic`], and for each value that can't be read its key and a sentence with the cure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::WorkloadGroup;
use super::error::shown;
use super::metadata::ObjectMeta;

/// What of a workload's traffic is captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Destinations that are captured, whatever they are; none: what the mesh captures. `*` is both families whole.
    pub include_outbound_ranges: Option<BTreeSet<IpNet>>,
    /// Destinations that are not captured.
    pub exclude_outbound_ranges: BTreeSet<IpNet>,
    /// Ports that are captured at any destination.
    pub include_outbound_ports: BTreeSet<u16>,
    /// Ports that are not captured at any destination.
    pub exclude_outbound_ports: BTreeSet<u16>,
    /// Declared ports that are captured; none: all of them.
    pub include_inbound_ports: Option<BTreeSet<u16>>,
    /// Declared ports that are not captured.
    pub exclude_inbound_ports: BTreeSet<u16>,
    /// Interfaces over which nothing is captured.
    pub exclude_interfaces: BTreeSet<String>,
}

/// What all of the annotations begin with.
const PREFIX: &str = "traffic.sidecar.istio.io/";
/// The most elements of a list.
const MOST: usize = 256;

/// A value that can't be read: its key, and why.
pub(super) type Misread = (String, String);

/// What a group's annotations say: those of its entries (`spec.metadata`) before its own (`metadata`).
pub fn traffic(metadata: &ObjectMeta, group: &WorkloadGroup) -> Traffic {
    let mut all = metadata.annotations.clone();
    all.extend(group.metadata.iter().flat_map(|m| m.annotations.clone()));
    read(&all).0
}

/// Reads them; what can't be read counts as not said.
pub(super) fn read(annotations: &BTreeMap<String, String>) -> (Traffic, Vec<Misread>) {
    let (mut traffic, mut misread) = (Traffic::default(), Vec::new());
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let outcome = match name {
            "includeOutboundIPRanges" if value.trim() == "*" => {
                traffic.include_outbound_ranges = Some([Ipv4Net::default().into(), Ipv6Net::default().into()].into());
                Ok(())
            }
            "includeOutboundIPRanges" => ranges(value).map(|r| traffic.include_outbound_ranges = Some(r)),
            "excludeOutboundIPRanges" => ranges(value).map(|r| traffic.exclude_outbound_ranges = r),
            "includeOutboundPorts" => ports(value).map(|p| traffic.include_outbound_ports = p),
            "excludeOutboundPorts" => ports(value).map(|p| traffic.exclude_outbound_ports = p),
            "includeInboundPorts" if value.trim() == "*" => Ok(()),
            "includeInboundPorts" => ports(value).map(|p| traffic.include_inbound_ports = Some(p)),
            "excludeInboundPorts" => ports(value).map(|p| traffic.exclude_inbound_ports = p),
            "excludeInterfaces" => interfaces(value).map(|i| traffic.exclude_interfaces = i),
            _ => Ok(()),
        };
        if let Err(why) = outcome {
            misread.push((key.clone(), why));
        }
    }
    (traffic, misread)
}

fn ranges(text: &str) -> Result<BTreeSet<IpNet>, String> {
    let cure = "write ranges like 10.0.0.0/8, and one address like 10.0.0.1/32, separated by commas";
    list(text, |word| word.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| format!("is no range: {cure}")))
}

fn ports(text: &str) -> Result<BTreeSet<u16>, String> {
    let port = |word: &str| word.parse::<u16>().ok().filter(|port| *port != 0);
    let cure = "write numbers from 1 to 65535, separated by commas";
    list(text, |word| port(word).ok_or_else(|| format!("is no port: {cure}")))
}

fn interfaces(text: &str) -> Result<BTreeSet<String>, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    let is_name = |word: &str| word.len() < 16 && word != "lo" && word.chars().all(plain);
    let cure = "write names as `ip link` shows them, but not lo, separated by commas";
    list(text, |word| if is_name(word) { Ok(word.to_owned()) } else { Err(format!("is no interface: {cure}")) })
}

fn list<T: Ord>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<BTreeSet<T>, String> {
    let mut found = BTreeSet::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        found.insert(read(word).map_err(|why| format!("Invalid value: \"{}\" {why}", shown(word)))?);
        if found.len() > MOST {
            return Err(format!("Invalid value: there are more than {MOST}; name wider ranges, or fewer"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, value: &str) -> (Traffic, Vec<Misread>) {
        read(&[(format!("{PREFIX}{name}"), value.to_owned())].into())
    }

    #[test]
    fn each_annotation_says_what_istio_takes_it_for() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert_eq!(said("includeOutboundIPRanges", "*").0.include_outbound_ranges.unwrap().len(), 2);
        assert_eq!(said("includeOutboundIPRanges", "").0.include_outbound_ranges, Some(BTreeSet::new()));
        let ranges = said("includeOutboundIPRanges", "10.1.2.3/8, fd00::/8").0.include_outbound_ranges.unwrap();
        assert_eq!(ranges, [net("10.0.0.0/8"), net("fd00::/8")].into());
        assert_eq!(said("excludeOutboundIPRanges", "192.0.2.0/24").0.exclude_outbound_ranges.len(), 1);
        assert_eq!(said("includeOutboundPorts", "443").0.include_outbound_ports, [443].into());
        assert_eq!(said("excludeOutboundPorts", "25,587").0.exclude_outbound_ports, [25, 587].into());
        assert_eq!(said("includeInboundPorts", "*").0, Traffic::default());
        assert_eq!(said("includeInboundPorts", "").0.include_inbound_ports, Some(BTreeSet::new()));
        assert_eq!(said("excludeInboundPorts", "9100").0.exclude_inbound_ports, [9100].into());
        assert_eq!(said("excludeInterfaces", "eth1,docker0").0.exclude_interfaces.len(), 2);
        assert_eq!(said("kubevirtInterfaces", "a b").1, []);
    }

    #[test]
    fn what_can_not_be_read_is_told_with_its_cure() {
        for (name, value, cure) in [
            ("excludeOutboundIPRanges", "10.0.0.1", "10.0.0.1/32"),
            ("includeOutboundIPRanges", "10.0.0.0/8,*", "\"*\""),
            ("excludeOutboundPorts", "80,http", "\"http\""),
            ("excludeInboundPorts", "0", "1 to 65535"),
            ("excludeInterfaces", "eth 0", "ip link"),
            ("excludeInterfaces", "lo", "not lo"),
        ] {
            let (traffic, misread) = said(name, value);
            assert_eq!(traffic, Traffic::default());
            assert!(misread[0].0.ends_with(name) && misread[0].1.contains(cure), "{misread:?}");
        }
        let many: Vec<String> = (1..400).map(|n| n.to_string()).collect();
        assert!(said("excludeOutboundPorts", &many.join(",")).1[0].1.contains("more than 256"));
    }
}
