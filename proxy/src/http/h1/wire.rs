//! One connection between two heads: bodies come in and go out, framed.
//!
//! In: the stream, and how the bodies of an exchange are framed, as both ends tell. Out: what a
//! [`Channel`](crate::http::channel::Channel) promises. Small pieces are copied behind what waits to be written; big ones are
//! written from where they lie.

use std::task::{Context, Poll, ready};

use super::body::{Found, Inbound};
use super::buffers::{Input, Output};
use super::write;
use crate::http::channel::{Broken, Piece};
use crate::http::message::Fields;
use crate::stream::Stream;

/// Pieces as large are written without a copy.
const BIG: usize = 16 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    /// What it is if the connection ends within a body.
    cut: Broken,
}

/// The body that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outbound {
    /// Its head was not written.
    Before,
    /// It has ended, or there is none.
    Ended,
    /// None is sent, whatever is given: an answer to HEAD, a 304.
    Discard,
    /// So many bytes are to come.
    Exact(u64),
    /// In chunks; so many bytes of one are announced and not written.
    Chunked(u64),
    /// Until the connection ends.
    UntilClose,
}

impl Wire {
    pub(super) fn new(stream: Stream, cut: Broken) -> Self {
        Self {
            stream,
            input: Input::default(),
            output: Output::default(),
            inbound: Inbound::Ended,
            outbound: Outbound::Before,
            cut,
        }
    }

    /// Reads once; what is told is whether there was anything.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        self.input.poll_fill(&mut self.stream, cx)
    }

    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece<'_>, Broken>> {
        loop {
            let (used, found) = self.inbound.next(self.input.bytes())?;
            self.input.consume(used);
            match found {
                Found::Data { len, last } => {
                    let bytes = self.input.bytes().get(..len).unwrap_or_default();
                    return Poll::Ready(Ok(Piece::Data { bytes, last }));
                }
                Found::Trailers(fields) => return Poll::Ready(Ok(Piece::Trailers(fields))),
                Found::End => return Poll::Ready(Ok(Piece::End)),
                Found::More => match ready!(self.poll_fill(cx)) {
                    Ok(0) if self.inbound.closed() => return Poll::Ready(Ok(Piece::End)),
                    Ok(0) => return Poll::Ready(Err(self.cut)),
                    Err(_) => return Poll::Ready(Err(Broken::Gone)),
                    Ok(_) => {}
                },
            }
        }
    }

    pub(super) fn consume(&mut self, n: usize) {
        let n = self.inbound.took(n);
        self.input.consume(n);
    }

    /// As [`Channel::poll_data`](crate::http::channel::Channel::poll_data). Of a body in chunks, what was not taken of
    /// a big piece must come next: its length was announced.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Broken>> {
        let whole = bytes.len() as u64;
        match self.outbound {
            Outbound::Before => return Poll::Ready(Err(Broken::Malformed("a body before its head"))),
            Outbound::Discard => {
                if last {
                    self.outbound = Outbound::Ended;
                }
                return Poll::Ready(Ok(bytes.len()));
            }
            Outbound::Ended if bytes.is_empty() => return Poll::Ready(Ok(0)),
            Outbound::Ended => return Poll::Ready(Err(TOO_LONG)),
            Outbound::Exact(left) if whole > left => return Poll::Ready(Err(TOO_LONG)),
            Outbound::Exact(left) if last && whole < left => return Poll::Ready(Err(TOO_SHORT)),
            _ if bytes.is_empty() => {
                return Poll::Ready(if last { self.finish(None).map(|()| 0) } else { Ok(0) });
            }
            Outbound::Exact(_) | Outbound::Chunked(_) | Outbound::UntilClose => {}
        }
        ready!(self.output.poll_room(&mut self.stream, cx)).map_err(|_| Broken::Gone)?;
        if let Outbound::Chunked(announced @ 0) = &mut self.outbound {
            *announced = whole;
            write::chunk_size(self.output.buffer(), bytes.len());
        }
        let (bytes, last, tail) = match self.outbound {
            Outbound::Chunked(announced) => {
                let part = usize::try_from(announced).ok().and_then(|n| bytes.get(..n)).unwrap_or(bytes);
                let last = last && part.len() == bytes.len();
                let ends = part.len() as u64 == announced;
                let tail: &'static [u8] = match (ends, last) {
                    (true, true) => write::LAST_CHUNK_END,
                    (true, false) => write::CHUNK_END,
                    (false, _) => b"",
                };
                (part, last && ends, tail)
            }
            _ => (bytes, last, &b""[..]),
        };
        let n = if bytes.len() < BIG {
            let buffer = self.output.buffer();
            buffer.extend_from_slice(bytes);
            buffer.extend_from_slice(tail);
            bytes.len()
        } else {
            ready!(self.output.poll_through(&mut self.stream, cx, bytes, tail)).map_err(|_| Broken::Gone)?
        };
        let ended = last && n == bytes.len();
        match &mut self.outbound {
            _ if ended => self.outbound = Outbound::Ended,
            Outbound::Exact(left) => {
                *left -= n as u64;
                if *left == 0 {
                    self.outbound = Outbound::Ended;
                }
            }
            Outbound::Chunked(announced) => *announced -= n as u64,
            _ => {}
        }
        Poll::Ready(Ok(n))
    }

    pub(super) fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        match self.outbound {
            Outbound::Before => return Err(Broken::Malformed("an end before its head")),
            Outbound::Exact(1..) | Outbound::Chunked(1..) => return Err(TOO_SHORT),
            Outbound::Chunked(0) => write::last_chunk(self.output.buffer(), trailers),
            Outbound::Ended | Outbound::Discard | Outbound::Exact(0) | Outbound::UntilClose => {}
        }
        self.outbound = Outbound::Ended;
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.output.poll_flush(&mut self.stream, cx).map_err(|_| Broken::Gone)
    }

    /// Whether the body that goes out has ended.
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.outbound, Outbound::Ended | Outbound::Discard)
    }

    /// The stream, with what was read of it and not consumed.
    pub(super) fn into_stream(self) -> Stream {
        let Self { stream, mut input, .. } = self;
        if input.is_empty() { stream } else { stream.unread(input.take()) }
    }
}

const TOO_LONG: Broken = Broken::Malformed("a body longer than was said");
const TOO_SHORT: Broken = Broken::Malformed("a body shorter than was said");
