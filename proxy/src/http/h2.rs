//! HTTP/2 (RFC 9113) of our own, server and client.
//!
//! In: a byte stream. Out: the ends of exchanges that [`super::channel`] describes. [`State`] is the protocol without I/O;
//! the driver reads and writes for it; owners of streams change it directly, in their own tasks of the same thread. All that
//! the streams of a connection have to say lies in one buffer, which is written once in a turn of the event loop.
//! Invariant: whatever a peer sends, memory and work are bounded, and it hears what it did wrong.

mod client;
mod driver;
mod frame;
mod head;
mod hpack;
mod limits;
mod room;
mod server;
mod shared;
mod state;
mod stream;
mod streams;
mod tunnel;
mod valid;

pub use client::{ClientStream, Connection, connect};
pub use frame::Code;
pub use hpack::{Bad, Field, count_fields, fields};
pub use limits::Limits;
pub use server::{ServerStream, accept, serve};
pub use state::{Fatal, Side, State};
pub use tunnel::Tunnel;

#[cfg(test)]
mod tests;
