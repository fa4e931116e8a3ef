//! TLS as a client: configurations, made once for each combination of identity, offer and expected server.
//!
//! In: what a connection needs. Out: a shared `ClientConfig`, whose resumption tickets thereby never cross from one
//! expected identity to another. Bounded: a table that grows too large is emptied, and filled again by use.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientSessionMemoryCache, Resumption, Tls12Resumption};

use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::alpn::{self, Offer};
use super::verify::{ForeignVerifier, Names, ServerVerifier};
use crate::config::{Config, UpstreamTls};

const MOST: usize = 1024;

/// Who must answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// The endpoint's own identity.
    Identity(Arc<str>),
    /// The endpoint's own identity, in one of the trust domains that the cluster's context has, told by its fingerprint.
    Like(Arc<str>, u64),
    /// One of the names of the cluster's context, told by its fingerprint.
    Context(u64),
}

/// Configurations of one worker.
#[derive(Debug, Default)]
pub struct ClientConfigs {
    made: HashMap<Key, Arc<ClientConfig>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    credentials: u64,
    roots: u64,
    expected: Expected,
    offer: Option<Offer>,
    /// Of servers outside of the mesh: their certificate must be for the name that is asked for.
    by_host: bool,
}

impl ClientConfigs {
    /// The configuration of a connection; `None` while its secrets are not there, or nobody good could answer.
    /// `offer` absent: what the context lists; of servers outside of the mesh that goes before it. `by_host`: their certificate must
    /// be for the name that is asked for.
    pub fn get(
        &mut self,
        config: &Config,
        tls: &UpstreamTls,
        expected: Expected,
        offer: Option<Offer>,
        by_host: bool,
    ) -> Option<Arc<ClientConfig>> {
        if let Some(foreign) = &tls.foreign {
            // Where the context names none, what is spoken is offered.
            let spoken = match offer {
                Some(Offer::Http1 | Offer::HawserHttp1) => Some("http/1.1"),
                Some(Offer::Http2 | Offer::HawserHttp2) => Some("h2"),
                _ => None,
            };
            let key = Key { credentials: 0, roots: 0, expected, offer, by_host };
            if let Some(made) = self.made.get(&key) {
                return Some(made.clone());
            }
            let listed = tls.alpn.iter().map(String::as_str);
            let protocols =
                listed.chain(spoken.filter(|_| tls.alpn.is_empty())).map(|p| p.as_bytes().to_vec()).collect();
            let verifier = Arc::new(ForeignVerifier::new(foreign.clone(), by_host));
            let made = Arc::new(client_config(foreign.key.as_ref(), verifier, protocols)?);
            self.insert(key, &made);
            return Some(made);
        }
        let credentials = match &tls.certificate {
            Some(name) => Some(config.credentials.get(name)?),
            None => None,
        };
        let roots = config.roots.get(&tls.roots)?;
        let generation = credentials.map_or(0, |c| c.generation);
        let key = Key { credentials: generation, roots: roots.generation, expected, offer, by_host: false };
        if let Some(made) = self.made.get(&key) {
            return Some(made.clone());
        }
        let names = match &key.expected {
            Expected::Identity(identity) => Names::Exactly(identity.clone()),
            Expected::Like(identity, _) => Names::Like(identity.clone(), tls.names.clone()),
            Expected::Context(_) if !tls.names.is_empty() => Names::Matching(tls.names.clone()),
            // Nobody named: any workload of our own trust domain, never anybody.
            Expected::Context(_) => Names::Domain(credentials?.identity.trust_domain().clone()),
        };
        let protocols = match offer {
            Some(offer) => alpn::offer(offer),
            None => tls.alpn.iter().map(|p| p.as_bytes().to_vec()).collect(),
        };
        let verifier = Arc::new(ServerVerifier::new(roots.clone(), names));
        let made = Arc::new(client_config(credentials.map(|c| &c.key), verifier, protocols)?);
        // What was made with a certificate or roots that were replaced is of no use.
        self.made.retain(|key, _| {
            (key.credentials == 0 || config.credentials.values().any(|c| c.generation == key.credentials))
                && (key.roots == 0 || config.roots.values().any(|r| r.generation == key.roots))
        });
        self.insert(key, &made);
        Some(made)
    }

    fn insert(&mut self, key: Key, made: &Arc<ClientConfig>) {
        if self.made.len() >= MOST {
            self.made.clear();
        }
        self.made.insert(key, made.clone());
    }
}

fn client_config(
    key: Option<&Arc<CertifiedKey>>,
    verifier: Arc<dyn ServerCertVerifier>,
    protocols: Vec<Vec<u8>>,
) -> Option<ClientConfig> {
    let provider = hawser_daemon::tls_provider();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((**key).clone()))),
        None => builder.with_no_client_auth(),
    };
    // For the records, which are ours.
    config.enable_secret_extraction = true;
    config.alpn_protocols = protocols;
    config.resumption =
        Resumption::store(Arc::new(ClientSessionMemoryCache::new(32))).tls12_resumption(Tls12Resumption::Disabled);
    Some(config)
}
