//! Proof of the host key: what Join and Rejoin sign.
//!
//! In: the purpose, the server's nonce, the TLS exporter and the message. Out: a signature that is good for this
//! one message on this one connection.

use aws_lc_rs::digest::{SHA256, digest};

use super::key::{Key, KeyError};

/// Purpose of a join.
pub(crate) const JOIN: &str = "hawser-join-v1";
/// Purpose of a rejoin.
pub(crate) const REJOIN: &str = "hawser-rejoin-v1";

/// Signs `message`, which is encoded with its signature empty.
pub(crate) fn prove(
    key: &Key,
    purpose: &str,
    nonce: &[u8],
    exporter: &[u8; 32],
    message: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let hash = digest(&SHA256, message);
    key.sign(&[purpose.as_bytes(), &[0], nonce, exporter, hash.as_ref()].concat())
}
