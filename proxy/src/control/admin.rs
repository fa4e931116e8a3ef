//! Pages: metrics, what the configuration holds, readiness. Admin on the loopback only, where everybody on the host may ask: so
//! nothing can be changed there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State as Get;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use hawser_daemon::readiness::Readiness;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::Threads;
use crate::config::Config;
use crate::options::Options;
use crate::telemetry::{Counters, render};

/// What the pages show.
#[derive(Clone)]
pub(super) struct State {
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) counters: Arc<Counters>,
    pub(super) threads: Arc<Threads>,
    pub(super) readiness: Readiness,
}

/// Serves the pages in the background, until what is returned is dropped: another proxy may have the ports then.
pub(super) fn serve(options: &Options, state: State) -> anyhow::Result<[AbortOnDropHandle<()>; 2]> {
    ensure!(options.admin.ip().is_loopback(), "--admin {}: the admin page is for the loopback only", options.admin);
    let ready = Router::new()
        .route("/healthz/ready", get(self::ready))
        .route("/readyz", get(self::ready))
        .with_state(state.clone());
    let admin = Router::new()
        .route("/metrics", get(metrics))
        .route("/stats/prometheus", get(metrics))
        .route("/config", get(config))
        .route("/healthz", get(async || "alive\n"))
        .with_state(state)
        .merge(ready.clone());
    Ok([page(options.admin, admin)?, page(options.readiness, ready)?])
}

fn page(address: SocketAddr, router: Router) -> anyhow::Result<AbortOnDropHandle<()>> {
    let listener = bind(address)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%address, %error, "a page is served no more");
        }
    })))
}

/// A proxy that ends, or makes room, may have the port still.
fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let std =
        hawser_sockets::reuse_port_listener(address, 128).with_context(|| format!("can't listen on {address}"))?;
    std.set_nonblocking(true)?;
    Ok(TcpListener::from_std(std)?)
}

async fn metrics(Get(state): Get<State>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], render(&state.threads.registries(), &state.counters))
}

async fn ready(Get(state): Get<State>) -> impl IntoResponse {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", ")))
    }
}

/// Names, endpoints and identities; no key is anywhere near.
async fn config(Get(state): Get<State>) -> impl IntoResponse {
    axum::Json(summary(&state.config.load()))
}

fn summary(config: &Config) -> Value {
    let outbound: BTreeMap<_, _> = config.outbound.keys().map(|a| (a.to_string(), json!({}))).collect();
    let inbound: Vec<_> = config.inbound.iter().flat_map(|l| l.all()).map(|c| c.name.clone()).collect();
    let clusters: BTreeMap<_, _> = config
        .clusters
        .iter()
        .map(|(name, cluster)| {
            let endpoints: Vec<_> = cluster
                .endpoints
                .iter()
                .map(|e| {
                    json!({
                        "address": e.spec.address,
                        "health": format!("{:?}", e.spec.health).to_lowercase(),
                        "identity": e.spec.identity,
                        "weight": e.weight,
                        "active": e.state.active.load(std::sync::atomic::Ordering::Relaxed),
                    })
                })
                .collect();
            (name.to_string(), json!({ "endpoints": endpoints }))
        })
        .collect();
    let mut routes: Vec<_> = config.routes.keys().map(ToString::to_string).collect();
    routes.sort();
    let secrets: BTreeMap<_, _> = config
        .credentials
        .iter()
        .map(|(name, c)| (name.to_string(), json!({ "identity": c.identity.as_str(), "not_after": c.not_after })))
        .collect();
    let instance = config.instance();
    let bound: Vec<_> = config.bound.keys().map(ToString::to_string).collect();
    json!({
        "instance": instance, "outbound": outbound, "inbound": inbound, "bound": bound,
        "routes": routes, "clusters": clusters, "secrets": secrets,
    })
}
