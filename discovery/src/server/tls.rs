//! Port 15012: TLS with a client certificate if the caller has one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use hawser_api::identity::TrustDomain;
use hawser_daemon::drain::Watch;
use http::{Request, Response};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::caller::identify;
use super::connection::{Limits, accept, serve};
use crate::hosts::{EXPORTER, Hosts};
use crate::metrics::Metrics;
use crate::peer::Peer;

/// The TLS listener's part that connections share.
#[derive(Clone)]
pub struct TlsServer<S> {
    acceptor: TlsAcceptor,
    trust_domain: TrustDomain,
    hosts: Hosts,
    metrics: Metrics,
    limits: Limits,
    routes: S,
    handshakes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl<S> TlsServer<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    /// A server of `routes`.
    pub fn new(
        config: Arc<ServerConfig>,
        trust_domain: TrustDomain,
        hosts: Hosts,
        metrics: Metrics,
        limits: Limits,
        routes: S,
    ) -> Self {
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let strangers = Arc::new(Semaphore::new(limits.strangers));
        let acceptor = TlsAcceptor::from(config);
        Self { acceptor, trust_domain, hosts, metrics, limits, routes, handshakes, strangers }
    }

    /// Accepts until the drain.
    pub async fn run(self, listener: TcpListener, drain: Watch) {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        while let Some((stream, addr)) = accept(&listener, &drain).await {
            let Ok(permit) = room.clone().try_acquire_owned() else {
                self.metrics.handshake("refused");
                continue;
            };
            let (this, ends) = (self.clone(), drain.clone());
            drain.spawn(async move {
                let _permit = permit;
                this.connection(stream, addr, ends).await;
            });
        }
    }

    /// Serves one connection: handshake, identity, requests.
    pub async fn connection<I>(&self, stream: I, addr: SocketAddr, drain: Watch)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = async {
            let _turn = self.handshakes.acquire().await.ok()?;
            Some(self.acceptor.accept(stream).await)
        };
        let tls = tokio::select! {
            () = drain.draining() => return,
            result = tokio::time::timeout(self.limits.handshake, handshake) => match result {
                Ok(Some(Ok(tls))) => tls,
                Ok(Some(Err(error))) => {
                    tracing::debug!(peer = %addr, %error, "TLS handshake failed");
                    return self.metrics.handshake("failed");
                }
                Ok(None) => return,
                Err(_) => return self.metrics.handshake("timeout"),
            },
        };
        let connection = tls.get_ref().1;
        let Ok(exporter) = connection.export_keying_material([0u8; 32], EXPORTER, None) else {
            return self.metrics.handshake("failed");
        };
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        let (peer, certificate_ends) = match identify(addr, certificate, exporter, &self.trust_domain) {
            Ok(identified) => identified,
            Err(error) => {
                tracing::info!(peer = %addr, %error, "connection closed");
                return self.metrics.handshake("refused");
            }
        };
        let _stranger = match &peer.identity {
            Some(_) => None,
            None => match self.strangers.try_acquire() {
                Ok(permit) => Some(permit),
                Err(_) => return self.metrics.handshake("refused"),
            },
        };
        self.metrics.handshake("ok");
        self.metrics.connections(1);
        let end = self.end(peer.clone(), certificate_ends, drain);
        serve(tls, peer, self.routes.clone(), end).await;
        self.metrics.connections(-1);
    }

    /// When a connection must end though its peer would go on: the drain, the end of its certificate, the host's
    /// revocation; a minute, if it has no identity.
    async fn end(&self, peer: Peer, certificate_ends: Option<SystemTime>, drain: Watch) {
        let host = peer.identity.as_ref().and_then(|id| id.host());
        let revoked = host.and_then(|id| self.hosts.connection(id));
        let revoked = async {
            match revoked {
                Some(token) => token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let old = async {
            match certificate_ends {
                Some(ends) => until(ends).await,
                None => tokio::time::sleep(self.limits.anonymous).await,
            }
        };
        tokio::select! {
            () = drain.draining() => {}
            () = revoked => {}
            () = old => {}
        }
    }
}

/// Waits for a moment of the wall clock, and sees when that clock jumps.
async fn until(moment: SystemTime) {
    const LOOK: Duration = Duration::from_secs(60);
    while let Ok(left) = moment.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

impl<S> std::fmt::Debug for TlsServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}
