//! For tests: ClientHellos as rustls makes them, and a small world of certificates.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::{ClientVerifier, Names, ServerVerifier};
use crate::config::Roots;

/// The first flight of a client.
pub(crate) fn hello_bytes(server_name: &str, alpn: &[&str]) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(hawser_daemon::tls_provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = server_name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A root, and a certificate for every purpose.
pub(crate) struct Pki {
    roots: Arc<Roots>,
    pub(crate) leaf: CertificateDer<'static>,
    key: Vec<u8>,
    /// Root, certificate and key as text.
    pub(crate) pem: [String; 3],
}

/// Who that certificate belongs to.
pub(crate) const IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/app";

impl Pki {
    pub(crate) fn new() -> Self {
        let root_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(params, root_key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(IDENTITY.try_into().unwrap())];
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let anchor = webpki::anchor_from_trusted_cert(root.der()).unwrap().to_owned();
        let roots = Arc::new(Roots { anchors: vec![anchor], generation: 1 });
        let pem = [root.pem(), leaf.pem(), key.serialize_pem()];
        Self { roots, leaf: leaf.der().clone(), key: key.serialize_der(), pem }
    }

    /// Configurations for both ends that agree on a version and a suite.
    pub(crate) fn configs(
        &self,
        version: &'static SupportedProtocolVersion,
        suite: Option<SupportedCipherSuite>,
    ) -> (ClientConfig, ServerConfig) {
        let mut provider = (*hawser_daemon::tls_provider()).clone();
        provider.cipher_suites.retain(|s| suite.is_none_or(|only| only == *s));
        let provider = Arc::new(provider);
        let key = || PrivateKeyDer::Pkcs8(self.key.clone().into());
        let names = || Names::Exactly(IDENTITY.into());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let verifier = Arc::new(ServerVerifier::new(self.roots.clone(), names()));
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut client = builder.with_client_auth_cert(vec![self.leaf.clone()], key()).unwrap();
        client.alpn_protocols = vec![b"one".to_vec(), b"two".to_vec()];
        client.enable_secret_extraction = true;
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let verifier = Arc::new(ClientVerifier::new(self.roots.clone(), names(), true));
        let builder = builder.with_client_cert_verifier(verifier);
        let mut server = builder.with_single_cert(vec![self.leaf.clone()], key()).unwrap();
        server.alpn_protocols = vec![b"two".to_vec()];
        server.enable_secret_extraction = true;
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        (client, server)
    }
}
