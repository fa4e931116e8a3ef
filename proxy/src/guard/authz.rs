//! What others are asked about requests and connections, and what they say: Envoy's two protocols, without I/O.
//!
//! In: a request or a connection, who is asked about it. Out: the request that asks, and what its response comes to.
//! Invariant: what is said changes no framing, and nothing that can't be a field: then it counts as no answer that
//! can be used, and is refused.

mod changes;
mod grpc;
mod over_http;

use std::net::SocketAddr;
use std::time::SystemTime;

use prost_types::Struct;

pub(crate) use self::changes::{Change, Changes};
use super::Facts;
use crate::config::guard::authz::{Asks, Authz};
use crate::http::message::{RequestHead, ResponseHead};

/// The largest answer.
pub(crate) const LARGEST: usize = 256 * 1024;

/// What somebody is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'q> {
    /// What is known of it.
    pub(crate) facts: &'q Facts<'q>,
    /// The other end.
    pub(crate) from: Option<SocketAddr>,
    /// Our own identity, if there is mTLS.
    pub(crate) own: Option<&'q str>,
    /// It came over TLS.
    pub(crate) secure: bool,
    /// When it began.
    pub(crate) began: SystemTime,
    /// What is told of its body.
    pub(crate) body: Option<Told<'q>>,
}

/// What is told of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'b> {
    /// Its beginning, or all of it.
    pub(crate) bytes: &'b [u8],
    /// There is more.
    pub(crate) part: bool,
    /// How much of it has come.
    pub(crate) came: usize,
}

/// A question as it is sent.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Its head.
    pub(crate) head: RequestHead,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// It is gRPC.
    pub(crate) grpc: bool,
}

/// What somebody says.
#[derive(Debug)]
pub(crate) enum Said {
    /// It may pass.
    Yes(Box<Yes>),
    /// It may not.
    No(Box<No>),
    /// It can't be said; perhaps with what the client is to be told.
    Nothing(Option<Box<No>>),
    /// What was said can't be done.
    Nonsense,
}

/// It may pass, changed.
#[derive(Debug, Default)]
pub(crate) struct Yes {
    /// What becomes of the request.
    pub(crate) request: Changes,
    /// What becomes of its response.
    pub(crate) response: Changes,
    /// Parameters of its query that are set, and that go.
    pub(crate) query: Vec<(String, Option<String>)>,
    /// What is written down.
    pub(crate) metadata: Struct,
}

/// What a client is told that is refused.
#[derive(Debug, Default)]
pub(crate) struct No {
    /// The status; 0 if it is not said.
    pub(crate) status: u16,
    /// Fields.
    pub(crate) fields: Changes,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// What is written down.
    pub(crate) metadata: Struct,
}

/// The request that asks.
pub(crate) fn ask(authz: &Authz, question: &Question<'_>) -> Asking {
    match &authz.asks {
        Asks::Grpc { authority } => grpc::ask(authz, authority, question),
        Asks::Http(http) => over_http::ask(authz, http, question),
    }
}

/// What a response comes to.
pub(crate) fn hear(authz: &Authz, head: &ResponseHead, body: &[u8], grpc_status: Option<u8>) -> Said {
    match &authz.asks {
        Asks::Grpc { .. } => grpc::hear(head, body, grpc_status),
        Asks::Http(http) => over_http::hear(http, head, body),
    }
}

/// Bytes as text: what is no UTF-8 becomes exclamation marks, as Envoy has it.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| '!'));
    }
    out
}

#[cfg(test)]
mod tests;
