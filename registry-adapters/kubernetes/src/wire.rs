//! What is read of the API server's JSON: the fields that are used, and nothing else.
//!
//! In: pages of lists, lines of watches. Out: small values. Managed fields, long annotations, volumes and probes are
//! skipped while they are read, so they never cost memory.

mod config;
mod meta;
mod pod;
mod request;
mod secret;
mod service;
mod slice;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) use config::Config;
pub(crate) use meta::{MANAGER, Meta, Named};
pub(crate) use pod::{Pod, Readiness};
pub(crate) use request::Request;
pub(crate) use secret::Secret;
pub(crate) use service::{Port, Service, ServiceType, TargetPort};
pub(crate) use slice::{AddressType, Endpoint, MANAGED_BY, SERVICE_NAME, Slice, WE};

use crate::name::Name;

/// An object of some kind, as far as it is used.
pub(crate) trait Item: DeserializeOwned + Send + 'static {
    /// Its metadata is enough: the server need not send the rest.
    const METADATA_ONLY: bool = false;

    /// Its name.
    fn name(&self) -> Name;

    /// The server's version of it; versions are not compared.
    fn version(&self) -> &str;
}

/// One page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(crate) struct Page<T> {
    pub(crate) metadata: ListMeta,
    /// Also `null` in lists that are empty.
    #[serde(default = "Vec::new", deserialize_with = "nullable")]
    pub(crate) items: Vec<T>,
}

/// What is said of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    /// Where the next page begins; absent or empty on the last one.
    #[serde(rename = "continue")]
    pub(crate) token: String,
}

/// One line of a watch.
#[derive(Debug)]
pub(crate) enum Line<T> {
    /// New, or newly selected.
    New(T),
    /// Changed.
    Set(T),
    /// No longer there, or no longer selected.
    Gone(T),
    /// The server's version moved on; `true`: everything that there is was said.
    Bookmark(String, bool),
    /// The watch can't go on.
    Error(Status),
}

/// What the server says where it does not say what was asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) message: String,
    pub(crate) reason: String,
    pub(crate) code: u16,
    pub(crate) details: Details,
}

/// More of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Details {
    pub(crate) retry_after_seconds: u64,
}

impl<T: Item> Line<T> {
    /// Reads a line. The type comes first in practice, but nobody promised that: so the line is read twice, the first
    /// time for its type alone.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Typed<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }
        #[derive(Deserialize)]
        #[serde(bound = "O: DeserializeOwned")]
        struct Holding<O> {
            object: O,
        }
        #[derive(Deserialize)]
        struct Mark {
            metadata: Meta,
        }
        fn object<O: DeserializeOwned>(line: &[u8]) -> Result<O, serde_json::Error> {
            serde_json::from_slice::<Holding<O>>(line).map(|holding| holding.object)
        }
        Ok(match &*serde_json::from_slice::<Typed<'_>>(line)?.kind {
            "ADDED" => Self::New(object(line)?),
            "MODIFIED" => Self::Set(object(line)?),
            "DELETED" => Self::Gone(object(line)?),
            // A pod's bookmark has a spec that is no pod's: only its metadata is read.
            "BOOKMARK" => {
                let Mark { metadata } = object(line)?;
                let whole = metadata.annotation(INITIAL_EVENTS_END).is_some_and(|said| said == "true");
                Self::Bookmark(metadata.resource_version, whole)
            }
            "ERROR" => Self::Error(object(line)?),
            other => return Err(serde::de::Error::custom(format!("{other:.40} is no type of event"))),
        })
    }
}

/// Annotation of the bookmark that ends the initial events of a streaming list.
pub(crate) const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A list, or `null` for an empty one.
fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
