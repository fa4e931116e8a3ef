//! Records of TLS 1.2, by rustls: for peers that know nothing newer. Correct, not fast.
//!
//! In and out as [`Records`](super::Records).

use rustls::unbuffered::{ConnectionState, EncodeTlsData, UnbufferedStatus};

use super::{Fault, HEADER, Opened};
use crate::tls::handshake::{Process, last_words};

/// What TLS 1.2 allows beyond 2^14.
const MOST_SEALED: usize = (1 << 14) + 2048;
/// The most that a record takes beside what it carries.
const OVERHEAD: usize = 64;

/// A connection of rustls, whichever side it is.
pub(crate) trait Legacy: Send {
    /// As [`Records::open`](super::Records::open).
    fn open(&mut self, wire: &mut [u8]) -> Result<Opened, Fault>;
    /// As [`Records::seal`](super::Records::seal), of one slice.
    fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<(usize, usize), Fault>;
    /// As [`Records::close`](super::Records::close).
    fn close(&mut self, out: &mut [u8]) -> Result<usize, Fault>;
    /// What rustls has to say of its own, after an error for example.
    fn complain(&mut self, out: &mut [u8]) -> usize;
}

/// [`Legacy`] over a side's connection.
pub(crate) struct Rustls<P> {
    pub(crate) conn: P,
    /// Of rustls's own, for the next write.
    pub(crate) queued: Vec<u8>,
}

impl<P: Process> Legacy for Rustls<P> {
    fn open(&mut self, wire: &mut [u8]) -> Result<Opened, Fault> {
        let [_, _, _, high, low, rest @ ..] = &*wire else { return Ok(Opened::More) };
        let sealed = usize::from(u16::from_be_bytes([*high, *low]));
        if sealed > MOST_SEALED {
            return Err(Fault::TooLong);
        }
        if rest.len() < sealed {
            return Ok(Opened::More);
        }
        let whole = HEADER + sealed;
        let mut done = 0;
        // A record leads to little: data, an end, perhaps a word of rustls's own.
        for _ in 0..8 {
            let UnbufferedStatus { discard, state, .. } = self.conn.process(&mut wire[done..whole]);
            done += discard;
            match state.map_err(|_| Fault::Malformed)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    let mut data = Vec::new();
                    while let Some(record) = traffic.next_record() {
                        data.extend_from_slice(record.map_err(|_| Fault::Malformed)?.payload);
                    }
                    if done != whole || data.len() > whole {
                        return Err(Fault::Unexpected);
                    }
                    wire[..data.len()].copy_from_slice(&data);
                    return Ok(Opened::Record { whole, data: 0..data.len() });
                }
                ConnectionState::EncodeTlsData(mut words) => encode(&mut words, &mut self.queued)?,
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::PeerClosed | ConnectionState::Closed => return Ok(Opened::Closed),
                // Nobody cuts a message of four bytes in two.
                _ if done != whole => return Err(Fault::Unexpected),
                _ => return Ok(Opened::Record { whole, data: 0..0 }),
            }
        }
        Err(Fault::Unexpected)
    }

    fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<(usize, usize), Fault> {
        let said = self.say(out);
        let mut written = said;
        let mut taken = 0;
        for chunk in plain.chunks(super::MOST) {
            if out.len() - written < chunk.len() + OVERHEAD {
                break;
            }
            let place = &mut out[written..];
            written += self.traffic(|traffic| traffic.encrypt(chunk, place).map_err(|_| Fault::Internal))?;
            taken += chunk.len();
        }
        Ok((taken, written))
    }

    fn close(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        let said = self.say(out);
        let place = &mut out[said..];
        let closed = self.traffic(|traffic| traffic.queue_close_notify(place).map_err(|_| Fault::Internal))?;
        Ok(said + closed)
    }

    fn complain(&mut self, out: &mut [u8]) -> usize {
        // If it fails there is nothing to say.
        let _ = last_words(&mut self.conn, &mut [], &mut self.queued);
        self.say(out)
    }
}

impl<P: Process> Rustls<P> {
    fn say(&mut self, out: &mut [u8]) -> usize {
        let queued = std::mem::take(&mut self.queued);
        let n = queued.len().min(out.len());
        out[..n].copy_from_slice(&queued[..n]);
        n
    }

    /// With the right to write, which rustls gives when it has nothing else to say.
    fn traffic<T>(
        &mut self,
        then: impl FnOnce(&mut rustls::unbuffered::WriteTraffic<'_, P::Data>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        for _ in 0..8 {
            match self.conn.process(&mut []).state.map_err(|_| Fault::Broken)? {
                ConnectionState::WriteTraffic(mut traffic) => return then(&mut traffic),
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::PeerClosed => {}
                _ => break,
            }
        }
        Err(Fault::Broken)
    }
}

/// Appends what rustls wants to say.
pub(crate) fn encode<D>(words: &mut EncodeTlsData<'_, D>, to: &mut Vec<u8>) -> Result<(), Fault> {
    use rustls::unbuffered::EncodeError;
    let start = to.len();
    to.resize(start + 1024, 0);
    let written = match words.encode(&mut to[start..]) {
        Err(EncodeError::InsufficientSize(needs)) => {
            to.resize(start + needs.required_size, 0);
            words.encode(&mut to[start..])
        }
        other => other,
    };
    match written {
        Ok(n) => {
            to.truncate(start + n);
            Ok(())
        }
        Err(_) => Err(Fault::Internal),
    }
}
