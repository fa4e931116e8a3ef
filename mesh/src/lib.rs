//! The vocabulary of the mesh, and the trait that registries speak it through.
//!
//! In: what a registry adapter parsed. Out: checked values that discovery merges. Invariant: no value here holds
//! an unchecked name, address or port.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod adapter;
mod service;
mod workload;

pub use adapter::{Event, Object, ObjectKey, Origin, Publisher, RegistryAdapter, RegistryId, RegistryKind};
pub use service::{Location, Nearness, Protocol, Resolution, Service, ServiceAddress, ServicePort};
pub use workload::{Exception, Gateway, Health, InstanceRef, Locality, Transport, Workload, WorkloadKey};

pub use hawser_api::hostname::Hostname;
pub use hawser_api::identity::{SpiffeId, TrustDomain};
