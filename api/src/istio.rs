//! Istio's resource types: strict reading, checking, and what of them is honoured.
//!
//! In: YAML texts ([`parse_documents`], [`parse_mesh_config`]) or Kubernetes objects ([`Resource::from_json`]). Out:
//! [`Resource`]s whose every field was checked against what Istio's API states, or [`ParseError`]s with file, line,
//! field, reason and cure. [`honoured()`] says which fields have an effect today.
//!
//! Reading goes `document -> node -> decode -> check`: a text is cut into documents, a document becomes a tree that
//! knows its lines, the tree typed values, and the values are checked. Invariant: nothing a stranger writes makes
//! reading slow, large or crash: documents are bounded in size, depth, nodes and aliases.

mod check;
mod decode;
mod document;
mod duration;
mod error;
mod honoured;
mod kind;
mod message;
mod metadata;
mod node;
mod path;
mod port;
mod resource;
mod schema;
mod selector;
mod string_match;
mod traffic;

pub mod authorization_policy;
pub mod destination_rule;
pub mod gateway;
pub mod mesh_config;
pub mod peer_authentication;
pub mod request_authentication;
pub mod service_entry;
pub mod sidecar;
pub mod telemetry;
pub mod virtual_service;
pub mod workload_entry;
pub mod workload_group;

pub use document::{
    MAX_DOCUMENT, MAX_DOCUMENTS, MAX_TEXT, Parsed, parse_documents, parse_documents_in, parse_mesh_config,
};
pub use duration::Duration;
pub use error::{ParseError, Problem};
pub use honoured::{Report, Unhonoured, honoured, honours, is_dry_run, retries_on};
pub use kind::{Kind, UnknownKind};
pub use metadata::ObjectMeta;
pub use path::{FieldPath, Segment};
pub use port::Port;
pub use resource::{DEFAULT_NAMESPACE, ObjectRef, Resource, Spec};
pub use schema::{definition, schema};
pub use selector::{LabelSelector, PolicyTargetReference, WorkloadSelector};
pub use string_match::StringMatch;
pub use traffic::{Traffic, traffic};

pub use authorization_policy::AuthorizationPolicy;
pub use destination_rule::DestinationRule;
pub use gateway::Gateway;
pub use mesh_config::MeshConfig;
pub use peer_authentication::PeerAuthentication;
pub use request_authentication::RequestAuthentication;
pub use service_entry::ServiceEntry;
pub use sidecar::Sidecar;
pub use telemetry::Telemetry;
pub use virtual_service::VirtualService;
pub use workload_entry::WorkloadEntry;
pub use workload_group::WorkloadGroup;

use check::{Check, Checker};
