//! A Consul as a registry, through its HTTP API.
//!
//! In: services, checks, nodes of one or several datacenters. Out: services and workloads of `hawser-mesh`, through the
//! shared ledger, which compares, doubts sudden losses and stores the last state. `client -> plan -> follow`: how to ask,
//! what to ask and to believe (no I/O), the task that does it; `map` turns Consul's words into the mesh's. Invariant: a
//! token without rights, a server that is behind, a Consul that is away remove nothing; connections are bounded however
//! many services there are.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod adapter;
mod client;
mod follow;
mod map;
mod plan;
mod settings;
mod wire;

pub use adapter::ConsulAdapter;
pub use settings::{Alias, Part, Settings, SettingsError};
