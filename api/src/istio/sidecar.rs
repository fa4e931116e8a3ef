//! Sidecar: what a workload takes in, and which services it sees.

use super::check::{Checker, net, text};
use super::destination_rule::ConnectionPoolSettings;
use super::error::shown;
use super::gateway::ServerTlsSettings;
use super::message::{enumeration, message};
use super::service_entry::protocol;
use super::virtual_service::Destination;
use super::{Port, WorkloadSelector};

message! {
    /// What a workload takes in, and which services it sees.
    pub struct Sidecar [check_sidecar] {
        /// Workloads it is for; none is every workload of the namespace.
        workload_selector: Option<WorkloadSelector>,
        /// Ports taken in, in place of those that are declared elsewhere.
        ingress: Vec<IstioIngressListener>,
        /// Services seen; none is all.
        egress: Vec<IstioEgressListener>,
        /// Limits of what comes in.
        inbound_connection_pool: Option<ConnectionPoolSettings>,
        /// Addresses that no service has.
        outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }

    /// A port taken in.
    pub struct IstioIngressListener [check_ingress] {
        /// The port.
        port: Option<SidecarPort>,
        /// Address to listen on.
        bind: String,
        /// How connections come here.
        capture_mode: CaptureMode,
        /// Where connections go: `127.0.0.1:port`, `0.0.0.0:port`, or `unix://` path.
        default_endpoint: String,
        /// TLS that is ended here.
        tls: Option<ServerTlsSettings>,
        /// Limits.
        connection_pool: Option<ConnectionPoolSettings>,
    }

    /// Services seen at a port.
    pub struct IstioEgressListener [check_egress] {
        /// The port; none is every port.
        port: Option<SidecarPort>,
        /// Address to listen on.
        bind: String,
        /// How connections come here.
        capture_mode: CaptureMode,
        /// `namespace/host`; the namespace may be `.`, `*` or `~`.
        hosts: Vec<String>,
    }

    /// A port.
    pub struct SidecarPort [check_port] {
        /// Number.
        number: Port,
        /// What it speaks.
        protocol: String,
        /// Name.
        name: String,
        /// Known, and without effect.
        target_port: Port,
    }

    /// Addresses that no service has.
    pub struct OutboundTrafficPolicy [check_outbound] {
        /// May they be called? Unset is `REGISTRY_ONLY`.
        mode: Option<OutboundMode>,
        /// Through this service.
        egress_proxy: Option<Destination>,
    }
}

enumeration! {
    /// How connections come to a listener.
    pub enum CaptureMode {
        /// As the workload's.
        Default = "DEFAULT",
        /// By redirection.
        Iptables = "IPTABLES",
        /// The application dials it.
        None = "NONE",
    }

    /// May addresses that no service has be called?
    pub enum OutboundMode {
        /// No.
        RegistryOnly = "REGISTRY_ONLY",
        /// Yes.
        AllowAny = "ALLOW_ANY",
    }
}

fn check_sidecar(sidecar: &Sidecar, c: &mut Checker) {
    let selects = sidecar.workload_selector.as_ref().is_some_and(|s| !s.labels.is_empty());
    if !sidecar.ingress.is_empty() && !selects {
        c.wrong("workload_selector", "ingress is for chosen workloads: labels are required");
    }
    let catch_all = sidecar.egress.iter().rev().skip(1).position(|e| e.port.is_none());
    if catch_all.is_some() {
        c.wrong("egress", "only the last one may be without a port");
    }
    let numbers = |port: &Option<SidecarPort>| port.as_ref().and_then(|port| port.number.number());
    for (field, all) in [
        ("ingress", sidecar.ingress.iter().filter_map(|l| numbers(&l.port)).collect::<Vec<_>>()),
        ("egress", sidecar.egress.iter().filter_map(|l| numbers(&l.port)).collect()),
    ] {
        let twice = all.iter().enumerate().find(|(index, port)| all[..*index].contains(port));
        if let Some((_, port)) = twice {
            c.wrong(field, format!("Duplicate value: port {port} stands twice; name its hosts in one listener"));
        }
    }
}

fn check_ingress(listener: &IstioIngressListener, c: &mut Checker) {
    c.required("port", listener.port.is_some());
    check_bind(c, &listener.bind);
    let endpoint = listener.default_endpoint.as_str();
    let socket = endpoint.strip_prefix("unix://").is_some_and(|p| p.starts_with(['/', '@']) && !p.ends_with('/'));
    let address = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"].iter().any(|a| {
        let port = endpoint.strip_prefix(a).and_then(|rest| rest.strip_prefix(':'));
        port.is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p != 0))
    });
    if !endpoint.is_empty() && !socket && !address {
        let forms = "127.0.0.1:port, [::1]:port, 0.0.0.0:port, [::]:port or unix://path";
        c.wrong("default_endpoint", format!("\"{}\" is not {forms}", shown(endpoint)));
    }
}

fn check_egress(listener: &IstioEgressListener, c: &mut Checker) {
    c.required("hosts", !listener.hosts.is_empty());
    c.each("hosts", &listener.hosts, |c, host| text::tell(c, net::namespaced_host(host, &[".", "*", "~"])));
    if listener.bind.starts_with("unix://") {
        if listener.port.is_none() {
            c.required("port", false);
        }
    } else {
        check_bind(c, &listener.bind);
    }
    if listener.port.is_none() && !listener.bind.is_empty() {
        c.wrong("bind", "it needs a port");
    }
}

fn check_bind(c: &mut Checker, bind: &str) {
    if !bind.is_empty() && bind.parse::<std::net::IpAddr>().is_err() {
        c.wrong("bind", format!("\"{}\" is not an IP address", shown(bind)));
    }
}

fn check_port(port: &SidecarPort, c: &mut Checker) {
    super::port::required(c, "number", port.number);
    c.field("protocol", |c| text::tell(c, protocol(&port.protocol)));
    if !port.name.is_empty() {
        c.field("name", |c| text::tell(c, text::label(&port.name)));
    }
}

fn check_outbound(policy: &OutboundTrafficPolicy, c: &mut Checker) {
    if policy.egress_proxy.is_some() && policy.mode != Some(OutboundMode::AllowAny) {
        c.wrong("egress_proxy", "it needs mode: ALLOW_ANY");
    }
}
