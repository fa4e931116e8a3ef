//! The core of the mesh: merge registries, compile xDS, issue identities, keep leases.
//!
//! In: events of registries, hosts that join and say how they are, people who apply configuration. Out: xDS to
//! proxies, certificates, and pages that show it all. Invariant: nothing is removed because somebody is silent.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod admin;
pub mod ads;
pub mod args;
pub mod compiler;
pub mod debug;
pub mod explain;
pub mod hosts;
pub mod identity;
pub mod keys;
pub mod metrics;
pub mod page;
pub mod peer;
pub mod registry;
pub mod run;
pub mod server;
pub mod sources;
pub mod store;
pub mod view;
pub mod words;
