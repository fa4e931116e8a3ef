//! Something that sends a request: from the pool if it can be, else made.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Context;
use std::time::Instant;

use super::connect::Counted;
use super::{Fault, Problem, Purpose, Target, connect, is_hawser_h2};
use crate::config::{ClusterState, Config, HttpProtocol, Options, Transport};
use crate::http::progress::{Ending, Progress};
use crate::http::{h1, h2};
use crate::pool::{Connecting, Key};
use crate::stream::Stream;
use crate::tls::Offer;
use crate::worker::Worker;

/// An HTTP/1.1 connection: one request at a time, then it may be kept.
#[derive(Debug)]
pub struct Kept {
    /// It.
    pub connection: h1::Http1,
    /// Tells when its endpoint is lost.
    pub progress: Rc<Progress>,
    /// What it is good for.
    pub key: Key,
    /// Requests sent on it.
    pub requests: u32,
    /// When it was made.
    since: Instant,
    /// Since when nobody uses it, in milliseconds of [`crate::clock`].
    pub idle_since: Cell<u64>,
    counted: Rc<Counted>,
}

/// A connection for one request.
#[derive(Debug)]
pub struct Lease {
    /// What sends it.
    pub sender: Sender,
    /// It was used before: it may have died unseen.
    pub reused: bool,
    /// A hawser-proxy is at the other end, and is told the application's protocol.
    pub hawser: bool,
}

/// What sends a request.
#[derive(Debug)]
pub enum Sender {
    /// Alone on its connection.
    Http1(Box<Kept>),
    /// Beside others.
    Http2(h2::ClientStream),
}

/// Takes or makes a connection.
///
/// # Errors
/// If there is none.
pub async fn lease(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    offer: Offer,
    purpose: Purpose,
) -> Result<Lease, Problem> {
    let transport = match target.transport() {
        Transport::Raw => 0,
        Transport::Tls(tls) => tls.fingerprint,
    };
    let switches = purpose.switches() && offer != Offer::Http1;
    let announced = worker.pool.announced(target);
    let key = Key { to: target.pool_to(), transport, announced, offer, switches };
    let alone = Key { offer: Offer::Http1, switches: false, ..key };
    if offer == Offer::Http1 {
        return exclusive(worker, config, target, alone, purpose).await;
    }
    let options = &target.cluster.spec.options;
    let shared = worker.pool.shared(&key, options.idle_timeout);
    let mut pending = None;
    loop {
        if shared.speaks_http1.get() {
            return exclusive(worker, config, target, alone, purpose).await;
        }
        if let Some(connection) = shared.pick(options) {
            if !connection.is_alive(crate::clock::now_ms()).await {
                continue;
            }
            if purpose == Purpose::Upgrade && !connection.takes_extended_connect() {
                return as_http1(worker, config, target, alone, purpose).await;
            }
            let Ok(stream) = connection.open() else { continue };
            return Ok(Lease { sender: Sender::Http2(stream), reused: true, hawser: shared.hawser.get() });
        }
        if !shared.connecting.get() {
            break;
        }
        if pending.is_none() {
            pending = Some(Pending::begin(target)?);
        }
        let failures = shared.failures.get();
        shared.changed.notified().await;
        if shared.failures.get() != failures {
            // What was waited for failed: nobody waits in line for the next failure.
            return Err(Problem::Connect(shared.fault.get()));
        }
    }
    if !shared.has_room() {
        return if switches { as_http1(worker, config, target, alone, purpose).await } else { Err(Problem::Limit) };
    }
    let _pending = pending.map_or_else(|| Pending::begin(target), Ok)?;
    let connecting = Connecting::begin(&shared);
    // Apart, as it is rare: what waits for requests is small.
    let made = match Box::pin(connect(worker, config, target, offer)).await {
        Ok(made) => made,
        Err(problem) => {
            shared.failures.set(shared.failures.get() + 1);
            shared.fault.set(if let Problem::Connect(fault) = problem { fault } else { Fault::Other });
            return Err(problem);
        }
    };
    let hawser = is_hawser_h2(made.chosen.as_deref());
    // HTTP/2 was asked for by the application, or the other end is of our kind; else HTTP/1.1 it is.
    let http2 = match offer {
        Offer::HawserHttp1 => hawser,
        _ => true,
    };
    let progress = worker.watch.endpoint(target.endpoint().map(|e| &e.state));
    let sender = if http2 {
        let secure = !matches!(target.transport(), Transport::Raw);
        let connection = start(made.stream, secure, switches, options, progress, made.counted);
        if switches {
            let settled = tokio::time::timeout(target.cluster.spec.connect_timeout, connection.settled());
            settled.await.map_err(|_| Problem::Connect(Fault::Slow))?;
        }
        if purpose == Purpose::Upgrade && !connection.takes_extended_connect() {
            shared.connections.borrow_mut().push(connection);
            drop(connecting);
            return as_http1(worker, config, target, alone, purpose).await;
        }
        let stream = connection.open().map_err(|_| Problem::Connect(Fault::Reset))?;
        shared.hawser.set(hawser);
        shared.connections.borrow_mut().push(connection);
        Sender::Http2(stream)
    } else {
        shared.speaks_http1.set(true);
        Sender::Http1(Kept::new(made.stream, progress, made.counted, alone))
    };
    drop(connecting);
    Ok(Lease { sender, reused: false, hawser })
}

