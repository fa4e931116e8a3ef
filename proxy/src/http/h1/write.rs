//! Heads, chunks and trailers, to bytes.
//!
//! Invariant: no field can end its own line, whoever put it into a head.

use http::Method;

use super::framing::tokens;
use super::reason;
use crate::http::message::{Fields, Known, Length, RequestHead, ResponseHead};

/// What asks a client for the body it holds back.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Ends a chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";
/// Ends a chunk and the body.
pub(super) const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";
/// Longest line of a chunk's size.
const SIZE_LINE: usize = 18;

/// What a head said of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// It has a `connection: close`.
    pub(super) close: bool,
}

/// A request line and fields; `None` if the target or the host can't be written.
pub(super) fn request(out: &mut Vec<u8>, head: &RequestHead, length: Length) -> Option<Said> {
    let authority = head.authority_bytes();
    let target = if head.method == Method::CONNECT { authority } else { head.path_bytes() };
    if target.is_empty() || !is_one_word(target) || !is_one_word(authority) {
        return None;
    }
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority);
    out.extend_from_slice(b"\r\n");
    let said = fields(out, &head.fields);
    match length {
        Length::None if is_bodiless(&head.method) || head.fields.known(Known::Upgrade).is_some() => {}
        // A server may insist on a length where a body is usual.
        Length::None => content_length(out, 0),
        Length::Exact(n) => content_length(out, n),
        Length::Unknown => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    Some(said)
}

/// Whether nobody expects a body of this method.
fn is_bodiless(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT)
}

/// A status line and fields. The lines that frame follow, by whoever knows the request, then an empty one.
pub(super) fn response(out: &mut Vec<u8>, head: &ResponseHead, http11: bool) -> Said {
    out.extend_from_slice(if http11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    let status = head.status.clamp(100, 999);
    let digits = [status / 100, status / 10 % 10, status % 10].map(|d| b'0' + d as u8);
    out.extend_from_slice(&digits);
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(out, &head.fields)
}

/// `content-length`.
pub(super) fn content_length(out: &mut Vec<u8>, n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk.
pub(super) fn chunk_size(out: &mut Vec<u8>, n: usize) {
    let mut line = [b'\n'; SIZE_LINE];
    line[SIZE_LINE - 2] = b'\r';
    let mut at = SIZE_LINE - 2;
    let mut rest = n;
    while at == SIZE_LINE - 2 || rest != 0 {
        at -= 1;
        line[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    out.extend_from_slice(&line[at..]);
}

/// The last chunk, and trailers.
pub(super) fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

fn fields(out: &mut Vec<u8>, fields: &Fields) -> Said {
    let mut said = Said::default();
    let mut good = true;
    let before = out.len();
    let keep = |known, value: &[u8]| {
        if known == Known::Connection {
            said.close |= tokens(value).any(|word| word.eq_ignore_ascii_case(b"close"));
        }
        is_written(known)
    };
    fields.lines(keep, |run, lines| {
        good &= breaks(run) == 2 * lines;
        out.extend_from_slice(run);
    });
    if !good {
        out.truncate(before);
        one_by_one(out, fields);
    }
    said
}

/// Length and authority are told in one way alone: a second one would be believed by somebody.
fn is_written(known: Known) -> bool {
    !matches!(known, Known::ContentLength | Known::TransferEncoding | Known::Host)
}

/// Leaves out the fields that do not stay in their lines.
#[cold]
fn one_by_one(out: &mut Vec<u8>, fields: &Fields) {
    for field in fields.iter().filter(|f| is_written(f.known) && breaks(f.name) + breaks(f.value) == 0) {
        out.extend_from_slice(field.name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// How many bytes there are that end a line, or a text. Counts of a byte each are added up side by side.
fn breaks(text: &[u8]) -> usize {
    let is = |b: &u8| u8::from(matches!(b, b'\r' | b'\n' | 0));
    let (parts, rest) = text.as_chunks::<128>();
    let count = |part: &[u8]| usize::from(part.iter().map(is).fold(0u8, u8::wrapping_add));
    parts.iter().map(|part| count(part)).sum::<usize>() + count(rest)
}

/// Whether text is one word of its line.
fn is_one_word(text: &[u8]) -> bool {
    !text.iter().fold(false, |bad, b| bad | (*b <= b' '))
}
