//! What a connection carries, told by its first bytes.
//!
//! In: the bytes so far. Out: "more", or what they are. Pure, bounded, and total: any bytes give an answer, and no
//! answer needs more than [`MOST`] bytes. Who waits, and for how long, is the caller's business.

mod client_hello;
mod http;

pub use client_hello::{ClientHello, TlsSniff, client_hello};
pub use http::{HttpSniff, http};

/// The most bytes that are looked at.
pub const MOST: usize = 20 * 1024;
