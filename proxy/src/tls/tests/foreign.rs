//! Servers outside of the mesh, checked by files of this host.

use std::path::Path;
use std::sync::Arc;

use hawser_api::any::pack;
use hawser_api::proto::cluster::{self, Cluster};
use hawser_api::proto::core::{DataSource, TransportSocket, data_source::Specifier, transport_socket};
use hawser_api::proto::tls::certificate_validation_context::TrustChainVerification;
use hawser_api::proto::tls::common_tls_context::ValidationContextType;
use hawser_api::proto::tls::subject_alt_name_matcher::SanType;
use hawser_api::proto::tls::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsCertificate, UpstreamTlsContext,
};
use prost::Message as _;
use rustls::version::TLS13;
use tokio::io::duplex;
use tokio_rustls::TlsAcceptor;

use super::name;
use crate::config::{Config, Kind, Store, Transport};
use crate::stream::Plain;
use crate::tls::handshake::connect;
use crate::tls::testing::{IDENTITY, Pki};
use crate::tls::{ClientConfigs, Expected};

/// What a rule says.
struct Said<'s> {
    roots: &'s str,
    certificate: bool,
    name: Option<&'s str>,
    unchecked: bool,
    by_host: bool,
}

const PLAIN: Said<'static> =
    Said { roots: "root.pem", certificate: true, name: None, unchecked: false, by_host: false };

fn file(directory: &Path, name: &str) -> Option<DataSource> {
    let path = directory.join(name).display().to_string();
    Some(DataSource { specifier: Some(Specifier::Filename(path)) })
}

fn cluster(directory: &Path, said: &Said<'_>) -> Vec<u8> {
    let matcher = |name: &str| SubjectAltNameMatcher {
        san_type: SanType::Dns as i32,
        matcher: Some(hawser_api::proto::envoy::r#type::matcher::v3::StringMatcher {
            match_pattern: Some(hawser_api::proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern::Exact(
                name.to_owned(),
            )),
            ignore_case: false,
        }),
    };
    let verification =
        if said.unchecked { TrustChainVerification::AcceptUntrusted } else { TrustChainVerification::VerifyTrustChain };
    let validation = CertificateValidationContext {
        trusted_ca: file(directory, said.roots).filter(|_| !said.unchecked),
        match_typed_subject_alt_names: said.name.map(matcher).into_iter().collect(),
        trust_chain_verification: verification as i32,
        ..CertificateValidationContext::default()
    };
    let certificate =
        TlsCertificate { certificate_chain: file(directory, "cert.pem"), private_key: file(directory, "key.pem") };
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificates: said.certificate.then_some(certificate).into_iter().collect(),
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..CommonTlsContext::default()
        }),
        sni: "example.org".to_owned(),
        max_session_keys: None,
    };
    let config = Some(transport_socket::ConfigType::TypedConfig(pack(&context)));
    let kind = cluster::cluster::DiscoveryType::Static as i32;
    Cluster {
        name: "c".to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(kind)),
        transport_socket: Some(TransportSocket { name: "tls".to_owned(), config_type: config }),
        ..Cluster::default()
    }
    .encode_to_vec()
}

/// Whether a handshake with a server of `pki` comes to its end; or why the rule is refused.
async fn reaches(pki: &Pki, directory: &Path, said: &Said<'_>) -> Result<bool, String> {
    let mut store = Store::default();
    store.put(Kind::Cluster, "c", &cluster(directory, said)).map_err(|e| e.to_string())?;
    assert!(store.wanted().iter().all(|(kind, _)| *kind != Kind::Secret), "nobody is asked for secrets");
    let snapshot = store.snapshot();
    let Transport::Tls(tls) = &snapshot.clusters["c"].spec.transports[0].1 else { panic!("it is TLS") };
    let expected = Expected::Context(tls.fingerprint);
    let client = ClientConfigs::default().get(&Config::default(), tls, expected, None, said.by_host).unwrap();
    let (_, server) = pki.configs(&TLS13, None);
    let (left, right) = duplex(1 << 16);
    let accepting = TlsAcceptor::from(Arc::new(server)).accept(right);
    let (ours, theirs) = tokio::join!(connect(client, name(), Plain::memory(left)), accepting);
    Ok(ours.is_ok() && theirs.is_ok())
}

fn directory(pki: &Pki) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, pem) in ["root.pem", "cert.pem", "key.pem"].iter().zip(&pki.pem) {
        std::fs::write(directory.path().join(name), pem).unwrap();
    }
    std::fs::write(directory.path().join("other.pem"), &Pki::new().pem[0]).unwrap();
    directory
}

#[tokio::test]
async fn a_server_is_checked_by_the_roots_and_names_that_are_said() {
    let pki = Pki::new();
    let files = directory(&pki);
    let reaches = async |said: Said<'_>| reaches(&pki, files.path(), &said).await.unwrap();
    assert!(reaches(PLAIN).await);
    assert!(reaches(Said { name: Some(IDENTITY), ..PLAIN }).await);
    assert!(!reaches(Said { name: Some("another.test"), ..PLAIN }).await, "it has another name");
    assert!(
        !reaches(Said { by_host: true, name: Some(IDENTITY), ..PLAIN }).await,
        "it is not for the host that is asked for"
    );
    assert!(!reaches(Said { roots: "other.pem", ..PLAIN }).await, "it comes from other roots");
    assert!(reaches(Said { unchecked: true, ..PLAIN }).await, "nobody asks");
    assert!(!reaches(Said { certificate: false, ..PLAIN }).await, "this server wants a certificate");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let pki = Pki::new();
    let files = directory(&pki);
    let why = reaches(&pki, files.path(), &Said { roots: "none.pem", ..PLAIN }).await.unwrap_err();
    assert!(why.contains("none.pem can't be read by the proxy's user on this host"), "{why}");
    std::fs::write(files.path().join("key.pem"), "no key").unwrap();
    let why = reaches(&pki, files.path(), &PLAIN).await.unwrap_err();
    assert!(why.contains("private_key is no PEM of a key") && !why.contains("no key\""), "{why}");
}
