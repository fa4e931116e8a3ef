//! Records of TLS 1.3 after the handshake: what crosses the wire becomes what was meant, and back.
//!
//! In: the secrets that rustls agreed on, bytes from the wire, bytes of the application. Out: the application's bytes in
//! place, sealed records, or the fault and the alert for it. No I/O. Invariant: no byte leaves [`Records::open`] as data
//! unless its record was authentic, in order and of the right kind; after a fault nothing is opened or sealed.
//!
//! rustls would do the same, with a buffer and a copy for each record and direction. Its kernel interface, made for
//! records in the kernel, leaves key schedule and tickets with it, and hands us keys and sequence numbers.

mod fault;
mod key;
pub(super) mod legacy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::IoSlice;
use std::ops::Range;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

pub use fault::Fault;
use key::Key;

/// Bytes of a record's header.
pub(crate) const HEADER: usize = 5;
/// The most that a record carries.
pub(crate) const MOST: usize = 1 << 14;
/// What a record takes beside what it carries: header, kind, tag.
pub(crate) const OVERHEAD: usize = HEADER + 1 + 16;
/// The most that the sealed part of a record may take.
const MOST_SEALED: usize = MOST + 256;
/// Records in a row that bring no data.
const MOST_FRUITLESS: u8 = 32;
/// Tickets that are looked at; a server may send more.
const MOST_TICKETS: u8 = 8;
/// The most that a message of the handshake may take, a ticket with a chain of certificates for example.
const MOST_MESSAGE: usize = 1 << 16;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// What stays with rustls: the key schedule, and tickets.
pub trait Renewal: Send {
    /// The next secrets to seal with.
    ///
    /// # Errors
    /// As rustls says.
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error>;
    /// The next secrets to open with.
    ///
    /// # Errors
    /// As rustls says.
    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error>;
    /// Keeps a ticket; `false` if we are the server, to whom nobody sends one.
    ///
    /// # Errors
    /// If it is malformed.
    fn ticket(&mut self, message: &[u8]) -> Result<bool, rustls::Error>;
}

/// What was found at the front of the wire's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// No whole record yet.
    More,
    /// A record of `whole` bytes; data of the application lies at `data`, perhaps none.
    Record {
        /// The record, header included.
        whole: usize,
        /// Where its data is.
        data: Range<usize>,
    },
    /// The other end says nothing any more.
    Closed,
}

