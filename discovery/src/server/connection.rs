//! One HTTP/2 connection: its bounds, its end, and who it is.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hawser_daemon::drain::Watch;
use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt as _};

use crate::peer::Peer;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Handshakes at once.
    pub handshakes: usize,
    /// Time for a handshake.
    pub handshake: Duration,
    /// Time that a connection without an identity may live.
    pub anonymous: Duration,
    /// Open connections without an identity: strangers must not take the places of hosts.
    pub strangers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            handshakes: 512,
            handshake: Duration::from_secs(5),
            anonymous: Duration::from_secs(60),
            strangers: 4096,
        }
    }
}

/// Requests that one connection may have open: a relay has one for each local client.
const STREAMS: u32 = 256;
/// Headers of one request.
const HEADERS: u32 = 16 << 10;
/// A peer that says nothing is asked, and must answer: a host that lost its power is seen.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);
/// What is left of a connection after it was told to end.
const LAST: Duration = Duration::from_secs(2);
/// Time for the head of a request to the page.
const HEAD: Duration = Duration::from_secs(5);
/// Connections to the page.
const PAGE: usize = 256;

/// Serves requests until the peer or `end` ends the connection. Each carries `peer`.
pub(super) async fn serve<I, S>(io: I, peer: Peer, routes: S, end: impl Future<Output = ()>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let service = routes.map_request(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(Body::new)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(Some(64))
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return log(result),
        () = end => {}
    }
    connection.as_mut().graceful_shutdown();
    // A stream that never ends, such as xDS, is cut here; its client comes back.
    if let Ok(result) = tokio::time::timeout(LAST, connection).await {
        log(result);
    }
}

/// Serves a plaintext listener until the drain.
pub async fn serve_plaintext<S>(listener: TcpListener, routes: S, limits: Limits, drain: Watch)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Some((stream, addr)) = accept(&listener, &drain).await else { return };
        let Ok(permit) = room.clone().try_acquire_owned() else { continue };
        let (routes, ends) = (routes.clone(), drain.clone());
        drain.spawn(async move {
            let _permit = permit;
            serve(stream, Peer::plaintext(addr), routes, ends.draining()).await;
        });
    }
}

/// Serves the page of metrics, over HTTP/1.1, until the drain.
pub async fn serve_page(listener: TcpListener, routes: Router, drain: Watch) {
    let room = Arc::new(Semaphore::new(PAGE));
    loop {
        let Some((stream, addr)) = accept(&listener, &drain).await else { return };
        let Ok(permit) = room.clone().try_acquire_owned() else { continue };
        let (routes, ends) = (routes.clone(), drain.clone());
        drain.spawn(async move {
            let _permit = permit;
            let service = routes.map_request(move |mut request: Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(ConnectInfo(addr));
                request.map(Body::new)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEADERS as usize)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                result = connection.as_mut() => return log(result),
                () = ends.draining() => {}
            }
            connection.as_mut().graceful_shutdown();
            if let Ok(result) = tokio::time::timeout(LAST, connection).await {
                log(result);
            }
        });
    }
}

/// The next connection; `None` when the drain starts.
pub(super) async fn accept(listener: &TcpListener, drain: &Watch) -> Option<(tokio::net::TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            () = drain.draining() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, addr)) => {
                // Small answers go out at once.
                let _ = stream.set_nodelay(true);
                return Some((stream, addr));
            }
            Err(error) => {
                // Out of descriptors, most likely: wait until some are free.
                tracing::warn!(%error, "a connection can not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn log(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}
