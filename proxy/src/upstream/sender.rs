//! The end at which a request goes out, whichever version of HTTP it speaks.

use std::task::{Context, Poll};

use super::lease::{Kept, Sender};
use crate::http::channel::{Broken, Channel, Client, Piece};
use crate::http::message::{Fields, Length, RequestHead, ResponseHead};
use crate::http::progress::Ending;

macro_rules! each {
    ($self:ident, $end:ident => $call:expr) => {
        match $self {
            Sender::Http1(kept) => {
                let $end = &mut kept.connection;
                $call
            }
            Sender::Http2($end) => $call,
        }
    };
}

impl Sender {
    /// Whether a byte of the request may have reached the server.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Http1(kept) => kept.connection.was_sent(),
            // It may be on its way with others.
            Self::Http2(_) => true,
        }
    }
}

impl Kept {
    /// The endpoint may be lost while its answer is waited for. (Of HTTP/2 the connection's own task sees to that.)
    fn look(&self, cx: &Context<'_>) -> Result<(), Broken> {
        if self.progress.ending(cx) == Ending::Now { Err(Broken::Gone) } else { Ok(()) }
    }
}

impl Channel for Sender {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece<'_>, Broken>> {
        match self {
            Self::Http1(kept) => {
                kept.look(cx)?;
                kept.connection.poll_piece(cx)
            }
            Self::Http2(stream) => stream.poll_piece(cx),
        }
    }

    fn consume(&mut self, n: usize) {
        each!(self, end => end.consume(n));
    }

    fn is_received(&self) -> bool {
        match self {
            Self::Http1(kept) => kept.connection.is_received(),
            Self::Http2(stream) => stream.is_received(),
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Broken>> {
        each!(self, end => end.poll_data(cx, bytes, last))
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        each!(self, end => end.finish(trailers))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        each!(self, end => end.poll_flush(cx))
    }
}

impl Client for Sender {
    fn request(&mut self, head: &RequestHead, length: Length) -> Result<(), Broken> {
        each!(self, end => end.request(head, length))
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Broken>> {
        match self {
            Self::Http1(kept) => {
                kept.look(cx)?;
                kept.connection.poll_response(cx)
            }
            Self::Http2(stream) => stream.poll_response(cx),
        }
    }
}
