//! Where the signing key comes from: a root of our own, made at first start, or an intermediate that the operator
//! plugged in, in the layout of Istio's `cacerts`.
//!
//! Out: a [`Signer`] that was seen to work: key and certificate belong together, and a certificate signed now
//! verifies against the roots.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_api::identity::TrustDomain;
use rcgen::{Issuer, KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::{Zeroize as _, Zeroizing};

use super::profile;
use crate::store::{read_private, write_file};

/// File of the key of a root of our own, in the data directory.
pub const ROOT_KEY_FILE: &str = "ca.key";
/// File of its certificate.
pub const ROOT_CERTIFICATE_FILE: &str = "ca.pem";

/// Why there is no signer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file can't be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A file holds something else than it should.
    #[error("{0}: {1}")]
    Content(PathBuf, String),
    /// A certificate exists without its key.
    #[error("{0} is there but its key {1} is not: restore it from a backup, or move both away to start a new mesh")]
    KeyMissing(PathBuf, PathBuf),
    /// No key can be made.
    #[error("the root can't be made: {0}")]
    Make(#[source] rcgen::Error),
}

/// A key that signs, with the way from its certificate to the roots.
pub struct Signer {
    pub(super) issuer: Issuer<'static, SigningSecret>,
    /// When its certificate ends.
    pub(super) ends: SystemTime,
    /// What a leaf needs besides the roots: the signer's own certificate first, if it is no root.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// What members trust.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// The root at the end of this signer's chain.
    pub(super) anchor: CertificateDer<'static>,
}

/// The signing key; wiped when dropped.
pub(super) struct SigningSecret(KeyPair);

impl Signer {
    /// The root in a data directory; made if there is none.
    ///
    /// # Errors
    /// If files can't be read or written, or do not belong together.
    pub fn own(dir: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, SourceError> {
        let (key_path, path) = (dir.join(ROOT_KEY_FILE), dir.join(ROOT_CERTIFICATE_FILE));
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| SourceError::File(path, error)
        };
        if !key_path.exists() {
            if path.exists() {
                return Err(SourceError::KeyMissing(path, key_path));
            }
            let mut key = KeyPair::generate().map_err(SourceError::Make)?;
            let pem = Zeroizing::new(key.serialize_pem());
            key.zeroize();
            write_file(&key_path, pem.as_bytes(), 0o600).map_err(at(&key_path))?;
        }
        let key = read_key(&key_path)?;
        // The key is written first: a start that was killed between the two goes on from here.
        if !path.exists() {
            let root = profile::root(trust_domain.as_str(), now).self_signed(&key).map_err(SourceError::Make)?;
            write_file(&path, root.pem().as_bytes(), 0o644).map_err(at(&path))?;
        }
        let roots = read_certificates(&path)?;
        let root = roots.first().cloned().ok_or_else(|| content(&path, "it holds no certificate"))?;
        Self::new(&path, key, root, Vec::new(), roots, now)
    }

    /// An intermediate: `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem`.
    ///
    /// # Errors
    /// If a file is missing or they do not belong together.
    pub fn plugged(dir: &Path, now: SystemTime) -> Result<Self, SourceError> {
        let path = dir.join("ca-cert.pem");
        let key = read_key(&dir.join("ca-key.pem"))?;
        let own = read_certificates(&path)?;
        let certificate = own.first().cloned().ok_or_else(|| content(&path, "it holds no certificate"))?;
        let roots = read_certificates(&dir.join("root-cert.pem"))?;
        let chain_path = dir.join("cert-chain.pem");
        let chain = if chain_path.exists() { read_certificates(&chain_path)? } else { Vec::new() };
        let mut intermediates = Vec::new();
        for candidate in own.into_iter().chain(chain) {
            if !roots.contains(&candidate) && !intermediates.contains(&candidate) {
                intermediates.push(candidate);
            }
        }
        Self::new(&path, key, certificate, intermediates, roots, now)
    }

    fn new(
        path: &Path,
        key: KeyPair,
        certificate: CertificateDer<'static>,
        intermediates: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
        now: SystemTime,
    ) -> Result<Self, SourceError> {
        let parsed = parse(path, &certificate)?;
        if !parsed.is_ca() {
            return Err(content(path, "the certificate is no CA's: basicConstraints must say CA:TRUE"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(content(path, "key and certificate do not belong together"));
        }
        let ends = ends(&parsed);
        if ends <= now {
            return Err(content(path, "the certificate has expired: plug in a newer one"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, SigningSecret(key))
            .map_err(|e| content(path, format!("the certificate can't sign: {e}")))?;
        let last = intermediates.last().unwrap_or(&certificate);
        let last = parse(path, last)?;
        let is_anchor = |root: &&CertificateDer<'static>| {
            X509Certificate::from_der(root).is_ok_and(|(_, root)| root.subject().as_raw() == last.issuer().as_raw())
        };
        let anchor = roots
            .iter()
            .find(is_anchor)
            .cloned()
            .ok_or_else(|| content(path, "its chain does not end in one of the roots"))?;
        let signer = Self { issuer, ends, intermediates, roots, anchor };
        signer.check(now).map_err(|why| content(path, why))?;
        Ok(signer)
    }

    /// Signs a certificate and verifies it as a member would.
    fn check(&self, now: SystemTime) -> Result<(), String> {
        let words = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
        let key = KeyPair::generate().map_err(|e| words("no key can be made", &e))?;
        let id = "cluster.local".parse::<TrustDomain>().map_err(|e| e.to_string())?.discovery();
        let subject = super::Subject { id, holder: super::Holder::Discovery };
        let (params, _) =
            profile::leaf(&subject, now, profile::SHORTEST_LIFE, self.ends).map_err(|e| words("it can't sign", &e))?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(|e| words("it can't sign", &e))?;
        let anchors: Vec<_> = self
            .roots
            .iter()
            .map(webpki::anchor_from_trusted_cert)
            .collect::<Result<_, _>>()
            .map_err(|e| words("a root can't be used", &e))?;
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        webpki::EndEntityCert::try_from(leaf.der())
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    &anchors,
                    &self.intermediates,
                    UnixTime::since_unix_epoch(since_epoch),
                    webpki::KeyUsage::server_auth(),
                    None,
                    None,
                )
                .map(drop)
            })
            .map_err(|e| words("a certificate signed by it does not verify against the roots", &e))
    }
}

impl SigningKey for SigningSecret {
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(msg)
    }
}

impl PublicKeyData for SigningSecret {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl Drop for SigningSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// End of a certificate's life.
pub(crate) fn ends(certificate: &X509Certificate<'_>) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(certificate.validity().not_after.timestamp().try_into().unwrap_or(0))
}

fn content(path: &Path, why: impl Into<String>) -> SourceError {
    SourceError::Content(path.to_owned(), why.into())
}

fn parse<'a>(path: &Path, der: &'a [u8]) -> Result<X509Certificate<'a>, SourceError> {
    X509Certificate::from_der(der)
        .map(|(_, parsed)| parsed)
        .map_err(|e| content(path, format!("a certificate can't be read: {e}")))
}

fn read_key(path: &Path) -> Result<KeyPair, SourceError> {
    let pem = read_private(path).map_err(|e| SourceError::File(path.to_owned(), e))?;
    let bad = || content(path, "it must hold one private key in PEM, not encrypted, ECDSA or RSA");
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
    KeyPair::try_from(&key).map_err(|_| bad())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let pem = fs::read(path).map_err(|e| SourceError::File(path.to_owned(), e))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|e| content(path, format!("it must hold certificates in PEM: {e}")))?;
    if all.is_empty() { Err(content(path, "it holds no certificate in PEM")) } else { Ok(all) }
}
