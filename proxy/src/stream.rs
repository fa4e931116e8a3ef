//! A byte stream, whatever carries it.
//!
//! In: a TCP connection or one half of a pipe in memory, with bytes that detection has read already. Out: one type
//! that reads and writes, plain or within TLS, without a box or a virtual call on the plain path.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A connection.
#[derive(Debug)]
pub struct Stream {
    before: Bytes,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// As it came.
    Plain(Plain),
    /// We are the server of TLS.
    Server(Box<server::TlsStream<Plain>>),
    /// We are its client.
    Client(Box<client::TlsStream<Plain>>),
}

impl Stream {
    /// As it came.
    pub fn plain(plain: Plain) -> Self {
        Self { before: Bytes::new(), kind: Kind::Plain(plain) }
    }

    /// We are the server of TLS.
    pub fn server(tls: server::TlsStream<Plain>) -> Self {
        Self { before: Bytes::new(), kind: Kind::Server(Box::new(tls)) }
    }

    /// We are its client.
    pub fn client(tls: client::TlsStream<Plain>) -> Self {
        Self { before: Bytes::new(), kind: Kind::Client(Box::new(tls)) }
    }

    /// Gives back what was read to look at it; it is read again.
    #[must_use]
    pub fn unread(mut self, bytes: Bytes) -> Self {
        debug_assert!(self.before.is_empty());
        self.before = bytes;
        self
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
    Memory(DuplexStream),
}

impl Plain {
    /// Over TCP.
    pub fn tcp(stream: TcpStream) -> Self {
        Self { before: Bytes::new(), wire: Wire::Tcp(stream) }
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

    /// Where it comes from, if it came over TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.wire {
            Wire::Tcp(tcp) => tcp.peer_addr().ok(),
            Wire::Memory(_) => None,
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
        each!(wire, Wire::{Tcp, Memory}, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut self.get_mut().wire;
        each!(wire, Wire::{Tcp, Memory}, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        let wire = &self.wire;
        each!(wire, Wire::{Tcp, Memory}, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut self.get_mut().wire;
        each!(wire, Wire::{Tcp, Memory}, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut self.get_mut().wire;
        each!(wire, Wire::{Tcp, Memory}, io => Pin::new(io).poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if read_again(&mut this.before, buf) {
            return Poll::Ready(Ok(()));
        }
        let kind = &mut this.kind;
        each!(kind, Kind::{Plain, Server, Client}, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let kind = &mut self.get_mut().kind;
        each!(kind, Kind::{Plain, Server, Client}, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let kind = &mut self.get_mut().kind;
        each!(kind, Kind::{Plain, Server, Client}, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        let kind = &self.kind;
        each!(kind, Kind::{Plain, Server, Client}, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let kind = &mut self.get_mut().kind;
        each!(kind, Kind::{Plain, Server, Client}, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let kind = &mut self.get_mut().kind;
        each!(kind, Kind::{Plain, Server, Client}, io => Pin::new(io).poll_shutdown(cx))
    }
}
