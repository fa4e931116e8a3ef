//! Heads, from bytes.
//!
//! In: what was read of a connection. Out: a head whose text was copied once, how its body ends, what it says of the
//! connection; or that there is not enough yet; or why it is refused.

use std::mem::MaybeUninit;

use http::Method;
use httparse::{Error, Header, Request as Line, Response as StatusLine, Status};

use super::framing::{Coding, Facts, Framing, tokens};
use super::{Limits, target};
use crate::http::channel::Broken;
use crate::http::message::{Fields, Known, Length, RequestHead, ResponseHead, Version};

/// Room for what is added on the way: bytes, fields.
const ROOM: (usize, usize) = (320, 10);
/// Fields that are parsed without an allocation.
const USUAL: usize = 128;

/// A head that comes in pieces: it is looked at again when there is twice as much of it, or something that may end it, so
/// that the work is in proportion to its length.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    seen: usize,
}

impl Look {
    /// Whether to look at `bytes`; if so it is noted that it was done.
    pub(super) fn worth(&mut self, bytes: &[u8], longest: usize) -> bool {
        let fresh = bytes.get(self.seen.saturating_sub(3)..).unwrap_or_default();
        let worth = self.seen == 0
            || bytes.len() >= longest.min(2 * self.seen)
            || fresh.windows(2).any(|w| w == b"\n\n")
            || fresh.windows(3).any(|w| w == b"\n\r\n");
        if worth {
            self.seen = bytes.len();
        }
        worth
    }
}

/// A request's head.
#[derive(Debug)]
pub(super) struct Request {
    /// The head.
    pub(super) head: RequestHead,
    /// How its body ends.
    pub(super) framing: Framing,
    /// The client wants the connection to go on.
    pub(super) keep_alive: bool,
    /// The client waits for a 100 before it sends the body.
    pub(super) expects: bool,
    /// The connection may become something else.
    pub(super) upgrades: bool,
}

/// Why a request's head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What the client is answered.
    pub(super) status: u16,
    /// Why.
    pub(super) why: &'static str,
}

const TOO_LONG: &str = "the head is too long";
const TOO_MANY: &str = "too many fields";
const NO_HOST: &str = "host is missing";
const UNDERSCORE: &str = "the name of a field has an underscore";

impl Refusal {
    /// It as access logs have it.
    pub(super) fn details(&self) -> &'static str {
        match (self.status, self.why) {
            (408, _) => "request_header_timeout",
            (_, TOO_LONG) => "http1.headers_too_large",
            (_, TOO_MANY) => "http1.too_many_headers",
            (_, UNDERSCORE) => "http1.unexpected_underscore",
            (_, NO_HOST) => "missing_host_header",
            _ => "http1.codec_error",
        }
    }

    /// Whether the answer says in words what its status is.
    pub(super) fn is_told(&self) -> bool {
        self.why != NO_HOST
    }
}

const fn refuse<T>(status: u16, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, why })
}

type Places<'h, 'b> = &'h mut [MaybeUninit<Header<'b>>];

/// Reads a request's head from the front of `bytes`; `None` if it is not whole. With it: how long it is.
pub(super) fn request(bytes: &[u8], limits: &Limits) -> Result<Option<(Request, usize)>, Refusal> {
    if limits.headers <= USUAL {
        let mut places = [const { MaybeUninit::uninit() }; USUAL];
        request_in(bytes, limits, &mut places[..limits.headers])
    } else {
        request_in(bytes, limits, &mut vec![MaybeUninit::uninit(); limits.headers])
    }
}

