//! What crosses a boundary.
//!
//! In: nothing; this crate stands at the bottom. Out: the protobufs of the wire ([`proto`]: our xDS subset, our
//! own services, Istio's certificate service; [`any`]; what they leave out: [`undeclared`]), Istio's resource types with
//! strict parsing ([`istio`]), identities ([`identity`]), host names ([`hostname`]), join tokens ([`token`], [`join_request`]), formats of
//! access logs ([`access_log`]) and the names and numbers that programs must agree on ([`names`]). Invariant: what
//! parses here is valid; nothing here does I/O.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod access_log;
pub mod any;
pub mod doc;
pub mod handover;
pub mod hostname;
pub mod identity;
pub mod istio;
pub mod join_request;
pub mod names;
pub mod proto;
pub mod token;
pub mod undeclared;
