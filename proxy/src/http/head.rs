//! Heads of requests and responses: checked, stripped of what belongs to one connection, shaped for the next.
//!
//! In: a head as a codec read it. Out: the same head, fit to be sent on, and what was learned from it. Invariant: nothing
//! that frames, upgrades or authenticates a connection passes from one to the other.

use std::fmt::Write as _;

use http::Method;

use super::answer::{Answer, BAD_NAME, BAD_PATH, BAD_REQUEST, NO_HOST, NO_ROUTE, NO_UPGRADE};
use super::connection::Connection;
use super::message::{Fields, Known, RequestHead, ResponseHead, Version};
use crate::config::{Escapes, Forward, Xfcc};
use crate::route::normalize;
use smallstr::Text;

/// What a request's head says beside its text.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The application speaks HTTP/2.
    pub(super) http2: bool,
    /// It is gRPC.
    pub(super) grpc: bool,
    /// The client holds its body back until it is asked for it.
    pub(super) expects: bool,
    /// What the connection is to become.
    pub(super) switch: Switch,
}

/// What a connection is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// It stays HTTP.
    No,
    /// Another protocol, lower case.
    Upgrade(String),
    /// A tunnel.
    Connect,
}

impl Switch {
    /// Its name in configurations.
    fn name(&self) -> &str {
        match self {
            Self::No => "",
            Self::Upgrade(protocol) => protocol,
            Self::Connect => "connect",
        }
    }
}

/// Checks a request's head and cleans it.
pub(super) fn take(connection: &Connection, head: &mut RequestHead) -> Result<Shape, Answer> {
    let spec = &connection.spec;
    let mut seen = Seen::of(&head.fields);
    if spec.refuse_underscores && head.fields.iter().any(|field| field.name.contains(&b'_')) {
        return Err(BAD_NAME);
    }
    authority(connection, head)?;
    path(connection, head)?;
    let mut http2 = head.version == Version::Http2;
    if seen.has(Known::HawserProtocol) {
        if connection.hawser {
            http2 = head.fields.known(Known::HawserProtocol) == Some(b"HTTP/2");
        }
        head.fields.remove_known(Known::HawserProtocol);
    }
    let switch = switch(head);
    if strip(&mut head.fields, &seen) {
        // What a client has taken away must not count as said.
        seen = Seen::of(&head.fields);
    }
    let mut expects = false;
    if seen.has(Known::Expect) {
        expects = head.fields.known(Known::Expect).is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
        head.fields.remove_known(Known::Expect);
    }
    if seen.has(Known::EnvoyInternal) {
        // Only a proxy at the edge could know.
        head.fields.remove_known(Known::EnvoyInternal);
    }
    forwarded_client(connection, &mut head.fields, &seen);
    if spec.request_id && head.fields.known(Known::RequestId).is_none_or(<[u8]>::is_empty) {
        head.fields.remove_known(Known::RequestId);
        head.fields.push_known(Known::RequestId, &request_id());
    }
    // Whoever is the first to see a request knows how it came; what is said by one before is believed within the mesh alone.
    let told = seen.has(Known::ForwardedProto);
    if told && spec.remote_address {
        head.fields.remove_known(Known::ForwardedProto);
    }
    if !told || spec.remote_address {
        head.fields.push_known(Known::ForwardedProto, if connection.secure { b"https" } else { b"http" });
    }
    if spec.remote_address
        && let Some(from) = connection.from
    {
        let mut text = Text::new();
        let _ = write!(text, "{}", from.ip());
        append(&mut head.fields, Known::ForwardedFor, &text);
    }
    let grpc = seen.has(Known::ContentType) && is_grpc(&head.fields);
    Ok(Shape { http2, grpc, expects, switch })
}

/// Which known fields there are: one look instead of many.
struct Seen(u64);

impl Seen {
    fn of(fields: &Fields) -> Self {
        Self(fields.iter().fold(0, |all, field| all | 1 << (field.known as u32)))
    }

    fn has(&self, known: Known) -> bool {
        self.0 & (1 << (known as u32)) != 0
    }
}

/// Whether a route lets a connection become something else: its own word, else the connection's.
pub(super) fn lets_through(connection: &Connection, forward: &Forward, switch: &Switch) -> Result<(), Answer> {
    if *switch == Switch::No {
        return Ok(());
    }
    let wanted = switch.name();
    // A tunnel that no route is for leads nowhere.
    let refusal = if *switch == Switch::Connect { NO_ROUTE } else { NO_UPGRADE };
    let own = forward.upgrades.iter().find(|(kind, _)| kind == wanted).map(|(_, yes)| *yes);
    let yes = own.unwrap_or_else(|| connection.spec.upgrades.iter().any(|kind| kind == wanted));
    if yes { Ok(()) } else { Err(refusal) }
}

