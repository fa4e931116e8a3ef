//! xDS sessions without I/O: both ends of delta streams, the server's end of state-of-the-world streams.
//!
//! In: requests and responses as protobufs, names that changed, the time; a server reads its resources from a
//! [`Source`] that the caller passes with each call. Out: what to send next, in order. Invariant: a session never
//! waits for something that it was not asked to tell, and its memory is bounded by its [`Limits`].
//!
//! # Rules of a server
//!
//! No silent stall:
//! 1. A subscription for a name that the client already has is answered.
//! 2. A subscription for a name that does not exist is answered at once, with `removed_resources` (delta).
//! 3. A changed cluster is followed by its endpoints, a changed listener by its routes, even if these are unchanged.
//! 4. A wildcard survives a list of names beside it, and a reconnect that lists names.
//! 5. Names of `initial_resource_versions` that are gone come back in `removed_resources`.
//! 6. A name given up that a wildcard or closure still wants is answered, because the client can't know.
//! 7. An empty first request is a wildcard for listeners and clusters only, and not for clients with closure; a
//!    wildcard without resources is answered with nothing.
//! 8. State of the world: a question that is asked again after its answer was acknowledged is answered again; a
//!    stale nonce acknowledges nothing, but its names count.
//!
//! Change one, send one:
//! 9. What a client holds is not sent again; also not on a resume, whoever it held it from.
//! 10. One response of a type is under way; what changes meanwhile is sent once, in its last state.
//! 11. A refused version is not sent again; the next one is. The client keeps what it had.
//! 12. A response grows to a limit; the rest follows its acknowledgement.
//!
//! Make before break:
//! 13. Clusters and endpoints go before the listeners and routes that lead to them; removals come last.
//! 14. A subscribed name brings its closure, before it; what nothing brings any more is removed.
//!
//! # Rules of a client
//!
//! 15. It acknowledges when its caller says so; what was not accepted is not held.
//! 16. A new stream resumes: endpoints, clusters and routes before listeners, with the versions that are held.
//!     With closure, names that were brought are claimed by their versions and not subscribed to.
//! 17. It subscribes to a type only if it has a name of it, or a wildcard.
//! 18. What exceeds its limits, or was not asked for, is refused whole and with a sentence.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod delta_client;
mod delta_server;
mod limits;
mod order;
mod resource;
mod sotw_server;
mod source;
mod status;

pub use delta_client::{DeltaClient, Known, Unacceptable, Update};
pub use delta_server::DeltaServer;
pub use limits::{ClientLimits, Limits, Refused};
pub use resource::{Resource, TypeUrl, Version};
pub use sotw_server::SotwServer;
pub use source::{Changes, Closure, Source};
pub use status::{Delivery, Held, Nack, State, TypeStatus};

#[cfg(test)]
mod tests;
