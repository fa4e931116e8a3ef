//! Many hosts on one machine: network namespaces that real programs of ours and of others run in.
//!
//! In: the built programs, found beside the test. Out: a [`Lab`] of [`Host`]s on one wire, guards that end every
//! process, waits with a deadline, looks at what went over the wire. Invariant: nothing is done to the machine's
//! own namespaces, and nothing outlives the test, however it ends.

pub mod apiserver;
pub mod cluster;
pub mod consul;
pub mod dist;
pub mod envoy;
pub mod firewalls;
pub mod host;
pub mod http;
pub mod isolation;
pub mod lab;
pub mod machine;
pub mod mesh;
pub mod packaged;
pub mod process;
pub mod programs;
pub mod testbeds;
pub mod wait;
pub mod wire;

pub use cluster::{Cluster, Pod};
pub use consul::Consul;
pub use host::{Host, Seen};
pub use isolation::isolated;
pub use lab::Lab;
pub use machine::{Machine, Yard};
pub use mesh::Mesh;
pub use process::Process;
