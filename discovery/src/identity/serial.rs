//! Serial numbers that tell for whom a certificate was signed.
//!
//! A workload's certificate on a joined host opens nothing at discovery, the same identity's certificate in a pod
//! does. Nothing else in the two differs, so the signer writes the difference where it alone writes: the first four
//! of the serial number's sixteen bytes; the other twelve are random.

use rcgen::SerialNumber;

/// Whose hands a certificate was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Discovery itself.
    Discovery,
    /// A joined host, for itself.
    Host,
    /// A joined host, for one of its workloads.
    JoinedWorkload,
    /// A caller of the certificate service.
    Caller,
}

const TAGS: [(Holder, [u8; 4]); 4] = [
    (Holder::Discovery, *b"Hwjd"),
    (Holder::Host, *b"Hwjh"),
    (Holder::JoinedWorkload, *b"Hwjw"),
    (Holder::Caller, *b"Hwjc"),
];

/// A fresh serial number for a holder.
pub(super) fn fresh(holder: Holder) -> SerialNumber {
    let tag = TAGS.iter().find(|(h, _)| *h == holder).map_or([0x48; 4], |(_, tag)| *tag);
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&tag);
    bytes[4..].copy_from_slice(&rand::random::<[u8; 12]>());
    SerialNumber::from_slice(&bytes)
}

/// For whom a certificate with this serial number was signed; `None` if another signer made it.
pub fn holder(serial: &[u8]) -> Option<Holder> {
    let tag = serial.get(..4).filter(|_| serial.len() == 16)?;
    TAGS.iter().find(|(_, known)| known == tag).map(|(holder, _)| *holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_tells_its_holder_and_is_positive() {
        for (kind, _) in TAGS {
            let serial = fresh(kind).to_bytes();
            assert_eq!(holder(&serial), Some(kind));
            assert!(serial[0] < 0x80);
        }
        assert_eq!(holder(&[7; 16]), None);
        assert_eq!(holder(b"Hwjw"), None);
    }
}
