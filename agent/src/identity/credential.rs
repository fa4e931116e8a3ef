//! A certificate with its chain and key, checked before anybody sees it.
//!
//! In: PEM from discovery or from our own disk, and the key that it must belong to. Out: a [`Credential`] that names
//! whom it should and holds together; what fails is an error, and what was there before stays.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hawser_api::identity::SpiffeId;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::key::Key;
use super::schedule::Life;
use crate::discovery::uri_names;

/// A key with its certificate and chain.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) identity: SpiffeId,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The chain as PEM, leaf first.
    pub(crate) chain_pem: Arc<str>,
    pub(crate) key: Arc<Key>,
    pub(crate) life: Life,
    /// Serial number, hexadecimal.
    pub(crate) serial: String,
}

/// Why a certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCredential {
    #[error("the certificate for {0} can't be read: {1}")]
    Unreadable(SpiffeId, String),
    #[error("the certificate for {0} names {1}")]
    Identity(SpiffeId, String),
    #[error("the certificate for {0} belongs to another key")]
    Key(SpiffeId),
    #[error("the certificate for {0} does not hold: {1}")]
    Chain(SpiffeId, String),
}

impl Credential {
    /// Reads a chain and checks name and key; not its dates, which an old one on disk may have passed.
    pub(crate) fn read(identity: SpiffeId, chain_pem: &str, key: Arc<Key>) -> Result<Self, BadCredential> {
        let unreadable = |why: String| BadCredential::Unreadable(identity.clone(), why);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| unreadable("there is none".into()))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
        if parsed.public_key().raw != key.public() {
            return Err(BadCredential::Key(identity));
        }
        let names = uri_names(leaf).ok_or_else(|| unreadable("its names".into()))?;
        if names != [identity.as_str()] {
            return Err(BadCredential::Identity(identity, names.join(", ")));
        }
        let life = Life {
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            obtained: Instant::now(),
            jitter: rand::random_range(0.0..1.0),
        };
        let serial = parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { identity, chain_pem: chain_pem.into(), chain, key, life, serial })
    }

    /// Checks that others will believe it: up to one of the roots, at this time.
    pub(crate) fn verify(&self, roots: &Roots, now: UnixTime) -> Result<(), BadCredential> {
        let bad = |error: webpki::Error| BadCredential::Chain(self.identity.clone(), error.to_string());
        let anchors: Vec<_> =
            roots.certificates.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let [leaf, rest @ ..] = self.chain.as_slice() else {
            return Err(BadCredential::Unreadable(self.identity.clone(), "there is none".into()));
        };
        let end = EndEntityCert::try_from(leaf).map_err(bad)?;
        let algorithms = hawser_daemon::tls_provider().signature_verification_algorithms.all;
        end.verify_for_usage(algorithms, &anchors, rest, now, KeyUsage::client_auth(), None, None).map_err(bad)?;
        Ok(())
    }
}

/// The roots that this host trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roots {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    pub(crate) pem: Arc<str>,
}

impl Roots {
    /// Reads PEM, one or more; `None` if nothing in it is a certificate.
    pub(crate) fn read<'a>(parts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut pem = String::new();
        for part in parts {
            pem.push_str(part.trim_end());
            pem.push('\n');
        }
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
        let usable = certificates.iter().all(|certificate| anchor_from_trusted_cert(certificate).is_ok());
        (usable && !certificates.is_empty()).then_some(Self { certificates, pem: pem.into() })
    }
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
