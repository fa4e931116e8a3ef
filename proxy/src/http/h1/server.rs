//! The server's end: one connection, its requests one after the other, all in the task that holds it.
//!
//! In: a stream, a [`Handler`], what the connection may not exceed. Out: exchanges; then the end of the connection, or the
//! stream for another protocol. Invariants: a request that could be read in two ways is refused and ends the connection; a
//! response that broke off never looks whole where its framing can show it; what a client sends ahead is bounded.

mod exchange;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use self::exchange::{Exchange, Next};
use super::wire::Wire;
use super::{LONGEST_HEAD, Limits};
use crate::http::channel::{Broken, Handler, Server as _, Then};
use crate::http::progress::{Ending, Progress};
use crate::stream::Stream;

/// Serves a connection until it ends, or becomes something else and that ends.
///
/// # Errors
/// If the client breaks HTTP or the connection.
pub async fn serve<H: Handler>(
    stream: Stream,
    limits: Limits,
    handler: Rc<H>,
    progress: Rc<Progress>,
) -> io::Result<()> {
    let limits = Limits { head: limits.head.min(LONGEST_HEAD), ..limits };
    let mut server = Exchange::new(Wire::new(stream, Broken::Gone), limits, progress.clone());
    loop {
        let head = match poll_fn(|cx| server.poll_head(cx)).await? {
            Next::Request(head) => head,
            Next::Over => {
                server.close().await;
                return Ok(());
            }
            Next::Refused(refusal) => {
                handler.rejected(refusal.status, refusal.details());
                server.refuse(refusal).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.why));
            }
        };
        let in_flight = InFlight::begin(&progress);
        let then = {
            let mut handling = pin!(handler.clone().handle(head, &mut server));
            until_now(&progress, |cx| handling.as_mut().poll(cx)).await?
        };
        if !server.is_over() {
            server.abort();
            return Err(io::Error::other("the response broke off"));
        }
        until_now(&progress, |cx| server.wire.poll_flush(cx)).await?.map_err(io::Error::other)?;
        match then {
            Then::Become(next) if server.switched => {
                let mut next = next(server.wire.into_stream());
                return until_now(&progress, |cx| next.as_mut().poll(cx)).await;
            }
            Then::Become(_) => return Err(io::Error::other("the connection can't become anything")),
            Then::Next => drop(in_flight),
        }
        if !server.keep || !until_now(&progress, |cx| server.poll_drain(cx)).await? {
            server.close().await;
            return Ok(());
        }
    }
}

/// Polls until there is a result, or the connection is to end now.
async fn until_now<T>(progress: &Progress, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> io::Result<T> {
    poll_fn(|cx| match progress.ending(cx) {
        Ending::Now => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "told to end now"))),
        Ending::No | Ending::Last | Ending::Graceful => poll(cx).map(Ok),
    })
    .await
}

/// A request that is not answered to its end.
struct InFlight<'p>(&'p Progress);

impl<'p> InFlight<'p> {
    fn begin(progress: &'p Progress) -> Self {
        progress.begin();
        Self(progress)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
