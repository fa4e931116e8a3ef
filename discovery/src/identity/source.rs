//! Where the signing key comes from: a root of our own, made at first start, or an intermediate that the operator
//! plugged in, in the layout of Istio's `cacerts`.
//!
//! A root of our own is replaced by a new one that the former one vouches for, in a cross certificate that every chain
//! carries: who knows only the former root takes the new one's certificates too. Both are trusted until it ends.
//!
//! Out: a [`Signer`] that was seen to work: key and certificate belong together, and a certificate signed now
//! verifies against the roots.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
/// File of the certificates in which former roots vouch for later ones, the last first.
pub const CROSS_CERTIFICATES_FILE: &str = "ca-cross.pem";
/// File of a rotation that is under way: key and certificates in one, so that it happens whole or not at all.
pub(crate) const NEXT_FILE: &str = "ca-next.pem";
/// Roots that are trusted at once.
const MOST_ROOTS: usize = 4;

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
    /// The root is not ours to replace.
    #[error(
        "the CA is plugged in: put the new intermediate into the directory of --ca-dir, old and new root into its \
         root-cert.pem, and restart hawser-discovery"
    )]
    Plugged,
    /// Roots were replaced faster than they are forgotten.
    #[error(
        "{MOST_ROOTS} roots are trusted already, the most there may be: rotate again when one of them is forgotten"
    )]
    TooMany,
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
    /// Where a root of our own lies; none if an intermediate is plugged in.
    home: Option<PathBuf>,
}

/// The signing key; wiped when dropped.
pub(super) struct SigningSecret(KeyPair);

impl Signer {
    /// The root in a data directory; made if there is none.
    ///
    /// # Errors
    /// If files can't be read or written, or do not belong together.
    pub fn own(dir: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, SourceError> {
        settle(dir)?;
        let (key_path, path) = (dir.join(ROOT_KEY_FILE), dir.join(ROOT_CERTIFICATE_FILE));
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
        let mut roots = read_certificates(&path)?;
        let root = roots.first().cloned().ok_or_else(|| content(&path, "it holds no certificate"))?;
        let crosses = dir.join(CROSS_CERTIFICATES_FILE);
        let crosses = if crosses.exists() { read_certificates(&crosses)? } else { Vec::new() };
        // One whose word for its successor has ended is former no more.
        roots.retain(|root| vouching(root, &crosses).is_none_or(|until| until > now));
        let mut signer = Self::new(&path, key, root, Vec::new(), roots, now)?;
        signer.intermediates = crosses.into_iter().filter(|cross| end(cross).is_some_and(|end| end > now)).collect();
        signer.home = Some(dir.to_owned());
        Ok(signer)
    }

    /// A root of our own in the place of this one, which vouches for it for that long. On disk when it is given.
    ///
    /// # Errors
    /// If the root is not ours, too many are trusted, or files can't be written; then the old one stays.
    pub(super) fn rotated(
        &self,
        trust_domain: &TrustDomain,
        window: Duration,
        now: SystemTime,
    ) -> Result<Self, SourceError> {
        let dir = self.home.as_deref().ok_or(SourceError::Plugged)?;
        // What ended since it was read counts no more.
        let old = Self::own(dir, trust_domain, now)?;
        if old.roots.len() >= MOST_ROOTS {
            return Err(SourceError::TooMany);
        }
        let mut key = KeyPair::generate().map_err(SourceError::Make)?;
        let params = profile::root(trust_domain.as_str(), now);
        let cross = profile::cross(&params, now, (now + window).min(old.ends));
        let root = params.self_signed(&key).map_err(SourceError::Make)?;
        let cross = cross.signed_by(&key, &old.issuer).map_err(SourceError::Make)?;
        let mut text = Zeroizing::new(key.serialize_pem());
        key.zeroize();
        let new = [root.der(), cross.der()];
        new.into_iter().chain(&old.roots).chain(&old.intermediates).for_each(|der| text.push_str(&pem(der)));
        let next = dir.join(NEXT_FILE);
        write_file(&next, text.as_bytes(), 0o600).map_err(at(&next))?;
        Self::own(dir, trust_domain, now)
    }

    /// Until when a root that signs no more is trusted.
    pub(super) fn trusted_until(&self, root: &CertificateDer<'static>) -> Option<SystemTime> {
        vouching(root, &self.intermediates).filter(|_| self.home.is_some() && *root != self.anchor)
    }

    /// When something of it has to be left out: [`Signer::own`] does.
    pub(super) fn changes(&self) -> Option<SystemTime> {
        self.home.as_ref()?;
        self.intermediates.iter().filter_map(end).min()
    }

    /// It without what has ended.
    pub(super) fn renewed(&self, trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, SourceError> {
        Self::own(self.home.as_deref().ok_or(SourceError::Plugged)?, trust_domain, now)
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
        let signer = Self { issuer, ends, intermediates, roots, anchor, home: None };
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

/// Ends what a rotation began: its file is whole, and the others follow it however often that is done.
fn settle(dir: &Path) -> Result<(), SourceError> {
    let next = dir.join(NEXT_FILE);
    if !next.exists() {
        return Ok(());
    }
    let text = read_private(&next).map_err(at(&next))?;
    let mut key = read_key(&next)?;
    let secret = Zeroizing::new(key.serialize_pem());
    key.zeroize();
    let own = |der: &CertificateDer<'static>| {
        X509Certificate::from_der(der).is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
    };
    let all = certificates(&next, text.as_bytes())?;
    let (roots, crosses): (Vec<_>, Vec<_>) = all.into_iter().partition(own);
    let text = |all: Vec<CertificateDer<'static>>| all.iter().map(|der| pem(der)).collect::<String>();
    for (file, text, mode) in [
        (ROOT_KEY_FILE, secret, 0o600),
        (ROOT_CERTIFICATE_FILE, Zeroizing::new(text(roots)), 0o644),
        (CROSS_CERTIFICATES_FILE, Zeroizing::new(text(crosses)), 0o644),
    ] {
        let path = dir.join(file);
        write_file(&path, text.as_bytes(), mode).map_err(at(&path))?;
    }
    fs::remove_file(&next).map_err(at(&next))
}

/// Until when a root vouches for others; `None` if it does for none.
fn vouching(root: &CertificateDer<'static>, crosses: &[CertificateDer<'static>]) -> Option<SystemTime> {
    let (_, root) = X509Certificate::from_der(root).ok()?;
    let by = |der: &CertificateDer<'static>| {
        let (_, cross) = X509Certificate::from_der(der).ok()?;
        (cross.issuer().as_raw() == root.subject().as_raw()).then(|| ends(&cross))
    };
    crosses.iter().filter_map(by).max()
}

fn end(der: &CertificateDer<'static>) -> Option<SystemTime> {
    X509Certificate::from_der(der).ok().map(|(_, parsed)| ends(&parsed))
}

/// A certificate as PEM.
pub(super) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 60);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SourceError + use<> {
    let path = path.to_owned();
    move |error| SourceError::File(path, error)
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
    certificates(path, &fs::read(path).map_err(at(path))?)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|e| content(path, format!("it must hold certificates in PEM: {e}")))?;
    if all.is_empty() { Err(content(path, "it holds no certificate in PEM")) } else { Ok(all) }
}
