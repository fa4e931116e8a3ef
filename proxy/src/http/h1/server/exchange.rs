//! A connection of a client, and the exchange on it: from the first byte of a request to the last of its response.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Method;
use tokio::io::AsyncWrite as _;

use crate::http::channel::{Broken, Channel, Piece, Server};
use crate::http::h1::body::Inbound;
use crate::http::h1::head::{self, Look, Refusal};
use crate::http::h1::wire::{Outbound, Wire};
use crate::http::h1::{Limits, reason, write};
use crate::http::message::{Fields, Known, Length, RequestHead, ResponseHead, Version};
use crate::http::progress::{Ending, Progress};

/// So much of a body that nobody wanted is read, so that the connection can go on.
const DRAIN: usize = 64 * 1024;
/// So long a client that is told off may take to read it.
const LINGER: Duration = Duration::from_secs(1);

/// What comes after an exchange.
pub(super) enum Next {
    Request(RequestHead),
    /// Nothing: the client has closed, or was idle when it was to end.
    Over,
    Refused(Refusal),
}

/// A connection, and the exchange on it.
pub(super) struct Exchange {
    pub(super) wire: Wire,
    limits: Limits,
    progress: Rc<Progress>,
    look: Look,
    http11: bool,
    method: Kind,
    /// The connection goes on after the response.
    pub(super) keep: bool,
    /// The client waits for a 100.
    expects: bool,
    /// It was sent one, and nothing of the body has come since.
    asked: bool,
    upgrades: bool,
    /// The final head is written.
    answered: bool,
    /// It was one that ends HTTP.
    pub(super) switched: bool,
    aborted: bool,
    /// So much of a body that nobody wanted was read.
    drained: usize,
    /// The body is no HTTP.
    nonsense: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Head,
    Connect,
    Other,
}

impl Exchange {
    pub(super) fn new(wire: Wire, limits: Limits, progress: Rc<Progress>) -> Self {
        Self {
            wire,
            limits,
            progress,
            look: Look::default(),
            http11: true,
            method: Kind::Other,
            keep: true,
            expects: false,
            asked: false,
            upgrades: false,
            answered: false,
            switched: false,
            aborted: false,
            drained: 0,
            nonsense: false,
        }
    }

