//! Something that sends a request: from the pool if it can be, else made.

use std::rc::Rc;
use std::sync::Arc;

use super::{Problem, Target, connect, is_hawser_h2};
use crate::config::{Config, Transport};
use crate::http::codec::{Http1, Http2};
use crate::pool::{Connecting, Key};
use crate::tls::Offer;
use crate::worker::Worker;

/// A connection for one request.
#[derive(Debug)]
pub struct Lease {
    /// What sends it.
    pub sender: Sender,
    /// It was used before: it may have died unseen.
    pub reused: bool,
    /// A hawser-proxy is at the other end, and is told the application's protocol.
    pub hawser: bool,
    /// Where it goes back to.
    pub key: Key,
    /// Counts the request on a shared connection.
    pub stream: Option<Stream>,
}

/// What sends a request.
#[derive(Debug)]
pub enum Sender {
    /// Alone on its connection.
    Http1(Box<Http1>),
    /// Beside others.
    Http2(Rc<Http2>),
}

/// Takes or makes a connection. `fresh` leaves the pool aside: for upgrades, and after a pooled one failed.
///
/// # Errors
/// If there is none.
pub async fn lease(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target,
    offer: Offer,
    fresh: bool,
) -> Result<Lease, Problem> {
    let transport = match target.transport() {
        Transport::Raw => 0,
        Transport::Tls(tls) => tls.fingerprint,
    };
    let key = Key { to: target.pool_to(), transport, offer };
    let timeout = target.cluster.spec.idle_timeout;
    if offer == Offer::Http1 {
        return exclusive(worker, config, target, key, fresh).await;
    }
    let shared = worker.pool.shared(&key, timeout);
    loop {
        if shared.speaks_http1.get() {
            return exclusive(worker, config, target, key, fresh).await;
        }
        if let Some(connection) = shared.pick() {
            if connection.is_alive(crate::clock::now_ms()).await {
                let hawser = matches!(offer, Offer::HawserHttp1 | Offer::HawserHttp2) && connection.hawser.get();
                return Ok(Lease { sender: Sender::Http2(connection), reused: true, hawser, key, stream: None });
            }
            continue;
        }
        if !shared.connecting.get() {
            break;
        }
        let failures = shared.failures.get();
        shared.changed.notified().await;
        if shared.failures.get() != failures {
            // What was waited for failed: nobody waits in line for the next failure.
            return Err(Problem::Connect);
        }
    }
    if !shared.has_room() {
        return Err(Problem::Limit);
    }
    let connecting = Connecting::begin(&shared);
    let made = match connect(worker, config, target, offer).await {
        Ok(made) => made,
        Err(problem) => {
            shared.failures.set(shared.failures.get() + 1);
            return Err(problem);
        }
    };
    let hawser = is_hawser_h2(made.chosen.as_deref());
    // HTTP/2 was asked for by the application, or the other end is of our kind; else HTTP/1.1 it is.
    let http2 = match offer {
        Offer::HawserHttp1 => hawser,
        _ => true,
    };
    let lost = target.endpoint().map(|e| e.state.lost.clone());
    let sender = if http2 {
        let connection = Http2::start(made.stream, lost, made.counted).await.map_err(|_| Problem::Connect)?;
        connection.hawser.set(hawser);
        let connection = Rc::new(connection);
        shared.connections.borrow_mut().push(connection.clone());
        Sender::Http2(connection)
    } else {
        shared.speaks_http1.set(true);
        let connection = Http1::start(made.stream, lost, made.counted).await.map_err(|_| Problem::Connect)?;
        Sender::Http1(Box::new(connection))
    };
    drop(connecting);
    Ok(Lease { sender, reused: false, hawser, key, stream: None })
}

async fn exclusive(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target,
    key: Key,
    fresh: bool,
) -> Result<Lease, Problem> {
    let most = target.cluster.spec.requests_per_connection;
    while !fresh && let Some(mut connection) = worker.pool.take(&key) {
        if (most == 0 || connection.requests.get() < most) && connection.ready().await {
            let sender = Sender::Http1(Box::new(connection));
            return Ok(Lease { sender, reused: true, hawser: false, key, stream: None });
        }
    }
    let made = connect(worker, config, target, Offer::Http1).await?;
    let lost = target.endpoint().map(|e| e.state.lost.clone());
    let connection = Http1::start(made.stream, lost, made.counted).await.map_err(|_| Problem::Connect)?;
    Ok(Lease { sender: Sender::Http1(Box::new(connection)), reused: false, hawser: false, key, stream: None })
}

/// A request on a shared connection, until its response has ended.
#[derive(Debug)]
pub struct Stream(Rc<Http2>);

impl Stream {
    /// Counts it.
    pub fn begin(connection: &Rc<Http2>) -> Self {
        connection.active.set(connection.active.get() + 1);
        Self(connection.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.last_used.set(crate::clock::now_ms());
    }
}