/// What can't be switched to on a stream of HTTP/2, on a connection of its own, if the server speaks HTTP/1.1 too.
async fn as_http1(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    alone: Key,
    purpose: Purpose,
) -> Result<Lease, Problem> {
    if target.cluster.spec.options.protocol == HttpProtocol::Http2 && !target.is_hawser() {
        return Err(Problem::NoSwitch);
    }
    exclusive(worker, config, target, alone, purpose).await
}

/// An HTTP/2 connection and its task.
fn start(
    stream: Stream,
    secure: bool,
    switches: bool,
    options: &Options,
    progress: Rc<Progress>,
    counted: Rc<Counted>,
) -> h2::Connection {
    let mut limits = h2::Limits::default();
    if let Some((silence, answer)) = options.pings {
        limits = h2::Limits { asks: true, silence, answer, ..limits };
    }
    if switches {
        // As many as may all stand still, and leave the connection's window open.
        limits.streams = (limits.connection_window / limits.stream_window).max(1);
    }
    let (connection, driver) = h2::connect(stream, limits, secure);
    tokio::task::spawn_local(async move {
        let _counted = counted;
        let mut driver = std::pin::pin!(driver);
        std::future::poll_fn(|cx| {
            if progress.ending(cx) == Ending::Now {
                return std::task::Poll::Ready(());
            }
            driver.as_mut().poll(cx).map(drop)
        })
        .await;
    });
    connection
}

async fn exclusive(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    key: Key,
    purpose: Purpose,
) -> Result<Lease, Problem> {
    let Options { requests_per_connection: most, longest, .. } = target.cluster.spec.options;
    let fresh = |kept: &Kept| longest.is_none_or(|longest| kept.since.elapsed() < longest);
    while purpose == Purpose::Request
        && let Some(mut kept) = worker.pool.take(&key)
    {
        if (most == 0 || kept.requests < most) && fresh(&kept) {
            kept.requests += 1;
            return Ok(Lease { sender: Sender::Http1(kept), reused: true, hawser: false });
        }
    }
    let _pending = Pending::begin(target)?;
    let made = Box::pin(connect(worker, config, target, Offer::Http1)).await?;
    let progress = worker.watch.endpoint(target.endpoint().map(|e| &e.state));
    let kept = Kept::new(made.stream, progress, made.counted, key);
    Ok(Lease { sender: Sender::Http1(kept), reused: false, hawser: false })
}

/// What stays of a connection that is HTTP no more: it counts, and ends with its endpoint.
#[derive(Debug)]
pub struct Rest {
    progress: Rc<Progress>,
    _counted: Rc<Counted>,
}

impl Rest {
    /// Whether the endpoint is lost. The task that asks is woken when it is.
    pub fn is_lost(&self, cx: &Context<'_>) -> bool {
        self.progress.ending(cx) == Ending::Now
    }
}

impl Kept {
    /// The stream with all that was read of it, when the last response has ended HTTP.
    pub fn into_stream(self) -> (Stream, Rest) {
        (self.connection.into_stream(), Rest { progress: self.progress, _counted: self.counted })
    }

    fn new(stream: Stream, progress: Rc<Progress>, counted: Rc<Counted>, key: Key) -> Box<Self> {
        let connection = h1::Http1::new(stream);
        let since = Instant::now();
        Box::new(Self { connection, progress, key, requests: 1, since, idle_since: Cell::new(0), counted })
    }
}

/// A request that waits for a connection, counted.
struct Pending(Arc<ClusterState>);

impl Pending {
    fn begin(target: &Target<'_>) -> Result<Self, Problem> {
        let state = &target.cluster.state;
        let counter: &AtomicU32 = &state.pending;
        if counter.fetch_add(1, Relaxed) >= target.cluster.spec.limits.pending {
            counter.fetch_sub(1, Relaxed);
            return Err(Problem::Limit);
        }
        Ok(Self(state.clone()))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
    }
}
