//! Clients and servers of HTTP/1.1 that say and see every byte, and servers of HTTP/2.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// One end of a connection.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Up to an empty line, in lower case.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap().to_ascii_lowercase();
            }
            let n = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// What was read and not asked for yet.
    pub(crate) fn ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    /// So many bytes.
    pub(crate) async fn exact(&mut self, n: usize) -> String {
        while self.read.len() < n {
            assert!(self.stream.read_buf(&mut self.read).await.unwrap() > 0, "closed before {n} bytes");
        }
        String::from_utf8(self.read.drain(..n).collect()).unwrap()
    }

    /// A body in chunks, and its trailers.
    pub(crate) async fn chunks(&mut self) -> (String, String) {
        let mut body = String::new();
        loop {
            let size = usize::from_str_radix(self.line().await.trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            body += &self.exact(size).await;
            self.line().await;
        }
        let mut trailers = String::new();
        loop {
            let line = self.line().await;
            if line == "\r\n" {
                return (body, trailers);
            }
            trailers += &line.to_ascii_lowercase();
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        while !line.ends_with('\n') {
            line += &self.exact(1).await;
        }
        line
    }

    /// All up to the end; a reset is one.
    pub(crate) async fn rest(&mut self) -> String {
        while matches!(self.stream.read_buf(&mut self.read).await, Ok(1..)) {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// The end of what is written.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }
}

/// A server, not told yet what to do.
pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) async fn accept(&self) -> Wire<TcpStream> {
        Wire::new(self.0.accept().await.unwrap().0)
    }

    /// Whether nobody has connected.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.accept().now_or_never().is_none()
    }

    /// Speaks HTTP/2 from now on; requests come as they are read.
    pub(crate) fn http2(self) -> mpsc::UnboundedReceiver<(Request<RecvStream>, SendResponse<Bytes>)> {
        self.http2_with(h2::server::Builder::new(), Rc::default())
    }

    /// The same, told how, and counting its connections.
    pub(crate) fn http2_with(
        self,
        how: h2::server::Builder,
        connections: Rc<Cell<usize>>,
    ) -> mpsc::UnboundedReceiver<(Request<RecvStream>, SendResponse<Bytes>)> {
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = self.0.accept().await {
                connections.set(connections.get() + 1);
                let (sender, how) = (sender.clone(), how.clone());
                tokio::task::spawn_local(async move {
                    let mut connection = how.handshake(stream).await.unwrap();
                    while let Some(Ok(request)) = connection.accept().await {
                        let _ = sender.send(request);
                    }
                });
            }
        });
        requests
    }
}

/// A whole body of HTTP/2, and its trailers.
pub(crate) async fn collect(body: &mut RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut all = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes.unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        all.extend_from_slice(&bytes);
    }
    (all, body.trailers().await.unwrap().unwrap_or_default())
}

/// Trailers, from pairs.
pub(crate) fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
}
