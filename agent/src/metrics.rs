//! The host's page for Prometheus on 15020: the agent's metrics and the proxy's, one page.
//!
//! In: what runs. Out: OpenMetrics text; `/healthz` while the agent lives, `/readyz` when a joined host serves. Nothing listens
//! on a host that is not joined. The names of the agent's own metrics begin with `hawser_agent_`, so the two never meet.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use hawser_api::names::ports;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::config::ProxyKind;
use crate::discovery::Reach;
use crate::host::{Host, Phase};
use crate::member::Member;
use crate::supervise::{Phase as ProxyPhase, admin};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Envoy's counters are not named as OpenMetrics asks.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const END: &str = "# EOF\n";

/// Serves the page while the host is joined, for as long as the agent runs.
pub(crate) async fn serve(host: Host) {
    let mut phase = host.phases();
    // The host outlives us.
    while phase.wait_for(|phase| *phase != Phase::Idle).await.is_ok() {
        let page = AbortOnDropHandle::new(tokio::spawn(serve_page(host.clone())));
        let _ = phase.wait_for(|phase| *phase == Phase::Idle).await;
        drop(page);
    }
}

async fn serve_page(host: Host) {
    let bound = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, ports::METRICS)).await {
        Ok(listener) => Ok(listener),
        // A host without IPv6.
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, ports::METRICS)).await,
    };
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(port = ports::METRICS, %error, "no metrics are served");
            return;
        }
    };
    let (page, ready) = (host.clone(), host);
    let router = Router::new()
        .route("/metrics", get(move || metrics(page.clone())))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || readiness(ready.clone())));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "metrics are served no more");
    }
}

async fn readiness(host: Host) -> impl IntoResponse {
    let missing = match (host.phase(), host.member()) {
        (Phase::Idle, _) => vec!["a join"],
        (_, None) => vec!["the join that is under way"],
        (_, Some(member)) => {
            let mut missing = Vec::new();
            if member.supervisor.state.borrow().phase != ProxyPhase::Running {
                missing.push("the proxy");
            }
            if !member.capture.is_installed() {
                missing.push("redirection");
            }
            missing
        }
    };
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", ")))
}

async fn metrics(host: Host) -> impl IntoResponse {
    let mut page = Page(String::new());
    page.metric(
        "joined",
        "gauge",
        "Whether this host is part of the mesh",
        [("", u64::from(host.phase() == Phase::Joined))],
    );
    let mut format = OPEN_METRICS;
    let mut text = match host.member() {
        Some(member) => {
            of(&mut page, &member).await;
            let kind = member.supervisor.kind;
            if kind == ProxyKind::Envoy {
                format = PROMETHEUS;
            }
            let proxy = admin::metrics(kind).await.unwrap_or_default();
            page.0 + proxy.strip_suffix(END).unwrap_or(&proxy)
        }
        None => page.0,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(END);
    ([(CONTENT_TYPE, format)], text)
}

async fn of(page: &mut Page, member: &Member) {
    let identity = member.holder.current();
    let session = member.session.borrow().clone();
    let proxy = member.supervisor.state.borrow().clone();
    let connected = matches!(member.link.state().reach, Reach::Up(_));
    page.metric("discovery_connected", "gauge", "Whether discovery is reached", [("", connected.into())]);
    page.metric("session_epoch", "gauge", "Sessions of this host so far", [("", session.epoch)]);
    page.metric("frozen", "gauge", "Whether discovery keeps lapsed endpoints", [("", session.frozen.into())]);
    let expiry = identity.workloads.values().chain([&identity.host]).map(|credential| {
        let seconds = credential.life.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        (format!("{{identity=\"{}\"}}", credential.identity), seconds)
    });
    page.metric("certificate_expiry_timestamp_seconds", "gauge", "When a certificate ends", expiry);
    let running = proxy.phase == ProxyPhase::Running;
    page.metric("proxy_running", "gauge", "Whether the proxy serves", [("", running.into())]);
    page.metric(
        "proxy_restarts",
        "counter",
        "Proxies that were started after the first",
        [("_total", proxy.restarts.into())],
    );
    page.metric(
        "former_proxies",
        "gauge",
        "Proxies that have made room and still carry connections",
        [("", proxy.former.into())],
    );
    let resources = member.relay.clients.proxy().map_or(0, |client| client.resources as u64);
    page.metric("proxy_resources", "gauge", "Resources that the proxy holds", [("", resources)]);
    let unhealthy =
        member.health.borrow().iter().flat_map(|workload| &workload.ports).filter(|port| port.health == 2).count();
    page.metric("unhealthy_ports", "gauge", "Declared ports whose probe fails", [("", unhealthy as u64)]);
    let dns = &member.dns.counters;
    let queries = [("answered", &dns.answered), ("forwarded", &dns.forwarded), ("dropped", &dns.dropped)];
    let queries = queries.map(|(what, count)| (format!("_total{{outcome=\"{what}\"}}"), count.load(Ordering::Relaxed)));
    page.metric("dns_queries", "counter", "Queries by what became of them", queries);
    page.metric("dns_names", "gauge", "Host names of the mesh", [("", member.names.len() as u64)]);
    let redirection = member.capture.counters().await;
    page.metric("redirection_installed", "gauge", "Whether redirection is there", [("", redirection.installed.into())]);
    let restored = member.capture.healing().restored;
    page.metric("redirection_restored", "counter", "Times that others changed it", [("_total", restored)]);
    let packets =
        redirection.counters.into_iter().map(|(name, count)| (format!("_total{{counter=\"{name}\"}}"), count));
    page.metric("redirected", "counter", "Connections and packets by what redirection did", packets);
    if let Some((entries, limit)) = redirection.conntrack {
        page.metric("conntrack_entries", "gauge", "Connections that the kernel tracks", [("", entries)]);
        page.metric("conntrack_limit", "gauge", "How many it can", [("", limit)]);
    }
}

struct Page(String);

impl Page {
    /// One metric: each sample is what follows the name, and a value.
    fn metric<S: AsRef<str>>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (S, u64)>,
    ) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP hawser_agent_{name} {help}.\n# TYPE hawser_agent_{name} {kind}");
        for (rest, value) in samples {
            let _ = writeln!(self.0, "hawser_agent_{name}{} {value}", rest.as_ref());
        }
    }
}
