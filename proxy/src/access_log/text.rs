//! Text of strangers, numbers and addresses as bytes of a line.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The most bytes of one value.
pub(super) const LONGEST: usize = 8 * 1024;

/// What a value is written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// A line of text. Control bytes, quotation marks, backslashes and what is not ASCII become `\xNN`.
    Text,
    /// A JSON string. What is not UTF-8 becomes U+FFFD.
    Json,
}

/// Writes `bytes` so that they can't leave the place they are written to.
pub(super) fn escape(bytes: &[u8], quoting: Quoting, out: &mut Vec<u8>) {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    if is_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    match quoting {
        Quoting::Text => {
            for &b in bytes {
                match is_special(b) {
                    true => out.extend_from_slice(&[b'\\', b'x', hex(b >> 4), hex(b & 15)]),
                    false => out.push(b),
                }
            }
        }
        Quoting::Json => {
            for chunk in bytes.utf8_chunks() {
                json(chunk.valid(), out);
                if !chunk.invalid().is_empty() {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
    }
}

fn is_special(b: u8) -> bool {
    !(0x20..0x7f).contains(&b) || b == b'"' || b == b'\\'
}

/// Whether nothing has to be escaped; nearly always so. Eight bytes are looked at at once.
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    // A high bit that stays says that a byte is below `than`, or is zero.
    let below = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & HIGH;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let plain = |word: u64| (word & HIGH) | below(word, 0x20) | is(word, b'"') | is(word, b'\\') | is(word, 0x7f) == 0;
    let (words, rest) = bytes.as_chunks::<8>();
    if !words.iter().all(|word| plain(u64::from_ne_bytes(*word))) {
        return false;
    }
    match bytes.last_chunk::<8>() {
        // What is left, with bytes before it that were looked at already.
        Some(last) => plain(u64::from_ne_bytes(*last)),
        None => !rest.iter().any(|b| is_special(*b)),
    }
}

fn json(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            // Above ASCII too they steer terminals.
            c if c.is_control() => {
                let c = c as u32 as u8;
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(c >> 4), hex(c & 15)]);
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

/// Writes a number.
pub(super) fn number(value: u64, out: &mut Vec<u8>) {
    // Most are small, and a copy of a known length is no call.
    let digit = |of: u64| b'0' + (value / of % 10) as u8;
    match value {
        0..10 => out.push(digit(1)),
        10..100 => out.extend_from_slice(&[digit(10), digit(1)]),
        100..1000 => out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        _ => {
            let mut digits = [0; 20];
            out.extend_from_slice(decimal(value, &mut digits));
        }
    }
}

/// Writes the last `width` digits of a number, with leading zeros; at most 20.
pub(super) fn padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let from = digits.len().saturating_sub(width);
    for digit in digits[from..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[from..]);
}

/// A number's digits, at the end of `digits`.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        at -= 1;
        if value == 0 {
            break;
        }
    }
    &digits[at..]
}

/// Writes an IP address.
pub(super) fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mut bytes = [0; V4];
            let end = self::v4(v4, &mut bytes);
            out.extend_from_slice(&bytes[..end]);
        }
        // A vector takes all.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// Writes address and port.
pub(super) fn address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => {
            let mut bytes = [0; V4];
            let end = self::v4(v4, &mut bytes);
            out.extend_from_slice(&bytes[..end]);
        }
        IpAddr::V6(v6) => drop(write!(out, "[{v6}]")),
    }
    out.push(b':');
    let port = u64::from(address.port());
    let digit = |of: u64| b'0' + (port / of % 10) as u8;
    match port {
        10_000.. => out.extend_from_slice(&[10_000, 1000, 100, 10, 1].map(digit)),
        1000.. => out.extend_from_slice(&[1000, 100, 10, 1].map(digit)),
        _ => number(port, out),
    }
}

/// Room for `255.255.255.255.`
const V4: usize = 16;

/// Each number of an address with the dot behind it, and how long that is.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut all = [([0; 4], 0); 256];
    let mut i = 0;
    while i < 256 {
        let digits = [b'0' + (i / 100) as u8, b'0' + (i / 10 % 10) as u8, b'0' + (i % 10) as u8];
        all[i] = match i {
            0..10 => ([digits[2], b'.', 0, 0], 2),
            10..100 => ([digits[1], digits[2], b'.', 0], 3),
            _ => ([digits[0], digits[1], digits[2], b'.'], 4),
        };
        i += 1;
    }
    all
};

/// Puts an address into `bytes`; returns where it ends.
fn v4(address: Ipv4Addr, bytes: &mut [u8; V4]) -> usize {
    let mut at = 0;
    for octet in address.octets() {
        let (text, length) = OCTETS[usize::from(octet)];
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&text);
        }
        at += usize::from(length);
    }
    // Without the last dot.
    at - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_written_as_std_writes_them() {
        for value in [0, 7, 10, 99, 100, 999, 1000, 4711, u64::MAX] {
            assert_eq!(made(|out| number(value, out)), value.to_string());
        }
        assert_eq!(made(|out| padded(42, 3, out)), "042");
        for text in ["10.0.0.1:80", "255.255.255.255:65535", "0.9.10.99:0", "100.1.2.3:8080", "[fd00::1]:15006"] {
            assert_eq!(made(|out| address(text.parse().unwrap(), out)), text);
        }
        assert_eq!(made(|out| address("[::ffff:10.0.0.1]:80".parse().unwrap(), out)), "10.0.0.1:80");
    }

    #[test]
    fn what_has_to_be_escaped_is_found_wherever_it_stands() {
        for length in 0..40 {
            for byte in 0..=255 {
                for at in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    assert_eq!(is_plain(&bytes), !is_special(byte), "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn what_could_forge_is_escaped() {
        let hostile = b"a\r\n[2026] \"x\\ \x00\x7f\xc3\xa9\xff";
        let text = made(|out| escape(hostile, Quoting::Text, out));
        assert_eq!(text, r"a\x0D\x0A[2026] \x22x\x5C \x00\x7F\xC3\xA9\xFF");
        let json = made(|out| escape(hostile, Quoting::Json, out));
        assert_eq!(json, "a\\u000D\\u000A[2026] \\\"x\\\\ \\u0000\\u007F\u{e9}\u{fffd}");
        assert_eq!(made(|out| escape("\u{85}".as_bytes(), Quoting::Json, out)), "\\u0085");
        assert_eq!(made(|out| escape(&[b'x'; 2 * LONGEST], Quoting::Text, out)).len(), LONGEST);
    }
}
