//! Connections as they come in: accepted, told where they were going, handed to the right chain.
//!
//! In: listening sockets, pipes of calls to our own host. Out: served connections. Invariant: what came straight to a
//! capture port, or to an address that nobody declared, is closed and counted, never forwarded.

mod accept;
mod dispatch;
mod look;
mod refuse;

pub use accept::{Entrance, Socket, run};
pub(crate) use dispatch::inner;
pub use dispatch::{Arrival, Side, hand_over, take_in};
pub(crate) use refuse::Incoming;
