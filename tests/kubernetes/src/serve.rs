//! The sockets: TLS, HTTP/1.1 and HTTP/2, and everything that can happen to a server as a whole.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::ask::{Asked, Query, decoded};
use crate::auth::User;
use crate::refusal::Refusal;
use crate::reply::{Body, Reply};
use crate::server::{Server, has_body};
use crate::watching::thawed;

/// Bytes of a body, as the real server takes them.
const LARGEST: usize = 3 << 20;
/// Connections that are served at once.
const CONNECTIONS: usize = 4096;

/// Binds, also where a server stood a moment ago.
///
/// # Errors
/// If the address can't be had.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("the address {address} can't be bound"))
}

/// Serves until it is dropped.
pub(crate) async fn run(listener: TcpListener, tls: Arc<rustls::ServerConfig>, server: Arc<Server>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut frozen = server.frozen.subscribe();
    let mut connections = JoinSet::new();
    loop {
        thawed(&mut frozen).await;
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                let Ok((stream, _)) = accepted else { continue };
                let (acceptor, server) = (acceptor.clone(), Arc::clone(&server));
                connections.spawn(async move {
                    // How a connection ends is the client's affair.
                    let _ = connection(stream, acceptor, server).await;
                });
            }
            Some(_) = connections.join_next() => {}
            _ = frozen.changed() => {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, server: Arc<Server>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut frozen = server.frozen.subscribe();
    thawed(&mut frozen).await;
    let stream = acceptor.accept(stream).await?;
    let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(exchange(&server, request).await) }
    });
    if second {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await?;
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await?;
    }
    Ok(())
}

async fn exchange(server: &Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let mut frozen = server.frozen.subscribe();
    thawed(&mut frozen).await;
    let (head, body) = request.into_parts();
    let body = if has_body(&head.method) {
        match Limited::new(body, LARGEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Reply::refused(Refusal::too_large(LARGEST)).into_response(),
        }
    } else {
        Bytes::new()
    };
    let query = head.uri.query().unwrap_or_default().to_owned();
    let asked = Asked {
        method: head.method,
        path: decoded_path(head.uri.path()),
        query: Query::parse(&query),
        headers: head.headers,
        body,
        user: User::default(),
    };
    let reply = server.answer(asked, &query).await;
    thawed(&mut frozen).await;
    reply.into_response()
}

/// A path keeps its slashes: what is escaped in it is decoded part by part.
fn decoded_path(path: &str) -> String {
    if path.contains("%2F") || path.contains("%2f") { path.to_owned() } else { decoded(path, false) }
}
