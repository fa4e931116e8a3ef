//! Who the peer is: a chain to the mesh's roots, and the one URI that names an identity.
//!
//! In: certificates as a handshake shows them. Out: yes or no. Host names play no part: an identity is a SPIFFE id. Servers
//! outside of the mesh are checked by roots and names of their own.

use std::sync::Arc;

use hawser_api::identity::{SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::{CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder};

use crate::config::{Foreign, Roots, StringMatch};

/// Which identities are good.
#[derive(Clone, Debug)]
pub enum Names {
    /// This one.
    Exactly(Arc<str>),
    /// This one, or the same workload of another trust domain, if one of these takes it.
    Like(Arc<str>, Vec<StringMatch>),
    /// One that matches one of these.
    Matching(Vec<StringMatch>),
    /// Workloads of a trust domain.
    Domain(TrustDomain),
}

/// Verifies servers.
#[derive(Debug)]
pub struct ServerVerifier {
    roots: Arc<Roots>,
    names: Names,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Verifies clients.
#[derive(Debug)]
pub struct ClientVerifier {
    roots: Arc<Roots>,
    names: Names,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Names {
    fn admit(&self, name: &str) -> bool {
        match self {
            Self::Exactly(only) => name == &**only,
            Self::Like(one, domains) => {
                let like = || within(name).is_some() && within(name) == within(one);
                name == &**one || like() && domains.iter().any(|m| m.matches(name))
            }
            Self::Matching(matchers) => matchers.iter().any(|m| m.matches(name)),
            Self::Domain(domain) => {
                name.parse::<SpiffeId>().is_ok_and(|id| id.trust_domain() == domain && id.workload().is_some())
            }
        }
    }
}

/// An identity within its trust domain; `None` if it is none.
fn within(name: &str) -> Option<&str> {
    let (_, rest) = name.strip_prefix("spiffe://")?.split_once('/')?;
    (!rest.is_empty()).then_some(rest)
}

impl ServerVerifier {
    /// A verifier.
    pub fn new(roots: Arc<Roots>, names: Names) -> Self {
        Self { roots, names, algorithms: aws_lc_rs::default_provider().signature_verification_algorithms }
    }
}

impl ClientVerifier {
    /// A verifier; `mandatory` refuses clients without a certificate.
    pub fn new(roots: Arc<Roots>, names: Names, mandatory: bool) -> Self {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Self { roots, names, mandatory, algorithms }
    }
}

fn invalid(error: webpki::Error) -> Error {
    Error::InvalidCertificate(match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        _ => CertificateError::BadEncoding,
    })
}

fn check(
    roots: &Roots,
    names: &Names,
    algorithms: &WebPkiSupportedAlgorithms,
    (leaf, chain): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    now: UnixTime,
    usage: KeyUsage,
) -> Result<(), Error> {
    let entity = EndEntityCert::try_from(leaf).map_err(invalid)?;
    entity.verify_for_usage(algorithms.all, &roots.anchors, chain, now, usage, None, None).map_err(invalid)?;
    let mut uris = entity.valid_uri_names();
    match (uris.next(), uris.next()) {
        (Some(name), None) if names.admit(name) => Ok(()),
        _ => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
    }
}

/// A certificate of somebody else.
const NOT_THE_ONE: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

/// Verifies servers outside of the mesh.
#[derive(Debug)]
pub struct ForeignVerifier {
    foreign: Arc<Foreign>,
    /// The certificate must be for the name that was asked for, too.
    by_host: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ForeignVerifier {
    /// A verifier.
    pub fn new(foreign: Arc<Foreign>, by_host: bool) -> Self {
        Self { foreign, by_host, algorithms: aws_lc_rs::default_provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ForeignVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.foreign.roots else { return Ok(ServerCertVerified::assertion()) };
        let entity = EndEntityCert::try_from(leaf).map_err(invalid)?;
        let usage = KeyUsage::server_auth();
        let lists: Vec<&CertRevocationList<'_>> = self.foreign.revoked.iter().collect();
        // As OpenSSL has it: of each certificate it must be known, and from a list that is not over.
        let revocation = RevocationOptionsBuilder::new(&lists).ok();
        let revocation = revocation.map(|asked| asked.with_expiration_policy(ExpirationPolicy::Enforce).build());
        entity
            .verify_for_usage(self.algorithms.all, &roots.anchors, chain, now, usage, revocation, None)
            .map_err(invalid)?;
        if self.by_host {
            // Names that are listed count besides, as in Envoy.
            entity.verify_is_valid_for_subject_name(asked).map_err(|_| NOT_THE_ONE)?;
        }
        let names = &self.foreign.names;
        let named = |name: &str| names.iter().any(|m| m.admits_name(name));
        let identified = |uri: &str| names.iter().any(|m| m.matches(uri));
        if names.is_empty() || entity.valid_dns_names().any(named) || entity.valid_uri_names().any(identified) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(NOT_THE_ONE)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check(&self.roots, &self.names, &self.algorithms, (leaf, chain), now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check(&self.roots, &self.names, &self.algorithms, (leaf, chain), now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
