//! TLS that callers start.

use crate::istio::check::Checker;
use crate::istio::message::{enumeration, message};

message! {
    /// TLS that callers start.
    pub struct ClientTlsSettings [check_tls] {
        /// Whose certificates; unset is `DISABLE`.
        mode: Option<ClientTlsMode>,
        /// File of the client's certificate.
        client_certificate: String,
        /// File of the client's key.
        private_key: String,
        /// File of the roots.
        ca_certificates: String,
        /// Secret that holds all of these.
        credential_name: String,
        /// Names one of which the server's certificate must have.
        subject_alt_names: Vec<String>,
        /// Server name of the ClientHello.
        sni: String,
        /// Do not check the server's certificate.
        insecure_skip_verify: Option<bool>,
        /// File of revoked certificates.
        ca_crl: String,
    }
}

enumeration! {
    /// Whose certificates.
    pub enum ClientTlsMode {
        /// No TLS.
        Disable = "DISABLE",
        /// The server's.
        Simple = "SIMPLE",
        /// Both, the caller's from files or a secret.
        Mutual = "MUTUAL",
        /// Both, the mesh's.
        IstioMutual = "ISTIO_MUTUAL",
    }
}

impl ClientTlsSettings {
    /// Whose certificates.
    pub fn mode(&self) -> ClientTlsMode {
        self.mode.unwrap_or_default()
    }
}

fn check_tls(tls: &ClientTlsSettings, c: &mut Checker) {
    let files = [
        ("clientCertificate", &tls.client_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
        ("caCrl", &tls.ca_crl),
    ];
    let set = files.iter().filter(|(_, value)| !value.is_empty());
    match tls.mode() {
        ClientTlsMode::IstioMutual => {
            for (field, _) in set {
                c.wrong(field, "ISTIO_MUTUAL uses the mesh's certificates; leave it out");
            }
            if !tls.credential_name.is_empty() {
                c.wrong("credential_name", "ISTIO_MUTUAL uses the mesh's certificates; leave it out");
            }
        }
        _ if !tls.credential_name.is_empty() => {
            for (field, _) in set {
                c.wrong(field, "only one of files and credentialName can be set; take one of them out");
            }
        }
        ClientTlsMode::Mutual => {
            for field in ["client_certificate", "private_key"] {
                let value = if field == "private_key" { &tls.private_key } else { &tls.client_certificate };
                if value.is_empty() {
                    c.wrong(field, "MUTUAL requires it, or credentialName");
                }
            }
        }
        ClientTlsMode::Disable | ClientTlsMode::Simple => {}
    }
    if tls.insecure_skip_verify == Some(true) && !tls.subject_alt_names.is_empty() {
        c.wrong("subject_alt_names", "they are never checked with insecureSkipVerify; take one of them out");
    }
}
