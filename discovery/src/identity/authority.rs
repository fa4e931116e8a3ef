//! The certificate authority: checked requests in, chains out.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawser_api::identity::{Path, SpiffeId, TrustDomain};
use hawser_api::token::Pin;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::request::CheckedRequest;
use super::serial::Holder;
use super::source::{Signer, ends};
use super::{Subject, profile};

/// Signs certificates of one trust domain.
#[derive(Debug)]
pub struct Authority {
    trust_domain: TrustDomain,
    signer: Signer,
    roots_pem: Vec<String>,
    life: Duration,
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
        let roots_pem = signer.roots.iter().map(|root| pem(root)).collect();
        Self { trust_domain, signer, roots_pem, life: profile::DEFAULT_LIFE }
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
    pub fn roots_pem(&self) -> &[String] {
        &self.roots_pem
    }

    /// Every root that members trust.
    pub fn roots(&self) -> Vec<Root> {
        let root = |der: &CertificateDer<'static>| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            let pin = Pin(digest(&SHA256, parsed.public_key().raw).as_ref().try_into().ok()?);
            Some(Root { pin, not_after: ends(&parsed), signing: *der == self.signer.anchor })
        };
        self.signer.roots.iter().filter_map(root).collect()
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
        store.add_parsable_certificates(self.signer.roots.iter().cloned());
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
        let (leaf, not_after) = self.sign(&request.key, subject, profile::life(life, self.life), now)?;
        let chain = std::iter::once(leaf.pem()).chain(self.signer.intermediates.iter().map(|c| pem(c))).collect();
        Ok(Issued { chain, not_after })
    }

    /// Discovery's own certificate: DER, leaf first, the root last; its key; its end.
    pub(super) fn issue_own(
        &self,
        now: SystemTime,
    ) -> Result<(Vec<CertificateDer<'static>>, KeyPair, SystemTime), SignError> {
        let key = KeyPair::generate()?;
        let subject = Subject { id: self.trust_domain.discovery(), holder: Holder::Discovery };
        let (leaf, not_after) = self.sign(&key, &subject, self.life, now)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.signer.intermediates.iter().cloned());
        chain.push(self.signer.anchor.clone());
        Ok((chain, key, not_after))
    }

    fn sign(
        &self,
        key: &impl rcgen::PublicKeyData,
        subject: &Subject,
        life: Duration,
        now: SystemTime,
    ) -> Result<(rcgen::Certificate, SystemTime), SignError> {
        if now >= self.signer.ends {
            return Err(SignError::Expired);
        }
        let (params, not_after) = profile::leaf(subject, now, life, self.signer.ends)?;
        Ok((params.signed_by(key, &self.signer.issuer)?, not_after))
    }
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> String {
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

#[cfg(test)]
mod tests;
