//! `hawser status`: how this host is, and how discovery is where it runs.

use std::fmt::Write as _;
use std::path::Path;

use hawser_api::proto::admin::admin_client::AdminClient;
use hawser_api::proto::admin::{self, StatusRequest as DiscoveryStatusRequest};
use hawser_api::proto::agent::agent_client::AgentClient;
use hawser_api::proto::agent::{self, CertificateStatus, StatusRequest};
use hawser_api::proto::host::Health;
use serde::Serialize;
use tonic::Code;
use tonic::transport::Channel;

use super::ca::Root;
use super::call;
use crate::args::Of;
use crate::connect::{self, Side};
use crate::exit;
use crate::failure::Outcome;
use crate::output::{self, Format, joined, time};
use crate::terminal;

#[derive(Default, Serialize)]
struct Both {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Host>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<Discovery>,
}

pub(super) async fn run(socket: Option<&Path>, format: Format, of: Option<Of>) -> Outcome {
    let mut both = Both::default();
    if socket.is_some() {
        // One socket was named: whoever answers there is asked, unless the caller said who it is.
        if of != Some(Of::Discovery) {
            match connect::agent(socket).await?.status(call(StatusRequest {})).await {
                Ok(answer) => both.host = Some(Host::of(answer.into_inner())),
                Err(status) if status.code() == Code::Unimplemented && of.is_none() => {}
                Err(status) => return Err(status.into()),
            }
        }
        if both.host.is_none() {
            both.discovery = Some(discovery(&mut connect::admin(socket).await?).await?);
        }
    } else {
        let there = |side: Side| side.path(None).exists();
        let ask_discovery = of == Some(Of::Discovery) || (of.is_none() && there(Side::Discovery));
        if of == Some(Of::Host) || there(Side::Agent) && of.is_none() || !ask_discovery {
            let answer = connect::agent(None).await?.status(call(StatusRequest {})).await?;
            both.host = Some(Host::of(answer.into_inner()));
        }
        if ask_discovery {
            both.discovery = Some(discovery(&mut connect::admin(None).await?).await?);
        }
    }
    show(format, &both)?;
    Ok(exit::OK)
}

/// The host's status alone: the end of a join.
pub(super) async fn host(agent: &mut AgentClient<Channel>, format: Format) -> Outcome<()> {
    let answer = agent.status(call(StatusRequest {})).await?.into_inner();
    show(format, &Both { host: Some(Host::of(answer)), discovery: None })
}

async fn discovery(admin: &mut AdminClient<Channel>) -> Outcome<Discovery> {
    Ok(Discovery::of(admin.status(call(DiscoveryStatusRequest {})).await?.into_inner()))
}

fn show(format: Format, both: &Both) -> Outcome<()> {
    if format != Format::Table {
        return output::value(format, both);
    }
    let mut text = String::new();
    if let Some(host) = &both.host {
        text.push_str(&host.text());
    }
    if let Some(discovery) = &both.discovery {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&discovery.text());
    }
    output::text(&text)?;
    for warning in both.host.iter().flat_map(|h| &h.warnings) {
        terminal::warn(warning);
    }
    Ok(())
}

