//! Text of strangers, numbers and addresses as bytes of a line.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

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
    let special = |b: u8| !(0x20..0x7f).contains(&b) || b == b'"' || b == b'\\';
    // Without a way out of the loop it is done many bytes at a time.
    if !bytes.iter().fold(false, |any, &b| any | special(b)) {
        return out.extend_from_slice(bytes);
    }
    match quoting {
        Quoting::Text => {
            for &b in bytes {
                match special(b) {
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
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Writes the last `width` digits of a number, with leading zeros.
pub(super) fn padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + width, b'0');
    for digit in out[from..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Writes an IP address.
pub(super) fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            for (i, part) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                number(part.into(), out);
            }
        }
        // A vector takes all.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// Writes address and port.
pub(super) fn address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip().to_canonical() {
        v4 @ IpAddr::V4(_) => ip(v4, out),
        v6 => {
            out.push(b'[');
            ip(v6, out);
            out.push(b']');
        }
    }
    out.push(b':');
    number(address.port().into(), out);
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
        for value in [0, 7, 10, 4711, u64::MAX] {
            assert_eq!(made(|out| number(value, out)), value.to_string());
        }
        assert_eq!(made(|out| padded(42, 3, out)), "042");
        for text in ["10.0.0.1:80", "255.255.255.255:65535", "[fd00::1]:15006"] {
            assert_eq!(made(|out| address(text.parse().unwrap(), out)), text);
        }
        assert_eq!(made(|out| address("[::ffff:10.0.0.1]:80".parse().unwrap(), out)), "10.0.0.1:80");
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