    /// Waits for the next request.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        loop {
            self.skip_empty_lines();
            let begun = !self.wire.input.is_empty();
            match self.progress.ending(cx) {
                Ending::Now if begun => return Poll::Ready(Ok(Next::Refused(SLOW))),
                Ending::Now => return Poll::Ready(Ok(Next::Over)),
                // A request that has arrived is served.
                Ending::Graceful if !begun && self.wire.poll_fill(cx)?.is_pending() => {
                    return Poll::Ready(Ok(Next::Over));
                }
                Ending::Graceful if !begun && self.wire.input.is_empty() => return Poll::Ready(Ok(Next::Over)),
                Ending::Graceful if !begun => continue,
                Ending::Graceful | Ending::Last | Ending::No => {}
            }
            if begun && let Some(next) = self.parse() {
                return Poll::Ready(Ok(next));
            }
            if begun {
                self.progress.head_begun();
            }
            if ready!(self.wire.poll_fill(cx))? == 0 {
                if !begun {
                    return Poll::Ready(Ok(Next::Over));
                }
                // It was not looked at since its last byte, perhaps.
                self.look = Look::default();
                return Poll::Ready(self.parse().ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// A client may send one behind a body (RFC 9112, 2.2).
    fn skip_empty_lines(&mut self) {
        let bytes = self.wire.input.bytes();
        let mut empty = 0;
        loop {
            match bytes.get(empty..) {
                Some([b'\r', b'\n', ..]) => empty += 2,
                Some([b'\n', ..]) => empty += 1,
                _ => break,
            }
        }
        if empty > 0 {
            self.wire.input.consume(empty);
        }
    }

    fn parse(&mut self) -> Option<Next> {
        let bytes = self.wire.input.bytes();
        if !self.look.worth(bytes, self.limits.head) {
            return None;
        }
        match head::request(bytes, &self.limits) {
            Ok(Some((request, used))) => {
                self.wire.input.consume(used);
                Some(Next::Request(self.begin(request)))
            }
            Ok(None) => None,
            Err(refusal) => Some(Next::Refused(refusal)),
        }
    }

    fn begin(&mut self, request: head::Request) -> RequestHead {
        let head::Request { head, framing, keep_alive, expects, upgrades } = request;
        self.wire.inbound = Inbound::new(framing);
        self.wire.outbound = Outbound::Before;
        self.look = Look::default();
        self.http11 = head.version != Version::Http10;
        self.method = match head.method {
            Method::HEAD => Kind::Head,
            Method::CONNECT => Kind::Connect,
            _ => Kind::Other,
        };
        self.keep = keep_alive;
        (self.expects, self.asked, self.upgrades) = (expects, false, upgrades);
        (self.answered, self.switched, self.aborted) = (false, false, false);
        self.drained = 0;
        head
    }

    /// Whether the response has ended.
    pub(super) fn is_over(&self) -> bool {
        self.answered && !self.aborted && self.wire.is_sent()
    }

    /// Reads what is left of the request's body; `false` if that is too much.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.wire.inbound.has_ended() {
            let n = match ready!(self.wire.poll_piece(cx)) {
                Ok(Piece::Data { bytes, .. }) => bytes.len(),
                Ok(Piece::Trailers(_) | Piece::End) => break,
                Err(_) => return Poll::Ready(false),
            };
            self.wire.consume(n);
            self.drained += n;
            if self.drained > DRAIN {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }

    /// Answers what is no request.
    pub(super) async fn refuse(&mut self, refusal: Refusal) {
        let out = self.wire.output.buffer();
        let reason = if refusal.is_told() { reason(refusal.status) } else { "" };
        let mut head = ResponseHead::new(refusal.status);
        if !reason.is_empty() {
            head.fields.push_known(Known::ContentType, b"text/plain");
        }
        head.fields.push_known(Known::Date, &crate::clock::http_date());
        head.fields.push_known(Known::Connection, b"close");
        write::response(out, &head, true);
        write::content_length(out, reason.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(reason.as_bytes());
        self.wire.inbound = Inbound::UntilClose;
        self.close().await;
    }

    /// Ends the connection so that the client can read what it was sent: whoever closes with bytes unread resets it.
    pub(super) async fn close(&mut self) {
        if self.nonsense {
            // Whatever follows is read, and means nothing.
            self.wire.inbound = Inbound::UntilClose;
        }
        let unread = !self.wire.inbound.has_ended();
        let close = poll_fn(|cx| {
            if ready!(self.wire.poll_flush(cx)).is_err() {
                return Poll::Ready(());
            }
            ready!(self.poll_close(cx));
            if !unread {
                return Poll::Ready(());
            }
            self.drained = 0;
            self.wire.inbound = Inbound::UntilClose;
            self.poll_drain(cx).map(drop)
        });
        // Of a client that takes what it is sent, no timer is ever started.
        let _ = tokio::time::timeout(LINGER, close).await;
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.wire.stream).poll_shutdown(cx).map(drop)
    }

    /// Writes the lines that frame the response, and the empty one.
    fn frame(&mut self, head: &ResponseHead, said: write::Said) {
        let bodiless = self.method == Kind::Head || matches!(head.status, 204 | 304) || self.switched;
        let untold = head.status == 204 || self.switched;
        let (http11, out) = (self.http11, self.wire.output.buffer());
        let outbound = match head.length {
            _ if untold => Outbound::Discard,
            Length::None if bodiless => Outbound::Discard,
            Length::None | Length::Exact(0) => {
                write::content_length(out, 0);
                if bodiless { Outbound::Discard } else { Outbound::Ended }
            }
            Length::Exact(n) => {
                write::content_length(out, n);
                if bodiless { Outbound::Discard } else { Outbound::Exact(n) }
            }
            Length::Unknown if http11 && head.status != 304 => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                if bodiless { Outbound::Discard } else { Outbound::Chunked(0) }
            }
            Length::Unknown if bodiless => Outbound::Discard,
            Length::Unknown => {
                self.keep = false;
                Outbound::UntilClose
            }
        };
        if said.close {
            self.keep = false;
        } else if !self.keep && !self.switched {
            out.extend_from_slice(b"connection: close\r\n");
        } else if !self.http11 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.wire.outbound = outbound;
    }
}

const SLOW: Refusal = Refusal { status: 408, why: "the head took too long" };
const ANSWERED: Broken = Broken::Malformed("there is a response already");

impl Channel for Exchange {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece<'_>, Broken>> {
        if self.expects {
            self.expects = false;
            // Who has begun to send needs not be asked.
            if self.wire.input.is_empty() {
                self.wire.output.buffer().extend_from_slice(write::CONTINUE);
                self.asked = true;
            }
        }
        if !self.answered && !self.wire.output.is_empty() {
            // If it can't be written yet, nothing is lost by reading: the client may send without it.
            let _ = self.wire.poll_flush(cx)?;
        }
        let piece = self.wire.poll_piece(cx);
        if matches!(piece, Poll::Ready(Err(_))) {
            (self.keep, self.nonsense) = (false, true);
        }
        piece
    }

