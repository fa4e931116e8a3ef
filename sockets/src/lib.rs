//! Socket options and descriptor passing: what the daemons ask of the kernel.
//!
//! In: addresses, paths, streams. Out: sockets that are set up whole, facts about a connection. Invariant: this is
//! the only crate with unsafe code, and it has it only where a descriptor's owner can't be said otherwise.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod descriptors;
mod memory;
mod names;
mod outgoing;
mod tcp;
mod unix;

pub use descriptors::{FdLimits, recv_fds, send_fds};
pub use memory::{give_memory_back, share_memory};
pub use names::names_without_modules;
pub use outgoing::{Keepalive, Outgoing};
pub use tcp::{original_dst, reuse_port_listener, transparent_listener};
pub use unix::{PeerCredentials, peer_credentials, unix_listener};
