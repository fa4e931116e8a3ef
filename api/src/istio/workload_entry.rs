//! WorkloadEntry: an instance that no registry knows by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Port;
use super::check::{Check, Checker, net, text};
use super::error::shown;
use super::message::message;

message! {
    /// An instance that no registry knows by itself.
    pub struct WorkloadEntry [check_workload_entry] {
        /// IP address, host name or `unix://` path.
        address: String,
        /// Ports by name, where they differ from the service's target ports.
        ports: BTreeMap<String, Port>,
        /// What selectors look at.
        labels: BTreeMap<String, String>,
        /// Network; empty is the default one.
        network: String,
        /// `region/zone/sub-zone`.
        locality: String,
        /// Share of requests among its like; 0 is the default, 1.
        weight: u32,
        /// Whose identity it has.
        service_account: String,
    }
}

/// What a WorkloadGroup makes WorkloadEntries from: the same fields, none of them required.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct WorkloadTemplate(pub WorkloadEntry);

impl Check for WorkloadTemplate {
    fn check(&self, c: &mut Checker) {
        check_fields(&self.0, c);
    }
}

fn check_workload_entry(entry: &WorkloadEntry, c: &mut Checker) {
    if entry.address.is_empty() && entry.network.is_empty() {
        c.wrong("address", "Address is required, unless network is set");
    }
    check_fields(entry, c);
}

fn check_fields(entry: &WorkloadEntry, c: &mut Checker) {
    if !entry.address.is_empty() {
        c.field("address", |c| text::tell(c, address(&entry.address)));
    }
    c.field("ports", |c| {
        if entry.address.starts_with("unix://") && !entry.ports.is_empty() {
            c.problem("UDS may not include ports; take them out");
        }
        if entry.ports.len() > 128 {
            c.problem("Too many: it must have at most 128 items");
        }
        for name in entry.ports.keys() {
            c.key(name, |c| text::tell(c, port_name(name)));
        }
    });
    text::labels(c, "labels", &entry.labels);
    if entry.network.len() > 2048 {
        c.wrong("network", "Too long: it must have at most 2048 bytes");
    }
    if !entry.locality.is_empty() {
        c.field("locality", |c| text::tell(c, net::locality(&entry.locality, false)));
    }
    if !entry.service_account.is_empty() {
        c.field("service_account", |c| text::tell(c, text::object_name(&entry.service_account)));
    }
}

fn address(text: &str) -> Result<(), String> {
    if text.len() > 256 {
        return Err("Too long: it must have at most 256 bytes".to_owned());
    }
    if let Some(path) = text.strip_prefix("unix://") {
        return match path {
            _ if path.ends_with('/') => Err(format!("\"{}\": UDS may not be a dir", shown(text))),
            _ if path.starts_with(['/', '@']) => Ok(()),
            _ => Err(format!("\"{}\": UDS must be an absolute path or abstract socket", shown(text))),
        };
    }
    if text.parse::<IpAddr>().is_ok() || net::host(text).is_ok() {
        return Ok(());
    }
    Err(format!("\"{}\" is neither an IP address nor a host name nor a unix:// path", shown(text)))
}

fn port_name(name: &str) -> Result<(), String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if name.is_empty() || name.len() > 62 || !name.bytes().all(ok) || name.starts_with('-') || name.ends_with('-') {
        let rule = "at most 62 letters, digits and '-', neither first nor last '-'";
        return Err(format!("Invalid value: \"{}\": port name must be valid: {rule}", shown(name)));
    }
    Ok(())
}
