//! Heads out of header blocks, and what makes one malformed (RFC 9113, 8.1 to 8.5; RFC 8441).
//!
//! In: a whole block. Out: a head, or why there is none. Invariant: a head that comes out can be written as HTTP/1.1 and means
//! the same there; whatever the block says, no more is kept than the bounds allow, and the whole block is decoded.

use http::Method;

use super::hpack::{Bad, Decoder, Item, Name};
use super::valid;
use crate::http::message::{Fields, Known, Length, RequestHead, ResponseHead, Version, may_trail};

/// What a block turned out to be.
#[derive(Debug)]
pub(super) enum Parsed<T> {
    Good(T),
    /// Nothing that HTTP allows.
    Malformed(&'static str),
    /// More than is taken.
    TooLarge,
}

/// The most that is taken of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub(super) bytes: usize,
    /// Fields.
    pub(super) fields: usize,
    /// No name has an underscore.
    pub(super) refuse_underscores: bool,
}

/// What a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Head,
    Connect,
    Other,
}

/// The head of a request; `ended` says that no body follows.
pub(super) fn request(
    decoder: &mut Decoder,
    block: &[u8],
    ended: bool,
    bounds: Bounds,
) -> Result<Parsed<RequestHead>, Bad> {
    let mut head = RequestHead::new(Method::GET, Version::Http2);
    head.fields = room(block, bounds);
    let mut draft = Draft::new(bounds);
    let mut method = None;
    decoder.decode(block, |item| {
        if !draft.admits(&item) {
            return;
        }
        match item.tag {
            Name::Field(Known::Host) => {
                if draft.again(HOST) || !valid::authority(item.value) {
                    draft.wrong("host");
                } else if !draft.has(AUTHORITY) {
                    head.set_authority(item.value);
                } else if !head.authority().as_bytes().eq_ignore_ascii_case(item.value) {
                    draft.wrong("host and :authority differ");
                }
            }
            Name::Field(known) => draft.field(&mut head.fields, known, &item),
            Name::Method => {
                method = Method::from_bytes(item.value).ok();
                if draft.again(METHOD) || method.is_none() {
                    draft.wrong(":method");
                }
            }
            Name::Path => {
                if draft.again(PATH) || !(valid::path(item.value) || item.value == b"*") {
                    draft.wrong(":path");
                } else {
                    head.set_path(item.value);
                }
            }
            Name::Scheme => {
                if draft.again(SCHEME) || !valid::token(item.value) {
                    draft.wrong(":scheme");
                }
            }
            Name::Authority => {
                if draft.again(AUTHORITY) || !valid::authority(item.value) {
                    draft.wrong(":authority");
                } else {
                    head.set_authority(item.value);
                }
            }
            Name::Protocol => {
                if draft.again(PROTOCOL) || !valid::token(item.value) {
                    draft.wrong(":protocol");
                } else {
                    head.set_protocol(item.value);
                }
            }
            Name::Status | Name::Pseudo => draft.wrong("a pseudo header that no request has"),
        }
    })?;
    let Some(method) = method else { return Ok(draft.verdict(None)) };
    let connect = method == Method::CONNECT;
    let plain = connect && !draft.has(PROTOCOL);
    let target = draft.seen & (PATH | SCHEME);
    if target != if plain { 0 } else { PATH | SCHEME } {
        draft.wrong(":scheme and :path");
    }
    if plain && !valid::target(head.authority()) {
        draft.wrong("where CONNECT goes");
    }
    if draft.has(PROTOCOL) && !connect {
        draft.wrong(":protocol without CONNECT");
    }
    if head.path() == "*" && method != Method::OPTIONS {
        draft.wrong(":path");
    }
    if !(draft.has(HOST) && !connect || draft.has(AUTHORITY)) {
        draft.wrong("no host");
    }
    head.length = match (ended, draft.length) {
        (true, None | Some(0)) if connect => Length::None,
        (true, None) => Length::None,
        (_, Some(_)) if connect => {
            draft.wrong("content-length of CONNECT");
            Length::Unknown
        }
        (true, Some(n @ 1..)) => {
            draft.wrong("shorter than its content-length");
            Length::Exact(n)
        }
        (_, Some(n)) => Length::Exact(n),
        (false, None) => Length::Unknown,
    };
    head.method = method;
    draft.join_cookies(&mut head.fields);
    Ok(draft.verdict(Some(head)))
}

/// The head of a response.
pub(super) fn response(
    decoder: &mut Decoder,
    block: &[u8],
    ended: bool,
    asked: Asked,
    bounds: Bounds,
) -> Result<Parsed<ResponseHead>, Bad> {
    let mut fields = room(block, bounds);
    let mut draft = Draft::new(bounds);
    let mut status = 0;
    decoder.decode(block, |item| {
        if !draft.admits(&item) {
            return;
        }
        match item.tag {
            Name::Field(known) => draft.field(&mut fields, known, &item),
            Name::Status => match item.value {
                [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] if !draft.again(STATUS) => {
                    status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
                }
                _ => draft.wrong(":status"),
            },
            _ => draft.wrong("a pseudo header that no response has"),
        }
    })?;
    let length = match (status, draft.length) {
        // 101 is of HTTP/1.1 alone; an interim response is never the last word.
        (0 | 101, _) => {
            draft.wrong(":status");
            Length::None
        }
        (100..200, _) if ended => {
            draft.wrong("an interim response ends the stream");
            Length::None
        }
        (100..200 | 204, _) => Length::None,
        (200..300, _) if asked == Asked::Connect => Length::Unknown,
        (304, None) => Length::None,
        (_, Some(n)) => {
            if ended && n > 0 && asked != Asked::Head && status != 304 {
                draft.wrong("shorter than its content-length");
            }
            Length::Exact(n)
        }
        (_, None) if ended => Length::None,
        (_, None) => Length::Unknown,
    };
    Ok(draft.verdict(Some(ResponseHead { status, version: Version::Http2, length, fields })))
}

