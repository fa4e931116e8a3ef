//! One message exchange on one connection, as its codec offers it: a body comes in, a body goes out.
//!
//! Four things implement [`Channel`]: the server's and the client's side of HTTP/1.1, and of a stream of HTTP/2. Whoever
//! forwards a request holds one of each side and moves pieces between them in one task: no queue, no box, no task of its own.
//! Invariants: a piece that is not consumed is seen again; what a slow reader does not take is not read from its sender;
//! dropping a channel before both bodies have ended resets the stream or closes the connection.

mod kept;

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::message::{Fields, Known, Length, RequestHead, ResponseHead};
use crate::stream::Stream;
use kept::Kept;

pub(super) use kept::{AGAIN, Copies};

/// What serves requests.
pub trait Handler: 'static {
    /// Serves one request, up to the end of its response. Of HTTP/1 one is served after the other, of HTTP/2 each in a task.
    fn handle<S: Server>(self: Rc<Self>, head: RequestHead, server: &mut S) -> impl Future<Output = Then>;

    /// What came was no request: the codec has answered with `status` and closes the connection; `details` says why, as
    /// access logs have it.
    fn rejected(&self, status: u16, details: &'static str) {
        let _ = (status, details);
    }
}

/// What becomes of a connection after an exchange.
pub enum Then {
    /// The next request. What was not ended is ended as [`Server::abort`] does.
    Next,
    /// HTTP is over: its head answered, the connection is given away with all that was read of it. Only of HTTP/1.
    Become(Become),
}

/// What takes a connection over.
pub type Become = Box<dyn FnOnce(Stream) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What comes next of a body.
#[derive(Debug)]
pub enum Piece<'c> {
    /// Bytes, at least one; `last` if it is known that nothing follows them, trailers neither.
    Data {
        /// They.
        bytes: &'c [u8],
        /// Nothing follows.
        last: bool,
    },
    /// Trailers; nothing follows.
    Trailers(Fields),
    /// The end.
    End,
}

/// Why a message goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The connection ended or broke.
    #[error("the connection broke")]
    Gone,
    /// The peer reset the stream.
    #[error("the stream was reset")]
    Reset,
    /// The peer says that it did not look at the request: it may be sent again.
    #[error("the request was refused unseen")]
    Refused,
    /// What the peer sent is no HTTP.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It is larger than what we take.
    #[error("too large")]
    TooLarge,
    /// It took too long.
    #[error("too slow")]
    Slow,
}

/// One end of an exchange. Heads are the business of [`Server`] and [`Client`].
pub trait Channel {
    /// The next piece of the body that comes in. Data stays until it is consumed; trailers and the end are told once,
    /// then it is `End` for ever.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece<'_>, Broken>>;

    /// `n` bytes of the last piece are done with.
    fn consume(&mut self, n: usize);

    /// Whether the body that comes in has ended and its end was told, or there is none.
    fn is_received(&self) -> bool;

    /// Takes bytes of the body that goes out, at least one or it is pending. `last` ends the body with them if all are taken.
    fn poll_data(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Broken>>;

    /// Ends the body that goes out, if it has not ended with its last bytes.
    ///
    /// # Errors
    /// If the connection is over, or the body is shorter than was said.
    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken>;

    /// Brings on its way what was taken. Of HTTP/2 it is ready at once: the connection writes once for all its streams.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;
}

/// The end at which a request came in.
pub trait Server: Channel {
    /// Sends an interim response (1xx other than 101).
    ///
    /// # Errors
    /// If the connection is over.
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Broken>;

    /// Sends the head of the response; `head.length` says how its body is framed.
    ///
    /// # Errors
    /// If the connection is over.
    fn respond(&mut self, head: &ResponseHead) -> Result<(), Broken>;

    /// Ready when the client has gone away before its response has ended.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Broken>;

    /// Ends the exchange in the middle: what was sent must not look whole.
    fn abort(&mut self);

    /// Whether the connection can be given away by [`Then::Become`].
    fn can_become(&self) -> bool;
}

/// The end at which a request goes out.
pub trait Client: Channel {
    /// Sends the head of a request; `length` says how its body is framed (it may differ from `head.length`).
    ///
    /// # Errors
    /// If the connection is over: nothing was sent.
    fn request(&mut self, head: &RequestHead, length: Length) -> Result<(), Broken>;

    /// The head of a response: interim ones (1xx) too, each once, then the final one.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Broken>>;
}

impl<C: Channel> Channel for &mut C {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece<'_>, Broken>> {
        C::poll_piece(self, cx)
    }

    fn consume(&mut self, n: usize) {
        C::consume(self, n);
    }

