//! HTTP/2 as a server.
//!
//! In: a byte stream. Out: each request to a handler, in a task of its own. Invariant: a stream whose handler is done is
//! over: what had not ended is reset, and it counts against the limit of streams until then.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::driver::{self, Role};
use super::frame::Code;
use super::limits::Limits;
use super::shared::{Owned, Shared, channel};
use super::state::{Side, State};
use crate::http::channel::{Broken, Handler, Server};
use crate::http::message::{RequestHead, ResponseHead};
use crate::http::progress::{Ending, Progress};
use crate::stream::Stream;

/// Serves a connection until it ends.
///
/// # Errors
/// If the peer breaks HTTP or the connection.
pub async fn serve<H: Handler>(
    stream: Stream,
    limits: Limits,
    handler: Rc<H>,
    progress: Rc<Progress>,
) -> io::Result<()> {
    let give = |head, mut stream| {
        let handler = handler.clone();
        tokio::task::spawn_local(async move {
            // A stream cannot become anything else: what would be is dropped, and the stream with it.
            handler.handle(head, &mut stream).await;
        });
    };
    let rejected = |status, details| handler.rejected(status, details);
    let shared = Shared::new(State::new(Side::Server, limits, crate::clock::now_ms));
    driver::run(stream, shared, Accepting { progress, last: false, give, rejected }).await
}

/// Serves a connection until it ends; what comes is given away, to be served in whatever task.
///
/// # Errors
/// If the peer breaks HTTP or the connection.
pub async fn accept(
    stream: Stream,
    limits: Limits,
    progress: Rc<Progress>,
    give: impl FnMut(RequestHead, ServerStream),
) -> io::Result<()> {
    let shared = Shared::new(State::new(Side::Server, limits, crate::clock::now_ms));
    driver::run(stream, shared, Accepting { progress, last: false, give, rejected: |_, _| {} }).await
}

struct Accepting<F, R> {
    progress: Rc<Progress>,
    /// It is to end with time.
    last: bool,
    give: F,
    rejected: R,
}

impl<F: FnMut(RequestHead, ServerStream), R: Fn(u16, &'static str)> Role for Accepting<F, R> {
    const ASKS: bool = true;

    fn before(&mut self, shared: &Shared, cx: &Context<'_>) -> io::Result<()> {
        match self.progress.ending(cx) {
            Ending::No => {}
            Ending::Last => {
                self.last = true;
                shared.drive(State::leave_in_time);
            }
            Ending::Graceful => shared.drive(State::leave),
            Ending::Now => return Err(io::Error::new(io::ErrorKind::TimedOut, "no request for too long")),
        }
        Ok(())
    }

    fn after(&mut self, shared: &Rc<Shared>) {
        if self.last {
            shared.drive(State::leave_in_time);
        }
        while let Some((key, head)) = shared.drive(State::accept) {
            self.progress.begin();
            let mut stream = Owned::new(shared.clone(), key);
            stream.has_head();
            (self.give)(head, ServerStream { stream, progress: self.progress.clone() });
        }
        let [malformed, too_large] = shared.drive(State::take_rejected);
        (0..malformed).for_each(|_| (self.rejected)(400, "http2.violation.of.messaging.rule"));
        (0..too_large).for_each(|_| (self.rejected)(431, "http2.headers_too_large"));
        if shared.drive(|state| state.in_head()) {
            self.progress.head_begun();
        }
    }
}

/// A request that came, and its response. Dropped before its end it is reset.
#[derive(Debug)]
pub struct ServerStream {
    stream: Owned,
    progress: Rc<Progress>,
}

impl ServerStream {
    /// The code that the client has reset it with.
    pub fn reset_code(&self) -> Option<Code> {
        self.stream.reset_code()
    }
}

channel!(ServerStream);

impl Server for ServerStream {
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Broken> {
        self.stream.with(|state, key| state.send_response(key, head))
    }

    fn respond(&mut self, head: &ResponseHead) -> Result<(), Broken> {
        self.stream.with(|state, key| state.send_response(key, head))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        self.stream.with(|state, key| state.is_broken(key, cx))
    }

    fn abort(&mut self) {
        self.stream.with(|state, key| state.abort(key, Code::INTERNAL_ERROR));
    }

    fn can_become(&self) -> bool {
        false
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        self.progress.end();
    }
}