fn request_in<'b>(
    bytes: &'b [u8],
    limits: &Limits,
    places: Places<'_, 'b>,
) -> Result<Option<(Request, usize)>, Refusal> {
    let mut line = Line::new(&mut []);
    let used = match line.parse_with_uninit_headers(bytes, places) {
        Ok(Status::Complete(used)) if used <= limits.head => used,
        Ok(Status::Partial) if bytes.len() < limits.head => return Ok(None),
        Ok(_) => return refuse(431, TOO_LONG),
        Err(Error::TooManyHeaders) => return refuse(431, TOO_MANY),
        Err(Error::Version) => match version(bytes) {
            Some(true) => return refuse(505, "the version is not known"),
            None if bytes.len() < limits.head => return Ok(None),
            _ => return refuse(400, "the version is malformed"),
        },
        Err(Error::Token) => return refuse(400, "the request line is malformed"),
        Err(Error::HeaderName) => return refuse(400, "the name of a field is malformed"),
        Err(Error::HeaderValue) => return refuse(400, "the value of a field is malformed"),
        Err(_) => return refuse(400, "the head is malformed"),
    };
    let (Some(method), Some(path), Some(minor)) = (line.method, line.path, line.version) else {
        return refuse(400, "the request line is malformed");
    };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return refuse(400, "the method is malformed");
    };
    let http11 = minor == 1;
    let Some(target) = target::read(&method, path) else {
        return refuse(400, "the target is malformed");
    };
    let mut head = RequestHead::new(method, if http11 { Version::Http11 } else { Version::Http10 });
    let mut facts = Facts::new();
    let host = fields(&mut head.fields, bytes, used, line.headers, &mut facts);
    if limits.refuse_underscores && line.headers.iter().any(|f| f.name.contains('_')) {
        return refuse(400, UNDERSCORE);
    }
    match (facts.hosts, host) {
        (0, _) if !http11 => {}
        (0, _) => return refuse(400, NO_HOST),
        (1, Some(host)) if target::is_authority(host) => {
            if target.authority.is_none() {
                head.set_authority(host);
            }
        }
        (1, _) => return refuse(400, "host is malformed"),
        _ => return refuse(400, "there is more than one host"),
    }
    if let Some(authority) = target.authority {
        head.set_authority(authority.as_bytes());
    }
    if target.slash {
        head.set_path(format!("/{}", target.path).as_bytes());
    } else {
        head.set_path(target.path.as_bytes());
    }
    let framing = request_framing(&facts, http11)?;
    let connects = head.method == Method::CONNECT;
    if connects && framing != Framing::None {
        return refuse(400, "CONNECT has no body");
    }
    if http11 && facts.expects_else {
        return refuse(417, "the expectation is not known");
    }
    head.length = length(framing);
    let expects = http11 && facts.expects && !matches!(framing, Framing::None | Framing::Exact(0));
    let protocol = head.fields.known(Known::Upgrade).is_some() && keep_upgrade(&mut head.fields, http11);
    let upgrades = connects && http11 || protocol && facts.upgrade;
    Ok(Some((Request { head, framing, keep_alive: facts.keeps(http11), expects, upgrades }, used)))
}

fn request_framing(facts: &Facts, http11: bool) -> Result<Framing, Refusal> {
    if facts.bad_length {
        return refuse(400, "content-length is malformed");
    }
    match (facts.coding, facts.length) {
        (Coding::None, None) => Ok(Framing::None),
        (Coding::None, Some(n)) => Ok(Framing::Exact(n)),
        // Whoever is behind us could believe the other one.
        (_, Some(_)) => refuse(400, "there are two lengths"),
        (_, None) if !http11 => refuse(400, "HTTP/1.0 has no transfer-encoding"),
        (Coding::Chunked, None) => Ok(Framing::Chunked),
        (Coding::Unknown, None) => refuse(501, "the transfer-encoding is not known"),
        (Coding::Bad, None) => refuse(400, "the transfer-encoding is malformed"),
    }
}

/// What a head says of its body's length.
fn length(framing: Framing) -> Length {
    match framing {
        Framing::None => Length::None,
        Framing::Exact(n) => Length::Exact(n),
        Framing::Chunked | Framing::UntilClose => Length::Unknown,
    }
}

/// Fills in the fields that stay: their text is copied once, as it lies. The last host.
fn fields<'b>(
    fields: &mut Fields,
    bytes: &'b [u8],
    used: usize,
    all: &[Header<'b>],
    facts: &mut Facts,
) -> Option<&'b [u8]> {
    let first = all.first()?;
    // Where a part of the head lies in it.
    let base = bytes.as_ptr() as usize;
    let from = first.name.as_ptr() as usize - base;
    let text = bytes.get(from..used).unwrap_or_default();
    *fields = Fields::with_capacity(text.len() + ROOM.0, all.len() + ROOM.1);
    fields.place(text);
    let mut host = None;
    for field in all {
        let name = field.name.as_ptr() as usize - base - from;
        // An empty value may lie nowhere.
        let value = match field.value {
            [] => name + field.name.len()..name + field.name.len(),
            value => {
                let at = value.as_ptr() as usize - base - from;
                at..at + value.len()
            }
        };
        let known = fields.push_placed(name..name + field.name.len(), value);
        if known == Known::Host {
            host = Some(field.value);
        }
        if known != Known::Other && !facts.see(known, field.value) {
            fields.pop();
        }
    }
    host
}

/// Leaves of an `upgrade` what may be asked for: of HTTP/1.0 nothing, and never `h2c`, which RFC 9113 knows no more.
/// Whether anything is left.
fn keep_upgrade(fields: &mut Fields, http11: bool) -> bool {
    let is_h2c = |word: &&[u8]| word.eq_ignore_ascii_case(b"h2c");
    let named: Vec<&[u8]> = fields.all("upgrade").flat_map(tokens).collect();
    if http11 && !named.iter().any(is_h2c) {
        return !named.is_empty();
    }
    let rest = named.into_iter().filter(|word| http11 && !is_h2c(word)).collect::<Vec<_>>().join(&b", "[..]);
    fields.remove_known(Known::Upgrade);
    if !rest.is_empty() {
        fields.push_known(Known::Upgrade, &rest);
    }
    !rest.is_empty()
}

