//! HTTP as a server, by hyper: version 1 and version 2, each asked for by name.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::{InBody, LONGEST_HEAD, ResponseBody};
use crate::stream::Stream;

/// What serves requests.
pub trait Handler: 'static {
    /// Answers a request; an error closes the connection (HTTP/1) or resets the stream (HTTP/2).
    fn handle(
        self: Rc<Self>,
        request: Request<InBody>,
        upgrade: Option<Upgrade>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, io::Error>>;
}

/// Becomes the bare connection after a response with status 101.
pub type Upgrade = hyper::upgrade::OnUpgrade;

/// Which HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.0 and 1.1.
    Http1,
    /// 2.
    Http2,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Headers of a request.
    pub headers: usize,
    /// Streams of a connection.
    pub streams: u32,
}

/// How far a connection is: what a sweep looks at to end those that take too long over a head, or idle. It is used by
/// one thread; what hyper may hand to another one must be shareable all the same.
#[derive(Debug)]
pub struct Progress {
    version: Version,
    /// Requests in flight.
    active: AtomicU32,
    /// A head has begun.
    head: AtomicBool,
    /// Since when it is so, in seconds of the sweep.
    since: AtomicU32,
    now: Arc<AtomicU32>,
    end: Notify,
}

impl Progress {
    /// Of a new connection; `now` is the sweep's clock, in seconds.
    pub fn new(version: Version, now: Arc<AtomicU32>) -> Self {
        let since = AtomicU32::new(now.load(Relaxed));
        Self { version, active: AtomicU32::new(0), head: AtomicBool::new(false), since, now, end: Notify::new() }
    }

    /// Ends the connection if its head or its idling took too long.
    pub fn sweep(&self, head: Duration, idle: Duration) {
        let age = Duration::from_secs(u64::from(self.now.load(Relaxed).saturating_sub(self.since.load(Relaxed))));
        let limit = if self.head.load(Relaxed) { head } else { idle };
        if self.active.load(Relaxed) == 0 && age > limit {
            self.end.notify_one();
        }
    }

    /// Bytes came in. Of HTTP/2 they may be anything; its heads are bounded by their size.
    fn read(&self) {
        if self.version == Version::Http1 && self.active.load(Relaxed) == 0 && !self.head.load(Relaxed) {
            self.head.store(true, Relaxed);
            self.since.store(self.now.load(Relaxed), Relaxed);
        }
    }

    fn begin(self: &Arc<Self>) -> InFlight {
        self.head.store(false, Relaxed);
        self.active.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }
}

/// A request that is not answered to its end.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Progress>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
        self.0.since.store(self.0.now.load(Relaxed), Relaxed);
    }
}

/// Serves a connection until it ends. After `drain` it ends as soon as its requests have.
///
/// # Errors
/// If the peer breaks HTTP or the connection.
pub async fn serve<H: Handler>(
    stream: Stream,
    limits: Limits,
    handler: Rc<H>,
    progress: Arc<Progress>,
    drain: impl Future<Output = ()>,
) -> io::Result<()> {
    let io = TokioIo::new(Watched { stream, progress: progress.clone() });
    let seen = progress.clone();
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let in_flight = seen.begin();
        let upgrade = request.headers().contains_key(http::header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let handler = handler.clone();
        async move {
            let response = handler.handle(request.map(InBody::Hyper), upgrade).await?;
            Ok::<_, io::Error>(response.map(|body| body.keep(in_flight)))
        }
    });
    let mut drain = pin!(drain);
    let mut draining = false;
    macro_rules! run {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            loop {
                tokio::select! {
                    done = connection.as_mut() => return done.map_err(io::Error::other),
                    () = &mut drain, if !draining => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    () = progress.end.notified() => {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "no request for too long"));
                    }
                }
            }
        }};
    }
    match progress.version {
        Version::Http1 => {
            let mut builder = http1::Builder::new();
            builder.max_headers(limits.headers).max_buf_size(LONGEST_HEAD + 4096).header_read_timeout(None);
            builder.auto_date_header(false).pipeline_flush(true);
            run!(builder.serve_connection(io, service).with_upgrades())
        }
        Version::Http2 => {
            let mut builder = http2::Builder::new(Local);
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.streams)
                .max_header_list_size(LONGEST_HEAD as u32)
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_send_buf_size(256 * 1024)
                .auto_date_header(false)
                .keep_alive_interval(Duration::from_secs(60))
                .keep_alive_timeout(Duration::from_secs(20));
            run!(builder.serve_connection(io, service))
        }
    }
}

/// Tasks of this thread.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Tells the connection's progress of bytes that come in.
#[derive(Debug)]
struct Watched {
    stream: Stream,
    progress: Arc<Progress>,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let done = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.progress.read();
        }
        done
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
