//! ServiceEntry: a service that no registry knows by itself.

use std::collections::BTreeSet;

use super::check::{Checker, net, text};
use super::error::shown;
use super::message::{enumeration, message};
use super::{Port, WorkloadEntry, WorkloadSelector};

message! {
    /// A service that no registry knows by itself.
    pub struct ServiceEntry [check_service_entry] {
        /// Its names.
        hosts: Vec<String>,
        /// Addresses and ranges that callers dial.
        addresses: Vec<String>,
        /// Its ports.
        ports: Vec<ServicePort>,
        /// Whose it is.
        location: Location,
        /// How endpoints are found.
        resolution: Resolution,
        /// Its endpoints.
        endpoints: Vec<WorkloadEntry>,
        /// Workloads that are its endpoints.
        workload_selector: Option<WorkloadSelector>,
        /// Namespaces that see it; none is all.
        export_to: Vec<String>,
        /// Names one of which its certificates must have.
        subject_alt_names: Vec<String>,
    }

    /// A port of a service.
    pub struct ServicePort [check_port] {
        /// What callers dial.
        number: Port,
        /// What it speaks.
        protocol: String,
        /// Name.
        name: String,
        /// Where endpoints listen; unset is the number.
        target_port: Port,
    }
}

enumeration! {
    /// Whose a service is.
    pub enum Location {
        /// Outside of the mesh.
        MeshExternal = "MESH_EXTERNAL",
        /// In the mesh.
        MeshInternal = "MESH_INTERNAL",
    }

    /// How endpoints are found.
    pub enum Resolution {
        /// The caller's own address is used.
        None = "NONE",
        /// They are listed, or selected.
        Static = "STATIC",
        /// Host names are looked up; all addresses are used.
        Dns = "DNS",
        /// The host name is looked up; one address is used.
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// The name that the caller asks for is looked up.
        DynamicDns = "DYNAMIC_DNS",
    }
}

impl ServicePort {
    /// Where endpoints listen.
    pub fn target(&self) -> Port {
        if self.target_port == Port::default() { self.number } else { self.target_port }
    }
}

/// Protocols that a port may declare, in upper case.
const PROTOCOLS: [&str; 13] = [
    "HTTP",
    "HTTP2",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "TCP",
    "TLS",
    "UDP",
    "MONGO",
    "MYSQL",
    "REDIS",
    "THRIFT",
    "HTTP_PROXY",
];

/// A port's declared protocol.
pub(crate) fn protocol(text: &str) -> Result<(), String> {
    if text.is_empty() || PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(text)) {
        return Ok(());
    }
    Err(format!("\"{}\" is not a protocol: {} are", shown(text), PROTOCOLS.join(", ")))
}

fn check_service_entry(entry: &ServiceEntry, c: &mut Checker) {
    check_hosts(entry, c);
    check_addresses(entry, c);
    check_ports(entry, c);
    check_endpoints(entry, c);
    text::export_to(c, &entry.export_to);
}

fn check_hosts(entry: &ServiceEntry, c: &mut Checker) {
    if entry.hosts.is_empty() {
        c.wrong("hosts", "Required value: at least one host is required");
    }
    at_most(c, "hosts", entry.hosts.len(), 256);
    let dynamic = entry.resolution == Resolution::DynamicDns;
    let mut seen = BTreeSet::new();
    c.each("hosts", &entry.hosts, |c, host| {
        if host == "*" {
            return c.problem("hostname cannot be wildcard: name a domain, such as *.example.com");
        }
        text::tell(c, net::wildcard_host(host));
        let looked_up = matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if host.starts_with('*') && looked_up && entry.endpoints.is_empty() {
            c.problem("a wildcard can't be looked up: list endpoints, name the host, or choose resolution DYNAMIC_DNS");
        }
        if dynamic && !host.starts_with('*') {
            c.problem("resolution DYNAMIC_DNS is for wildcard hosts; choose DNS");
        }
        if !seen.insert(host.to_ascii_lowercase()) {
            c.problem(format!("Duplicate value: \"{}\" is listed twice", shown(host)));
        }
    });
}

fn check_addresses(entry: &ServiceEntry, c: &mut Checker) {
    at_most(c, "addresses", entry.addresses.len(), 256);
    let ranges_allowed = matches!(entry.resolution, Resolution::None | Resolution::Static);
    c.each("addresses", &entry.addresses, |c, address| {
        if address.contains('/') && !ranges_allowed {
            return c.problem(format!(
                "CIDR addresses are allowed only for NONE/STATIC resolution types, and this one is {}",
                entry.resolution
            ));
        }
        text::tell(c, net::range(address));
    });
}

fn check_ports(entry: &ServiceEntry, c: &mut Checker) {
    at_most(c, "ports", entry.ports.len(), 256);
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    c.each("ports", &entry.ports, |c, port| {
        if port.number != Port::default() && !numbers.insert(port.number) {
            c.wrong("number", format!("Duplicate value: {}: port number cannot be duplicated", port.number));
        }
        if !port.name.is_empty() && !names.insert(port.name.clone()) {
            c.wrong("name", format!("Duplicate value: \"{}\" is the name of two ports", shown(&port.name)));
        }
    });
}

fn check_endpoints(entry: &ServiceEntry, c: &mut Checker) {
    at_most(c, "endpoints", entry.endpoints.len(), 4096);
    let count = entry.endpoints.len();
    if count > 0 && entry.workload_selector.is_some() {
        c.wrong("workload_selector", "only one of WorkloadSelector or Endpoints can be set");
    }
    // A selector by itself says that endpoints are found among workloads, so the combination is told above.
    let none = entry.resolution == Resolution::None && entry.workload_selector.is_none();
    if count > 0 && none {
        c.wrong("endpoints", "NONE mode cannot set endpoints: choose resolution STATIC, or DNS if they are names");
    }
    if count > 1 && entry.resolution == Resolution::DnsRoundRobin {
        c.wrong("endpoints", "DNS_ROUND_ROBIN mode cannot have multiple endpoints: keep one, or choose DNS");
    }
    c.each("endpoints", &entry.endpoints, |c, endpoint| {
        let is_name = net::host(&endpoint.address).is_ok() && endpoint.address.parse::<std::net::IpAddr>().is_err();
        if entry.resolution == Resolution::Static && is_name {
            c.wrong(
                "address",
                format!(
                    "\"{}\" is a name, and resolution STATIC needs addresses; choose DNS",
                    shown(&endpoint.address)
                ),
            );
        }
        if matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
            && endpoint.address.starts_with("unix://")
        {
            c.wrong("address", "a Unix socket can't be looked up; choose resolution STATIC");
        }
        for name in endpoint.ports.keys() {
            if !entry.ports.iter().any(|port| port.name == *name) {
                let message = format!("the service has no port named \"{}\"; name one of spec.ports", shown(name));
                c.field("ports", |c| c.key(name, |c| c.problem(message)));
            }
        }
    });
}

fn check_port(port: &ServicePort, c: &mut Checker) {
    super::port::required(c, "number", port.number);
    if port.name.is_empty() {
        c.required("name", false);
    } else {
        c.field("name", |c| text::tell(c, text::label(&port.name)));
    }
    c.field("protocol", |c| text::tell(c, protocol(&port.protocol)));
}

fn at_most(c: &mut Checker, field: &str, count: usize, most: usize) {
    if count > most {
        c.wrong(field, format!("Too many: {count} must have at most {most} items"));
    }
}
