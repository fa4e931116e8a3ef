//! One connection to discovery: resolve, connect, TLS, HTTP/2; every step bounded.
//!
//! In: addresses, what to trust, and a client certificate or none. Out: a [`Connection`] to the first address that is
//! discovery, or why each failed. Nothing is sent before the server is verified.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::identity::TrustDomain;
use hawser_api::token::JoinToken;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::version::TLS13;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::verify::{DiscoveryVerifier, NotTrusted, Trust};
use crate::mark::OwnMark;

const RESOLVE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const EXPORTER_LABEL: &[u8] = b"EXPORTER-hawser-host";
/// The most IP addresses tried for one name.
const MOST_ADDRESSES: usize = 4;

/// A verified connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// gRPC over it; it does not reconnect.
    pub(crate) channel: Channel,
    /// TLS exporter that signatures of the host key are bound to.
    pub(crate) exporter: [u8; 32],
    /// Our end: an address of this host by which discovery is reached.
    pub(crate) local: SocketAddr,
    /// Discovery's address as it was named.
    pub(crate) address: String,
}

/// How to dial.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) addresses: Vec<String>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) trust: Trust,
    pub(crate) client: Option<ClientAuth>,
    pub(crate) mark: OwnMark,
}

/// A client certificate with its key.
#[derive(Debug)]
pub(crate) struct ClientAuth {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Why no address would do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Somebody answered who is not discovery.
    #[error("{address} is not the discovery of this mesh: {why}; nothing was sent to it")]
    NotTrusted { address: String, why: NotTrusted },
    /// Nobody answered.
    #[error("discovery can't be reached: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// Our own side.
    #[error("can't set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

impl DialError {
    /// If this host's clock is the reason: whether it is behind or ahead, and by how much at least.
    pub(crate) fn clock(&self) -> Option<(bool, Duration)> {
        match self {
            Self::NotTrusted { why: NotTrusted::Time { behind, by }, .. } => Some((*behind, *by)),
            _ => None,
        }
    }
}

impl Dial {
    /// As a join does that has nothing but its token.
    pub(crate) fn with(token: &JoinToken, mark: OwnMark) -> Self {
        Self {
            addresses: token.addresses.clone(),
            trust_domain: token.trust_domain.clone(),
            trust: Trust { pins: token.pins.clone(), roots: Vec::new() },
            client: None,
            mark,
        }
    }

    /// Connects to the first address that is discovery.
    pub(crate) async fn connect(self) -> Result<Connection, DialError> {
        let provider = hawser_daemon::tls_provider();
        let verifier = DiscoveryVerifier::new(self.trust, &self.trust_domain, provider.clone());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.client {
            Some(client) => builder.with_client_auth_cert(client.chain, client.key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would be verified by an earlier look at the chain.
        config.resumption = rustls::client::Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));

        let (mut impostor, mut failures) = (None, Vec::new());
        for address in self.addresses {
            match connect_one(&connector, &address, self.mark).await {
                Ok(connection) => return Ok(connection),
                Err(Failure::NotTrusted(why)) => {
                    impostor.get_or_insert(DialError::NotTrusted { address, why });
                }
                Err(Failure::Other(why)) => failures.push(format!("{address}: {why}")),
            }
        }
        Err(impostor.unwrap_or(DialError::Unreachable(failures)))
    }
}

enum Failure {
    NotTrusted(NotTrusted),
    Other(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

async fn connect_one(connector: &TlsConnector, address: &str, mark: OwnMark) -> Result<Connection, Failure> {
    let (host, port) = split(address).ok_or_else(|| Failure::Other("not of the form host:port".into()))?;
    let resolved = timeout(RESOLVE, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| Failure::Other("its name was not resolved in time".into()))??;
    let mut last = Failure::Other("its name has no address".into());
    for ip in resolved.take(MOST_ADDRESSES) {
        match connect_ip(connector, host, ip, address, mark).await {
            Ok(connection) => return Ok(connection),
            Err(failure @ Failure::NotTrusted(_)) => return Err(failure),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn connect_ip(
    connector: &TlsConnector,
    host: &str,
    ip: SocketAddr,
    address: &str,
    mark: OwnMark,
) -> Result<Connection, Failure> {
    let tcp = timeout(CONNECT, tcp_connect(ip, mark))
        .await
        .map_err(|_| Failure::Other(format!("no answer in {} s", CONNECT.as_secs())))??;
    let local = tcp.local_addr()?;
    let name = match host.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| Failure::Other("not a host name".into()))?,
    };
    let handshake = timeout(HANDSHAKE, connector.connect(name, tcp))
        .await
        .map_err(|_| Failure::Other("TLS was not set up in time".into()))?;
    let tls = handshake.map_err(|error| match NotTrusted::find(&error) {
        Some(why) => Failure::NotTrusted(why),
        None => Failure::Other(format!("TLS: {error}")),
    })?;
    let exporter = tls
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None)
        .map_err(|error| Failure::Other(error.to_string()))?;

    // The channel gets this one stream; when it breaks, the channel is done for.
    let once = Mutex::new(Some(TokioIo::new(tls)));
    let connect = tower::service_fn(move |_| {
        let stream = once.lock().take();
        async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    let channel = Endpoint::from_static("http://discovery")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(16 * 1024)
        .connect_with_connector(connect)
        .await
        .map_err(|error| Failure::Other(error.to_string()))?;
    Ok(Connection { channel, exporter, local, address: address.to_owned() })
}

async fn tcp_connect(ip: SocketAddr, mark: OwnMark) -> std::io::Result<TcpStream> {
    let socket = if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    mark.set(&socket);
    socket.set_nodelay(true)?;
    socket.connect(ip).await
}

/// `host:port`, with brackets around an IPv6 address.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_split() {
        assert_eq!(split("10.0.0.1:15012"), Some(("10.0.0.1", 15012)));
        assert_eq!(split("[fd00::1]:15012"), Some(("fd00::1", 15012)));
        assert_eq!(split("discovery.example:15012"), Some(("discovery.example", 15012)));
        for bad in ["x", ":1", "x:", "x:70000"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
