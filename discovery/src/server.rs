//! Discovery's doors: 15012 (TLS: xDS, certificates, hosts), 15010 (plaintext xDS on loopback), 15014 (metrics and
//! pages), and the Unix socket of administrators.
//!
//! In: connections of strangers. Out: requests that carry a verified [`crate::peer::Peer`]. Invariant: what a stranger can
//! make us hold is bounded in number and time before a byte of it is believed.

mod admin_socket;
mod caller;
mod connection;
mod tls;

pub use admin_socket::AdminSocket;
pub use caller::identify;
pub use connection::{Limits, serve_page, serve_plaintext};
pub use tls::TlsServer;
