//! Listings of the newest snapshot.

use std::borrow::Cow;

use hawser_api::proto::admin::{
    EndpointInfo, HostInfo, ProxyInfo, RegistryInfo, RegistryStatus, Root, ServiceInfo, StatusResponse, TypeStatus,
    WorkloadInfo,
};
use hawser_api::proto::host;
use hawser_mesh::{Health, Locality, Resolution, Transport};

use super::AdminService;
use crate::ads::{ClientInfo, TypeInfo};
use crate::hosts::{HostView, LeaseState};
use crate::registry::Snapshot;
use crate::registry::model::{Endpoint, Member};
use crate::words::{timestamp, unix};

impl AdminService {
    pub(super) fn services(&self, namespace: &str) -> Vec<ServiceInfo> {
        let snapshot = self.snapshot();
        let wanted = snapshot.services().into_iter().filter(|s| in_namespace(&s.service.namespace, namespace));
        wanted
            .map(|state| {
                let service = &state.service;
                let endpoints = state.endpoints();
                let own = service.addresses.iter().map(|net| match net.prefix_len() == net.max_prefix_len() {
                    true => net.addr().to_string(),
                    false => net.to_string(),
                });
                let port = |p: &hawser_mesh::ServicePort| host::Port {
                    name: p.name.clone(),
                    port: u32::from(p.port),
                    protocol: p.protocol.as_str().to_owned(),
                    probe: None,
                };
                ServiceInfo {
                    host: service.host.to_string(),
                    namespace: service.namespace.to_string(),
                    addresses: own.chain(service.virtual_addresses.iter().map(ToString::to_string)).collect(),
                    ports: service.ports.iter().map(port).collect(),
                    endpoints: count(endpoints.len()),
                    healthy: count(endpoints.iter().filter(|e| e.health == Health::Healthy).count()),
                    registries: service.registries().into_iter().map(ToString::to_string).collect(),
                    conflicts: service.conflicts.clone(),
                    resolution: resolution(service.resolution).to_owned(),
                    aliases: service.aliases.iter().map(|alias| alias.host.to_string()).collect(),
                }
            })
            .collect()
    }

    pub(super) fn workloads(&self, namespace: &str) -> Vec<WorkloadInfo> {
        let snapshot = self.snapshot();
        let all = snapshot.workloads().into_iter().filter(|m| in_namespace(&m.workload.key.namespace, namespace));
        all.map(|member| workload_info(member, &snapshot)).collect()
    }

    pub(super) fn endpoints(&self, host: &str, namespace: &str) -> Vec<EndpointInfo> {
        let snapshot = self.snapshot();
        let mut infos = Vec::new();
        for state in snapshot.services() {
            let named = host.is_empty() || matches_host(state.service.host.as_str(), host);
            if named && in_namespace(&state.service.namespace, namespace) {
                infos.extend(state.endpoints().iter().map(endpoint_info));
            }
        }
        infos
    }

    pub(super) fn hosts(&self) -> Vec<HostInfo> {
        let mesh = self.inner.hosts.mesh();
        let info = |view: HostView| HostInfo {
            record: Some(crate::hosts::for_agent(&view.instance_id, &view.record, mesh)),
            hostname: view.record.hostname.clone(),
            lease: view.lease.map_or("revoked", LeaseState::as_str).to_owned(),
            joined: Some(timestamp(view.record.joined)),
            seen: Some(timestamp(view.record.seen)),
            epoch: view.record.epoch,
            version: view.record.version.clone(),
        };
        self.inner.hosts.list().into_iter().map(info).collect()
    }

    pub(super) fn proxies(&self) -> Vec<ProxyInfo> {
        let ty = |t: TypeInfo| TypeStatus {
            type_url: t.type_url,
            resources: count(t.resources),
            state: t.state.to_owned(),
            last_nack: t.last_nack,
            last_ack: t.last_ack.map(|at| timestamp(unix(at))),
        };
        let proxy = |client: ClientInfo| ProxyInfo {
            node_id: client.node_id,
            class: client.class.as_str().to_owned(),
            mode: client.mode.as_str().to_owned(),
            identity: client.identity,
            connected: Some(timestamp(unix(client.connected))),
            types: client.types.into_iter().map(ty).collect(),
            peer: client.peer.to_string(),
        };
        self.inner.ads.clients().into_iter().map(proxy).collect()
    }

