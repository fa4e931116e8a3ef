//! What a proxy is given and what a call would meet, in words, read from the compiled resources themselves.
//!
//! In: a client as it is or would be, a call. Out: rows and steps, each with the resources of the configuration that decide
//! it. Invariant: nothing is decided here: chains, virtual hosts, routes and policies are chosen by `hawser_routing`, as the
//! proxy chooses them, from the bytes that the proxy gets.

mod call;
mod callee;
mod find;
mod resource;
mod rows;
mod upstream;
mod verdict;
mod words;

pub use self::call::{Call, why};
pub use self::find::{client_of, node_name, workloads};
pub use self::rows::{Kind, rows};

use hawser_api::istio::ObjectRef;
use hawser_api::proto::admin;

/// Why something can't be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexplained {
    /// What was asked can't be understood.
    #[error("{0}")]
    Invalid(String),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
}

fn reference(object: &ObjectRef) -> admin::ObjectRef {
    admin::ObjectRef { kind: object.kind.to_string(), namespace: object.namespace.clone(), name: object.name.clone() }
}
