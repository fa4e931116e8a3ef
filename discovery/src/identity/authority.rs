//! The certificate authority: checked requests in, chains out. Its root may be replaced while it signs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use hawser_api::identity::{Path, SpiffeId, TrustDomain};
use hawser_api::token::Pin;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::request::CheckedRequest;
use super::serial::Holder;
use super::source::{Signer, SourceError, ends, pem};
use super::{Subject, profile};

/// Signs certificates of one trust domain.
#[derive(Debug)]
pub struct Authority {
    trust_domain: TrustDomain,
    current: ArcSwap<Current>,
    life: Duration,
    /// One rotation at a time.
    rotating: parking_lot::Mutex<()>,
    rotations: watch::Sender<u64>,
}

#[derive(Debug)]
struct Current {
    /// When a former root is to be forgotten.
    changes: Option<SystemTime>,
    signer: Signer,
    roots_pem: Arc<[String]>,
}

impl Current {
    fn new(signer: Signer) -> Self {
        Self { changes: signer.changes(), roots_pem: signer.roots.iter().map(|root| pem(root)).collect(), signer }
    }
}

/// A certificate with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// PEM, leaf first, without roots.
    pub chain: Vec<String>,
    /// When the leaf ends.
    pub not_after: SystemTime,
}

/// A root that members trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// How tokens name it.
    pub pin: Pin,
    /// When it ends.
    pub not_after: SystemTime,
    /// Certificates signed now end in it.
    pub signing: bool,
    /// When a former one is forgotten.
    pub trusted_until: Option<SystemTime>,
}

/// Why a certificate was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The caller may not have this identity.
    #[error("{0} is not signed for a caller of this kind")]
    Identity(SpiffeId),
    /// Nothing signed now would be valid.
    #[error("the CA's own certificate has expired: plug in a newer one and restart hawser-discovery")]
    Expired,
    /// The signer failed.
    #[error("the certificate can't be signed: {0}")]
    Failed(#[from] rcgen::Error),
}

impl Authority {
    /// An authority of a trust domain.
    pub fn new(trust_domain: TrustDomain, signer: Signer) -> Self {
        Self {
            trust_domain,
            current: ArcSwap::from_pointee(Current::new(signer)),
            life: profile::DEFAULT_LIFE,
            rotating: parking_lot::Mutex::default(),
            rotations: watch::Sender::new(0),
        }
    }

    /// The same with another life of certificates whose caller asks for none.
    #[must_use]
    pub fn with_life(self, life: Duration) -> Self {
        Self { life: profile::life(Some(life), self.life), ..self }
    }

    /// Life of certificates whose caller asks for none.
    pub fn life(&self) -> Duration {
        self.life
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Every root that members trust, PEM.
    pub fn roots_pem(&self) -> Arc<[String]> {
        self.current.load().roots_pem.clone()
    }

    /// How often the root was replaced in this run.
    pub fn rotations(&self) -> watch::Receiver<u64> {
        self.rotations.subscribe()
    }

    /// Puts a new root of our own in the place of the one that signs. The former one vouches for it for that long, and
    /// at least as long as certificates live. Writes files: not on an async thread.
    ///
    /// # Errors
    /// If the root is not ours, too many are trusted, or the disk refuses; then nothing has changed.
    pub fn rotate(&self, window: Duration, now: SystemTime) -> Result<(), SourceError> {
        let _one = self.rotating.lock();
        let window = window.max(profile::LONGEST_LIFE);
        let signer = self.current.load().signer.rotated(&self.trust_domain, window, now)?;
        self.current.store(Arc::new(Current::new(signer)));
        self.rotations.send_modify(|count| *count += 1);
        Ok(())
    }

    /// When a former root is to be forgotten next.
    pub(super) fn changes(&self) -> Option<SystemTime> {
        self.current.load().changes
    }

    /// Forgets former roots whose time has come. Reads files: not on an async thread.
    ///
    /// # Errors
    /// If they can't be read; then everything stays.
    pub(super) fn forget_former(&self, now: SystemTime) -> Result<(), SourceError> {
        let _one = self.rotating.lock();
        let signer = self.current.load().signer.renewed(&self.trust_domain, now)?;
        self.current.store(Arc::new(Current::new(signer)));
        Ok(())
    }

    /// Every root that members trust.
    pub fn roots(&self) -> Vec<Root> {
        let current = self.current.load();
        let signer = &current.signer;
        let root = |der: &CertificateDer<'static>| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            let pin = Pin(digest(&SHA256, parsed.public_key().raw).as_ref().try_into().ok()?);
            let (signing, trusted_until) = (*der == signer.anchor, signer.trusted_until(der));
            Some(Root { pin, not_after: ends(&parsed), signing, trusted_until })
        };
        signer.roots.iter().filter_map(root).collect()
    }

