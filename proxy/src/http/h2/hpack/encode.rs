//! Heads as header blocks, without Huffman code and without a table of our own.
//!
//! Why so: a head between two proxies is some hundred bytes, which are copied in a few nanoseconds and are a small part of
//! a TLS record and of a system call; coding or looking up each of them costs more than sending them.

use crate::http::message::{Fields, Known, Length, RequestHead, ResponseHead};

/// Appends the head of a request.
pub(crate) fn request(out: &mut Vec<u8>, head: &RequestHead, length: Length, secure: bool) {
    let method = head.method.as_str();
    match method {
        "GET" => out.push(0x82),
        "POST" => out.push(0x83),
        _ => named(out, 2, method.as_bytes()),
    }
    let protocol = head.protocol();
    if !protocol.is_empty() {
        literal(out, b":protocol", protocol.as_bytes());
    }
    // Plain CONNECT has neither (RFC 9113, 8.5).
    if head.method != http::Method::CONNECT || !protocol.is_empty() {
        out.push(if secure { 0x87 } else { 0x86 });
        match head.path() {
            "/" => out.push(0x84),
            path => named(out, 4, path.as_bytes()),
        }
    }
    if !head.authority().is_empty() {
        named(out, 1, head.authority().as_bytes());
    }
    self::length(out, length);
    trailers(out, &head.fields);
}

/// Appends the head of a response.
pub(crate) fn response(out: &mut Vec<u8>, head: &ResponseHead) {
    match head.status {
        200 => out.push(0x88),
        204 => out.push(0x89),
        206 => out.push(0x8a),
        304 => out.push(0x8b),
        400 => out.push(0x8c),
        404 => out.push(0x8d),
        500 => out.push(0x8e),
        status => {
            out.push(8);
            decimal(out, u64::from(status));
        }
    }
    length(out, head.length);
    trailers(out, &head.fields);
}

/// Appends fields.
pub(crate) fn trailers(out: &mut Vec<u8>, fields: &Fields) {
    for field in fields.iter() {
        match index(field.known) {
            Fixed::No => literal(out, field.name, field.value),
            Fixed::At(index) => named(out, index, field.value),
            Fixed::Te if field.value.eq_ignore_ascii_case(b"trailers") => literal(out, field.name, field.value),
            // They belong to one connection, or are said otherwise.
            Fixed::Te | Fixed::Never => {}
        }
    }
}

enum Fixed {
    No,
    At(u8),
    Te,
    Never,
}

/// Where a name is in the fixed table.
fn index(known: Known) -> Fixed {
    match known {
        Known::Other => Fixed::No,
        Known::ContentType => Fixed::At(31),
        Known::Cookie => Fixed::At(32),
        Known::Date => Fixed::At(33),
        Known::Expect => Fixed::At(35),
        Known::Location => Fixed::At(46),
        Known::Server => Fixed::At(54),
        Known::UserAgent => Fixed::At(58),
        Known::Te => Fixed::Te,
        Known::Host | Known::Upgrade | Known::ContentLength => Fixed::Never,
        known if known.is_hop_by_hop() => Fixed::Never,
        _ => Fixed::No,
    }
}

fn length(out: &mut Vec<u8>, length: Length) {
    if let Length::Exact(n) = length {
        out.extend_from_slice(&[15, 28 - 15]);
        decimal(out, n);
    }
}

/// A field whose name is in the fixed table.
fn named(out: &mut Vec<u8>, index: u8, value: &[u8]) {
    match index {
        0..15 => out.push(index),
        _ => out.extend_from_slice(&[15, index - 15]),
    }
    text(out, value);
}

/// A field by name. Credentials are marked as what nobody on the way may remember.
fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let secret = name == b"authorization" || name == b"proxy-authorization";
    out.push(if secret { 0x10 } else { 0 });
    text(out, name);
    text(out, value);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(len @ 0..127) => out.push(len),
        _ => {
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
    }
    out.extend_from_slice(text);
}

/// A number as text, with its length before it.
fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text(out, &digits[at..]);
}