    fn consume(&mut self, n: usize) {
        self.asked = false;
        self.wire.consume(n);
    }

    fn is_received(&self) -> bool {
        self.wire.inbound.has_ended()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Broken>> {
        if self.aborted {
            return Poll::Ready(Err(Broken::Gone));
        }
        self.wire.poll_data(cx, bytes, last)
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        if self.aborted { Err(Broken::Gone) } else { self.wire.finish(trailers) }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.wire.poll_flush(cx)
    }
}

impl Server for Exchange {
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Broken> {
        if self.answered || self.aborted {
            return Err(ANSWERED);
        }
        // HTTP/1.0 knows none; a 100 that nobody waits for says nothing.
        if !self.http11 || head.status == 100 && !self.expects {
            return Ok(());
        }
        if head.status == 100 {
            self.expects = false;
            self.asked = true;
        }
        let out = self.wire.output.buffer();
        write::response(out, head, true);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn respond(&mut self, head: &ResponseHead) -> Result<(), Broken> {
        if self.answered || self.aborted {
            return Err(ANSWERED);
        }
        self.switched = head.status == 101 || self.method == Kind::Connect && (200..300).contains(&head.status);
        if self.switched && !self.can_become() {
            self.switched = false;
            return Err(Broken::Malformed("nobody asked for another protocol"));
        }
        // A client that was not asked for its body may send it or not: what comes next can't be told. Nor of one that was
        // asked, and hears before it begins that its body is not wanted.
        let refused = self.asked && head.status >= 300 && self.wire.input.is_empty();
        let doubtful = std::mem::take(&mut self.expects) || refused;
        // What follows a CONNECT may be meant for whom it did not lead to.
        let tunnel = self.method == Kind::Connect;
        self.keep &= !doubtful && !tunnel && !self.switched && !self.progress.is_ending();
        self.answered = true;
        let said = write::response(self.wire.output.buffer(), head, self.http11);
        self.frame(head, said);
        Ok(())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        // One read ahead: what comes then waits for its turn, in the kernel.
        if !self.wire.input.is_empty() {
            self.wire.input.settle();
            return Poll::Pending;
        }
        match ready!(self.wire.poll_fill(cx)) {
            Ok(0) | Err(_) => Poll::Ready(Broken::Gone),
            Ok(_) => Poll::Pending,
        }
    }

    fn abort(&mut self) {
        self.aborted = true;
        self.keep = false;
        self.wire.output.clear();
        if self.wire.outbound == Outbound::UntilClose {
            self.wire.stream.reset();
        }
    }

    fn can_become(&self) -> bool {
        self.upgrades && self.wire.inbound.has_ended()
    }
}
