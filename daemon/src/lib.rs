//! What the daemons share: start-up, readiness, drain, logs, metrics.

pub mod backoff;
pub mod drain;
pub mod http;
mod journal;
pub mod readiness;
mod service;
mod start;

pub use service::Service;
pub use start::{init, shutdown_signal, tls_provider};
