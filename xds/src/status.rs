//! What a server session knows of its client, for people and for draining.
//!
//! In: ACKs and NACKs. Out: counts and times a type. Invariant: text of the client's is bounded.

use std::time::Instant;

use hawser_api::proto::google::rpc::Status as RpcStatus;

use crate::limits::{Limits, truncated};
use crate::resource::{TypeUrl, Version};

/// How far one resource came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Sent, no answer yet.
    Sent,
    /// The client has taken it.
    Acknowledged,
    /// The client refused it and keeps what it had.
    Rejected,
}

/// A resource that a client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The version that was sent last.
    pub version: Version,
    /// What became of it.
    pub delivery: Delivery,
}

/// A refusal.
#[derive(Clone, Debug)]
pub struct Nack {
    /// When it came.
    pub at: Instant,
    /// The client's reason, cut to a bounded length.
    pub message: String,
}

/// One type of one client.
#[derive(Clone, Debug)]
pub struct TypeStatus {
    /// The type.
    pub ty: TypeUrl,
    /// Whether it asked for everything.
    pub wildcard: bool,
    /// Names it asked for.
    pub subscribed: usize,
    /// Resources that it was sent and that are not removed.
    pub held: usize,
    /// Of these, refused ones.
    pub rejected: usize,
    /// Since when a response waits for its answer, if one does.
    pub in_flight_since: Option<Instant>,
    /// Names that go out after it.
    pub waiting: usize,
    /// The last ACK.
    pub last_ack: Option<Instant>,
    /// The last NACK.
    pub last_nack: Option<Nack>,
}

/// Where a type stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The client has all there is.
    Synced,
    /// Something is on its way.
    Stale,
    /// It refused a resource that is still current.
    Rejected,
}

impl TypeStatus {
    /// In a word.
    pub fn state(&self) -> State {
        if self.rejected > 0 {
            State::Rejected
        } else if self.in_flight_since.is_some() || self.waiting > 0 {
            State::Stale
        } else {
            State::Synced
        }
    }
}

/// When a type was last answered.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) ack: Option<Instant>,
    pub(crate) nack: Option<Nack>,
}

impl Answers {
    /// Notes an answer and says what became of the resources.
    pub(crate) fn note(&mut self, error: Option<&RpcStatus>, limits: &Limits, now: Instant) -> Delivery {
        match error {
            None => {
                self.ack = Some(now);
                Delivery::Acknowledged
            }
            Some(error) => {
                self.nack = Some(Nack { at: now, message: truncated(&error.message, limits.message_bytes) });
                Delivery::Rejected
            }
        }
    }
}
