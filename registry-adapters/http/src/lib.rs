//! Registries for what has no adapter of its own: lists of targets by HTTP or in files, and SRV records of DNS.
//!
//! In: Prometheus' `http_sd` and `file_sd` lists, SRV names. Out: services and workloads of `hawser-mesh`, with the
//! health that checks of our own find, since none of these says any. `client | files | dns -> targets -> mapping`, with
//! `checks` beside it and the shared piece of all sources behind it. Invariant: what a source that fails said last
//! stays; unknown is not down.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod adapter;
mod checks;
mod client;
mod dns;
pub mod fetch;
mod files;
mod mapping;
mod names;
mod settings;
mod targets;

pub use adapter::TargetsAdapter;
pub use checks::{CheckKind, HealthCheck};
pub use mapping::{Mapping, Port, Template, TransportChoice};
pub use settings::{DnsSrv, FileSd, HttpSd, Mesh, Source};
