//! Gateway: ports at the mesh's edge.

use std::collections::{BTreeMap, BTreeSet};

use super::Port;
use super::check::{Checker, net, text};
use super::error::shown;
use super::message::{enumeration, message};
use super::service_entry::protocol;

message! {
    /// Ports at the mesh's edge.
    pub struct Gateway [check_gateway] {
        /// Workloads that open them.
        selector: BTreeMap<String, String>,
        /// The ports.
        servers: Vec<Server>,
    }

    /// A port and the hosts behind it.
    pub struct Server [check_server] {
        /// The port.
        port: Option<GatewayPort>,
        /// Address to listen on.
        bind: String,
        /// Hosts, as `namespace/host` or `host`.
        hosts: Vec<String>,
        /// TLS that is ended here.
        tls: Option<ServerTlsSettings>,
        /// Known, and without effect.
        default_endpoint: String,
        /// For people; unique in the gateway.
        name: String,
    }

    /// A port.
    pub struct GatewayPort [check_port] {
        /// Number.
        number: Port,
        /// What it speaks.
        protocol: String,
        /// Name.
        name: String,
        /// Known, and without effect.
        target_port: Port,
    }

    /// TLS that is ended here.
    pub struct ServerTlsSettings [check_tls] {
        /// Redirect plain HTTP to https.
        https_redirect: bool,
        /// Whose certificates; unset is `PASSTHROUGH`.
        mode: Option<ServerTlsMode>,
        /// File of the certificate.
        server_certificate: String,
        /// File of the key.
        private_key: String,
        /// File of the roots for clients.
        ca_certificates: String,
        /// File of revoked certificates.
        ca_crl: String,
        /// Secret that holds certificate, key and roots.
        credential_name: String,
        /// Several such secrets, such as an RSA and an ECDSA one.
        credential_names: Vec<String>,
        /// Secret that holds the roots.
        ca_cert_credential_name: String,
        /// Several certificates from files.
        tls_certificates: Vec<TlsCertificate>,
        /// Names one of which a client's certificate must have.
        subject_alt_names: Vec<String>,
        /// SHA-256 of keys that clients may have, base64.
        verify_certificate_spki: Vec<String>,
        /// SHA-256 of certificates that clients may have, hex.
        verify_certificate_hash: Vec<String>,
        /// Oldest version of TLS.
        min_protocol_version: TlsProtocol,
        /// Newest version of TLS.
        max_protocol_version: TlsProtocol,
        /// Cipher suites of TLS 1.2 and older.
        cipher_suites: Vec<String>,
        /// Do not check clients' certificates.
        insecure_skip_verify: Option<bool>,
    }

    /// A certificate from files.
    pub struct TlsCertificate {
        /// File of the certificate.
        server_certificate: String,
        /// File of the key.
        private_key: String,
        /// File of the roots for clients.
        ca_certificates: String,
    }
}

enumeration! {
    /// Whose certificates a server asks for.
    pub enum ServerTlsMode {
        /// TLS goes through by SNI.
        Passthrough = "PASSTHROUGH",
        /// The server's.
        Simple = "SIMPLE",
        /// Both.
        Mutual = "MUTUAL",
        /// TLS goes through by SNI, without a route of its own.
        AutoPassthrough = "AUTO_PASSTHROUGH",
        /// Both, the mesh's.
        IstioMutual = "ISTIO_MUTUAL",
        /// The server's, and the client's if it has one.
        OptionalMutual = "OPTIONAL_MUTUAL",
    }

    /// Versions of TLS.
    pub enum TlsProtocol {
        /// The proxy's choice.
        Auto = "TLS_AUTO",
        /// 1.0.
        V10 = "TLSV1_0",
        /// 1.1.
        V11 = "TLSV1_1",
        /// 1.2.
        V12 = "TLSV1_2",
        /// 1.3.
        V13 = "TLSV1_3",
    }
}

