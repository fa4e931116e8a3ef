//! HTTP/1.0 and HTTP/1.1, as a server and as a client.
//!
//! In: a [`Stream`](crate::stream::Stream). Out: exchanges for a [`Handler`](super::channel::Handler), or a
//! [`Client`](super::channel::Client). What parses and writes knows bytes alone, no I/O; around it stand one state of a
//! connection (`wire`) and the two ends. No task and no channel: who holds an end drives it.
//! Invariants: what could be read in two ways is refused; nothing grows beyond its bound; an idle connection holds no buffer.

mod body;
mod buffers;
mod chunk;
mod client;
mod framing;
mod head;
mod server;
mod target;
mod wire;
mod write;

#[cfg(test)]
mod tests;

pub use client::Http1;
pub use server::serve;

/// Most bytes of a head.
pub const LONGEST_HEAD: usize = 60 * 1024;
/// Most fields of a response's head.
const RESPONSE_FIELDS: usize = 200;

/// Bounds of what a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fields of a head.
    pub headers: usize,
    /// Bytes of a head; [`LONGEST_HEAD`] at most.
    pub head: usize,
    /// Requests with an underscore in a field's name are refused: some applications take it for a hyphen.
    pub refuse_underscores: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { headers: 100, head: LONGEST_HEAD, refuse_underscores: false }
    }
}

/// What a status is called, in Envoy's words.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        203 => "Non-Authoritative Information",
        418 | 451 => UNKNOWN,
        _ => http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or(UNKNOWN),
    }
}

/// Of a status that has no name.
const UNKNOWN: &str = "Unknown";