/// Whether a request line ends with the name of some version of HTTP; `None` if it has not ended and may.
fn version(bytes: &[u8]) -> Option<bool> {
    let bytes = bytes.trim_ascii_start();
    let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n'));
    let mut words = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default().splitn(3, |b| *b == b' ').skip(2);
    let version = words.next().unwrap_or_default();
    let fits = |(i, b): (usize, &u8)| match i {
        5 | 7 => b.is_ascii_digit(),
        i => b"HTTP/ .".get(i) == Some(b),
    };
    let good = version.iter().enumerate().all(fits);
    match end {
        None if good => None,
        _ => Some(good && version.len() == 8),
    }
}

/// A response's head.
#[derive(Debug)]
pub(super) struct Response {
    /// The head.
    pub(super) head: ResponseHead,
    /// How its body ends.
    pub(super) framing: Framing,
    /// The server lets the connection go on.
    pub(super) keep_alive: bool,
}

/// What the request was: it decides how the body of its response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// HEAD.
    Head,
    /// CONNECT.
    Connect,
    /// Any other, which wants to upgrade.
    Upgrade,
    /// Any other.
    Other,
}

/// Reads a response's head from the front of `bytes`; `None` if it is not whole. With it: how long it is.
pub(super) fn response(bytes: &[u8], limits: &Limits, asked: Asked) -> Result<Option<(Response, usize)>, Broken> {
    if limits.headers <= USUAL {
        let mut places = [const { MaybeUninit::uninit() }; USUAL];
        response_in(bytes, limits, asked, &mut places[..limits.headers])
    } else {
        response_in(bytes, limits, asked, &mut vec![MaybeUninit::uninit(); limits.headers])
    }
}

fn response_in<'b>(
    bytes: &'b [u8],
    limits: &Limits,
    asked: Asked,
    places: Places<'_, 'b>,
) -> Result<Option<(Response, usize)>, Broken> {
    let mut line = StatusLine::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut line, bytes, places);
    let used = match parsed {
        Ok(Status::Complete(used)) if used <= limits.head => used,
        Ok(Status::Partial) if bytes.len() < limits.head => return Ok(None),
        Ok(_) | Err(Error::TooManyHeaders) => return Err(Broken::TooLarge),
        Err(Error::Version) => return Err(Broken::Malformed("the version of a response")),
        Err(Error::Status) => return Err(Broken::Malformed("a status line")),
        Err(Error::HeaderName | Error::HeaderValue) => return Err(Broken::Malformed("a field of a response")),
        Err(_) => return Err(Broken::Malformed("the head of a response")),
    };
    let (Some(status @ 100..=999), Some(minor)) = (line.code, line.version) else {
        return Err(Broken::Malformed("a status line"));
    };
    let http11 = minor == 1;
    let mut head = ResponseHead::new(status);
    head.version = if http11 { Version::Http11 } else { Version::Http10 };
    let mut facts = Facts::new();
    fields(&mut head.fields, bytes, used, line.headers, &mut facts);
    let framing = response_framing(status, &facts, http11)?;
    head.length = length(framing);
    let switches = status == 101 || asked == Asked::Connect && (200..300).contains(&status);
    let bodiless = asked == Asked::Head || status < 200 || status == 204 || status == 304 || switches;
    if bodiless && (framing == Framing::UntilClose || status != 304 && asked != Asked::Head) {
        head.length = Length::None;
    }
    if status == 101 && asked != Asked::Upgrade {
        return Err(Broken::Malformed("nobody asked for an upgrade"));
    }
    let framing = if bodiless { Framing::None } else { framing };
    let keep_alive = facts.keeps(http11) && framing != Framing::UntilClose;
    Ok(Some((Response { head, framing, keep_alive }, used)))
}

fn response_framing(status: u16, facts: &Facts, http11: bool) -> Result<Framing, Broken> {
    if facts.bad_length {
        return Err(Broken::Malformed("content-length"));
    }
    let nothing = status < 200 || status == 204;
    match (facts.coding, facts.length) {
        (Coding::None, None) => Ok(Framing::UntilClose),
        (Coding::None, Some(1..)) if nothing => Err(Broken::Malformed("a length where there is no body")),
        (Coding::None, Some(n)) => Ok(Framing::Exact(n)),
        (_, Some(_)) => Err(Broken::Malformed("two lengths")),
        (Coding::Chunked, None) if http11 && !nothing => Ok(Framing::Chunked),
        _ => Err(Broken::Malformed("transfer-encoding")),
    }
}
