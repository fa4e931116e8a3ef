//! Who is who: the certificate authority, discovery's own certificate, and the proofs of callers.
//!
//! In: the data directory or a plugged-in intermediate; certificate requests of callers whose proof was checked.
//! Out: chains with one critical URI SAN. Invariant: the caller's proof decides the identity, never its request;
//! discovery's own identity is never signed for a caller; a private key never leaves its file and this memory.

pub mod accounts;
mod authority;
mod istio;
mod profile;
mod request;
mod serial;
mod serving;
mod source;

pub use authority::{Authority, Issued, Root, SignError};
pub use istio::CertificateService;
pub use profile::{DEFAULT_LIFE, LONGEST_LIFE, SHORTEST_LIFE, Subject};
pub use request::{CheckedRequest, InvalidRequest};
pub use serial::{Holder, holder};
pub use serving::Serving;
pub(crate) use source::NEXT_FILE;
pub(crate) use source::ends;
pub use source::{CROSS_CERTIFICATES_FILE, ROOT_CERTIFICATE_FILE, ROOT_KEY_FILE, Signer, SourceError};
