//! The client's end: one connection, driven by whoever holds it.
//!
//! In: a stream, requests one after the other. Out: their responses. No task stands behind it: in a pool it costs its own
//! size. Invariants: a byte nobody asked for, or a response that could be read in two ways, ends its use.

use std::task::{Context, Poll, Waker};

use http::Method;

use super::body::Inbound;
use super::head::{self, Asked, Look};
use super::wire::{Outbound, Wire};
use super::{LONGEST_HEAD, Limits, RESPONSE_FIELDS, write};
use crate::http::channel::{Broken, Channel, Client, Piece};
use crate::http::message::{Fields, Known, Length, RequestHead, ResponseHead};
use crate::stream::Stream;

/// A server that closes has no other way to say that it is done.
const CUT: Broken = Broken::Malformed("the connection ended within a response");
/// Most interim responses of a request.
const INTERIM: u8 = 32;
const LIMITS: Limits = Limits { headers: RESPONSE_FIELDS, head: LONGEST_HEAD, refuse_underscores: false };

/// A connection to a server of HTTP/1.1. One request at a time.
#[derive(Debug)]
pub struct Http1 {
    wire: Wire,
    asked: Asked,
    /// A request was written, its final response not read.
    waits: bool,
    /// The connection goes on after the response.
    keep: bool,
    /// HTTP is over.
    switched: bool,
    /// The server reads no more.
    deaf: bool,
    interim: u8,
    look: Look,
}

impl Http1 {
    /// On a stream of which nothing was read.
    pub fn new(stream: Stream) -> Self {
        Self {
            wire: Wire::new(stream, CUT),
            asked: Asked::Other,
            waits: false,
            keep: true,
            switched: false,
            deaf: false,
            interim: 0,
            look: Look::default(),
        }
    }

    /// Whether another request can be sent: both bodies have ended, and both ends want to go on.
    pub fn is_reusable(&self) -> bool {
        let ended = self.wire.inbound.has_ended() && self.wire.output.is_empty() && self.wire.input.is_empty();
        let sent = matches!(self.wire.outbound, Outbound::Before | Outbound::Ended | Outbound::Discard);
        self.keep && !self.waits && !self.switched && !self.deaf && ended && sent
    }

    /// Whether the server has closed the idle connection, or said something that nobody asked for. It waits for nothing,
    /// and nobody is woken.
    pub fn is_stale(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.wire.input.is_empty() || self.wire.poll_fill(&mut cx).is_ready()
    }

    /// Whether a byte of the request was written to the stream: if not, it may be sent elsewhere whatever it does.
    pub fn was_sent(&self) -> bool {
        self.wire.output.wrote()
    }

    /// Whether the last response has ended HTTP on the connection: a 101, or the answer to CONNECT.
    pub fn has_switched(&self) -> bool {
        self.switched
    }

    /// The stream with all that was read of it, after [`Http1::has_switched`].
    pub fn into_stream(self) -> Stream {
        self.wire.into_stream()
    }

    fn parse(&mut self) -> Result<Option<ResponseHead>, Broken> {
        let bytes = self.wire.input.bytes();
        if bytes.is_empty() || !self.look.worth(bytes, LIMITS.head) {
            return Ok(None);
        }
        let Some((response, used)) = head::response(bytes, &LIMITS, self.asked)? else { return Ok(None) };
        self.wire.input.consume(used);
        self.look = Look::default();
        let head::Response { head, framing, keep_alive } = response;
        if (100..200).contains(&head.status) && head.status != 101 {
            self.interim += 1;
            return if self.interim > INTERIM { Err(Broken::TooLarge) } else { Ok(Some(head)) };
        }
        self.switched = head.status == 101 || self.asked == Asked::Connect && (200..300).contains(&head.status);
        self.wire.inbound = Inbound::new(framing);
        self.waits = false;
        self.keep &= keep_alive;
        Ok(Some(head))
    }
}

impl Channel for Http1 {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece<'_>, Broken>> {
        if self.waits {
            return Poll::Ready(Err(Broken::Malformed("a body before its head")));
        }
        self.wire.poll_piece(cx)
    }

    fn consume(&mut self, n: usize) {
        self.wire.consume(n);
    }

    fn is_received(&self) -> bool {
        !self.waits && self.wire.inbound.has_ended()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Broken>> {
        let taken = self.wire.poll_data(cx, bytes, last);
        self.deaf |= matches!(taken, Poll::Ready(Err(Broken::Gone)));
        taken
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        self.wire.finish(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let flushed = self.wire.poll_flush(cx);
        self.deaf |= matches!(flushed, Poll::Ready(Err(_)));
        flushed
    }
}

impl Client for Http1 {
    fn request(&mut self, head: &RequestHead, length: Length) -> Result<(), Broken> {
        self.wire.output.begin();
        if !self.is_reusable() {
            return Err(Broken::Gone);
        }
        let Some(said) = write::request(self.wire.output.buffer(), head, length) else {
            return Err(Broken::Malformed("a host or a path that can't be written"));
        };
        self.asked = match head.method {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ if head.fields.known(Known::Upgrade).is_some() => Asked::Upgrade,
            _ => Asked::Other,
        };
        self.wire.outbound = match length {
            Length::None | Length::Exact(0) => Outbound::Ended,
            Length::Exact(n) => Outbound::Exact(n),
            Length::Unknown => Outbound::Chunked(0),
        };
        self.keep = !said.close;
        (self.waits, self.interim, self.look) = (true, 0, Look::default());
        Ok(())
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Broken>> {
        if !self.waits {
            return Poll::Ready(Err(Broken::Malformed("there was a response already")));
        }
        // A server that stops to read may have said why.
        if !self.deaf && matches!(self.wire.poll_flush(cx), Poll::Ready(Err(_))) {
            self.deaf = true;
        }
        loop {
            if let Some(head) = self.parse()? {
                return Poll::Ready(Ok(head));
            }
            match std::task::ready!(self.wire.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    // It was not looked at since its last byte, perhaps.
                    self.look = Look::default();
                    return Poll::Ready(self.parse().and_then(|head| head.ok_or(Broken::Gone)));
                }
            }
        }
    }
}
