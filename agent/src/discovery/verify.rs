//! Who discovery is: the check that stands before every word said to it.
//!
//! In: the chain that a server sent. Out: yes, or why not. The chain must end in a root that is pinned or trusted, with
//! the root taken from the chain itself where only its pin is known; every signature and date must hold, and
//! the leaf's only URI name must be discovery's identity. A workload of the same mesh is not discovery.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use hawser_api::identity::{SpiffeId, TrustDomain};
use hawser_api::token::Pin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const LONGEST_CHAIN: usize = 10;

/// Checks that a server is discovery.
#[derive(Debug)]
pub(crate) struct DiscoveryVerifier {
    trust: Trust,
    expected: SpiffeId,
    provider: Arc<CryptoProvider>,
}

/// What a chain may end in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// SHA-256 of a root's SubjectPublicKeyInfo.
    pub(crate) pins: Vec<Pin>,
    /// Roots.
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// Why a chain is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTrusted {
    /// It ends nowhere that we know.
    #[error("its certificates do not end in the mesh's root")]
    Root,
    /// It ends well, but is somebody else's.
    #[error("its certificate is not discovery's: it names {0}")]
    Identity(String),
    /// Dates: of ours and the certificate's one is wrong, and by how much at least.
    #[error("its certificate is not valid at this host's time: check this host's clock")]
    Time {
        /// Ours would be before the certificate's.
        behind: bool,
        by: Duration,
    },
    /// Anything else.
    #[error("its certificate is not valid: {0}")]
    Invalid(String),
}

impl DiscoveryVerifier {
    /// A verifier of the discovery of a trust domain.
    pub(crate) fn new(trust: Trust, trust_domain: &TrustDomain, provider: Arc<CryptoProvider>) -> Self {
        Self { trust, expected: trust_domain.discovery(), provider }
    }

    fn verify(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<(), NotTrusted> {
        if rest.len() > LONGEST_CHAIN {
            return Err(NotTrusted::Invalid("its chain is too long".into()));
        }
        let sent_roots = rest.iter().filter(|certificate| self.trust.pinned(certificate));
        let anchors: Vec<_> = sent_roots
            .chain(&self.trust.roots)
            .filter_map(|certificate| anchor_from_trusted_cert(certificate).ok())
            .collect();
        let end = EndEntityCert::try_from(leaf).map_err(|error| NotTrusted::Invalid(error.to_string()))?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        end.verify_for_usage(algorithms, &anchors, rest, now, KeyUsage::server_auth(), None, None)
            .map_err(|error| NotTrusted::from_webpki(&error))?;
        let names = uri_names(leaf).ok_or_else(|| NotTrusted::Invalid("its names can't be read".into()))?;
        if names != [self.expected.as_str()] {
            return Err(NotTrusted::Identity(if names.is_empty() { "nobody".into() } else { names.join(", ") }));
        }
        Ok(())
    }
}

impl Trust {
    fn pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
        let pin = digest(&SHA256, parsed.public_key().raw);
        self.pins.iter().any(|known| known.0 == pin.as_ref())
    }
}

impl NotTrusted {
    fn from_webpki(error: &webpki::Error) -> Self {
        match error {
            webpki::Error::UnknownIssuer => Self::Root,
            webpki::Error::CertExpired { time, not_after } => {
                Self::Time { behind: false, by: seconds(*time).saturating_sub(seconds(*not_after)) }
            }
            webpki::Error::CertNotValidYet { time, not_before } => {
                Self::Time { behind: true, by: seconds(*not_before).saturating_sub(seconds(*time)) }
            }
            other => Self::Invalid(other.to_string()),
        }
    }

    /// Finds one in what a TLS handshake failed with.
    pub(crate) fn find(error: &std::io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref::<Self>().cloned()
            }
            rustls::Error::InvalidCertificate(other) => Some(Self::Invalid(format!("{other:?}"))),
            _ => None,
        }
    }
}

fn seconds(time: UnixTime) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// The URI names of a certificate.
pub(crate) fn uri_names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let Some(names) = parsed.subject_alternative_name().ok()? else { return Some(Vec::new()) };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    Some(uris.collect())
}

impl ServerCertVerifier for DiscoveryVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verify(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(why) => Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData as _,
        SanType,
    };

    use super::*;

    struct Ca {
        certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
        pin: Pin,
    }

    fn ca() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let pin = Pin(digest(&SHA256, &key.subject_public_key_info()).as_ref().try_into().unwrap());
        Ca { certificate, issuer: Issuer::new(params, key), pin }
    }

    fn leaf(ca: &Ca, uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&KeyPair::generate().unwrap(), &ca.issuer).unwrap().der().clone()
    }

    fn verifier(pins: Vec<Pin>, roots: Vec<CertificateDer<'static>>) -> DiscoveryVerifier {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        DiscoveryVerifier::new(Trust { pins, roots }, &domain, hawser_daemon::tls_provider())
    }

    const DISCOVERY: &str = "spiffe://cluster.local/hawser/discovery";

    #[test]
    fn a_pinned_root_is_taken_from_the_chain() {
        let ca = ca();
        let pinned = verifier(vec![ca.pin], Vec::new());
        assert_eq!(
            pinned.verify(&leaf(&ca, &[DISCOVERY]), std::slice::from_ref(&ca.certificate), UnixTime::now()),
            Ok(())
        );
        let trusted = verifier(Vec::new(), vec![ca.certificate.clone()]);
        assert_eq!(trusted.verify(&leaf(&ca, &[DISCOVERY]), &[], UnixTime::now()), Ok(()));
    }

    #[test]
    fn an_impostor_is_refused() {
        let (ours, other) = (ca(), ca());
        let verifier = verifier(vec![ours.pin], Vec::new());
        let now = UnixTime::now();
        // Another root, with and without ours beside it.
        let forged = leaf(&other, &[DISCOVERY]);
        assert_eq!(verifier.verify(&forged, std::slice::from_ref(&other.certificate), now), Err(NotTrusted::Root));
        let beside = [other.certificate.clone(), ours.certificate.clone()];
        assert!(verifier.verify(&forged, &beside, now).is_err());
        // Somebody else of the same root, also with discovery's name beside his own.
        let workload = "spiffe://cluster.local/ns/default/sa/reviews";
        for names in [&[workload][..], &[workload, DISCOVERY], &[], &["spiffe://other/hawser/discovery"]] {
            let verified = verifier.verify(&leaf(&ours, names), std::slice::from_ref(&ours.certificate), now);
            assert!(matches!(verified, Err(NotTrusted::Identity(_))), "{names:?}: {verified:?}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_from_a_wrong_server() {
        let ca = ca();
        let verifier = verifier(vec![ca.pin], Vec::new());
        let past = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        let verified = verifier.verify(&leaf(&ca, &[DISCOVERY]), std::slice::from_ref(&ca.certificate), past);
        assert!(
            matches!(verified, Err(NotTrusted::Time { behind: true, .. } | NotTrusted::Invalid(_))),
            "{verified:?}"
        );
    }
}