/// Trailers.
pub(super) fn trailers(decoder: &mut Decoder, block: &[u8], bounds: Bounds) -> Result<Parsed<Fields>, Bad> {
    let mut fields = room(block, bounds);
    let mut draft = Draft::new(bounds);
    decoder.decode(block, |item| {
        if !draft.admits(&item) {
            return;
        }
        match item.tag {
            Name::Field(known) if is_of_connection(known) || may_trail(item.name) => {
                draft.field(&mut fields, known, &item);
            }
            // None may change how the message was understood.
            Name::Field(_) => {}
            _ => draft.wrong("a pseudo header in trailers"),
        }
    })?;
    Ok(draft.verdict(Some(fields)))
}

const METHOD: u8 = 1;
const PATH: u8 = 2;
const SCHEME: u8 = 4;
const AUTHORITY: u8 = 8;
const PROTOCOL: u8 = 16;
const STATUS: u8 = 32;
const HOST: u8 = 64;

/// Room for what a block of text holds; one that is compressed well needs more, and finds it.
fn room(block: &[u8], bounds: Bounds) -> Fields {
    Fields::with_capacity((block.len() + block.len() / 2 + 64).min(bounds.bytes), (block.len() / 16).clamp(4, 24))
}

/// A head while it is decoded.
struct Draft {
    bounds: Bounds,
    size: usize,
    count: usize,
    seen: u8,
    /// A field came: no pseudo header may follow.
    fields: bool,
    cookies: u32,
    length: Option<u64>,
    wrong: Option<&'static str>,
}

impl Draft {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, size: 0, count: 0, seen: 0, fields: false, cookies: 0, length: None, wrong: None }
    }

    /// Whether a field is to be looked at.
    fn admits(&mut self, item: &Item<'_>) -> bool {
        self.size = self.size.saturating_add(item.name.len() + item.value.len() + 32);
        self.count += 1;
        if self.is_too_large() || self.wrong.is_some() {
            return false;
        }
        if !item.valid || self.bounds.refuse_underscores && item.name.contains(&b'_') {
            self.wrong("a character that no field has");
        } else if matches!(item.tag, Name::Field(_)) {
            self.fields = true;
        } else if self.fields {
            self.wrong("a pseudo header after fields");
        }
        self.wrong.is_none()
    }

    fn is_too_large(&self) -> bool {
        self.size > self.bounds.bytes || self.count > self.bounds.fields
    }

    fn wrong(&mut self, why: &'static str) {
        self.wrong.get_or_insert(why);
    }

    fn has(&self, what: u8) -> bool {
        self.seen & what != 0
    }

    /// Notes what came; whether it was there already.
    fn again(&mut self, what: u8) -> bool {
        let again = self.has(what);
        self.seen |= what;
        again
    }

    fn field(&mut self, fields: &mut Fields, known: Known, item: &Item<'_>) {
        match known {
            Known::ContentLength => {
                let n = digits(item.value);
                if n.is_none() || self.length.is_some() {
                    self.wrong("content-length");
                }
                self.length = n;
                return;
            }
            known if is_of_connection(known) => {
                self.wrong("a field that belongs to a connection of HTTP/1.1");
                return;
            }
            Known::Te if !item.value.eq_ignore_ascii_case(b"trailers") => {
                self.wrong("te other than trailers");
                return;
            }
            Known::Cookie => self.cookies += 1,
            _ => {}
        }
        fields.push_as(known, item.name, item.value);
    }

    /// Cookies may come in crumbs; outside of HTTP/2 they are one field (RFC 9113, 8.2.3).
    fn join_cookies(&self, fields: &mut Fields) {
        if self.cookies > 1 {
            fields.join_cookies();
        }
    }

    fn verdict<T>(self, head: Option<T>) -> Parsed<T> {
        match (self.wrong, head) {
            _ if self.is_too_large() => Parsed::TooLarge,
            (Some(why), _) => Parsed::Malformed(why),
            (None, Some(head)) => Parsed::Good(head),
            (None, None) => Parsed::Malformed(":method"),
        }
    }
}

/// Whether a field belongs to a connection of HTTP/1.1.
fn is_of_connection(known: Known) -> bool {
    use Known::{Connection, KeepAlive, ProxyConnection, TransferEncoding, Upgrade};
    matches!(known, Connection | KeepAlive | ProxyConnection | TransferEncoding | Upgrade)
}

/// A number in digits alone.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}
