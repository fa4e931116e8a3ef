//! Who is at the other end of a connection to discovery.
//!
//! In: what the listener and TLS found out. Out: an extension of every request on that connection. Invariant: an
//! identity here was verified against the mesh's roots and is in the mesh's trust domain.

use std::net::SocketAddr;

use hawser_api::identity::SpiffeId;

/// The peer of a connection; put into the extensions of each of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from.
    pub addr: SocketAddr,
    /// What its client certificate says; `None` if it showed none.
    pub identity: Option<SpiffeId>,
    /// The certificate is a workload's that was signed for a joined host: it opens nothing here.
    pub joined_workload: bool,
    /// It came by the plaintext listener: xDS without secrets only.
    pub plaintext: bool,
    /// TLS exporter (`EXPORTER-hawser-host`, no context); `None` on plaintext.
    pub exporter: Option<[u8; 32]>,
}

impl Peer {
    /// A peer of the plaintext listener.
    pub fn plaintext(addr: SocketAddr) -> Self {
        Self { addr, identity: None, joined_workload: false, plaintext: true, exporter: None }
    }
}
