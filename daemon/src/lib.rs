//! What the daemons share: start-up, readiness, drain, logs, metrics.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod backoff;
pub mod drain;
pub mod http;
mod journal;
pub mod readiness;
mod service;
mod start;

pub use service::Service;
pub use start::{init, shutdown_signal, tls_provider};
