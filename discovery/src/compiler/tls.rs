//! TLS contexts of mesh mTLS, both sides.
//!
//! In: ports, identities. Out: contexts whose keys and roots come by SDS over the same stream. Invariant: what is
//! offered and accepted is what Istio's sidecars understand.

use hawser_api::istio::destination_rule::{ClientTlsMode, ClientTlsSettings};
use hawser_api::names::{OutboundCluster, SECRET_DEFAULT, SECRET_ROOT, alpn};
use hawser_api::proto::core;
use hawser_api::proto::envoy::r#type::matcher::v3::StringMatcher;
use hawser_api::proto::tls::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    TlsCertificate, TlsParameters, UpstreamTlsContext, certificate_validation_context::TrustChainVerification,
    common_tls_context, subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
};
use hawser_mesh::{Protocol, TrustDomain};

use super::proto::{ads, any, exact, name, prefix, transport_socket};
use crate::view::Class;

/// A client's TLS towards endpoints of a cluster, whose identity is one of `identities`; with none, any of the mesh.
pub(super) fn upstream(
    cluster: &OutboundCluster,
    sni: Option<&str>,
    protocol: Protocol,
    class: Class,
    identities: &[String],
    trust_domains: &[&TrustDomain],
) -> core::TransportSocket {
    let names =
        if identities.is_empty() { members(trust_domains) } else { identities.iter().map(|id| exact(id)).collect() };
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(SECRET_DEFAULT, names, offered(protocol, class))),
        sni: sni.map_or_else(|| cluster.sni(), str::to_owned),
        max_session_keys: None,
    };
    transport_socket("envoy.transport_sockets.tls", any(name::UPSTREAM_TLS, &context))
}

/// A client's TLS towards servers outside of the mesh, with what files of its host hold. `names` are those of the service,
/// one of which a server must have if the settings say none.
pub(super) fn foreign(settings: &ClientTlsSettings, names: &[String], http2: bool) -> core::TransportSocket {
    let file = |path: &str| {
        let specifier = core::data_source::Specifier::Filename(path.to_owned());
        (!path.is_empty()).then_some(core::DataSource { specifier: Some(specifier) })
    };
    let unchecked = settings.insecure_skip_verify == Some(true);
    let names = if settings.subject_alt_names.is_empty() { names } else { &settings.subject_alt_names };
    let names: Vec<StringMatcher> = names.iter().map(|name| exact(name)).collect();
    let names = names.into_iter().flat_map(|name| {
        [SanType::Dns, SanType::Uri]
            .map(|kind| SubjectAltNameMatcher { san_type: kind as i32, matcher: Some(name.clone()) })
    });
    let verification =
        if unchecked { TrustChainVerification::AcceptUntrusted } else { TrustChainVerification::VerifyTrustChain };
    let validation = CertificateValidationContext {
        trusted_ca: if unchecked { None } else { file(&settings.ca_certificates) },
        crl: if unchecked { None } else { file(&settings.ca_crl) },
        match_typed_subject_alt_names: names.collect(),
        trust_chain_verification: verification as i32,
        ..CertificateValidationContext::default()
    };
    let certificate = TlsCertificate {
        certificate_chain: file(&settings.client_certificate),
        private_key: file(&settings.private_key),
    };
    let mutual = settings.mode() == ClientTlsMode::Mutual;
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificates: mutual.then_some(certificate).into_iter().collect(),
            alpn_protocols: http2.then(|| "h2".to_owned()).into_iter().collect(),
            validation_context_type: Some(common_tls_context::ValidationContextType::ValidationContext(validation)),
            ..CommonTlsContext::default()
        }),
        sni: settings.sni.clone(),
        max_session_keys: None,
    };
    transport_socket("envoy.transport_sockets.tls", any(name::UPSTREAM_TLS, &context))
}

/// As in Istio, of requests the host that they name is asked for where the settings say nothing, and a certificate for somebody
/// else is not one for whom is called. (Connections name nobody.)
pub(super) fn by_host(settings: &ClientTlsSettings) -> core::UpstreamHttpProtocolOptions {
    let auto_sni = settings.sni.is_empty();
    let checked = settings.insecure_skip_verify != Some(true) && settings.subject_alt_names.is_empty();
    core::UpstreamHttpProtocolOptions { auto_sni, auto_san_validation: auto_sni && checked }
}

/// A server's TLS: the certificate of `secret`, clients of the mesh.
pub(super) fn downstream(
    secret: &str,
    http: bool,
    class: Class,
    trust_domains: &[&TrustDomain],
) -> core::TransportSocket {
    // Of a client that offers mesh protocols none but ours is ever chosen; of others HTTP's own.
    let protocols: &[&str] = match (http, class) {
        (false, _) => &[],
        (true, Class::Hawser(_)) => &[alpn::HAWSER_H2, "h2", "http/1.1"],
        (true, _) => &["h2", "http/1.1"],
    };
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(
            secret,
            members(trust_domains),
            protocols.iter().map(|p| (*p).to_owned()).collect(),
        )),
        require_client_certificate: Some(true),
        session_ticket_keys_type: None,
    };
    transport_socket("envoy.transport_sockets.tls", any(name::DOWNSTREAM_TLS, &context))
}

/// Whoever is of one of these trust domains.
fn members(trust_domains: &[&TrustDomain]) -> Vec<StringMatcher> {
    trust_domains.iter().map(|domain| prefix(&format!("spiffe://{domain}/"))).collect()
}

fn common(secret: &str, names: Vec<StringMatcher>, protocols: Vec<String>) -> CommonTlsContext {
    let uri = |matcher| SubjectAltNameMatcher { san_type: SanType::Uri as i32, matcher: Some(matcher) };
    let combined = common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: names.into_iter().map(uri).collect(),
            ..CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(sds(SECRET_ROOT)),
    };
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            cipher_suites: Vec::new(),
        }),
        tls_certificates: Vec::new(),
        alpn_protocols: protocols,
        tls_certificate_sds_secret_configs: vec![sds(secret)],
        validation_context_type: Some(common_tls_context::ValidationContextType::CombinedValidationContext(combined)),
    }
}

fn sds(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) }
}

fn offered(protocol: Protocol, class: Class) -> Vec<String> {
    let protocols: Vec<&str> = match protocol {
        Protocol::Http => alpn::HTTP1.to_vec(),
        p if p.is_http2() => alpn::HTTP2.to_vec(),
        _ => alpn::TCP.to_vec(),
    };
    // An Envoy that offers it must speak it: metadata exchange is a filter that ours do not have.
    let spoken = protocols.into_iter().filter(|p| class != Class::Envoy || *p != "istio-peer-exchange");
    spoken.map(str::to_owned).collect()
}
