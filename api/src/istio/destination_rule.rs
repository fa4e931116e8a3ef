//! DestinationRule: what callers do with the endpoints of a host.

mod load_balancer;
mod pool;
mod tls;

pub use load_balancer::{
    ConsistentHash, Distribute, Failover, HttpCookie, HttpCookieAttribute, LoadBalancerSettings,
    LocalityLoadBalancerSetting, MagLev, RingHash, SimpleLb, WarmupConfiguration, ZoneAwareLoadBalancerSetting,
};
pub use pool::{
    ConnectionPoolSettings, H2UpgradePolicy, Http2KeepAlive, HttpSettings, OutlierDetection, RetryBudget, TcpKeepalive,
    TcpSettings,
};
pub use tls::{ClientTlsMode, ClientTlsSettings};

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Checker, net, text};
use super::error::shown;
use super::message::{enumeration, message};
use super::virtual_service::PortSelector;
use super::{LabelSelector, Port};

message! {
    /// What callers do with the endpoints of a host.
    pub struct DestinationRule [check_rule] {
        /// The service.
        host: String,
        /// For all of it, unless a port or subset says otherwise.
        traffic_policy: Option<TrafficPolicy>,
        /// Named parts of it.
        subsets: Vec<Subset>,
        /// Namespaces that see it; none is all.
        export_to: Vec<String>,
        /// Callers it is for; none is all.
        workload_selector: Option<LabelSelector>,
    }

    /// A named part of a service.
    pub struct Subset [check_subset] {
        /// Name.
        name: String,
        /// Endpoints with all of these; none is every endpoint.
        labels: BTreeMap<String, String>,
        /// In place of the rule's.
        traffic_policy: Option<TrafficPolicy>,
    }

    /// What callers do.
    pub struct TrafficPolicy [check_policy] {
        /// Which endpoint.
        load_balancer: Option<LoadBalancerSettings>,
        /// How many connections and requests.
        connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is left out.
        outlier_detection: Option<OutlierDetection>,
        /// TLS.
        tls: Option<ClientTlsSettings>,
        /// For single ports, in place of all of the above.
        port_level_settings: Vec<PortTrafficPolicy>,
        /// Tunnel TCP through another service.
        tunnel: Option<TunnelSettings>,
        /// Say the caller's address in a PROXY header.
        proxy_protocol: Option<ProxyProtocol>,
        /// Share of requests that may be tries.
        retry_budget: Option<RetryBudget>,
    }

    /// What callers do at one port.
    pub struct PortTrafficPolicy [check_port_policy] {
        /// The port.
        port: Option<PortSelector>,
        /// Which endpoint.
        load_balancer: Option<LoadBalancerSettings>,
        /// How many connections and requests.
        connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is left out.
        outlier_detection: Option<OutlierDetection>,
        /// TLS.
        tls: Option<ClientTlsSettings>,
    }

    /// A tunnel through another service.
    pub struct TunnelSettings [check_tunnel] {
        /// `CONNECT` or `POST`; empty is `CONNECT`.
        protocol: String,
        /// Where the tunnel ends.
        target_host: String,
        /// Where the tunnel ends.
        target_port: Port,
    }

    /// The PROXY header.
    pub struct ProxyProtocol {
        /// Version.
        version: ProxyProtocolVersion,
    }
}

enumeration! {
    /// Versions of the PROXY header.
    pub enum ProxyProtocolVersion {
        /// Text.
        V1 = "V1",
        /// Binary.
        V2 = "V2",
    }
}

fn check_rule(rule: &DestinationRule, c: &mut Checker) {
    if rule.host.is_empty() {
        c.required("host", false);
    } else {
        c.field("host", |c| {
            text::tell(c, net::wildcard_host(&rule.host));
        });
    }
    text::export_to(c, &rule.export_to);
    let mut seen = BTreeSet::new();
    c.each("subsets", &rule.subsets, |c, subset| {
        if !seen.insert(subset.name.clone()) {
            c.wrong("name", format!("Duplicate value: \"{}\" is the name of two subsets", shown(&subset.name)));
        }
    });
}

fn check_subset(subset: &Subset, c: &mut Checker) {
    if subset.name.is_empty() {
        c.required("name", false);
    } else {
        c.field("name", |c| text::tell(c, text::label(&subset.name)));
    }
    text::labels(c, "labels", &subset.labels);
}

fn check_policy(policy: &TrafficPolicy, c: &mut Checker) {
    if *policy == TrafficPolicy::default() {
        c.problem("it says nothing; set one of its fields, or take it out");
    }
    let mut seen = BTreeSet::new();
    c.each("port_level_settings", &policy.port_level_settings, |c, setting| {
        if let Some(port) = setting.port.as_ref().filter(|port| !seen.insert(port.number)) {
            c.wrong("port", format!("Duplicate value: port {} has two settings", port.number));
        }
    });
}

fn check_port_policy(policy: &PortTrafficPolicy, c: &mut Checker) {
    c.required("port", policy.port.is_some());
    let PortTrafficPolicy { load_balancer, connection_pool, outlier_detection, tls, .. } = policy;
    if load_balancer.is_none() && connection_pool.is_none() && outlier_detection.is_none() && tls.is_none() {
        c.problem("it says nothing; one of loadBalancer, connectionPool, outlierDetection, tls is required");
    }
}

fn check_tunnel(tunnel: &TunnelSettings, c: &mut Checker) {
    if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
        c.wrong("protocol", format!("Invalid value: \"{}\" is not CONNECT or POST", shown(&tunnel.protocol)));
    }
    if tunnel.target_host.is_empty() {
        c.required("target_host", false);
    } else {
        c.field("target_host", |c| text::tell(c, net::host(&tunnel.target_host)));
    }
    super::port::required(c, "target_port", tunnel.target_port);
}
