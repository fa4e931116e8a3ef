//! The way to discovery: who it is, and one shared connection to it.

mod dial;
mod link;
mod verify;

pub(crate) use dial::{ClientAuth, Connection, Dial, DialError};
pub(crate) use link::{Link, LinkState, Live, Reach};
pub(crate) use verify::{Trust, uri_names};
