//! TLS towards servers outside of the mesh: roots, what they revoked, certificate and key in files of this host.
//!
//! In: a context that names files. Out: [`Foreign`], read when the cluster is taken: a file that is not there refuses it.
//! Invariant: who is not checked is so because the configuration says it in so many words.

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use hawser_api::proto::core::{DataSource, data_source::Specifier};
use hawser_api::proto::tls::certificate_validation_context::TrustChainVerification;
use hawser_api::proto::tls::{CertificateValidationContext, CommonTlsContext, TlsCertificate};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::Roots;
use super::StringMatch;
use super::proto::{At as _, Refused, refuse};
use super::secret::certified;

/// The largest file that is read.
const LARGEST: u64 = 1024 * 1024;

/// How servers outside of the mesh are checked, and what they are shown.
pub struct Foreign {
    /// Our certificate with its key.
    pub key: Option<Arc<CertifiedKey>>,
    /// What servers' certificates must come from; none: they are not checked.
    pub roots: Option<Arc<Roots>>,
    /// What roots, and those between, have revoked; with one list each certificate's issuer must have one.
    pub revoked: Vec<CertRevocationList<'static>>,
    /// Names one of which a server's certificate must have; none: any.
    pub names: Vec<StringMatch>,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("key", &self.key.is_some()).field("names", &self.names).finish_non_exhaustive()
    }
}

impl Foreign {
    /// Reads the files of a context.
    pub(super) fn new(common: &CommonTlsContext, validation: &CertificateValidationContext) -> Result<Self, Refused> {
        if validation.system_root_certs.is_some() {
            refuse!("validation_context: system_root_certs is not supported");
        }
        let key = match common.tls_certificates.as_slice() {
            [] => None,
            [one] => Some(read_key(one).at("tls_certificates[0]")?),
            _ => refuse!("tls_certificates: one at most"),
        };
        let unchecked = validation.trust_chain_verification == TrustChainVerification::AcceptUntrusted as i32;
        let roots = match &validation.trusted_ca {
            _ if unchecked => None,
            Some(source) => {
                let pem = read("trusted_ca", source)?;
                let inline = DataSource { specifier: Some(Specifier::InlineBytes(pem)) };
                Some(Arc::new(Roots::new(&CertificateValidationContext {
                    trusted_ca: Some(inline),
                    ..CertificateValidationContext::default()
                })?))
            }
            None => refuse!("validation_context: without trusted_ca nobody's certificate could be checked"),
        };
        let revoked = match &validation.crl {
            Some(source) if roots.is_some() => revoked(&read("crl", source)?)?,
            Some(_) => refuse!("validation_context: crl is of no use where nobody is checked"),
            None => Vec::new(),
        };
        let matchers = validation.match_typed_subject_alt_names.iter().filter_map(|m| m.matcher.as_ref());
        Ok(Self { key, roots, revoked, names: matchers.map(StringMatch::new).collect::<Result<_, _>>()? })
    }
}

/// Lists in PEM.
fn revoked(pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>, Refused> {
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(pem) {
        let Ok(list) = list else { refuse!("crl is no PEM") };
        match OwnedCertRevocationList::from_der(&list) {
            Ok(list) => lists.push(list.into()),
            Err(e) => refuse!("crl: list {} can't be read: {e}", lists.len()),
        }
    }
    if lists.is_empty() {
        refuse!("crl is empty");
    }
    Ok(lists)
}

fn read_key(certificate: &TlsCertificate) -> Result<Arc<CertifiedKey>, Refused> {
    let source = |field, source: &Option<DataSource>| match source {
        Some(source) => read(field, source),
        None => refuse!("{field} is missing"),
    };
    let chain = source("certificate_chain", &certificate.certificate_chain)?;
    let key = source("private_key", &certificate.private_key)?;
    certified(&chain, &key).map(Arc::new)
}

fn read(field: &str, source: &DataSource) -> Result<Vec<u8>, Refused> {
    let path = match &source.specifier {
        Some(Specifier::Filename(path)) => path,
        Some(Specifier::InlineBytes(bytes)) => return Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => return Ok(text.clone().into_bytes()),
        None => refuse!("{field} is empty"),
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > LARGEST => refuse!("{field}: {path} is larger than 1 MiB"),
        Ok(_) => Ok(bytes),
        Err(e) => refuse!("{field}: {path} can't be read by the proxy's user on this host: {e}"),
    }
}
