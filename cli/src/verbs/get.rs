//! `hawser get`: listings of what the mesh holds.

use std::collections::BTreeMap;
use std::path::Path;

use hawser_api::proto::admin::{
    ConfigInfo, EndpointInfo, HostInfo, ListConfigRequest, ListEndpointsRequest, ListHostsRequest, ListServicesRequest,
    ListWorkloadsRequest, ServiceInfo, WorkloadInfo,
};
use hawser_api::proto::host::Port;
use serde::Serialize;

use super::call;
use crate::args::{Get, What};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Format, Row, joined, time};
use crate::{connect, exit};

pub(super) async fn run(socket: Option<&Path>, format: Format, get: Get) -> Outcome {
    let name = get.name.as_deref();
    let namespace = get.namespace.clone().unwrap_or_default();
    match get.what {
        What::Tokens => return super::token::list(socket, format, get.namespace.as_deref(), name).await,
        What::Hosts => return hosts(socket, format, get.namespace.as_deref(), name).await,
        _ => {}
    }
    let mut admin = connect::admin(socket).await?;
    match get.what {
        What::Services => {
            let answer = admin.list_services(call(ListServicesRequest { namespace })).await?.into_inner();
            show(format, answer.services.into_iter().map(Service::of).collect(), name, |s| s.host.clone())
        }
        What::Workloads => {
            let answer = admin.list_workloads(call(ListWorkloadsRequest { namespace })).await?.into_inner();
            show(format, answer.workloads.into_iter().map(Workload::of).collect(), name, |w| w.name.clone())
        }
        What::Endpoints => {
            let request = ListEndpointsRequest { host: String::new(), namespace };
            let answer = admin.list_endpoints(call(request)).await?.into_inner();
            show(format, answer.endpoints.into_iter().map(Endpoint::of).collect(), name, |e| e.host.clone())
        }
        _ => {
            let kind = get.kind.unwrap_or_default();
            let request = ListConfigRequest { kind, namespace, with_yaml: format != Format::Table };
            let answer = admin.list_config(call(request)).await?.into_inner();
            show(format, answer.config.into_iter().map(Config::of).collect(), name, |c| c.name.clone())
        }
    }
}

/// Writes all rows, or those that `name` names: whole, or up to a dot.
pub(super) fn show<R: Row>(format: Format, rows: Vec<R>, name: Option<&str>, key: impl Fn(&R) -> String) -> Outcome {
    let Some(name) = name else {
        output::list(format, &rows)?;
        if rows.is_empty() && format == Format::Table {
            eprintln!("there are none");
        }
        return Ok(exit::OK);
    };
    let rows: Vec<R> = (rows.into_iter())
        .filter(|row| key(row).strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        .collect();
    if rows.is_empty() {
        return Err(Failure::new(exit::NOT_FOUND, format!("there is no {name:?}")));
    }
    output::list(format, &rows)?;
    Ok(exit::OK)
}

/// Joined hosts, also as `hawser hosts list`.
pub(super) async fn hosts(
    socket: Option<&Path>,
    format: Format,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Outcome {
    let answer = connect::admin(socket).await?.list_hosts(call(ListHostsRequest {})).await?.into_inner();
    let within = |h: &Host| namespace.is_none_or(|n| h.workloads.iter().any(|w| w.starts_with(&format!("{n}/"))));
    let rows: Vec<Host> = answer.hosts.into_iter().map(Host::of).filter(within).collect();
    let by_id = name.is_some_and(|n| rows.iter().any(|h| h.instance_id == n));
    show(format, rows, name, |h| if by_id { h.instance_id.clone() } else { h.hostname.clone() })
}

fn port(p: &Port) -> String {
    let protocol = if p.protocol.is_empty() || p.protocol == p.name { "" } else { &p.protocol };
    match (p.name.as_str(), protocol) {
        ("", "") => p.port.to_string(),
        (name, "") => format!("{name}={}", p.port),
        (name, protocol) => format!("{name}={}/{protocol}", p.port),
    }
}

#[derive(Serialize)]
struct Service {
    host: String,
    namespace: String,
    addresses: Vec<String>,
    ports: Vec<String>,
    endpoints: u32,
    healthy: u32,
    registries: Vec<String>,
    resolution: String,
    conflicts: Vec<String>,
    aliases: Vec<String>,
}

impl Service {
    fn of(s: ServiceInfo) -> Self {
        Self {
            ports: s.ports.iter().map(port).collect(),
            host: s.host,
            namespace: s.namespace,
            addresses: s.addresses,
            endpoints: s.endpoints,
            healthy: s.healthy,
            registries: s.registries,
            resolution: s.resolution,
            conflicts: s.conflicts,
            aliases: s.aliases,
        }
    }
}

impl Row for Service {
    const TITLES: &'static [&'static str] =
        &["NAMESPACE", "HOST", "ADDRESSES", "PORTS", "HEALTHY", "REGISTRIES", "CONFLICTS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            joined([std::slice::from_ref(&self.host), &self.aliases].concat()),
            joined(&self.addresses),
            joined(&self.ports),
            format!("{}/{}", self.healthy, self.endpoints),
            joined(&self.registries),
            joined(&self.conflicts),
        ]
    }
}