fn check_gateway(gateway: &Gateway, c: &mut Checker) {
    c.required("servers", !gateway.servers.is_empty());
    text::labels(c, "selector", &gateway.selector);
    let mut names = BTreeSet::new();
    c.each("servers", &gateway.servers, |c, server| {
        if !server.name.is_empty() && !names.insert(server.name.clone()) {
            c.wrong("name", format!("Duplicate value: \"{}\" is the name of two servers", shown(&server.name)));
        }
    });
}

fn check_server(server: &Server, c: &mut Checker) {
    c.required("port", server.port.is_some());
    c.required("hosts", !server.hosts.is_empty());
    c.each("hosts", &server.hosts, |c, host| {
        let result = match host.split_once('/') {
            Some(_) => net::namespaced_host(host, &[".", "*"]),
            None => net::wildcard_host_or_address(host),
        };
        text::tell(c, result);
    });
    if !server.bind.is_empty() && server.bind.parse::<std::net::IpAddr>().is_err() {
        c.wrong("bind", format!("\"{}\" is not an IP address", shown(&server.bind)));
    }
    let Some(port) = &server.port else { return };
    let is_tls = matches!(port.protocol.to_ascii_uppercase().as_str(), "HTTPS" | "TLS");
    match &server.tls {
        None if is_tls => c.wrong("tls", format!("it is required for protocol {}", port.protocol)),
        Some(tls) if !is_tls && !tls.https_redirect && tls.mode() != ServerTlsMode::IstioMutual => {
            c.wrong("tls", format!("protocol {} has no TLS: choose HTTPS or TLS", shown(&port.protocol)));
        }
        Some(tls) if tls.https_redirect && is_tls => {
            c.field("tls", |c| c.wrong("https_redirect", "it is for plain HTTP, and this port is TLS"));
        }
        _ => {}
    }
}

fn check_port(port: &GatewayPort, c: &mut Checker) {
    super::port::required(c, "number", port.number);
    if port.name.is_empty() {
        c.required("name", false);
    } else {
        c.field("name", |c| text::tell(c, text::label(&port.name)));
    }
    if port.protocol.is_empty() {
        c.required("protocol", false);
    } else {
        c.field("protocol", |c| text::tell(c, protocol(&port.protocol)));
    }
}

impl ServerTlsSettings {
    /// Whose certificates.
    pub fn mode(&self) -> ServerTlsMode {
        self.mode.unwrap_or_default()
    }
}

fn check_tls(tls: &ServerTlsSettings, c: &mut Checker) {
    c.at_most_one(&[
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]);
    c.at_most_one(&[
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ]);
    for (field, count) in
        [("credentialNames", tls.credential_names.len()), ("tlsCertificates", tls.tls_certificates.len())]
    {
        if count > 2 {
            c.wrong(field, format!("Too many: {count} must have at most 2 items"));
        }
    }
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if min != TlsProtocol::Auto && max != TlsProtocol::Auto && min > max {
        c.wrong("max_protocol_version", format!("{max} is older than minProtocolVersion {min}"));
    }
    check_certificates(tls, c);
}

fn check_certificates(tls: &ServerTlsSettings, c: &mut Checker) {
    let secret =
        !tls.credential_name.is_empty() || !tls.credential_names.is_empty() || !tls.tls_certificates.is_empty();
    let files = [("serverCertificate", &tls.server_certificate), ("privateKey", &tls.private_key)];
    match tls.mode() {
        ServerTlsMode::IstioMutual => {
            let all = [
                files[0],
                files[1],
                ("caCertificates", &tls.ca_certificates),
                ("credentialName", &tls.credential_name),
            ];
            for (field, _) in all.iter().filter(|(_, value)| !value.is_empty()) {
                c.wrong(field, "ISTIO_MUTUAL uses the mesh's certificates; leave it out");
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual if !secret => {
            for (field, _) in files.iter().filter(|(_, value)| value.is_empty()) {
                c.wrong(field, format!("{} requires it, or credentialName", tls.mode()));
            }
            if tls.mode() == ServerTlsMode::Mutual && tls.ca_certificates.is_empty() {
                c.wrong("ca_certificates", "MUTUAL requires it, or credentialName");
            }
        }
        _ => {}
    }
}
