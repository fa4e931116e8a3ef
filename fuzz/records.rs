//! Records of TLS 1.3 from a peer that knows the keys, and from anybody else.
//!
//! In: items of one byte of kind, one of flags, two of length, and so many bytes: sealed as a record of that kind,
//! unless a flag says otherwise. Out: the data that came through, or nothing after a fault.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hawser_proxy::tls::record::{Opened, Records, Renewal};
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

/// The next record is sealed by the next key.
const NEXT_KEY: u8 = 1;
/// A bit of the record is wrong.
const TOUCHED: u8 = 2;
/// The bytes are put on the wire as they are.
const RAW: u8 = 4;

/// What a client makes of them; however they are cut, it must make the same.
pub(crate) fn records(bytes: &[u8]) -> Option<Vec<u8>> {
    let wire = wire(bytes);
    let whole = open(&wire, wire.len());
    for step in [7, 1000] {
        assert_eq!(whole, open(&wire, step), "in steps of {step}");
    }
    whole
}

fn open(wire: &[u8], step: usize) -> Option<Vec<u8>> {
    let secrets = ExtractedSecrets { tx: (0, secrets(200)), rx: (0, secrets(0)) };
    let mut client = Records::new(secrets, Box::new(Fixed { tx: 200, rx: 0 })).expect("a suite that is known");
    let (mut pending, mut data) = (Vec::new(), Vec::new());
    let mut fault = None;
    'read: for part in wire.chunks(step.max(1)) {
        pending.extend_from_slice(part);
        loop {
            match client.open(&mut pending) {
                Ok(Opened::More) => break,
                Ok(Opened::Record { whole, data: range }) => {
                    assert!(whole > 0 && range.end <= whole && whole <= pending.len());
                    data.extend_from_slice(&pending[range]);
                    pending.drain(..whole);
                }
                Ok(Opened::Closed) => break 'read,
                Err(found) => {
                    fault = Some(found);
                    break 'read;
                }
            }
        }
    }
    let mut out = [0; 1000];
    let sealed = client.seal(&[std::io::IoSlice::new(b"an answer")], &mut out);
    assert_eq!(sealed.is_err(), fault.is_some());
    match fault {
        None => Some(data),
        Some(fault) => {
            assert!(client.open(&mut pending).is_err(), "what is broken stays broken");
            assert!(client.complain(&fault, &mut out) < 100);
            None
        }
    }
}

fn wire(mut bytes: &[u8]) -> Vec<u8> {
    let (mut generation, mut number) = (0u8, 0u64);
    let mut wire = Vec::new();
    while let [kind, flags, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (plain, rest) = rest.split_at(length);
        bytes = rest;
        if flags & RAW != 0 {
            wire.extend_from_slice(plain);
            continue;
        }
        let mut sealed = [plain, &[*kind]].concat();
        let length = u16::try_from(sealed.len() + 16).unwrap_or(u16::MAX).to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut nonce = [generation; 12];
        for (byte, of_number) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
            *byte ^= of_number;
        }
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[generation; 32]).expect("a key's length"));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), &mut sealed)
            .expect("a record can be sealed");
        if flags & TOUCHED != 0 {
            sealed[0] ^= 1;
        }
        wire.extend_from_slice(&header);
        wire.extend_from_slice(&sealed);
        number += 1;
        if flags & NEXT_KEY != 0 {
            (generation, number) = (generation.wrapping_add(1), 0);
        }
    }
    wire
}

struct Fixed {
    tx: u8,
    rx: u8,
}

fn secrets(generation: u8) -> ConnectionTrafficSecrets {
    ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([generation; 32]), iv: Iv::from([generation; 12]) }
}

impl Renewal for Fixed {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.tx = self.tx.wrapping_add(1);
        Ok(secrets(self.tx))
    }

    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.rx = self.rx.wrapping_add(1);
        Ok(secrets(self.rx))
    }

    fn ticket(&mut self, message: &[u8]) -> Result<bool, rustls::Error> {
        if message.starts_with(b"bad") { Err(rustls::Error::DecryptError) } else { Ok(true) }
    }
}
