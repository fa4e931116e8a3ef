//! The bytes of HTTP, behind an interface of ours.
//!
//! In: streams. Out: requests for a [`Handler`] (servers), responses for requests (clients), bodies as streams of frames.
//! What stands behind can be replaced without a change elsewhere: hyper serves both versions and is the client of
//! HTTP/1, the h2 crate is the client of HTTP/2. Invariant: heads, headers, streams and buffers are bounded.

mod body;
mod client1;
mod client2;
mod server;

pub use body::{BodyError, InBody, OnEnd, RequestBody, ResponseBody};
pub use client1::Http1;
pub use client2::Http2;
pub use server::{Handler, Limits, Progress, Upgrade, Version, serve};

use http::Request;

/// Most bytes of a head.
pub const LONGEST_HEAD: usize = 60 * 1024;

/// Why a request has no response.
#[derive(Debug)]
pub struct Failed {
    /// What happened.
    pub why: Why,
    /// The request, if not a byte of it was sent.
    pub unsent: Option<Box<Request<RequestBody>>>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The server did not look at it, and says so.
    Refused,
    /// The connection broke, or the stream was reset.
    Broken,
    /// The server's answer is no HTTP.
    Nonsense,
}
