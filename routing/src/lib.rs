//! What decides where a connection and a request go: one answer for the proxy, which acts on it, and for discovery, which
//! explains it.
//!
//! In: matches of filter chains, virtual hosts and routes, and policies, as xDS says them; what was seen of a connection, what a
//! request asks for. Out: the one that counts, by Envoy's rules. Pure. Invariant: a match is checked once, when it is read; whether it
//! fits is then a matter of comparing.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod chain;
mod domains;
mod policy;
mod request;
mod text;

pub use chain::{ChainMatch, Matched, Seen, Transport, candidates, choose, contains};
pub use domains::{Domains, without_port};
pub use policy::{ClaimMatch, Known, Net, Policy, Rules, RulesAction, Test};
pub use request::{Asked, HeaderMatch, PathMatch, QueryMatch, RequestMatch, Subject};
pub use text::{StringMatch, part_regex, whole_regex};

/// Why a resource is refused: a sentence that names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Refuses with a formatted sentence.
macro_rules! refuse {
    ($($arg:tt)*) => { return Err($crate::Refused(format!($($arg)*))) };
}
pub(crate) use refuse;
