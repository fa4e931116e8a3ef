//! What `hawser status` shows, from what runs.

use std::time::SystemTime;

use hawser_api::proto::agent::{
    CertificateStatus, DnsStatus, ProxyStatus, RedirectionStatus, StatusResponse, WorkloadStatus,
};
use prost_types::Timestamp;

use crate::host::Phase;
use crate::identity::Credential;
use crate::member::Member;
use crate::redirect::OnProxyFailure;
use crate::supervise::Phase as ProxyPhase;

/// The whole status.
pub(crate) async fn of(phase: Phase, member: Option<&Member>) -> StatusResponse {
    let mut status = StatusResponse {
        state: phase.as_str().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..StatusResponse::default()
    };
    let Some(member) = member else { return status };
    let identity = member.holder.current();
    let session = member.session.borrow().clone();
    let link = member.link.state();
    if phase == Phase::Joined && session.refused.as_ref().is_some_and(crate::refusal::Refusal::is_final) {
        status.state = "rejoin-needed".into();
    }
    status.instance_id.clone_from(&identity.record.instance_id);
    status.trust_domain = identity.trust_domain.to_string();
    status.discovery.clone_from(&member.holder.joined().discovery);
    status.discovery_state = link.reach.as_str().into();
    status.discovery_since = Some(timestamp(link.since));
    status.epoch = session.epoch;
    status.frozen = session.frozen;
    status.host_certificate = Some(certificate(&identity.host));
    status.addresses.clone_from(&identity.record.addresses);
    let health = member.health.borrow().clone();
    for workload in &identity.record.workloads {
        let ports = health.iter().find(|health| health.workload_id == workload.id).map(|health| health.ports.clone());
        status.workloads.push(WorkloadStatus {
            workload: Some(workload.clone()),
            certificate: identity.workloads.get(&workload.id).map(|credential| certificate(credential)),
            health: ports.unwrap_or_default(),
        });
    }
    let (redirection, differences) = member.capture.status().await;
    status.warnings = warnings(member, &session);
    status.warnings.extend(conntrack_warning(redirection.conntrack));
    let healing = member.capture.healing();
    status.warnings.extend(healing.warning(SystemTime::now(), tokio::time::Instant::now()));
    let proxy = member.supervisor.state.borrow().clone();
    if proxy.phase == ProxyPhase::Down && !proxy.trouble.is_empty() {
        status.warnings.push(format!("the proxy is down: {}", proxy.trouble));
    }
    status.proxy = Some(ProxyStatus {
        state: proxy.phase.as_str().into(),
        version: proxy.version,
        pid: proxy.pid,
        since: proxy.since.map(timestamp),
        restarts: proxy.restarts,
        former: proxy.former,
        resources: member.relay.clients.proxy().map_or(0, |client| u32::try_from(client.resources).unwrap_or(u32::MAX)),
        last_nack: member.relay.clients.last_nack().unwrap_or_default(),
    });
    let installed = if !redirection.installed {
        "absent"
    } else if differences.is_empty() {
        "installed"
    } else {
        "differs"
    };
    let (entries, limit) = redirection.conntrack.unwrap_or_default();
    status.redirection = Some(RedirectionStatus {
        state: installed.into(),
        ranges: redirection.ranges,
        targets: u32::try_from(redirection.targets).unwrap_or(u32::MAX),
        inbound: redirection.inbound,
        on_proxy_failure: match member.capture.intent().on_proxy_failure {
            OnProxyFailure::Closed => "closed".into(),
            OnProxyFailure::Open => "open".into(),
        },
        conntrack_entries: entries,
        conntrack_limit: limit,
        restored: healing.restored,
    });
    status.dns = Some(DnsStatus {
        mode: if redirection.installed { "capture".into() } else { "off".into() },
        names: u32::try_from(member.names.len()).unwrap_or(u32::MAX),
        upstreams: member.dns.upstreams.servers().iter().map(ToString::to_string).collect(),
    });
    status
}

/// A full connection table drops connections of the whole host, the mesh's or not.
fn conntrack_warning(usage: Option<(u64, u64)>) -> Option<String> {
    let (entries, limit) = usage.filter(|(entries, limit)| *limit > 0 && entries * 10 >= limit * 8)?;
    Some(format!(
        "the kernel tracks {entries} connections of at most {limit}: raise net.netfilter.nf_conntrack_max before it is full"
    ))
}

fn warnings(member: &Member, session: &crate::session::SessionStatus) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(refused) = &session.refused {
        warnings.push(refused.sentence.clone());
    }
    if session.frozen {
        warnings.push("many hosts were lost at once: discovery keeps lapsed endpoints until it is clear why".into());
    }
    let now = SystemTime::now();
    let identity = member.holder.current();
    for credential in identity.workloads.values().chain([&identity.host]) {
        if credential.life.expired(now) {
            warnings.push(format!("the certificate of {} has expired", credential.identity));
        }
    }
    for workload in &identity.record.workloads {
        if !identity.workloads.contains_key(&workload.id) {
            warnings.push(format!("workload {} has no certificate yet", workload.id));
        }
    }
    warnings
}

fn certificate(credential: &Credential) -> CertificateStatus {
    CertificateStatus {
        identity: credential.identity.to_string(),
        not_before: Some(timestamp(credential.life.not_before)),
        not_after: Some(timestamp(credential.life.not_after)),
        renews_at: Some(timestamp(credential.life.renews_at())),
        serial: credential.serial.clone(),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}
