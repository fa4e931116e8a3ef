//! Filter chains of a listener: which connections they take, and what is done with their bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub use hawser_routing::{ChainMatch, Seen, Transport, candidates, choose};
use tokio_util::sync::CancellationToken;

use super::{DownstreamTls, HttpSpec, TcpSpec};

/// One filter chain.
#[derive(Debug)]
pub struct Chain {
    /// Its name, for people.
    pub name: String,
    /// Which connections it takes.
    pub matches: ChainMatch,
    /// TLS that we end, if any.
    pub tls: Option<Arc<DownstreamTls>>,
    /// What is done with the bytes.
    pub filter: Filter,
    /// Tells chains of equal content.
    pub fingerprint: u64,
    /// Fires when the configuration has this chain no more: its connections end as soon as they can.
    pub replaced: Replaced,
}

/// Whether the configuration has a chain no more.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Asked for by every request.
    is: AtomicBool,
    told: CancellationToken,
}

impl Replaced {
    /// It has it no more.
    pub fn cancel(&self) {
        self.is.store(true, Relaxed);
        self.told.cancel();
    }

    /// Whether it has.
    pub fn is_cancelled(&self) -> bool {
        self.is.load(Relaxed)
    }

    /// Waits until it has not.
    pub async fn cancelled(&self) {
        self.told.cancelled().await;
    }
}

/// What is done with a connection's bytes.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Requests are routed.
    Http(Arc<HttpSpec>),
    /// Bytes are carried.
    Tcp(Arc<TcpSpec>),
}

impl hawser_routing::Matched for Chain {
    fn matches(&self) -> &ChainMatch {
        &self.matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_api::names::alpn;

    fn chain(name: &str, matches: ChainMatch) -> Arc<Chain> {
        let filter = Filter::Tcp(Arc::new(TcpSpec::to("x")));
        Arc::new(Chain { name: name.into(), matches, tls: None, filter, fingerprint: 0, replaced: Default::default() })
    }

    fn to(port: u16, transport: Transport, protocols: &[&str]) -> ChainMatch {
        ChainMatch {
            port: Some(port),
            transport: Some(transport),
            protocols: protocols.iter().map(|p| (*p).to_owned()).collect(),
            ..ChainMatch::default()
        }
    }

    /// The five chains of a port of undeclared protocol that takes plaintext too.
    fn permissive() -> Vec<Arc<Chain>> {
        vec![
            chain("mtls-http", to(9080, Transport::Tls, &alpn::MESH_HTTP)),
            chain("http", to(9080, Transport::Raw, &["http/1.1", "h2c"])),
            chain("mtls-tcp", to(9080, Transport::Tls, &alpn::MESH_TCP)),
            chain("tcp", to(9080, Transport::Raw, &[])),
            chain("own-tls", to(9080, Transport::Tls, &[])),
            chain("other-port", ChainMatch::default()),
        ]
    }

    fn chosen(chains: &[Arc<Chain>], port: u16, transport: Transport, protocols: &[&str]) -> Option<String> {
        let protocols = protocols.iter().map(|p| p.as_bytes()).collect();
        let address = "10.0.0.1".parse().unwrap();
        choose(chains, &Seen { port, address, transport, server_name: None, protocols }).map(|c| c.name.clone())
    }

    #[test]
    fn a_permissive_port_takes_plaintext_mesh_and_foreign_tls() {
        let chains = permissive();
        for (transport, protocols, is) in [
            (Transport::Tls, &["istio-http/1.1", "istio", "http/1.1"][..], "mtls-http"),
            (Transport::Tls, &["hawser-h2", "istio-h2", "istio", "h2"], "mtls-http"),
            (Transport::Tls, &["istio-peer-exchange", "istio"], "mtls-tcp"),
            (Transport::Tls, &["h2", "http/1.1"], "own-tls"),
            (Transport::Tls, &[], "own-tls"),
            (Transport::Raw, &["http/1.1"], "http"),
            (Transport::Raw, &["h2c"], "http"),
            (Transport::Raw, &[], "tcp"),
        ] {
            assert_eq!(chosen(&chains, 9080, transport, protocols).as_deref(), Some(is), "{protocols:?}");
        }
        assert_eq!(chosen(&chains, 80, Transport::Raw, &[]).as_deref(), Some("other-port"));
    }

    #[test]
    fn a_strict_port_leaves_nothing_for_plaintext_and_foreign_tls() {
        let strict = vec![
            chain("mtls-http", to(9080, Transport::Tls, &alpn::MESH_HTTP)),
            chain("mtls-tcp", to(9080, Transport::Tls, &alpn::MESH_TCP)),
            chain("other-port", ChainMatch::default()),
        ];
        assert_eq!(chosen(&strict, 9080, Transport::Raw, &["http/1.1"]), None, "there is no way back to other ports");
        assert_eq!(chosen(&strict, 9080, Transport::Tls, &["h2"]), None);
        assert!(chosen(&strict, 9080, Transport::Tls, &["istio"]).is_some());
    }

    #[test]
    fn the_longest_range_and_the_exact_server_name_win() {
        let range = |text: &str, length| ChainMatch {
            ranges: vec![(text.parse().unwrap(), length)],
            ..to(1, Transport::Tls, &[])
        };
        let name = |n: &str| ChainMatch { server_names: vec![n.into()], ..to(2, Transport::Tls, &[]) };
        let chains = [
            chain("wide", range("10.0.0.0", 8)),
            chain("narrow", range("10.0.0.1", 32)),
            chain("star", name("*.example.org")),
            chain("exact", name("a.example.org")),
        ];
        assert_eq!(chosen(&chains, 1, Transport::Tls, &[]).as_deref(), Some("narrow"));
        let mut seen = Seen {
            port: 2,
            address: "::1".parse().unwrap(),
            transport: Transport::Tls,
            server_name: Some("a.example.org"),
            protocols: Default::default(),
        };
        assert_eq!(choose(&chains, &seen).unwrap().name, "exact");
        seen.server_name = Some("b.example.org");
        assert_eq!(choose(&chains, &seen).unwrap().name, "star");
        seen.server_name = Some("example.org");
        assert!(choose(&chains, &seen).is_none());
    }
}
