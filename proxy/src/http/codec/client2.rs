//! HTTP/2 as a client, by the h2 crate: no task for a request without a body, PING before reuse after idling.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use http::{Request, Response};
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use super::{Failed, InBody, LONGEST_HEAD, RequestBody, Why};
use crate::stream::Stream;

/// After so long without a request, a PING shows whether the other end still lives.
const TRUSTED: u64 = 5_000;
const PONG: Duration = Duration::from_secs(3);

/// A connection. Many requests at a time.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    ping: RefCell<Option<PingPong>>,
    closed: Rc<Cell<bool>>,
    /// A hawser-proxy is at the other end.
    pub hawser: Cell<bool>,
    /// Requests in flight.
    pub active: Cell<u32>,
    /// Requests sent on it.
    pub requests: Cell<u32>,
    /// Last use, in milliseconds of [`crate::clock`].
    pub last_used: Cell<u64>,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2").field("active", &self.active).field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Http2 {
    /// Starts on a stream. `keep` lives as long as the connection; `lost` ends it.
    ///
    /// # Errors
    /// If the stream breaks.
    pub async fn start(
        stream: Stream,
        lost: Option<CancellationToken>,
        keep: Rc<dyn std::any::Any>,
    ) -> io::Result<Self> {
        let (sender, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(256 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .max_frame_size(64 * 1024)
            .max_header_list_size(LONGEST_HEAD as u32)
            .max_send_buffer_size(256 * 1024)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(io::Error::other)?;
        let ping = connection.ping_pong();
        let closed = Rc::new(Cell::new(false));
        let over = closed.clone();
        tokio::task::spawn_local(async move {
            let _keep = keep;
            match lost {
                Some(lost) => {
                    tokio::select! {
                        _ = connection => {}
                        () = lost.cancelled() => {}
                    }
                }
                None => drop(connection.await),
            }
            over.set(true);
        });
        Ok(Self {
            sender,
            ping: RefCell::new(ping),
            closed,
            hawser: Cell::new(false),
            active: Cell::new(0),
            requests: Cell::new(0),
            last_used: Cell::new(crate::clock::now_ms()),
        })
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Takes it out of use: requests in flight end, none is added.
    pub fn retire(&self) {
        self.closed.set(true);
    }

    /// Whether another request fits.
    pub fn has_room(&self) -> bool {
        (self.active.get() as usize) < self.sender.current_max_send_streams().min(100)
    }

    /// Whether the other end lives; asked by PING after a silence.
    pub async fn is_alive(&self, now: u64) -> bool {
        if self.active.get() > 0 || now.saturating_sub(self.last_used.get()) < TRUSTED {
            return !self.is_closed();
        }
        // Whoever is second while a PING is under way relies on the first.
        let Some(mut ping) = self.ping.borrow_mut().take() else { return !self.is_closed() };
        let pong = tokio::time::timeout(PONG, ping.ping(Ping::opaque())).await;
        self.ping.replace(Some(ping));
        if matches!(pong, Ok(Ok(_))) {
            self.last_used.set(now);
        } else {
            self.retire();
        }
        !self.is_closed()
    }

    /// Sends a request, waits for the head of its response.
    ///
    /// # Errors
    /// If there is none.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<InBody>, Failed> {
        self.requests.set(self.requests.get().saturating_add(1));
        let mut sender = match self.sender.clone().ready().await {
            Ok(sender) => sender,
            Err(_) => {
                self.retire();
                return Err(Failed { why: Why::Broken, unsent: Some(Box::new(request)) });
            }
        };
        let (parts, body) = request.into_parts();
        let end = body.is_end_stream();
        let (response, stream) = match sender.send_request(Request::from_parts(parts, ()), end) {
            Ok(sent) => sent,
            Err(e) => return Err(failed(&e)),
        };
        drop(sender);
        let response = if end {
            response.await
        } else {
            Exchange { response: Some(response), pump: Some(Pump { body, stream }) }.await
        };
        match response {
            Ok(response) => Ok(response.map(|stream| InBody::H2(stream, false))),
            Err(e) => Err(failed(&e)),
        }
    }
}

fn failed(e: &h2::Error) -> Failed {
    let refused = e.reason() == Some(Reason::REFUSED_STREAM)
        || e.is_go_away() && e.is_remote() && e.reason() == Some(Reason::NO_ERROR);
    Failed { why: if refused { Why::Refused } else { Why::Broken }, unsent: None }
}

/// A response that is waited for while the request's body is sent; the body goes on alone when the response is first.
struct Exchange {
    response: Option<ResponseFuture>,
    pump: Option<Pump>,
}

impl Future for Exchange {
    type Output = Result<Response<h2::RecvStream>, h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(pump) = &mut this.pump
            && pump.poll(cx).is_ready()
        {
            this.pump = None;
        }
        let Some(response) = &mut this.response else { return Poll::Pending };
        let response = ready!(Pin::new(response).poll(cx));
        this.response = None;
        if let Some(mut pump) = this.pump.take()
            && response.is_ok()
        {
            tokio::task::spawn_local(async move { poll_fn(|cx| pump.poll(cx)).await });
        }
        Poll::Ready(response)
    }
}

/// Sends a body, one frame at a time, as the window allows.
struct Pump {
    body: RequestBody,
    stream: SendStream<Bytes>,
}

impl Pump {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Room first: a frame that is read is held by us alone.
            self.stream.reserve_capacity(1);
            if self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(0)) => continue,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(()),
                }
            } else if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            let sent = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.stream.send_data(Bytes::new(), true),
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let end = self.body.is_end_stream();
                        match self.stream.send_data(data, end) {
                            Ok(()) if !end => continue,
                            other => other,
                        }
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => self.stream.send_trailers(trailers),
                        Err(_) => continue,
                    },
                },
            };
            // The stream's end, or a broken stream: whoever waits for the response hears of it.
            drop(sent);
            return Poll::Ready(());
        }
    }
}
