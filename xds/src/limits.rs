//! What a peer may make a session hold.
//!
//! In: a request or response as it was decoded. Out: nothing, or the sentence why it is refused. Invariant: a
//! session's memory is bounded by these numbers, whatever its peer sends.

use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message;

use crate::resource::TypeUrl;

/// Limits of a server session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Types on one stream.
    pub types: usize,
    /// Names of all kinds in one request.
    pub names_per_request: usize,
    /// Bytes of a name, type URL, version or nonce.
    pub name_length: usize,
    /// Names that are subscribed to, of one type.
    pub subscriptions: usize,
    /// Bytes of these names together.
    pub subscribed_bytes: usize,
    /// Bytes of an encoded node.
    pub node_bytes: usize,
    /// Bytes of a response; a single resource over it goes alone.
    pub response_bytes: usize,
    /// Bytes that are kept of the reason of a NACK.
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            types: 16,
            names_per_request: 65_536,
            name_length: 1024,
            subscriptions: 65_536,
            subscribed_bytes: 8 * 1024 * 1024,
            node_bytes: 64 * 1024,
            response_bytes: 2 * 1024 * 1024,
            message_bytes: 2048,
        }
    }
}

/// Limits of a client session.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Names of one type, subscribed or held.
    pub names: usize,
    /// Bytes of a name, version or nonce.
    pub name_length: usize,
    /// Bytes of one resource.
    pub resource_bytes: usize,
    /// Bytes of all resources that are held.
    pub total_bytes: usize,
    /// Responses of one type that are neither accepted nor rejected yet.
    pub undecided: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            names: 100_000,
            name_length: 1024,
            resource_bytes: 8 * 1024 * 1024,
            total_bytes: 512 * 1024 * 1024,
            undecided: 64,
        }
    }
}

/// Why a message is refused; a server ends the stream with this sentence, a client NACKs with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refused {
    #[error("{given} names in one request; at most {limit} are taken")]
    NamesInRequest { given: usize, limit: usize },
    #[error("a {what} of {length} bytes; at most {limit} are taken")]
    TooLong { what: &'static str, length: usize, limit: usize },
    #[error("an empty {what}")]
    Empty { what: &'static str },
    #[error("more than {limit} names of {ty}")]
    Subscriptions { ty: String, limit: usize },
    #[error("names of {ty} of more than {limit} bytes together")]
    SubscribedBytes { ty: String, limit: usize },
    #[error("more than {limit} types on one stream")]
    Types { limit: usize },
    #[error("a node of {size} bytes; at most {limit} are taken")]
    Node { size: usize, limit: usize },
    #[error("resource {name} has {size} bytes; at most {limit} are taken")]
    ResourceSize { name: String, size: usize, limit: usize },
    #[error("all resources together would have {size} bytes; at most {limit} are taken")]
    TotalSize { size: usize, limit: usize },
    #[error("resource {name} is of type {found:?} in a response of type {expected:?}")]
    WrongType { name: String, found: String, expected: String },
    #[error("resource {name} stands twice in one response")]
    Twice { name: String },
    #[error("a response of type {ty}, which was not asked for")]
    NotAskedFor { ty: String },
    #[error("more than {limit} responses of type {ty} wait for an answer")]
    Undecided { ty: String, limit: usize },
}

impl Limits {
    pub(crate) fn check_delta(&self, request: &DeltaDiscoveryRequest) -> Result<(), Refused> {
        let given = request.resource_names_subscribe.len()
            + request.resource_names_unsubscribe.len()
            + request.initial_resource_versions.len();
        self.check(given, &request.type_url, &request.response_nonce)?;
        self.check_node(request.node.as_ref().map(Message::encoded_len))?;
        let names = request.resource_names_subscribe.iter().chain(&request.resource_names_unsubscribe);
        names.chain(request.initial_resource_versions.keys()).try_for_each(|name| self.check_name(name))?;
        request.initial_resource_versions.values().try_for_each(|v| length("version", v, self.name_length))
    }

    pub(crate) fn check_subscribed(&self, ty: &TypeUrl, names: usize, bytes: usize) -> Result<(), Refused> {
        if names > self.subscriptions {
            return Err(Refused::Subscriptions { ty: ty.to_string(), limit: self.subscriptions });
        }
        if bytes > self.subscribed_bytes {
            return Err(Refused::SubscribedBytes { ty: ty.to_string(), limit: self.subscribed_bytes });
        }
        Ok(())
    }

    pub(crate) fn check_sotw(&self, request: &DiscoveryRequest) -> Result<(), Refused> {
        self.check(request.resource_names.len(), &request.type_url, &request.response_nonce)?;
        self.check_node(request.node.as_ref().map(Message::encoded_len))?;
        request.resource_names.iter().try_for_each(|name| self.check_name(name))
    }

    fn check(&self, given: usize, ty: &str, nonce: &str) -> Result<(), Refused> {
        if given > self.names_per_request {
            return Err(Refused::NamesInRequest { given, limit: self.names_per_request });
        }
        if ty.is_empty() {
            return Err(Refused::Empty { what: "type URL" });
        }
        length("type URL", ty, self.name_length)?;
        length("nonce", nonce, self.name_length)
    }

    fn check_name(&self, name: &str) -> Result<(), Refused> {
        if name.is_empty() {
            return Err(Refused::Empty { what: "resource name" });
        }
        length("resource name", name, self.name_length)
    }

    fn check_node(&self, size: Option<usize>) -> Result<(), Refused> {
        match size {
            Some(size) if size > self.node_bytes => Err(Refused::Node { size, limit: self.node_bytes }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn length(what: &'static str, text: &str, limit: usize) -> Result<(), Refused> {
    if text.len() > limit {
        return Err(Refused::TooLong { what, length: text.len(), limit });
    }
    Ok(())
}

/// At most `limit` bytes of a text.
pub(crate) fn truncated(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