#[derive(Serialize)]
struct Workload {
    name: String,
    namespace: String,
    registry: String,
    addresses: Vec<String>,
    identity: String,
    labels: BTreeMap<String, String>,
    health: String,
    services: Vec<String>,
    instance_id: String,
    locality: String,
}

impl Workload {
    fn of(w: WorkloadInfo) -> Self {
        Self {
            name: w.name,
            namespace: w.namespace,
            registry: w.registry,
            addresses: w.addresses,
            identity: w.identity,
            labels: w.labels,
            health: w.health,
            services: w.services,
            instance_id: w.instance_id,
            locality: w.locality,
        }
    }
}

impl Row for Workload {
    const TITLES: &'static [&'static str] =
        &["NAMESPACE", "NAME", "ADDRESSES", "HEALTH", "IDENTITY", "REGISTRY", "SERVICES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.name.clone(),
            joined(&self.addresses),
            self.health.clone(),
            joined([&self.identity]),
            self.registry.clone(),
            joined(&self.services),
        ]
    }
}

#[derive(Serialize)]
struct Endpoint {
    host: String,
    port: u32,
    address: String,
    target_port: u32,
    health: String,
    weight: u32,
    identity: String,
    transport: String,
    workload: String,
    registry: String,
    locality: String,
}

impl Endpoint {
    fn of(e: EndpointInfo) -> Self {
        Self {
            host: e.host,
            port: e.port,
            address: e.address,
            target_port: e.target_port,
            health: e.health,
            weight: e.weight,
            identity: e.identity,
            transport: e.transport,
            workload: e.workload,
            registry: e.registry,
            locality: e.locality,
        }
    }
}

impl Row for Endpoint {
    const TITLES: &'static [&'static str] =
        &["HOST", "PORT", "ADDRESS", "HEALTH", "WEIGHT", "TRANSPORT", "WORKLOAD", "REGISTRY"];

    fn cells(&self) -> Vec<String> {
        let v6 = self.address.contains(':');
        let (open, close) = if v6 { ("[", "]") } else { ("", "") };
        vec![
            self.host.clone(),
            self.port.to_string(),
            format!("{open}{}{close}:{}", self.address, self.target_port),
            self.health.clone(),
            self.weight.to_string(),
            self.transport.clone(),
            self.workload.clone(),
            self.registry.clone(),
        ]
    }
}

#[derive(Serialize)]
struct Config {
    kind: String,
    namespace: String,
    name: String,
    source: String,
    origin: String,
    state: String,
    messages: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    yaml: String,
}

impl Config {
    fn of(c: ConfigInfo) -> Self {
        let object = c.object.unwrap_or_default();
        Self {
            kind: object.kind,
            namespace: object.namespace,
            name: object.name,
            source: c.source,
            origin: c.origin,
            state: c.state,
            messages: c.messages,
            yaml: c.yaml,
        }
    }
}

impl Row for Config {
    const TITLES: &'static [&'static str] = &["KIND", "NAMESPACE", "NAME", "SOURCE", "ORIGIN", "STATE", "MESSAGES"];

    fn cells(&self) -> Vec<String> {
        let some = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        vec![
            some(&self.kind),
            some(&self.namespace),
            some(&self.name),
            self.source.clone(),
            some(&self.origin),
            self.state.clone(),
            self.messages.join("; "),
        ]
    }
}

#[derive(Serialize)]
struct Host {
    instance_id: String,
    hostname: String,
    /// As `namespace/name`.
    workloads: Vec<String>,
    addresses: Vec<String>,
    lease: String,
    epoch: u64,
    version: String,
    joined: Option<String>,
    seen: Option<String>,
    #[serde(skip)]
    seen_at: Option<prost_types::Timestamp>,
}

impl Host {
    fn of(h: HostInfo) -> Self {
        let record = h.record.unwrap_or_default();
        Self {
            instance_id: record.instance_id,
            hostname: h.hostname,
            workloads: record.workloads.iter().map(|w| format!("{}/{}", w.namespace, w.name)).collect(),
            addresses: record.addresses.into_iter().map(|a| a.address).collect(),
            lease: h.lease,
            epoch: h.epoch,
            version: h.version,
            joined: time::text(h.joined),
            seen: time::text(h.seen),
            seen_at: h.seen,
        }
    }
}

impl Row for Host {
    const TITLES: &'static [&'static str] =
        &["INSTANCE", "HOSTNAME", "WORKLOADS", "ADDRESSES", "LEASE", "SEEN", "VERSION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.instance_id.clone(),
            self.hostname.clone(),
            joined(&self.workloads),
            joined(&self.addresses),
            self.lease.clone(),
            time::relative(self.seen_at),
            self.version.clone(),
        ]
    }
}
