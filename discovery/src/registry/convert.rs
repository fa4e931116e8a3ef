//! Resources that define services and workloads, in the registry's own words.
//!
//! In: ServiceEntry, WorkloadEntry, WorkloadGroup, checked. Out: definitions and workloads. Invariant: what can't be
//! said in the registry's words is left out, never guessed.

use hawser_api::istio::{ObjectRef, Resource};
use hawser_mesh::{Hostname, RegistryId, Workload, WorkloadKey};

use super::Settings;
use super::merge::{Definition, DefinitionKey};
use super::model::{Rank, WorkloadId};

/// How a resource is named as the origin of a definition.
pub(super) fn origin(object: &ObjectRef) -> String {
    format!("{:?} {}/{}", object.kind, object.namespace, object.name)
}

/// The key of what a resource defines.
pub(super) fn definition_key(object: &ObjectRef, registry: &RegistryId, precedence: u8) -> DefinitionKey {
    let rank = match object.kind {
        hawser_api::istio::Kind::WorkloadGroup => Rank::Group,
        _ => Rank::ServiceEntry,
    };
    DefinitionKey { rank, precedence, registry: registry.clone(), origin: origin(object) }
}

/// The name of the workload that a WorkloadEntry is.
pub(super) fn workload_id(object: &ObjectRef, registry: &RegistryId) -> WorkloadId {
    let key = WorkloadKey { namespace: object.namespace.as_str().into(), name: object.name.as_str().into() };
    WorkloadId { registry: registry.clone(), key }
}

pub(super) fn object(_: &Resource) -> Option<ObjectRef> {
    None
}
pub(super) fn warnings(_: &Resource) -> Vec<String> {
    Vec::new()
}
pub(super) fn definitions(_: &ObjectRef, _: &Resource, _: &Settings) -> Vec<(Hostname, Definition)> {
    Vec::new()
}
pub(super) fn workload(_: &ObjectRef, _: &Resource, _: &Settings) -> Option<Workload> {
    None
}
