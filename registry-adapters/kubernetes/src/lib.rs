//! A Kubernetes cluster's services, pods and Istio resources, from its API server.
//!
//! In: lists and watches of the API server, one of each kind. Out: services, workloads and resources of `hawser-mesh`.
//! `access -> watch -> world, configs -> adapter`: a client for a cluster; one kind followed, whatever the server does;
//! what it all means together; what is told. `out` is the other way: what of the mesh is written into the cluster. Invariant: only the server's own word removes: not its silence, not a list
//! that was not finished, not a refusal.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod access;
mod adapter;
mod clusters;
mod configs;
mod follow;
mod name;
mod out;
mod probe;
mod requests;
mod settings;
mod tokens;
mod watch;
mod wire;
mod world;

pub use adapter::{Entry, KubernetesAdapter, Mesh, Registrar};
pub use out::{Exports, Joined, Outcome, Outcomes, Verdict};
pub use requests::{Minted, Minter, NoToken};
pub use settings::{Remote, Settings, SettingsError, Write};
pub use tokens::Tokens;