#[derive(Serialize)]
struct Host {
    state: String,
    version: String,
    instance_id: String,
    trust_domain: String,
    addresses: Vec<String>,
    discovery: Vec<String>,
    discovery_state: String,
    discovery_since: Option<String>,
    epoch: u64,
    frozen: bool,
    certificate: Option<Certificate>,
    workloads: Vec<Workload>,
    proxy: Option<Proxy>,
    redirection: Option<Redirection>,
    dns: Option<Dns>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Certificate {
    identity: String,
    serial: String,
    not_before: Option<String>,
    not_after: Option<String>,
    renews_at: Option<String>,
    #[serde(skip)]
    life: String,
}

#[derive(Serialize)]
struct Workload {
    id: String,
    namespace: String,
    name: String,
    group: String,
    identity: String,
    services: Vec<String>,
    ports: Vec<Port>,
    outbound_port: u32,
    certificate: Option<Certificate>,
}

#[derive(Serialize)]
struct Port {
    name: String,
    port: u32,
    protocol: String,
    health: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct Proxy {
    state: String,
    version: String,
    pid: i32,
    since: Option<String>,
    restarts: u32,
    resources: u32,
    last_nack: String,
    former: u32,
}

#[derive(Serialize)]
struct Redirection {
    state: String,
    ranges: Vec<String>,
    targets: u32,
    inbound: Vec<String>,
    on_proxy_failure: String,
    conntrack_entries: u64,
    conntrack_limit: u64,
    restored: u64,
}

#[derive(Serialize)]
struct Dns {
    mode: String,
    names: u32,
    upstreams: Vec<String>,
}

impl Certificate {
    fn of(c: CertificateStatus) -> Self {
        Self {
            life: format!("ends {}, renewed {}", time::relative(c.not_after), time::relative(c.renews_at)),
            identity: c.identity,
            serial: c.serial,
            not_before: time::text(c.not_before),
            not_after: time::text(c.not_after),
            renews_at: time::text(c.renews_at),
        }
    }
}

impl Workload {
    fn of(status: agent::WorkloadStatus) -> Self {
        let w = status.workload.unwrap_or_default();
        let ports = w.ports.into_iter().map(|p| {
            let health = status.health.iter().find(|h| h.port == p.port);
            Port {
                name: p.name,
                port: p.port,
                protocol: p.protocol,
                health: match health.map(|h| h.health()).unwrap_or_default() {
                    Health::Healthy => "healthy",
                    Health::Unhealthy => "unhealthy",
                    Health::Unknown => "unknown",
                },
                reason: health.map(|h| h.reason.clone()).unwrap_or_default(),
            }
        });
        Self {
            ports: ports.collect(),
            id: w.id,
            namespace: w.namespace,
            name: w.name,
            group: w.group,
            identity: w.spiffe_id,
            services: w.services,
            outbound_port: w.outbound_port,
            certificate: status.certificate.map(Certificate::of),
        }
    }
}

impl Host {
    fn of(s: agent::StatusResponse) -> Self {
        Self {
            state: s.state,
            version: s.version,
            instance_id: s.instance_id,
            trust_domain: s.trust_domain,
            addresses: s.addresses.into_iter().map(|a| a.address).collect(),
            discovery: s.discovery,
            discovery_state: s.discovery_state,
            discovery_since: time::text(s.discovery_since),
            epoch: s.epoch,
            frozen: s.frozen,
            certificate: s.host_certificate.map(Certificate::of),
            workloads: s.workloads.into_iter().map(Workload::of).collect(),
            proxy: s.proxy.map(|p| Proxy {
                state: p.state,
                version: p.version,
                pid: p.pid,
                since: time::text(p.since),
                restarts: p.restarts,
                resources: p.resources,
                last_nack: p.last_nack,
                former: p.former,
            }),
            redirection: s.redirection.map(|r| Redirection {
                state: r.state,
                ranges: r.ranges,
                targets: r.targets,
                inbound: r.inbound,
                on_proxy_failure: r.on_proxy_failure,
                conntrack_entries: r.conntrack_entries,
                conntrack_limit: r.conntrack_limit,
                restored: r.restored,
            }),
            dns: s.dns.map(|d| Dns { mode: d.mode, names: d.names, upstreams: d.upstreams }),
            warnings: s.warnings,
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![("state", self.state.clone())];
        if !self.instance_id.is_empty() {
            let frozen = if self.frozen { ", registry frozen" } else { "" };
            let discovery = joined(&self.discovery);
            lines.push(("instance", self.instance_id.clone()));
            lines.push(("trust domain", self.trust_domain.clone()));
            lines.push(("addresses", joined(&self.addresses)));
            lines.push(("discovery", format!("{} {discovery}, epoch {}{frozen}", self.discovery_state, self.epoch)));
        }
        if let Some(c) = &self.certificate {
            lines.push(("certificate", format!("{} ({})", c.identity, c.life)));
        }
        if let Some(p) = &self.proxy {
            let nack = if p.last_nack.is_empty() { String::new() } else { format!(", refused: {}", p.last_nack) };
            let (pid, held) = (p.pid, p.resources);
            lines.push(("proxy", format!("{}, pid {pid}, {held} resources, {} restarts{nack}", p.state, p.restarts)));
            if p.former > 0 {
                lines.push(("former proxies", format!("{}, whose connections go on until they end", p.former)));
            }
        }
        if let Some(r) = &self.redirection {
            let inbound = joined(&r.inbound);
            let (ranges, closed) = (joined(&r.ranges), &r.on_proxy_failure);
            let text = format!("{}, out {ranges} and {} targets, in {inbound}", r.state, r.targets);
            lines.push(("redirection", format!("{text}, {closed} if the proxy fails")));
        }
        if let Some(d) = &self.dns {
            lines.push(("dns", format!("{}, {} names, upstream {}", d.mode, d.names, joined(&d.upstreams))));
        }
        let mut text = output::pairs(&lines);
        for w in &self.workloads {
            let _ = write!(text, "\nworkload {}/{} of group {}\n", w.namespace, w.name, w.group);
            let mut lines = vec![("  identity", w.identity.clone())];
            if let Some(c) = &w.certificate {
                lines.push(("  certificate", c.life.clone()));
            }
            lines.push(("  services", joined(&w.services)));
            for p in &w.ports {
                let reason = if p.reason.is_empty() { String::new() } else { format!(": {}", p.reason) };
                let protocol = if p.protocol.is_empty() { "detected" } else { &p.protocol };
                lines.push(("  port", format!("{} {} ({protocol}) {}{reason}", p.name, p.port, p.health)));
            }
            text.push_str(&output::pairs(&lines));
        }
        text
    }
}

#[derive(Serialize)]
struct Discovery {
    version: String,
    trust_domain: String,
    ready: bool,
    missing: Vec<String>,
    started: Option<String>,
    services: u32,
    workloads: u32,
    hosts_connected: u32,
    hosts_lapsed: u32,
    freezes: Vec<String>,
    registries: Vec<Registry>,
    roots: Vec<Root>,
    #[serde(skip)]
    since: String,
}

#[derive(Serialize)]
struct Registry {
    name: String,
    state: String,
    since: Option<String>,
    messages: Vec<String>,
}

impl Discovery {
    fn of(s: admin::StatusResponse) -> Self {
        Self {
            version: s.version,
            trust_domain: s.trust_domain,
            ready: s.ready,
            missing: s.missing,
            started: time::text(s.started),
            services: s.services,
            workloads: s.workloads,
            hosts_connected: s.hosts_connected,
            hosts_lapsed: s.hosts_lapsed,
            freezes: s.freezes,
            since: time::relative(s.started),
            registries: (s.registries.into_iter())
                .map(|r| Registry { name: r.name, state: r.state, since: time::text(r.since), messages: r.messages })
                .collect(),
            roots: s.roots.into_iter().map(Root::of).collect(),
        }
    }

    fn text(&self) -> String {
        let ready = if self.ready { "ready".to_owned() } else { format!("waits for {}", joined(&self.missing)) };
        let mut lines = vec![
            ("discovery", format!("{ready}, version {}, started {}", self.version, self.since)),
            ("trust domain", self.trust_domain.clone()),
            ("services", format!("{} with {} workloads", self.services, self.workloads)),
            ("hosts", format!("{} connected, {} lapsed", self.hosts_connected, self.hosts_lapsed)),
        ];
        for freeze in &self.freezes {
            lines.push(("frozen", freeze.clone()));
        }
        for r in &self.registries {
            let messages = if r.messages.is_empty() { String::new() } else { format!(": {}", r.messages.join("; ")) };
            lines.push(("registry", format!("{} {}{messages}", r.name, r.state)));
        }
        for r in &self.roots {
            lines.push(("root", r.line()));
        }
        output::pairs(&lines)
    }
}
