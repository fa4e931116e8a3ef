//! TLS of servers outside of the mesh: what they show, what they want, and the files by which callers check them.
//!
//! In: a directory. Out: [`Pki`], and files in PEM that proxies may read: `root`, `other` (another root), `client` with its key,
//! `revoked` (what the root has revoked), `nothing` (that it has revoked nothing), `stale` (a list that is over), `foreign` (of
//! the other root).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::case::Tls;
use crate::text::host;

/// The serial number of the certificate that is revoked.
const REVOKED: u64 = 77;

/// Whoever signs certificates of servers.
pub(crate) struct Pki {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes it, and the files.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755))?;
        let write = |name: &str, text: &str| -> Result<()> {
            let path = directory.join(format!("{name}.pem"));
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
            Ok(())
        };
        let (issuer, root, text) = authority("one")?;
        let (other, _, other_text) = authority("other")?;
        write("root", &text)?;
        write("other", &other_text)?;
        let (client, key) = leaf(&issuer, &["client.test".to_owned()], 5, &rcgen::PKCS_ECDSA_P256_SHA256)?;
        write("client", &client.pem())?;
        write("client-key", &key.serialize_pem())?;
        write("revoked", &list(&issuer, &[REVOKED], 2090)?)?;
        write("nothing", &list(&issuer, &[], 2090)?)?;
        write("stale", &list(&issuer, &[], 2021)?)?;
        write("foreign", &list(&other, &[REVOKED], 2090)?)?;
        Ok(Self { root, issuer })
    }

    /// What the servers of a case speak.
    pub(crate) fn server(&self, tls: Tls, name: &str, passed_on: bool) -> Result<Option<Arc<ServerConfig>>> {
        let serial = match tls {
            Tls::No => return Ok(None),
            Tls::Revoked => REVOKED,
            Tls::Plain | Tls::Mutual => 6,
        };
        let names = ["server.test".to_owned(), format!("*.{name}.test"), host(name), "*.wild.test".to_owned()];
        // Where its bytes are counted, a signature must always be as long.
        let kind = if passed_on { &rcgen::PKCS_ED25519 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        let (leaf, key) = leaf(&self.issuer, &names, serial, kind)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let builder = match tls {
            Tls::Mutual => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
            ),
            _ => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = builder.with_single_cert(vec![leaf.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Some(Arc::new(config)))
    }
}

fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&key)?;
    Ok((Issuer::new(params, key), root.der().clone(), root.pem()))
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    serial: u64,
    kind: &'static SignatureAlgorithm,
) -> Result<(rcgen::Certificate, KeyPair)> {
    let key = KeyPair::generate_for(kind)?;
    let mut params = CertificateParams::new(names)?;
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok((params.signed_by(&key, issuer)?, key))
}

fn list(issuer: &Issuer<'_, KeyPair>, revoked: &[u64], until: i32) -> Result<String> {
    let one = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2020, 2, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(one).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(issuer)?.pem()?)
}
