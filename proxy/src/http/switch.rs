//! Connections that stop being HTTP: after both ends have agreed, bytes are carried.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::channel::{Broken, Server, Then};
use super::finish::Exchange;
use super::h2::Tunnel;
use super::message::{Known, Length};
use super::relay::Answered;
use crate::stream::end::{End, Kept};
use crate::tcp;
use crate::upstream::{Rest, Sender};

/// A connection that was switched may be silent so long.
const IDLE: Duration = Duration::from_secs(3600);

/// Answers the client, and carries bytes between both ends until they have ended; the exchange ends with them.
pub(super) async fn carry<S: Server>(
    server: &mut S,
    mut exchange: Box<Exchange>,
    answered: Answered,
    upgrade: Option<Vec<u8>>,
) -> Then {
    let Answered { mut response, sender, .. } = answered;
    let own = server.can_become();
    response.length = if own { Length::None } else { Length::Unknown };
    match upgrade {
        Some(protocol) if own => {
            response.fields.push_known(Known::Connection, b"upgrade");
            response.fields.push_known(Known::Upgrade, &protocol);
        }
        // HTTP/2 says it with a 200 (RFC 8441, 5).
        Some(_) => response.status = 200,
        None => {}
    }
    let flushed = match server.respond(&response) {
        Ok(()) => poll_fn(|cx| server.poll_flush(cx)).await,
        Err(why) => Err(why),
    };
    if let Err(why) = flushed {
        exchange.client_gone(why);
        return Then::Next;
    }
    let mut far = match sender {
        Sender::Http1(kept) => {
            let (stream, rest) = kept.into_stream();
            Far { bytes: Box::new(stream), rest: Some(rest) }
        }
        Sender::Http2(stream) => Far { bytes: Box::new(Tunnel::new(stream)), rest: None },
    };
    if own {
        return Then::Become(Box::new(move |mut client| {
            Box::pin(async move { between(&mut client, &mut far, exchange).await })
        }));
    }
    between(&mut Tunnel::new(server), &mut far, exchange).await;
    Then::Next
}

/// The server's end.
struct Far {
    bytes: Box<dyn End>,
    /// Of a connection that has no task of its own which sees to it.
    rest: Option<Rest>,
}

async fn between<C: End>(client: &mut C, far: &mut Far, mut exchange: Box<Exchange>) {
    let (mut up, mut down) = (0, 0);
    let (mut client, mut server) = (Noting::new(client), Noting::new(&mut far.bytes));
    let ended = {
        let mut carrying = std::pin::pin!(tcp::carry(&mut client, &mut server, IDLE, |moved| {
            up += moved.forth;
            down += moved.back;
        }));
        poll_fn(|cx| match &far.rest {
            Some(rest) if rest.is_lost(cx) => Poll::Ready(None),
            _ => carrying.as_mut().poll(cx).map(Some),
        })
        .await
    };
    exchange.moved(up, down);
    match ended {
        Some(Ok(())) => exchange.ended(),
        Some(Err(_)) if client.broke => exchange.client_gone(Broken::Gone),
        Some(Err(e)) if e.kind() == io::ErrorKind::TimedOut && !server.broke => {
            exchange.broke("SI", "stream_idle_timeout");
        }
        Some(Err(_)) | None => exchange.broke("UC", "upstream_reset_after_response_started{connection_termination}"),
    }
}

/// An end that notes whether it was the one that broke.
struct Noting<'e, E> {
    end: &'e mut E,
    broke: bool,
}

impl<'e, E: End> Noting<'e, E> {
    fn new(end: &'e mut E) -> Self {
        Self { end, broke: false }
    }

    fn note<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.broke |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }
}

impl<E: End> AsyncRead for Noting<'_, E> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.end).poll_read(cx, buf);
        self.note(polled)
    }
}

impl<E: End> AsyncWrite for Noting<'_, E> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.end).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.end).poll_write_vectored(cx, slices);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.end).poll_flush(cx);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.end).poll_shutdown(cx);
        self.note(polled)
    }
}

impl<E: End> End for Noting<'_, E> {
    fn poll_fill(&mut self, cx: &mut Context<'_>, kept: &mut Kept) -> Poll<io::Result<()>> {
        let polled = self.end.poll_fill(cx, kept);
        self.note(polled)
    }

    fn slices<'a>(&'a self, kept: &'a Kept, to: &mut [IoSlice<'a>]) -> usize {
        self.end.slices(kept, to)
    }

    fn taken(&mut self, kept: &mut Kept, n: usize) {
        self.end.taken(kept, n);
    }

    fn settle(&mut self, kept: &mut Kept) {
        self.end.settle(kept);
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.poll_room(cx)
    }
}