fn authority(connection: &Connection, head: &mut RequestHead) -> Result<(), Answer> {
    if head.authority().is_empty() {
        let default = connection.spec.http10_host.as_deref().unwrap_or_default();
        if head.version != Version::Http10 {
            return Err(NO_HOST);
        }
        if !default.is_empty() {
            head.set_authority(default.as_bytes());
        }
        return Ok(());
    }
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~' | b'%');
    let authority = head.authority();
    if authority.len() > 512 || !authority.as_bytes().iter().all(good) {
        return Err(BAD_REQUEST);
    }
    Ok(())
}

fn path(connection: &Connection, head: &mut RequestHead) -> Result<(), Answer> {
    let spec = &connection.spec;
    if head.method == Method::CONNECT && head.protocol().is_empty() {
        return Ok(());
    }
    let given = head.path();
    if given == "*" {
        return if head.method == Method::OPTIONS { Ok(()) } else { Err(BAD_REQUEST) };
    }
    let (path, query) = head.path_and_query();
    if !path.starts_with('/') {
        return Err(BAD_REQUEST);
    }
    if spec.escapes == Escapes::Reject && path.contains('%') {
        let lower = path.to_ascii_lowercase();
        if lower.contains("%2f") || lower.contains("%5c") {
            return Err(BAD_PATH);
        }
    }
    let plain = normalize(path, spec.normalize_path, spec.merge_slashes).map_err(|_| BAD_PATH)?;
    if plain == path {
        return Ok(());
    }
    let whole = query.map_or_else(|| plain.to_string(), |query| format!("{plain}?{query}"));
    head.set_path(whole.as_bytes());
    Ok(())
}

fn switch(head: &RequestHead) -> Switch {
    if head.method == Method::CONNECT {
        return match head.protocol() {
            "" => Switch::Connect,
            protocol => Switch::Upgrade(protocol.to_ascii_lowercase()),
        };
    }
    if head.version != Version::Http11 {
        return Switch::No;
    }
    let Some(protocol) = head.fields.known(Known::Upgrade) else { return Switch::No };
    let named =
        |value: &[u8]| value.split(|b| *b == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    match std::str::from_utf8(protocol) {
        // An offer of HTTP/2 in plaintext is not taken up (RFC 9113, 3.1): the request goes on as it is.
        Ok(protocol) if !protocol.eq_ignore_ascii_case("h2c") && head.fields.all("connection").any(named) => {
            Switch::Upgrade(protocol.to_ascii_lowercase())
        }
        _ => Switch::No,
    }
}

/// Takes away what belongs to one connection; whether fields went that the peer has named.
fn strip(fields: &mut Fields, seen: &Seen) -> bool {
    let named = seen.has(Known::Connection) && strip_named(fields);
    if seen.has(Known::Te) {
        let trailers =
            |value: &[u8]| value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        let trailers = fields.all("te").any(trailers);
        fields.remove_known(Known::Te);
        if trailers {
            fields.push_known(Known::Te, b"trailers");
        }
    }
    const OWN: [Known; 6] = [
        Known::Connection,
        Known::KeepAlive,
        Known::ProxyConnection,
        Known::TransferEncoding,
        Known::Http2Settings,
        Known::Upgrade,
    ];
    if OWN.iter().any(|known| seen.has(*known)) {
        fields.retain(|field| !OWN.contains(&field.known));
    }
    named
}

/// Takes away what `connection` lists. The list may be as long as a head, so it is not gone through for each field.
fn strip_named(fields: &mut Fields) -> bool {
    /// Nobody may strip what the next hop relies on.
    const STAYS: [&[u8]; 4] = [b"te", b"x-forwarded-client-cert", b"close", b"keep-alive"];
    let text = fields.all("connection").collect::<Vec<_>>().join(&b","[..]).to_ascii_lowercase();
    let names = text.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let mut listed: Vec<&[u8]> = names.filter(|name| !name.is_empty() && !STAYS.contains(name)).collect();
    if listed.is_empty() {
        return false;
    }
    listed.sort_unstable();
    let before = fields.len();
    fields.retain(|field| listed.binary_search(&field.name).is_err());
    fields.len() != before
}

/// `x-forwarded-client-cert`: who calls, said by us alone.
fn forwarded_client(connection: &Connection, fields: &mut Fields, seen: &Seen) {
    let peer = connection.peer.as_ref();
    let has = seen.has(Known::ForwardedClientCert);
    match (connection.spec.xfcc, peer) {
        (Xfcc::AlwaysForward, _) | (Xfcc::Forward, Some(_)) => {}
        (Xfcc::Sanitize, _) | (_, None) => {
            if has {
                fields.remove_known(Known::ForwardedClientCert);
            }
        }
        (Xfcc::Append | Xfcc::Set, Some(_)) => {
            if has && connection.spec.xfcc == Xfcc::Set {
                fields.remove_known(Known::ForwardedClientCert);
            }
            append(fields, Known::ForwardedClientCert, connection.client_cert.as_bytes());
        }
    }
}

/// Adds to a field that is a list, and may have come in several lines: some proxies add a line of their own.
fn append(fields: &mut Fields, known: Known, text: &[u8]) {
    if fields.known(known).is_none() {
        return fields.push_known(known, text);
    }
    let before = fields.all(known.name()).filter(|value| !value.is_empty());
    let all = before.chain([text]).collect::<Vec<_>>().join(&b","[..]);
    fields.remove_known(known);
    fields.push_known(known, &all);
}

/// A random UUID.
fn request_id() -> [u8; 36] {
    use rand::RngExt as _;
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        for digit in [byte >> 4, byte & 15] {
            text[at] = b"0123456789abcdef"[usize::from(digit)];
            at += 1;
        }
    }
    text
}

