//! Port 15014: metrics, health, and pages for those who look for an error.
//!
//! Metrics and health are for everybody who reaches the port; what the mesh holds is for this host alone.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hawser_daemon::http::Metrics;
use hawser_daemon::readiness::Readiness;
use serde::Deserialize;

use crate::ads::Server;
use crate::registry::Snapshots;

/// Which client.
#[derive(Debug, Deserialize)]
struct Node {
    node: String,
}

/// The routes of the page; each request carries its [`ConnectInfo`].
pub fn router(metrics: Metrics, readiness: Readiness, snapshots: Snapshots, ads: Server) -> Router {
    let registry = move || {
        let snapshot = snapshots.borrow().clone();
        async move { Json(crate::debug::registry(&snapshot)) }
    };
    let resources = move |Query(Node { node }): Query<Node>| {
        let ads = ads.clone();
        async move {
            match crate::debug::resources(&ads, &node).await {
                Some(shown) => Json(shown).into_response(),
                None => (StatusCode::NOT_FOUND, format!("no client is connected as node {node:?}\n")).into_response(),
            }
        }
    };
    let debug = Router::new()
        .route("/debug/registry", get(registry))
        .route("/debug/resources", get(resources))
        .layer(from_fn(only_from_here));
    hawser_daemon::http::router(metrics, readiness).merge(debug)
}

async fn only_from_here(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if peer.ip().to_canonical().is_loopback() {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "debug pages are for this host alone\n").into_response()
    }
}
