//! The host's part of the mesh: identity, redirection, name resolution, health, lease, and the relay to the proxy.
//!
//! A library with a thin program on top, so that tests reach every part by its public door.

pub mod redirect;
