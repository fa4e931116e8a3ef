//! What becomes of a request on its way through a worker: configured as a control plane does, between clients in memory
//! and servers on the loopback that say and see every byte.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "http/bodies.rs"]
mod bodies;
#[path = "http/endings.rs"]
mod endings;
#[path = "http/expectations.rs"]
mod expectations;
#[path = "http/filters.rs"]
mod filters;
#[path = "http/grpc.rs"]
mod grpc;
#[path = "http/heads.rs"]
mod heads;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/lines.rs"]
mod lines;
#[path = "http/retries.rs"]
mod retries;
#[path = "http/switches.rs"]
mod switches;
#[path = "http/upgrades.rs"]
mod upgrades;
#[path = "http/wire.rs"]
mod wire;
#[path = "http/world.rs"]
mod world;
