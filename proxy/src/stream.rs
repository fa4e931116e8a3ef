//! A byte stream, whatever carries it.
//!
//! In: a connection of TCP or of a Unix socket, or one half of a pipe in memory, with bytes that detection has read already. Out: one type
//! that reads and writes, plain or within TLS, without a box or a virtual call on the plain path.

pub(crate) mod buffer;
pub mod end;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::TlsStream;
use buffer::{Buffer, PIECE};

/// A connection.
#[derive(Debug)]
pub struct Stream {
    before: Bytes,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// As it came, and what was read of it to be taken.
    Plain(Plain, Buffer),
    /// Within TLS.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Slices that [`slices`](Self::slices) gives at most.
    pub const SLICES: usize = crate::tls::SLICES;

    /// As it came.
    pub fn plain(plain: Plain) -> Self {
        Self { before: Bytes::new(), kind: Kind::Plain(plain, Buffer::default()) }
    }

    /// Within TLS.
    pub(crate) fn tls(tls: TlsStream) -> Self {
        Self { before: Bytes::new(), kind: Kind::Tls(Box::new(tls)) }
    }

    /// Whether it is within TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.kind, Kind::Tls(_))
    }

    /// Gives back what was read to look at it; it is read again.
    #[must_use]
    pub fn unread(mut self, bytes: Bytes) -> Self {
        if self.before.is_empty() {
            self.before = bytes;
        } else {
            self.before = [bytes, self.before].concat().into();
        }
        self
    }

    /// Ready when there is something to take, or when nothing more comes: then [`slices`](Self::slices) gives none.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            Kind::Tls(tls) => tls.poll_fill(cx, usize::MAX >> 1),
            Kind::Plain(plain, buffer) if buffer.is_empty() => {
                let mut buf = ReadBuf::new(&mut buffer.room()[..PIECE]);
                let polled = Pin::new(plain).poll_read(cx, &mut buf);
                let n = buf.filled().len();
                if n == 0 {
                    buffer.clear();
                }
                buffer.advance(n);
                polled
            }
            Kind::Plain(..) => Poll::Ready(Ok(())),
        }
    }

    /// What can be taken, in order, put at the front of `to`; how many slices these are.
    pub fn slices<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let single = match &self.kind {
            _ if !self.before.is_empty() => &self.before[..],
            Kind::Plain(_, buffer) => buffer.filled(),
            Kind::Tls(tls) => return tls.slices(to),
        };
        match to.first_mut() {
            Some(first) if !single.is_empty() => {
                *first = IoSlice::new(single);
                1
            }
            _ => 0,
        }
    }

    /// `n` bytes of it were taken.
    pub fn consumed(&mut self, n: usize) {
        if !self.before.is_empty() {
            self.before.advance(n.min(self.before.len()));
            if self.before.is_empty() {
                self.before = Bytes::new();
            }
            return;
        }
        match &mut self.kind {
            Kind::Plain(_, buffer) => buffer.consume(n),
            Kind::Tls(tls) => tls.consume(n),
        }
    }

    /// Holds no more memory than it must, because what can be taken has to wait.
    pub fn settle(&mut self) {
        match &mut self.kind {
            Kind::Plain(_, buffer) => buffer.settle(),
            Kind::Tls(tls) => tls.settle(),
        }
    }

    /// Ready when whoever is at the other end has gone: it broke the connection, or ended it before it said a word. What ends
    /// behind words may be all that it has to say.
    pub async fn left(&mut self) {
        let filled = poll_fn(|cx| self.poll_fill(cx)).await.is_ok();
        if filled && self.slices(&mut [IoSlice::new(&[]); Self::SLICES]) > 0 {
            self.settle();
            match &self.kind {
                Kind::Plain(plain, _) => plain.broken().await,
                Kind::Tls(tls) => tls.plain().broken().await,
            }
        }
    }

    /// Once dropped, the connection is reset: who reads until its end learns that this is none. Within TLS an end that was
    /// not told says so already.
    pub fn reset(&self) {
        if let Kind::Plain(Plain { wire: Wire::Tcp(tcp), .. }, _) = &self.kind {
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

/// Reads what was given back; `false` if there is nothing.
fn read_again(before: &mut Bytes, buf: &mut ReadBuf<'_>) -> bool {
    if before.is_empty() {
        return false;
    }
    let n = before.len().min(buf.remaining());
    buf.put_slice(&before[..n]);
    before.advance(n);
    if before.is_empty() {
        *before = Bytes::new();
    }
    true
}

/// A connection without TLS, and what was read of it before.
#[derive(Debug)]
pub struct Plain {
    before: Bytes,
    wire: Wire,
}

#[derive(Debug)]
enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(DuplexStream),
}

impl Plain {
    /// Over TCP.
    pub fn tcp(stream: TcpStream) -> Self {
        Self { before: Bytes::new(), wire: Wire::Tcp(stream) }
    }

    /// To a program of this host.
    pub fn unix(stream: UnixStream) -> Self {
        Self { before: Bytes::new(), wire: Wire::Unix(stream) }
    }

    /// Within the process.
    pub fn memory(stream: DuplexStream) -> Self {
        Self { before: Bytes::new(), wire: Wire::Memory(stream) }
    }

    /// Gives back what was read to look at it; it is read again.
    #[must_use]
    pub fn unread(mut self, bytes: Bytes) -> Self {
        debug_assert!(self.before.is_empty());
        self.before = bytes;
        self
    }

    /// Ready when the connection is broken.
    async fn broken(&self) {
        match &self.wire {
            Wire::Tcp(tcp) => drop(tcp.ready(Interest::ERROR).await),
            Wire::Unix(unix) => drop(unix.ready(Interest::ERROR).await),
            // Both ends are ours.
            Wire::Memory(_) => std::future::pending().await,
        }
    }

    /// Where it comes from, if it came over TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.wire {
            Wire::Tcp(tcp) => tcp.peer_addr().ok(),
            Wire::Unix(_) | Wire::Memory(_) => None,
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if read_again(&mut this.before, buf) {
            return Poll::Ready(Ok(()));
        }
        match &mut this.wire {
            Wire::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Wire::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Wire::Memory(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

macro_rules! each {
    ($self:ident, $kind:ident :: { $($variant:ident),+ }, $io:ident => $call:expr) => {
        match $self { $($kind::$variant($io) => $call),+ }
    };
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &mut self.get_mut().wire;
        each!(wire, Wire::{Tcp, Unix, Memory}, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut self.get_mut().wire;
        each!(wire, Wire::{Tcp, Unix, Memory}, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        let wire = &self.wire;
        each!(wire, Wire::{Tcp, Unix, Memory}, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut self.get_mut().wire;
        each!(wire, Wire::{Tcp, Unix, Memory}, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut self.get_mut().wire;
        each!(wire, Wire::{Tcp, Unix, Memory}, io => Pin::new(io).poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if read_again(&mut this.before, buf) {
            return Poll::Ready(Ok(()));
        }
        match &mut this.kind {
            Kind::Plain(plain, buffer) if buffer.is_empty() => Pin::new(plain).poll_read(cx, buf),
            Kind::Plain(_, buffer) => {
                let n = buffer.filled().len().min(buf.remaining());
                buf.put_slice(&buffer.filled()[..n]);
                buffer.consume(n);
                Poll::Ready(Ok(()))
            }
            Kind::Tls(tls) => tls.poll_read(cx, buf),
        }
    }
}

impl AsyncBufRead for Stream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        Poll::Ready(Ok(match &this.kind {
            _ if !this.before.is_empty() => &this.before,
            Kind::Plain(_, buffer) => buffer.filled(),
            Kind::Tls(tls) => tls.first(),
        }))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        self.get_mut().consumed(n);
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(plain, _) => Pin::new(plain).poll_write(cx, buf),
            Kind::Tls(tls) => tls.poll_write(cx, &[IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(plain, _) => Pin::new(plain).poll_write_vectored(cx, bufs),
            Kind::Tls(tls) => tls.poll_write(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(plain, _) => plain.is_write_vectored(),
            Kind::Tls(_) => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(plain, _) => Pin::new(plain).poll_flush(cx),
            Kind::Tls(tls) => tls.poll_drain(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(plain, _) => Pin::new(plain).poll_shutdown(cx),
            Kind::Tls(tls) => tls.poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn has_left(said: &[u8], end: impl AsyncFnOnce(TcpStream) -> Option<TcpStream>) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut ours = Stream::plain(Plain::tcp(listener.accept().await.unwrap().0));
        theirs.write_all(said).await.unwrap();
        let _kept = end(theirs).await;
        tokio::time::timeout(Duration::from_millis(300), ours.left()).await.is_ok()
    }

    #[tokio::test]
    async fn who_has_gone_is_told_from_who_has_said_all() {
        let stays = async |theirs| Some(theirs);
        let ends = async |mut theirs: TcpStream| {
            theirs.shutdown().await.unwrap();
            Some(theirs)
        };
        let breaks = async |theirs: TcpStream| {
            socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
            None
        };
        assert!(!has_left(b"", stays).await, "who is silent waits");
        assert!(!has_left(b"word", stays).await);
        assert!(!has_left(b"word", ends).await, "who has said all waits");
        assert!(has_left(b"", ends).await, "who has said nothing, and no more, has gone");
        assert!(has_left(b"", breaks).await);
        assert!(has_left(b"word", breaks).await);
    }
}