/// Both directions of a connection.
pub struct Records {
    tx: Key,
    rx: Key,
    renewal: Box<dyn Renewal>,
    /// The other end wants our keys renewed before our next data.
    renew: bool,
    fruitless: u8,
    tickets: u8,
    /// The beginning of a message of the handshake that goes on in the next record.
    message: Vec<u8>,
    broken: bool,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Records {
    /// After a handshake.
    ///
    /// # Errors
    /// If the suite is one that we do not know.
    pub fn new(secrets: ExtractedSecrets, renewal: Box<dyn Renewal>) -> Result<Self, Fault> {
        Ok(Self {
            tx: Key::new(secrets.tx.0, &secrets.tx.1)?,
            rx: Key::new(secrets.rx.0, &secrets.rx.1)?,
            renewal,
            renew: false,
            fruitless: 0,
            tickets: 0,
            message: Vec::new(),
            broken: false,
        })
    }

    /// Opens the first record of `wire`, in place.
    ///
    /// # Errors
    /// Each is the end of the connection.
    pub fn open(&mut self, wire: &mut [u8]) -> Result<Opened, Fault> {
        if self.broken {
            return Err(Fault::Broken);
        }
        let opened = self.open_first(wire);
        self.broken = opened.is_err();
        opened
    }

    fn open_first(&mut self, wire: &mut [u8]) -> Result<Opened, Fault> {
        let Some((header, rest)) = wire.split_first_chunk_mut::<HEADER>() else { return Ok(Opened::More) };
        let sealed = usize::from(u16::from_be_bytes([header[3], header[4]]));
        // Whatever is not sealed is from before the handshake's end, or from somebody else.
        match header[0] {
            DATA => {}
            CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE => return Err(Fault::Unexpected),
            _ => return Err(Fault::Malformed),
        }
        if sealed > MOST_SEALED {
            return Err(Fault::TooLong);
        }
        let Some(sealed) = rest.get_mut(..sealed) else { return Ok(Opened::More) };
        let whole = HEADER + sealed.len();
        let (kind, plain) = self.rx.open(*header, sealed)?;
        if plain.len() > MOST {
            return Err(Fault::TooLong);
        }
        // A message that goes on must go on.
        if !self.message.is_empty() && kind != HANDSHAKE {
            return Err(Fault::Unexpected);
        }
        if kind == DATA && !plain.is_empty() {
            self.fruitless = 0;
            return Ok(Opened::Record { whole, data: HEADER..HEADER + plain.len() });
        }
        self.fruitless += 1;
        if self.fruitless > MOST_FRUITLESS {
            return Err(Fault::Unexpected);
        }
        match kind {
            DATA => {}
            ALERT => {
                if alert(plain)? {
                    return Ok(Opened::Closed);
                }
            }
            HANDSHAKE if plain.is_empty() => return Err(Fault::Unexpected),
            HANDSHAKE if self.message.is_empty() => {
                let rest = messages(plain, &mut self.rx, &mut *self.renewal, &mut self.renew, &mut self.tickets)?;
                self.message = rest.to_vec();
            }
            HANDSHAKE => {
                let mut message = std::mem::take(&mut self.message);
                if message.len() + plain.len() > MOST_MESSAGE {
                    return Err(Fault::TooLong);
                }
                message.extend_from_slice(plain);
                let rest = messages(&message, &mut self.rx, &mut *self.renewal, &mut self.renew, &mut self.tickets)?;
                self.message = rest.to_vec();
            }
            _ => return Err(Fault::Unexpected),
        }
        Ok(Opened::Record { whole, data: 0..0 })
    }

    /// Seals what fits into `out`: how much was taken, and how many bytes of `out` it became.
    ///
    /// # Errors
    /// If sealing is over.
    pub fn seal(&mut self, plain: &[IoSlice<'_>], out: &mut [u8]) -> Result<(usize, usize), Fault> {
        if self.broken {
            return Err(Fault::Broken);
        }
        let mut written = 0;
        if self.renew || self.tx.is_worn() {
            written = self.renew(out)?;
        }
        let mut taken = 0;
        let mut slices = Slices { rest: plain, at: 0 };
        while let Some(room) = out.len().checked_sub(written + OVERHEAD + 1) {
            let room = (room + 1).min(MOST);
            let place = &mut out[written..];
            // A long slice is sealed from where it is; short ones are brought together in one record.
            let first = slices.first();
            let n = if first.len() >= room || first.len() == slices.left() {
                let n = first.len().min(room);
                if n == 0 {
                    break;
                }
                self.tx.seal(DATA, &first[..n], place)?;
                slices.pass(n);
                n
            } else {
                let n = slices.gather(&mut place[HEADER..HEADER + room]);
                self.tx.seal_in_place(DATA, n, place)?;
                n
            };
            taken += n;
            written += n + OVERHEAD;
        }
        Ok((taken, written))
    }

    /// Says that we say no more; bytes of `out`.
    ///
    /// # Errors
    /// If sealing is over.
    pub fn close(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if self.broken { Err(Fault::Broken) } else { self.tx.seal(ALERT, &[1, CLOSE_NOTIFY], out) }
    }

    /// Says why the connection ends; bytes of `out`, none if there is nothing to say.
    pub fn complain(&mut self, fault: &Fault, out: &mut [u8]) -> usize {
        self.broken = true;
        fault.alert().and_then(|alert| self.tx.seal(ALERT, &[2, alert], out).ok()).unwrap_or(0)
    }

    /// The last record under the old keys says that new ones follow.
    fn renew(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        let written = self.tx.seal(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], out)?;
        let secrets = self.renewal.next_tx().map_err(|_| Fault::Internal)?;
        self.tx = Key::new(0, &secrets)?;
        self.renew = false;
        Ok(written)
    }
}

/// `true` if it is the other end's good-bye.
fn alert(plain: &[u8]) -> Result<bool, Fault> {
    match plain {
        [_, CLOSE_NOTIFY] => Ok(true),
        // Means nothing; a good-bye follows.
        [_, USER_CANCELED] => Ok(false),
        [_, description] => Err(Fault::Alert(*description)),
        _ => Err(Fault::Malformed),
    }
}

/// Takes whole messages of the handshake; what is left is the beginning of another one.
fn messages<'a>(
    mut plain: &'a [u8],
    rx: &mut Key,
    renewal: &mut dyn Renewal,
    renew: &mut bool,
    tickets: &mut u8,
) -> Result<&'a [u8], Fault> {
    while let [kind, a, b, c, rest @ ..] = plain {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        // Before it is there: what is not expected is not collected.
        if !matches!(*kind, NEW_SESSION_TICKET | KEY_UPDATE) {
            return Err(Fault::Unexpected);
        }
        if length > MOST_MESSAGE - 4 {
            return Err(Fault::TooLong);
        }
        let Some((body, rest)) = rest.split_at_checked(length) else { return Ok(plain) };
        match (*kind, body) {
            // New keys begin with a new record.
            (KEY_UPDATE, [asked @ (0 | 1)]) if rest.is_empty() => {
                let secrets = renewal.next_rx().map_err(|_| Fault::Internal)?;
                *rx = Key::new(0, &secrets)?;
                *renew |= *asked == 1;
            }
            (KEY_UPDATE, [0 | 1]) => return Err(Fault::Unexpected),
            (KEY_UPDATE, [_]) => return Err(Fault::Illegal),
            (KEY_UPDATE, _) => return Err(Fault::Malformed),
            _ if *tickets < MOST_TICKETS => {
                *tickets += 1;
                if !renewal.ticket(body).map_err(|_| Fault::Malformed)? {
                    return Err(Fault::Unexpected);
                }
            }
            _ => {}
        }
        plain = rest;
    }
    Ok(plain)
}

