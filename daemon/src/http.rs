//! The page that machines read: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::readiness::Readiness;

/// Metrics of a process.
pub type Metrics = Arc<Mutex<Registry>>;

/// Routes `/metrics`, `/healthz` (the process answers), `/readyz` and `/healthz/ready` (nothing is missing; else
/// 503 and what is).
pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    let ready = move || {
        let readiness = readiness.clone();
        async move {
            let missing = readiness.missing();
            if missing.is_empty() {
                (StatusCode::OK, "ready\n".to_owned())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", ")))
            }
        }
    };
    Router::new()
        .route("/metrics", get(move || render(metrics.clone())))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready.clone()))
        .route("/healthz/ready", get(ready))
}

async fn render(metrics: Metrics) -> impl IntoResponse {
    let mut text = String::new();
    let status = match encode(&mut text, &metrics.lock()) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
