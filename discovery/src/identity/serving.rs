//! Discovery's own certificate at its TLS port: short-lived, in memory only, renewed at half its life and when the root
//! is replaced; and who is taken for a client there, by the roots of the moment.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use hawser_daemon::drain::Watch;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::Authority;

/// How often the clock is compared with the certificate: a jump of the clock renews early, never never.
const LOOK: Duration = Duration::from_secs(30);

/// The certificate that new connections get.
pub struct Serving {
    current: ArcSwap<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
    made: SystemTime,
    ends: SystemTime,
}

impl Serving {
    /// Signs the first certificate.
    ///
    /// # Errors
    /// If the authority can't sign.
    pub fn new(authority: &Authority) -> anyhow::Result<Arc<Self>> {
        let current = ArcSwap::from_pointee(make(authority, SystemTime::now())?);
        Ok(Arc::new(Self { current }))
    }

    /// TLS of port 15012: 1.2 and 1.3, HTTP/2, client certificates of the mesh taken but not demanded.
    ///
    /// # Errors
    /// If the cryptography does not know these versions.
    pub fn tls(self: &Arc<Self>) -> anyhow::Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(hawser_daemon::tls_provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_client_cert_verifier(self.clone())
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would carry a client certificate past its end.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // Exporters of TLS 1.2 are bound to the handshake only with it.
        config.require_ems = true;
        Ok(config)
    }

    /// Renews until the drain.
    pub async fn run(self: Arc<Self>, authority: Arc<Authority>, drain: Watch) {
        // Spread over a tenth of the life, so that replicas do not renew together.
        let early = rand::random_range(0.4..0.5);
        let mut rotations = authority.rotations();
        loop {
            let rotated = tokio::select! {
                () = drain.draining() => return,
                Ok(()) = rotations.changed() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = SystemTime::now();
            let forgot = forget_former(&authority, now).await;
            let current = self.current.load();
            let life = current.ends.duration_since(current.made).unwrap_or_default();
            if !rotated && !forgot && now >= current.made && now < current.made + life.mul_f64(early) {
                continue;
            }
            match make(&authority, now) {
                Ok(renewed) => {
                    self.current.store(Arc::new(renewed));
                    tracing::info!("discovery's own certificate renewed");
                }
                Err(error) => tracing::error!(%error, "discovery's own certificate can not be renewed"),
            }
        }
    }
}

/// Whether a former root is not trusted any more.
async fn forget_former(authority: &Arc<Authority>, now: SystemTime) -> bool {
    if authority.changes().is_none_or(|at| at > now) {
        return false;
    }
    let authority = authority.clone();
    match tokio::task::spawn_blocking(move || authority.forget_former(now)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "former roots stay trusted");
            false
        }
        Err(_) => false,
    }
}

fn make(authority: &Authority, now: SystemTime) -> anyhow::Result<Current> {
    let (chain, key, ends) = authority.issue_own(now)?;
    let key = PrivateKeyDer::from(key);
    let provider = hawser_daemon::tls_provider();
    let key = provider.key_provider.load_private_key(key)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.root_store()), provider)
        .allow_unauthenticated()
        .build()?;
    Ok(Current { key: Arc::new(CertifiedKey::new(chain, key)), clients, made: now, ends })
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

/// By the roots of the moment. It names none of them: names of roots are only a hint to clients with several certificates.
impl ClientCertVerifier for Serving {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current.load().clients.verify_client_cert(certificate, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().clients.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().clients.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().clients.supported_verify_schemes()
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}
