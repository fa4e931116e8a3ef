//! Mutual TLS as the mesh speaks it.
//!
//! In: certificates and roots from `config`, what a ClientHello offers, who must answer. Out: handshakes that are done,
//! with the peer's identity. Invariant: no byte of an application passes before both identities are verified.

mod alpn;
mod client;
mod handshake;
pub mod record;
mod server;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

pub use alpn::{Offer, offer, select};
pub use client::{ClientConfigs, Expected};
pub use handshake::{Established, connect};
pub use server::{Peer, ServerConfigs, accept, peer};
pub(crate) use stream::{SLICES, TlsStream};
pub use verify::{ClientVerifier, ForeignVerifier, Names, ServerVerifier};
