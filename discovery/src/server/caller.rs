//! Who a TLS peer is, from the certificate that the handshake verified.

use std::net::SocketAddr;
use std::time::SystemTime;

use hawser_api::identity::{SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::identity::{Holder, holder};
use crate::peer::Peer;

/// Why a client certificate says nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// Not to be read.
    #[error("the client certificate can't be read")]
    Unreadable,
    /// Not one URI SAN.
    #[error("the client certificate must hold exactly one URI, a SPIFFE id")]
    Names,
    /// Another mesh.
    #[error("the client certificate is of trust domain {0}")]
    TrustDomain(TrustDomain),
    /// Nobody but discovery has it, and discovery calls nobody.
    #[error("the client certificate is discovery's own")]
    Discovery,
}

/// A peer and the end of its client certificate. Without a certificate it is anonymous.
///
/// # Errors
/// If there is a certificate that says nobody of this mesh: such a connection is closed, not served as anonymous.
pub fn identify(
    addr: SocketAddr,
    certificate: Option<&CertificateDer<'_>>,
    exporter: [u8; 32],
    trust_domain: &TrustDomain,
) -> Result<(Peer, Option<SystemTime>), NoIdentity> {
    let anonymous = Peer { addr, identity: None, joined_workload: false, plaintext: false, exporter: Some(exporter) };
    let Some(certificate) = certificate else { return Ok((anonymous, None)) };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| NoIdentity::Unreadable)?;
    let id = spiffe_id(&parsed)?;
    if id.trust_domain() != trust_domain {
        return Err(NoIdentity::TrustDomain(id.trust_domain().clone()));
    }
    if id == trust_domain.discovery() {
        return Err(NoIdentity::Discovery);
    }
    let joined_workload = holder(parsed.raw_serial()) == Some(Holder::JoinedWorkload);
    let ends = crate::identity::ends(&parsed);
    Ok((Peer { identity: Some(id), joined_workload, ..anonymous }, Some(ends)))
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, NoIdentity> {
    let extension = certificate.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME).ok().flatten();
    let Some(ParsedExtension::SubjectAlternativeName(names)) = extension.map(|e| e.parsed_extension()) else {
        return Err(NoIdentity::Names);
    };
    let mut uris = names.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(|_| NoIdentity::Names),
        _ => Err(NoIdentity::Names),
    }
}
