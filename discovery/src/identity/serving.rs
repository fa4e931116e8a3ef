//! Discovery's own certificate at its TLS port: short-lived, in memory only, renewed at half its life.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use hawser_daemon::drain::Watch;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::PrivateKeyDer;

use super::Authority;

/// How often the clock is compared with the certificate: a jump of the clock renews early, never never.
const LOOK: Duration = Duration::from_secs(30);

/// The certificate that new connections get.
pub struct Serving {
    current: ArcSwap<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
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
    /// If the roots can't be used.
    pub fn tls(self: &Arc<Self>, authority: &Authority) -> anyhow::Result<ServerConfig> {
        let provider = hawser_daemon::tls_provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.root_store()), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_client_cert_verifier(verifier)
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
        loop {
            tokio::select! {
                () = drain.draining() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = SystemTime::now();
            let current = self.current.load();
            let life = current.ends.duration_since(current.made).unwrap_or_default();
            if now >= current.made && now < current.made + life.mul_f64(early) {
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

fn make(authority: &Authority, now: SystemTime) -> anyhow::Result<Current> {
    let (chain, key, ends) = authority.issue_own(now)?;
    let key = PrivateKeyDer::from(key);
    let key = hawser_daemon::tls_provider().key_provider.load_private_key(key)?;
    Ok(Current { key: Arc::new(CertifiedKey::new(chain, key)), made: now, ends })
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}