    fn is_received(&self) -> bool {
        C::is_received(self)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Broken>> {
        C::poll_data(self, cx, bytes, last)
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        C::finish(self, trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        C::poll_flush(self, cx)
    }
}

/// A body on its way from one end to the other.
#[derive(Debug, Default)]
pub struct Pump {
    /// Bytes that were moved.
    pub moved: u64,
    /// `grpc-status` of the trailers, if they had one.
    pub grpc_status: Option<u8>,
    touched: bool,
    ended: bool,
    kept: Option<Box<Kept>>,
}

/// Which end broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where the body came from.
    From(Broken),
    /// Where it went.
    To(Broken),
}

/// The beginning of a body, or all of it, that was taken before the body was on its way.
#[derive(Debug, Default)]
pub(super) struct Held(Box<Kept>);

impl Held {
    /// Takes bytes; `false` if there is no room for them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        self.0.hold(bytes)
    }

    /// The body has ended.
    pub(super) fn end(&mut self, trailers: Option<&Fields>) {
        self.0.end(trailers);
    }

    /// What was taken.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Whether it is all there.
    pub(super) fn is_whole(&self) -> bool {
        self.0.is_whole()
    }
}

impl Pump {
    /// Of a body; `ended` if there is none.
    pub fn new(ended: bool) -> Self {
        Self { ended, ..Self::default() }
    }

    /// Of a body whose beginning was taken.
    pub(super) fn of_held(held: Held) -> Self {
        Self { moved: held.bytes().len() as u64, kept: Some(held.0), ..Self::default() }
    }

    /// Whether anything of the body was taken.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Keeps what is taken, within bounds, so that it can be sent again from its start.
    pub(super) fn keep(&mut self) {
        self.kept.get_or_insert_default().again();
    }

    /// Keeps the body for who wants a copy of it.
    pub(super) fn copy(&mut self, copies: Copies) {
        self.kept.get_or_insert_default().copies(copies);
    }

    /// Whether the body can be sent from its start.
    pub(super) fn can_restart(&self) -> bool {
        !self.touched || self.kept.as_ref().is_some_and(|kept| kept.is_again())
    }

    /// Sends the body from its start; `received` if there is none, or none that was not taken.
    pub(super) fn restart(&mut self, received: bool) {
        match &mut self.kept {
            Some(kept) if self.touched || kept.has_part() => {
                kept.rewind();
                self.ended = false;
            }
            _ => self.ended = received,
        }
    }

    /// The body is not sent again.
    pub(super) fn settle(&mut self) {
        let ended = self.ended;
        // What was not sent yet is needed still.
        self.kept.take_if(|kept| !kept.settle() && (ended || !kept.is_behind() && !kept.is_whole()));
    }

    /// Whether the body was moved to its end.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Gives up the rest.
    pub fn give_up(&mut self) {
        self.ended = true;
    }

    /// Moves what there is; ready when the body has ended and was brought on its way.
    ///
    /// # Errors
    /// If either end breaks.
    pub fn poll<A: Channel, B: Channel>(
        &mut self,
        from: &mut A,
        to: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        while !self.ended {
            if let Some(kept) = &mut self.kept
                && (kept.is_behind() || kept.is_whole())
            {
                self.touched = true;
                match kept.replay(to, cx) {
                    Poll::Ready(Ok(ended)) => self.ended = ended,
                    Poll::Ready(Err(why)) => return Poll::Ready(Err(End::To(why))),
                    Poll::Pending => return flush(to, cx),
                }
                continue;
            }
            match from.poll_piece(cx) {
                Poll::Ready(Ok(Piece::Data { bytes, last })) => match to.poll_data(cx, bytes, last) {
                    Poll::Ready(Ok(n)) => {
                        self.ended = last && n == bytes.len();
                        self.touched = true;
                        self.moved += n as u64;
                        if let Some(kept) = &mut self.kept
                            && !kept.take(&bytes[..n], self.ended)
                        {
                            self.kept = None;
                        }
                        from.consume(n);
                    }
                    Poll::Ready(Err(why)) => return Poll::Ready(Err(End::To(why))),
                    Poll::Pending => return flush(to, cx),
                },
                Poll::Ready(Ok(Piece::Trailers(fields))) => {
                    let status =
                        fields.known(Known::GrpcStatus).and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
                    self.grpc_status = status;
                    (self.touched, self.ended) = (true, true);
                    self.kept.iter_mut().for_each(|kept| kept.end(Some(&fields)));
                    to.finish(Some(&fields)).map_err(End::To)?;
                }
                Poll::Ready(Ok(Piece::End)) => {
                    (self.touched, self.ended) = (true, true);
                    self.kept.iter_mut().for_each(|kept| kept.end(None));
                    to.finish(None).map_err(End::To)?;
                }
                Poll::Ready(Err(why)) => return Poll::Ready(Err(End::From(why))),
                Poll::Pending => return flush(to, cx),
            }
        }
        to.poll_flush(cx).map_err(End::To)
    }
}

/// Nothing to move for now: what was taken is brought on its way, and what is full empties by it.
fn flush<B: Channel>(to: &mut B, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
    match to.poll_flush(cx) {
        Poll::Ready(Err(why)) => Poll::Ready(Err(End::To(why))),
        _ => Poll::Pending,
    }
}
