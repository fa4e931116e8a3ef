//! A connection as clients and servers here hold it: bytes, perhaps in TLS, with what was read ahead.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

/// A connection.
pub(crate) struct Stream {
    end: End,
    read: Vec<u8>,
}

enum End {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Served(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other end has closed or reset it: which of the two depends on what was in flight.
    Closed,
    /// Nothing came for too long.
    Silent,
}

impl Stream {
    /// In plaintext.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { end: End::Plain(stream), read: Vec::new() }
    }

    /// Within TLS that this end has begun with `name`; the handshake comes with the first byte.
    pub(crate) fn tls(stream: TcpStream, config: Arc<ClientConfig>, name: String) -> anyhow::Result<Self> {
        let name = ServerName::try_from(name)?;
        let connection = ClientConnection::new(config, name)?;
        Ok(Self { end: End::Tls(Box::new(StreamOwned::new(connection, stream))), read: Vec::new() })
    }

    /// The same at the other end: what was said before is within it.
    pub(crate) fn serve_tls(self, config: Arc<ServerConfig>) -> anyhow::Result<Self> {
        let End::Plain(stream) = self.end else { anyhow::bail!("there is TLS already") };
        let mut connection = ServerConnection::new(config)?;
        let mut ahead = self.read.as_slice();
        while !ahead.is_empty() {
            connection.read_tls(&mut ahead)?;
            connection.process_new_packets()?;
        }
        Ok(Self { end: End::Served(Box::new(StreamOwned::new(connection, stream))), read: Vec::new() })
    }

    /// What the client has said in its handshake, of whom it has proved to be.
    pub(crate) fn greeting(&self) -> Option<String> {
        let End::Served(stream) = &self.end else { return None };
        let name = stream.conn.server_name().unwrap_or("-");
        let protocol = stream.conn.alpn_protocol().map_or("-".into(), |p| String::from_utf8_lossy(p).into_owned());
        let who = if stream.conn.peer_certificates().is_some() { "a certificate" } else { "no certificate" };
        Some(format!("TLS for {name}, {protocol}, {who}"))
    }

    /// What was read and not taken.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.read
    }

    /// Takes the first `n` bytes of what was read ahead.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        self.read.drain(..n).collect()
    }

    /// Reads more.
    pub(crate) fn fill(&mut self) -> Result<(), Ended> {
        let mut buffer = [0; 16 * 1024];
        let read = match &mut self.end {
            End::Plain(stream) => stream.read(&mut buffer),
            End::Tls(stream) => stream.read(&mut buffer),
            End::Served(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(0) => Err(Ended::Closed),
            Ok(n) => {
                self.read.extend_from_slice(&buffer[..n]);
                Ok(())
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Err(Ended::Silent),
            Err(_) => Err(Ended::Closed),
        }
    }

    /// Reads until there are `n` bytes.
    pub(crate) fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Ended> {
        while self.read.len() < n {
            self.fill()?;
        }
        Ok(self.take(n))
    }

    /// Reads a line; it comes without its end.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(at) = self.read.iter().position(|b| *b == b'\n') {
                let mut line = self.take(at + 1);
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Reads to the end.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Ended) {
        loop {
            if let Err(ended) = self.fill() {
                return (std::mem::take(&mut self.read), ended);
            }
        }
    }

    /// Writes; whether the other end still takes it is seen when it is read.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = match &mut self.end {
            End::Plain(stream) => stream.write_all(bytes),
            End::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            End::Served(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
    }

    /// Says that nothing follows.
    pub(crate) fn eof(&mut self) {
        match &mut self.end {
            End::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
            End::Tls(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                let _ = stream.sock.shutdown(Shutdown::Write);
            }
            End::Served(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                let _ = stream.sock.shutdown(Shutdown::Write);
            }
        }
    }

    /// Makes its end a reset.
    pub(crate) fn reset(&self) {
        let stream = match &self.end {
            End::Plain(stream) => stream,
            End::Tls(stream) => &stream.sock,
            End::Served(stream) => &stream.sock,
        };
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger);
    }
}
