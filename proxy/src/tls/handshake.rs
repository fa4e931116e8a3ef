//! The handshake, by rustls; afterwards the records of TLS 1.3 are ours.
//!
//! In: a connection without TLS, a configuration. Out: a stream, and what was agreed. Invariant: nothing that was read
//! behind the handshake's last record is lost, whether rustls has opened it or not.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use hawser_api::names::alpn;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ExtractedSecrets, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use super::record::legacy::{Rustls, encode};
use super::record::{Fault, Records, Renewal};
use super::stream::{Layer, TlsStream};
use crate::stream::buffer::Buffer;
use crate::stream::{Plain, Stream};

/// A connection whose ends know each other.
#[derive(Debug)]
pub struct Established {
    /// It.
    pub stream: Stream,
    /// The version of TLS.
    pub version: Option<ProtocolVersion>,
    /// The protocol that was agreed on.
    pub protocol: Option<Vec<u8>>,
    /// The other end's certificate.
    pub certificate: Option<CertificateDer<'static>>,
}

/// As a client of `name`.
///
/// # Errors
/// If there is no agreement.
pub async fn connect(config: Arc<ClientConfig>, name: ServerName<'static>, plain: Plain) -> io::Result<Established> {
    let conn = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
    shake(conn, plain, true).await
}

/// As a server.
pub(super) async fn serve(config: Arc<ServerConfig>, plain: Plain) -> io::Result<Established> {
    let conn = UnbufferedServerConnection::new(config).map_err(invalid)?;
    shake(conn, plain, false).await
}

/// What client and server have in common.
pub(crate) trait Process: Send + Unpin + 'static {
    /// The side.
    type Data;
    /// One step.
    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// What is known by now.
    fn known(&self) -> &CommonState;
    /// The secrets, and what stays with rustls.
    fn take_over(self) -> Result<(ExtractedSecrets, Box<dyn Renewal>), Error>;
}

macro_rules! process {
    ($connection:ty, $data:ty) => {
        impl Process for $connection {
            type Data = $data;

            fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, $data> {
                self.process_tls_records(wire)
            }

            fn known(&self) -> &CommonState {
                self
            }

            fn take_over(self) -> Result<(ExtractedSecrets, Box<dyn Renewal>), Error> {
                let (secrets, rest) = self.dangerous_into_kernel_connection()?;
                Ok((secrets, Box::new(rest)))
            }
        }
    };
}

process!(UnbufferedClientConnection, ClientConnectionData);
process!(UnbufferedServerConnection, ServerConnectionData);

/// What has to be done next.
enum Next {
    Step,
    Read,
    Write,
    Fail(Error),
}

/// Our last words go with our first data where nobody waits for them, or where those follow at once.
async fn shake<P: Process>(mut conn: P, mut plain: Plain, is_client: bool) -> io::Result<Established> {
    let mut wire = Buffer::default();
    let mut words = Vec::new();
    let mut early = Vec::new();
    let mut closed = false;
    loop {
        let UnbufferedStatus { discard, state, .. } = conn.process(wire.filled_mut());
        let next = match state {
            Ok(ConnectionState::EncodeTlsData(mut more)) => {
                encode(&mut more, &mut words)?;
                Next::Step
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                Next::Write
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Next::Read,
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    early.extend_from_slice(record.map_err(invalid)?.payload);
                }
                Next::Step
            }
            Ok(ConnectionState::PeerClosed) => {
                closed = true;
                Next::Step
            }
            // There is no early data, and nobody has closed both ways.
            Ok(_) => return Err(Fault::Unexpected.into()),
            Err(e) => Next::Fail(e),
        };
        wire.consume(discard);
        // Before rustls looks at what follows: the records behind the last one are ours.
        if !conn.known().is_handshaking() && !conn.known().wants_write() {
            break;
        }
        match next {
            Next::Step => {}
            Next::Write => {
                plain.write_all(&words).await?;
                words.clear();
            }
            Next::Read => read(&mut plain, &mut wire).await?,
            Next::Fail(e) => {
                last_words(&mut conn, wire.filled_mut(), &mut words)?;
                let _ = plain.write_all(&words).await;
                return Err(invalid(e));
            }
        }
    }
    let known = conn.known();
    let version = known.protocol_version();
    let is_ours = version == Some(ProtocolVersion::TLSv1_3);
    // A server of TLS 1.3 has tickets left; a client its proof, and it is the client that speaks first in HTTP/2.
    let may_wait = !is_client || known.alpn_protocol().is_some_and(speaks_at_once);
    if !may_wait || closed || !is_ours {
        plain.write_all(&words).await?;
        words.clear();
    }
    let protocol = known.alpn_protocol().map(<[u8]>::to_vec);
    let certificate = known.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    let layer = if is_ours {
        let (secrets, renewal) = conn.take_over().map_err(invalid)?;
        Layer::Own(Box::new(Records::new(secrets, renewal)?))
    } else {
        Layer::Legacy(Box::new(Rustls { conn, queued: Vec::new() }))
    };
    wire.settle();
    let stream = Stream::tls(TlsStream::new(plain, layer, wire, words, closed)).unread(early.into());
    Ok(Established { stream, version, protocol, certificate })
}

/// Whether a client that agreed on this protocol has something to say before anything else happens.
fn speaks_at_once(protocol: &[u8]) -> bool {
    [alpn::HAWSER_H2, alpn::HAWSER_TUNNEL, alpn::HTTP2[0]].iter().any(|of| of.as_bytes() == protocol)
}

/// What rustls has to say after an error. It is asked no further: it may still refer to what it read.
pub(super) fn last_words<P: Process>(conn: &mut P, wire: &mut [u8], words: &mut Vec<u8>) -> Result<(), Fault> {
    while conn.known().wants_write() {
        match conn.process(wire).state {
            Ok(ConnectionState::EncodeTlsData(mut more)) => encode(&mut more, words)?,
            _ => break,
        }
    }
    Ok(())
}

async fn read(plain: &mut Plain, wire: &mut Buffer) -> io::Result<()> {
    let n = poll_fn(|cx| {
        let room = wire.room();
        if room.is_empty() {
            return std::task::Poll::Ready(Err(Fault::TooLong.into()));
        }
        let mut buf = ReadBuf::new(room);
        let polled = Pin::new(&mut *plain).poll_read(cx, &mut buf);
        let n = buf.filled().len();
        if polled.is_pending() {
            wire.settle();
        }
        polled.map_ok(|()| n)
    })
    .await?;
    if n == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    wire.advance(n);
    Ok(())
}

fn invalid(e: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}
