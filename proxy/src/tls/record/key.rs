//! One direction's key: seals and opens single records, each number once.
//!
//! In: a traffic secret and the first number. Out: sealed or opened bytes. The AEAD wipes its key when it is dropped.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use super::{DATA, Fault, HEADER, OVERHEAD};

const TAG: usize = 16;
/// AES-GCM: a key seals 2^24.5 full records before an attacker learns more than one may; half of that is ours.
const AES_GCM_WORN: u64 = 1 << 23;

/// A key and the number of its next record.
pub(super) struct Key {
    aead: LessSafeKey,
    iv: [u8; 12],
    number: u64,
    worn: u64,
}

impl Key {
    pub(super) fn new(number: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, Fault> {
        let (algorithm, key, iv, worn) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, AES_GCM_WORN),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, AES_GCM_WORN),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv, u64::MAX),
            _ => return Err(Fault::Internal),
        };
        let unbound = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Fault::Internal)?;
        let iv = iv.as_ref().try_into().map_err(|_| Fault::Internal)?;
        Ok(Self { aead: LessSafeKey::new(unbound), iv, number, worn })
    }

    /// Whether it has sealed as much as it may: the next one is due.
    pub(super) fn is_worn(&self) -> bool {
        self.number >= self.worn
    }

    #[cfg(test)]
    pub(super) fn wears_after(&mut self, records: u64) {
        self.worn = records;
    }

    /// Opens a record in place: its kind, and what it carries.
    pub(super) fn open<'a>(&mut self, header: [u8; HEADER], sealed: &'a mut [u8]) -> Result<(u8, &'a [u8]), Fault> {
        let nonce = self.nonce()?;
        let opened = self.aead.open_in_place(nonce, Aad::from(header), sealed).map_err(|_| Fault::NotAuthentic)?;
        // Zeros behind the kind are padding.
        let end = opened.iter().rposition(|byte| *byte != 0).ok_or(Fault::Unexpected)?;
        Ok((opened[end], &opened[..end]))
    }

    /// Seals a record into the beginning of `out`, which has room for it: how long it is.
    pub(super) fn seal(&mut self, kind: u8, plain: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        let whole = plain.len() + OVERHEAD;
        let header = header(plain.len());
        let (head, rest) = out.get_mut(..whole).ok_or(Fault::Internal)?.split_at_mut(HEADER);
        let (place, tail) = rest.split_at_mut(plain.len());
        head.copy_from_slice(&header);
        let nonce = self.nonce()?;
        self.aead
            .seal_out_of_place_scatter(nonce, Aad::from(header), plain, place, &[kind], tail)
            .map_err(|_| Fault::Internal)?;
        Ok(whole)
    }

    /// The same for `n` bytes that lie behind the header's place already.
    pub(super) fn seal_in_place(&mut self, kind: u8, n: usize, out: &mut [u8]) -> Result<usize, Fault> {
        let whole = n + OVERHEAD;
        let header = header(n);
        let (head, rest) = out.get_mut(..whole).ok_or(Fault::Internal)?.split_at_mut(HEADER);
        let (place, tail) = rest.split_at_mut(n);
        head.copy_from_slice(&header);
        let nonce = self.nonce()?;
        self.aead.seal_in_place_scatter(nonce, Aad::from(header), place, &[kind], tail).map_err(|_| Fault::Internal)?;
        Ok(whole)
    }

    /// Counts on, whatever becomes of the record: a number is never used twice.
    fn nonce(&mut self) -> Result<Nonce, Fault> {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce.iter_mut().skip(4).zip(self.number.to_be_bytes()) {
            *byte ^= of_number;
        }
        self.number = self.number.checked_add(1).ok_or(Fault::Internal)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

fn header(carried: usize) -> [u8; HEADER] {
    // At most 2^14 and a little: it fits.
    let [high, low] = u16::try_from(carried + 1 + TAG).unwrap_or(u16::MAX).to_be_bytes();
    [DATA, 3, 3, high, low]
}
