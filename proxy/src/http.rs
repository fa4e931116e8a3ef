//! HTTP: requests taken from a connection, routed, sent on, answered.
//!
//! In: a connection that carries HTTP, how it is to be served. Out: the same requests at the right endpoint. The bytes of
//! HTTP are the business of [`h1`] and [`h2`] alone. Bodies stream: none is held whole, none is copied.

mod answer;
mod aside;
mod attempt;
pub(crate) mod authz;
#[doc(hidden)]
pub mod between;
pub mod channel;
mod connection;
mod filters;
mod finish;
mod forward;
mod guarded;
pub mod h1;
pub mod h2;
mod hash;
mod head;
pub mod message;
mod mirror;
mod own;
pub mod progress;
mod relay;
mod retry;
mod switch;

pub use connection::{Carries, Connection, serve};
