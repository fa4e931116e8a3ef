//! TLS as a server: the configuration is chosen when the ClientHello is known.
//!
//! In: a connection whose hello was read, the TLS of its chain. Out: a stream and who the client is.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use super::handshake::{self, Established};
use super::verify::{ClientVerifier, Names};
use crate::config::{Config, DownstreamTls, Workload};
use crate::stream::Plain;

const MOST: usize = 256;

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its identity.
    pub identity: Arc<str>,
    /// Ours, as it saw it.
    pub own: Arc<str>,
    /// SHA-256 of its certificate, hexadecimal.
    pub hash: String,
    /// What it says of itself beside that, for counters.
    pub workload: Option<Arc<Workload>>,
}

/// Configurations of one worker.
#[derive(Default)]
pub struct ServerConfigs {
    made: HashMap<Key, Made>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    credentials: u64,
    roots: u64,
    /// The chain's TLS; it is kept by [`Made`], so that its place is not given to another one.
    tls: usize,
    alpn: Option<Vec<u8>>,
}

struct Made {
    config: Arc<ServerConfig>,
    tls: Arc<DownstreamTls>,
}

impl std::fmt::Debug for ServerConfigs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfigs").field("made", &self.made.len()).finish()
    }
}

impl ServerConfigs {
    /// The configuration of a connection; `None` while its secrets are not there.
    pub fn get(
        &mut self,
        config: &Config,
        tls: &Arc<DownstreamTls>,
        alpn: Option<Vec<u8>>,
    ) -> Option<Arc<ServerConfig>> {
        let credentials = config.credentials.get(&tls.certificate)?;
        let roots = match &tls.roots {
            Some(name) => Some(config.roots.get(name)?),
            None => None,
        };
        let key = Key {
            credentials: credentials.generation,
            roots: roots.map_or(0, |r| r.generation),
            tls: Arc::as_ptr(tls) as usize,
            alpn,
        };
        if let Some(made) = self.made.get(&key) {
            return Some(made.config.clone());
        }
        let provider = hawser_daemon::tls_provider();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        let builder = match roots {
            None => builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth()),
            Some(roots) => {
                let names = if tls.names.is_empty() {
                    Names::Domain(credentials.identity.trust_domain().clone())
                } else {
                    Names::Matching(tls.names.clone())
                };
                let verifier = ClientVerifier::new(roots.clone(), names, tls.require_client);
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut made = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from((*credentials.key).clone())));
        // For the records, which are ours.
        made.enable_secret_extraction = true;
        made.alpn_protocols = key.alpn.iter().cloned().collect();
        // Tickets carry the state: nothing is kept for clients that do not come back. They live and die with this
        // configuration, so none outlives the certificate or the roots it was given under.
        made.session_storage = Arc::new(NoServerSessionStorage {});
        if let Ok(ticketer) = rustls::crypto::aws_lc_rs::Ticketer::new() {
            made.ticketer = ticketer;
            made.send_tls13_tickets = 1;
        }
        let made = Made { config: Arc::new(made), tls: tls.clone() };
        // What was made with a certificate, roots or a chain that were replaced is of no use.
        self.made.retain(|key, made| {
            Arc::strong_count(&made.tls) > 1
                && config.credentials.values().any(|c| c.generation == key.credentials)
                && (key.roots == 0 || config.roots.values().any(|r| r.generation == key.roots))
        });
        if self.made.len() >= MOST {
            self.made.clear();
        }
        let config = made.config.clone();
        self.made.insert(key, made);
        Some(config)
    }
}

/// The handshake.
///
/// # Errors
/// If it fails or takes longer than `within`.
pub async fn accept(config: Arc<ServerConfig>, stream: Plain, within: Duration) -> io::Result<Established> {
    match tokio::time::timeout(within, handshake::serve(config, stream)).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
    }
}

/// Who the client is; `None` if it showed no certificate.
pub fn peer(established: &Established, own: &Arc<str>) -> Option<Peer> {
    use std::fmt::Write as _;
    let leaf = established.certificate.as_ref()?;
    let entity = webpki::EndEntityCert::try_from(leaf).ok()?;
    let identity = entity.valid_uri_names().next()?.into();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
    let mut hash = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(hash, "{byte:02x}");
    }
    Some(Peer { identity, own: own.clone(), hash, workload: None })
}
