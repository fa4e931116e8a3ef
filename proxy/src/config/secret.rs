//! Secrets: certificates with their keys, and roots. Verified before they are published.
//!
//! In: `Secret`. Out: [`Credentials`] (the key fits the certificate, which names one identity and is valid now) or
//! [`Roots`]. Keys live in memory alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hawser_api::identity::SpiffeId;
use hawser_api::proto::core::data_source::Specifier;
use hawser_api::proto::{core, tls as proto};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::CertifiedKey;

use super::Refused;
use super::proto::refuse;

/// A certificate with its key.
pub struct Credentials {
    /// What rustls uses.
    pub key: Arc<CertifiedKey>,
    /// Whose it is.
    pub identity: SpiffeId,
    /// Never used twice: tells old from new.
    pub generation: u64,
    /// End of its life, seconds since 1970.
    pub not_after: i64,
}

/// Roots of the mesh.
pub struct Roots {
    /// As webpki takes them.
    pub anchors: Vec<TrustAnchor<'static>>,
    /// Never used twice.
    pub generation: u64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("count", &self.anchors.len()).finish_non_exhaustive()
    }
}

static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Credentials {
    pub(super) fn new(certificate: &proto::TlsCertificate) -> Result<Self, Refused> {
        let chain = pem("certificate_chain", certificate.certificate_chain.as_ref())?;
        let key = certified(chain, pem("private_key", certificate.private_key.as_ref())?)?;
        let Some(leaf) = key.cert.first() else { refuse!("certificate_chain is empty") };
        let (identity, not_after) = read_leaf(leaf)?;
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        Ok(Self { key: Arc::new(key), identity, generation, not_after })
    }
}

impl Roots {
    pub(super) fn new(context: &proto::CertificateValidationContext) -> Result<Self, Refused> {
        let bundle = pem("trusted_ca", context.trusted_ca.as_ref())?;
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let Ok(certificate) = certificate else { refuse!("trusted_ca is no PEM") };
            match webpki::anchor_from_trusted_cert(&certificate) {
                Ok(anchor) => anchors.push(anchor.to_owned()),
                Err(e) => refuse!("trusted_ca: certificate {} is no root: {e}", anchors.len()),
            }
        }
        if anchors.is_empty() {
            refuse!("trusted_ca is empty");
        }
        Ok(Self { anchors, generation: GENERATION.fetch_add(1, Ordering::Relaxed) })
    }
}

/// A key with its chain, in PEM.
pub(super) fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, Refused> {
    let chain: Vec<CertificateDer<'static>> = match CertificateDer::pem_slice_iter(chain).collect() {
        Ok(chain) => chain,
        Err(e) => refuse!("certificate_chain is no PEM: {e}"),
    };
    // The parser's error could quote the key: it is not repeated.
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else { refuse!("private_key is no PEM of a key") };
    if chain.is_empty() {
        refuse!("certificate_chain is empty");
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let Ok(key) = provider.key_provider.load_private_key(key) else { refuse!("private_key is of no known kind") };
    let key = CertifiedKey::new(chain, key);
    if key.keys_match().is_err() {
        refuse!("private_key does not belong to the certificate");
    }
    Ok(key)
}

/// The identity of a certificate, and the end of its life.
fn read_leaf(leaf: &CertificateDer<'_>) -> Result<(SpiffeId, i64), Refused> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else { refuse!("the certificate can't be read") };
    let Ok(entity) = webpki::EndEntityCert::try_from(leaf) else { refuse!("the certificate can't be read") };
    let mut names = entity.valid_uri_names();
    let (Some(name), None) = (names.next(), names.next()) else {
        refuse!("the certificate must name exactly one URI, the workload's identity");
    };
    match name.parse() {
        Ok(identity) => Ok((identity, parsed.validity().not_after.timestamp())),
        Err(e) => refuse!("the certificate's URI: {e}"),
    }
}

fn pem<'a>(field: &str, source: Option<&'a core::DataSource>) -> Result<&'a [u8], Refused> {
    match source.and_then(|s| s.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes),
        Some(Specifier::InlineString(text)) => Ok(text.as_bytes()),
        Some(Specifier::Filename(_)) => refuse!("{field}: files are not read, the agent holds the keys"),
        None => refuse!("{field} is missing"),
    }
}