    /// Pins for a join token: the root of what is signed now first, two at most.
    pub fn pins(&self) -> Vec<Pin> {
        let mut roots = self.roots();
        roots.sort_by_key(|root| !root.signing);
        let mut pins: Vec<Pin> = roots.into_iter().map(|root| root.pin).collect();
        pins.dedup();
        pins.truncate(2);
        pins
    }

    /// The roots as a verifier takes them.
    pub fn root_store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.current.load().signer.roots.iter().cloned());
        store
    }

    /// Signs for a caller whose proof was checked. The request gives the key and nothing else.
    ///
    /// # Errors
    /// If the identity is none that a caller of this kind may have, or the signer fails.
    pub fn issue(
        &self,
        request: &CheckedRequest,
        subject: &Subject,
        life: Option<Duration>,
        now: SystemTime,
    ) -> Result<Issued, SignError> {
        let fits = match (subject.id.path(), subject.holder) {
            (Path::Host(_), Holder::Host) => true,
            (Path::Workload { .. }, Holder::JoinedWorkload | Holder::Caller) => true,
            (Path::Host(_) | Path::Workload { .. } | Path::Discovery | Path::Other(_), _) => false,
        };
        if !fits || subject.id.trust_domain() != &self.trust_domain {
            return Err(SignError::Identity(subject.id.clone()));
        }
        let current = self.current.load();
        let (leaf, not_after) = sign(&current.signer, &request.key, subject, profile::life(life, self.life), now)?;
        let chain = std::iter::once(leaf.pem()).chain(current.signer.intermediates.iter().map(|c| pem(c))).collect();
        Ok(Issued { chain, not_after })
    }

    /// Discovery's own certificate: DER, leaf first, the roots last; its key; its end. Former roots are among them: who
    /// has only the pin of one takes it from there.
    pub(super) fn issue_own(
        &self,
        now: SystemTime,
    ) -> Result<(Vec<CertificateDer<'static>>, KeyPair, SystemTime), SignError> {
        let key = KeyPair::generate()?;
        let subject = Subject { id: self.trust_domain.discovery(), holder: Holder::Discovery };
        let current = self.current.load();
        let signer = &current.signer;
        let (leaf, not_after) = sign(signer, &key, &subject, self.life, now)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(signer.intermediates.iter().cloned());
        chain.push(signer.anchor.clone());
        chain.extend(signer.roots.iter().filter(|root| signer.trusted_until(root).is_some()).cloned());
        Ok((chain, key, not_after))
    }
}

fn sign(
    signer: &Signer,
    key: &impl rcgen::PublicKeyData,
    subject: &Subject,
    life: Duration,
    now: SystemTime,
) -> Result<(rcgen::Certificate, SystemTime), SignError> {
    if now >= signer.ends {
        return Err(SignError::Expired);
    }
    let (params, not_after) = profile::leaf(subject, now, life, signer.ends)?;
    Ok((params.signed_by(key, &signer.issuer)?, not_after))
}

#[cfg(test)]
mod tests;