/// Slices that are taken from the front.
struct Slices<'a, 'b> {
    rest: &'a [IoSlice<'b>],
    at: usize,
}

impl<'a> Slices<'a, '_> {
    fn first(&mut self) -> &'a [u8] {
        while let [first, rest @ ..] = self.rest {
            if self.at < first.len() {
                return &first[self.at..];
            }
            (self.rest, self.at) = (rest, 0);
        }
        &[]
    }

    fn left(&self) -> usize {
        self.rest.iter().map(|s| s.len()).sum::<usize>().saturating_sub(self.at)
    }

    fn pass(&mut self, n: usize) {
        self.at += n;
    }

    fn gather(&mut self, to: &mut [u8]) -> usize {
        let mut done = 0;
        while done < to.len() {
            let first = self.first();
            let n = first.len().min(to.len() - done);
            if n == 0 {
                break;
            }
            to[done..done + n].copy_from_slice(&first[..n]);
            self.pass(n);
            done += n;
        }
        done
    }
}

impl Renewal for KernelConnection<ClientConnectionData> {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_tx_secret().map(|(_, secrets)| secrets)
    }

    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_rx_secret().map(|(_, secrets)| secrets)
    }

    fn ticket(&mut self, message: &[u8]) -> Result<bool, rustls::Error> {
        self.handle_new_session_ticket(message).map(|()| true)
    }
}

impl Renewal for KernelConnection<ServerConnectionData> {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_tx_secret().map(|(_, secrets)| secrets)
    }

    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_rx_secret().map(|(_, secrets)| secrets)
    }

    fn ticket(&mut self, _: &[u8]) -> Result<bool, rustls::Error> {
        Ok(false)
    }
}