    pub(super) fn status_now(&self) -> StatusResponse {
        let snapshot = self.snapshot();
        let counts = self.inner.hosts.counts();
        let sum = |states: &[LeaseState]| count(states.iter().filter_map(|s| counts.get(s)).sum());
        let mut missing: Vec<String> = self.inner.readiness.missing().into_iter().map(Cow::into_owned).collect();
        missing.extend(snapshot.missing().into_iter().map(|name| format!("registry {name}")));
        missing.sort();
        missing.dedup();
        let freezes = self.inner.hosts.freezes();
        let registry = |info: RegistryInfo| RegistryStatus {
            name: info.name,
            state: info.state,
            since: info.since,
            messages: info.messages,
        };
        StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.inner.authority.trust_domain().to_string(),
            ready: missing.is_empty(),
            missing,
            services: count(snapshot.service_count()),
            workloads: count(snapshot.workload_count()),
            hosts_connected: sum(&[LeaseState::Connected, LeaseState::Draining]),
            hosts_lapsed: sum(&[LeaseState::Lapsed, LeaseState::Degraded, LeaseState::Kept]),
            registries: self.registries().registries.into_iter().map(registry).collect(),
            roots: self.roots(),
            started: Some(timestamp(unix(self.inner.started))),
            freezes,
        }
    }

    /// The roots of the CA, the one that signs first.
    pub(super) fn roots(&self) -> Vec<Root> {
        let mut all = self.inner.authority.roots();
        all.sort_by_key(|root| !root.signing);
        let root = |r: crate::identity::Root| Root {
            pin: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, r.pin.0),
            not_after: Some(timestamp(unix(r.not_after))),
            signing: r.signing,
            trusted_until: r.trusted_until.map(|until| timestamp(unix(until))),
        };
        all.into_iter().map(root).collect()
    }

    fn snapshot(&self) -> std::sync::Arc<Snapshot> {
        self.inner.snapshots.borrow().clone()
    }
}

fn workload_info(member: &Member, snapshot: &Snapshot) -> WorkloadInfo {
    let workload = &member.workload;
    let worst = workload.port_health.values().copied().max().unwrap_or_default().max(workload.health);
    WorkloadInfo {
        name: workload.key.name.to_string(),
        namespace: workload.key.namespace.to_string(),
        registry: member.id.registry.to_string(),
        addresses: workload.addresses.values().flatten().cloned().collect(),
        identity: workload.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        labels: workload.labels.clone(),
        health: health(worst).to_owned(),
        services: snapshot.services_of(&member.id).map(|s| s.service.host.to_string()).collect(),
        instance_id: workload.instance.as_ref().map(|i| i.instance_id.to_string()).unwrap_or_default(),
        locality: locality(&workload.locality),
    }
}

fn endpoint_info(endpoint: &Endpoint) -> EndpointInfo {
    let workload = &endpoint.member.workload;
    EndpointInfo {
        host: endpoint.host.to_string(),
        port: u32::from(endpoint.port),
        address: endpoint.address.clone(),
        target_port: u32::from(endpoint.target_port),
        health: health(endpoint.health).to_owned(),
        weight: workload.weight.max(1),
        identity: workload.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        transport: match endpoint.transport {
            Transport::Plaintext => "plaintext",
            Transport::Mtls => "mtls",
            Transport::Hbone => "hbone",
        }
        .to_owned(),
        workload: workload.key.to_string(),
        registry: endpoint.member.id.registry.to_string(),
        locality: locality(&workload.locality),
    }
}

/// A whole name, or the short forms that people type.
fn matches_host(host: &str, asked: &str) -> bool {
    host == asked || host.strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'))
}

fn in_namespace(own: &str, asked: &str) -> bool {
    asked.is_empty() || own == asked
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn locality(of: &Locality) -> String {
    let parts = [&of.region, &of.zone, &of.sub_zone];
    let filled = parts.iter().rposition(|p| !p.is_empty()).map_or(0, |last| last + 1);
    parts[..filled].iter().map(|p| p.as_str()).collect::<Vec<_>>().join("/")
}

fn health(of: Health) -> &'static str {
    match of {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Draining => "draining",
        Health::Unhealthy => "unhealthy",
    }
}

fn resolution(of: Resolution) -> &'static str {
    match of {
        Resolution::Static => "static",
        Resolution::Dns => "dns",
        Resolution::DnsRoundRobin => "dns-round-robin",
        Resolution::None => "none",
    }
}
