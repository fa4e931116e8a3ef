//! HTTP: requests taken from a connection, routed, sent on, answered.
//!
//! In: a connection that carries HTTP, how it is to be served. Out: the same requests at the right endpoint. The bytes of
//! HTTP are the business of [`codec`] alone. Bodies stream: none is held whole, none is copied.

mod answer;
pub mod channel;
pub mod codec;
mod connection;
mod finish;
mod forward;
pub mod h1;
pub mod h2;
mod head;
pub mod message;
pub mod progress;
mod retry;
mod upgrade;

pub use connection::{Connection, serve};