/// How the next connection takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2 to a hawser-proxy, which is told the application's protocol.
    Hawser,
}

/// Makes a head fit for its connection; called again for each try. The method that it had, if it is another one now, is
/// to be put back after.
pub(super) fn fit(head: &mut RequestHead, shape: &Shape, wire: Wire, attempt: Option<u32>) -> Option<Method> {
    if let Some(attempt) = attempt {
        let mut text = Text::new();
        let _ = write!(text, "{attempt}");
        head.fields.remove_known(Known::AttemptCount);
        head.fields.push_known(Known::AttemptCount, &text);
    }
    match wire {
        Wire::Http1 => {
            join_cookies(&mut head.fields);
            if let Switch::Upgrade(protocol) = &shape.switch {
                if head.method == Method::CONNECT {
                    // As HTTP/2 asked for it (RFC 8441), HTTP/1.1 asks for it so.
                    head.method = Method::GET;
                    head.set_protocol(b"");
                    if protocol == "websocket" && head.fields.get("sec-websocket-key").is_none() {
                        head.fields.push(b"sec-websocket-key", websocket_key().as_bytes());
                    }
                }
                head.fields.remove_known(Known::Connection);
                head.fields.push_known(Known::Connection, b"upgrade");
                head.fields.remove_known(Known::Upgrade);
                head.fields.push_known(Known::Upgrade, protocol.as_bytes());
            }
        }
        Wire::Http2 => {}
        Wire::Hawser => {
            head.fields.remove_known(Known::HawserProtocol);
            let protocol: &[u8] = if shape.http2 { b"HTTP/2" } else { b"HTTP/1.1" };
            head.fields.push_known(Known::HawserProtocol, protocol);
        }
    }
    match &shape.switch {
        Switch::Upgrade(protocol) if wire != Wire::Http1 && head.method != Method::CONNECT => {
            // As HTTP/1.1 asked for it, HTTP/2 asks for it so (RFC 8441). An earlier try may have been one of HTTP/1.1.
            head.fields.remove_known(Known::Connection);
            head.fields.remove_known(Known::Upgrade);
            head.set_protocol(protocol.as_bytes());
            Some(std::mem::replace(&mut head.method, Method::CONNECT))
        }
        _ => None,
    }
}

/// The answer to a WebSocket's key (RFC 6455, 4.2.2), for a client of HTTP/1.1 whose server needed none.
pub(super) fn websocket_accept(key: &[u8]) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    use base64::Engine as _;
    let text = [key, &b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"[..]].concat();
    base64::engine::general_purpose::STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// RFC 6455, 4.1: 16 random bytes, which HTTP/2 does without.
fn websocket_key() -> String {
    use base64::Engine as _;
    use rand::RngExt as _;
    let bytes: [u8; 16] = rand::rng().random();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// HTTP/2 may cut a cookie into several fields; HTTP/1.1 may not.
fn join_cookies(fields: &mut Fields) {
    if fields.all("cookie").count() > 1 {
        fields.join_cookies();
    }
}

/// Cleans a response's head. What it says of an upgrade is returned.
pub(super) fn clean_response(head: &mut ResponseHead) -> Option<Vec<u8>> {
    let seen = Seen::of(&head.fields);
    let upgrade = head.fields.known(Known::Upgrade).filter(|_| head.status == 101).map(<[u8]>::to_vec);
    strip(&mut head.fields, &seen);
    for known in [Known::HawserProtocol, Known::ForwardedClientCert] {
        if seen.has(known) {
            head.fields.remove_known(known);
        }
    }
    upgrade
}

/// Says when a response came, if its server does not (RFC 9110, 6.6.1).
pub(super) fn date(fields: &mut Fields) {
    if fields.known(Known::Date).is_none() {
        fields.push_known(Known::Date, &crate::clock::http_date());
    }
}

/// Whether a request is gRPC.
pub(super) fn is_grpc(fields: &Fields) -> bool {
    fields.known(Known::ContentType).is_some_and(|value| {
        value.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// `grpc-timeout` (gRPC over HTTP/2): at most eight digits and a unit.
pub(super) fn grpc_timeout(fields: &Fields) -> Option<std::time::Duration> {
    use std::time::Duration;
    let (unit, digits) = fields.known(Known::GrpcTimeout)?.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A short text without an allocation.
mod smallstr {
    use std::fmt;

    /// Up to 64 bytes; what does not fit is cut.
    pub(super) struct Text {
        bytes: [u8; 64],
        len: usize,
    }

    impl Text {
        pub(super) fn new() -> Self {
            Self { bytes: [0; 64], len: 0 }
        }
    }

    impl std::ops::Deref for Text {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            &self.bytes[..self.len]
        }
    }

    impl fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let n = text.len().min(self.bytes.len() - self.len);
            self.bytes[self.len..self.len + n].copy_from_slice(&text.as_bytes()[..n]);
            self.len += n;
            if n == text.len() { Ok(()) } else { Err(fmt::Error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_accepted_as_its_standard_says() {
        assert_eq!(websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_time_of_grpc_has_digits_and_a_unit() {
        for (text, is) in [
            ("1S", Some(1000)),
            ("250m", Some(250)),
            ("2M", Some(120_000)),
            ("S", None),
            ("123456789m", None),
            ("1", None),
        ] {
            let mut fields = Fields::default();
            fields.push_known(Known::GrpcTimeout, text.as_bytes());
            assert_eq!(grpc_timeout(&fields).map(|d| d.as_millis()), is, "{text}");
        }
    }

    #[test]
    fn what_belongs_to_a_connection_goes() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("x-a", "b"),
        ] {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let seen = Seen::of(&fields);
        strip(&mut fields, &seen);
        let left: Vec<_> = fields.iter().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
        assert_eq!(left, ["x-a", "te"]);
        assert_eq!(fields.get("te"), Some(&b"trailers"[..]));
    }

    #[test]
    fn a_peer_may_name_more_fields_than_there_are() {
        let mut fields = Fields::default();
        fields.push(b"connection", &b"A, x-none, X-B ,,te".repeat(3000));
        for name in ["x-a", "x-b", "a", "te"] {
            fields.push(name.as_bytes(), b"trailers");
        }
        let seen = Seen::of(&fields);
        assert!(strip(&mut fields, &seen));
        let left: Vec<_> = fields.iter().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
        assert_eq!(left, ["x-a", "te"]);
        assert!(!strip(&mut fields, &Seen::of(&Fields::default())));
    }

    #[test]
    fn what_is_added_to_a_list_stands_behind_all_of_its_lines() {
        let mut fields = Fields::default();
        append(&mut fields, Known::ForwardedFor, b"10.0.0.1");
        assert_eq!(fields.known(Known::ForwardedFor), Some(&b"10.0.0.1"[..]));
        fields.push_known(Known::ForwardedFor, b"");
        fields.push_known(Known::ForwardedFor, b"10.0.0.2, 10.0.0.3");
        append(&mut fields, Known::ForwardedFor, b"10.0.0.4");
        let all: Vec<_> = fields.all("x-forwarded-for").collect();
        assert_eq!(all, [b"10.0.0.1,10.0.0.2, 10.0.0.3,10.0.0.4"]);
    }
}
