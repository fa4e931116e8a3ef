//! Heads of requests and responses: checked, stripped of what belongs to one connection, shaped for the next.
//!
//! In: a head as it was parsed. Out: the host, path and protocol of the request, and headers that may be sent on.
//! Invariant: nothing that frames, upgrades or authenticates a connection passes from one to the other.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use super::answer::{Answer, BAD_REQUEST, NO_CONNECT};
use super::codec::RequestBody;
use super::connection::Connection;
use crate::config::{Escapes, Xfcc};
use crate::route::normalize;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The application's own protocol, between hawser-proxies.
pub(super) const APP_PROTOCOL: HeaderName = HeaderName::from_static("x-hawser-protocol");

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Head {
    /// Host, with its port if it has one.
    pub(super) host: HeaderValue,
    /// Path and query, made plain.
    pub(super) path: PathAndQuery,
    /// Whether the application speaks HTTP/2.
    pub(super) http2: bool,
    /// The protocol that the client wants to change to.
    pub(super) upgrade: Option<HeaderValue>,
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

/// Checks a request's head and cleans its headers.
pub(super) fn take(connection: &Connection, parts: &mut Parts) -> Result<Head, Answer> {
    let spec = &connection.spec;
    if parts.method == Method::CONNECT {
        return Err(NO_CONNECT);
    }
    let headers = &mut parts.headers;
    if spec.refuse_underscores && headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(BAD_REQUEST);
    }
    // Two lengths: whoever is behind us could believe the other one.
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(BAD_REQUEST);
    }
    let host = host(connection, &parts.uri, headers, parts.version)?;
    let path = path(connection, parts)?;
    let headers = &mut parts.headers;
    let mut http2 = parts.version == Version::HTTP_2;
    if connection.hawser
        && let Some(protocol) = headers.get(APP_PROTOCOL)
    {
        http2 = protocol.as_bytes() == b"HTTP/2";
    }
    headers.remove(APP_PROTOCOL);
    let upgrade = wants_upgrade(headers);
    strip(headers);
    headers.remove(EXPECT);
    headers.remove(HOST);
    forwarded_client(connection, headers);
    if spec.request_id && !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id());
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if spec.remote_address
        && let Some(from) = connection.from
    {
        append(headers, FORWARDED_FOR, &from.ip().to_string());
    }
    Ok(Head { host, path, http2, upgrade })
}

/// The host that a request names; once, and well-formed.
fn host(connection: &Connection, uri: &Uri, headers: &HeaderMap, version: Version) -> Result<HeaderValue, Answer> {
    let mut named = headers.get_all(HOST).iter();
    let header = named.next();
    if named.next().is_some() {
        return Err(BAD_REQUEST);
    }
    let host = match (uri.authority(), header) {
        // An absolute form wins over the header (RFC 9112, 3.2.2).
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| BAD_REQUEST)?,
        (None, Some(header)) => header.clone(),
        (None, None) if version == Version::HTTP_10 || version == Version::HTTP_09 => {
            let default = connection.spec.http10_host.as_deref().unwrap_or_default();
            return HeaderValue::from_str(default).map_err(|_| BAD_REQUEST);
        }
        (None, None) => return Err(BAD_REQUEST),
    };
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~' | b'%');
    if host.is_empty() || host.len() > 512 || !host.as_bytes().iter().all(good) {
        return Err(BAD_REQUEST);
    }
    Ok(host)
}

fn path(connection: &Connection, parts: &Parts) -> Result<PathAndQuery, Answer> {
    let spec = &connection.spec;
    let given = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if given.path() == "*" {
        return if parts.method == Method::OPTIONS { Ok(given) } else { Err(BAD_REQUEST) };
    }
    if spec.escapes == Escapes::Reject {
        let lower = given.path().to_ascii_lowercase();
        if lower.contains("%2f") || lower.contains("%5c") {
            return Err(BAD_REQUEST);
        }
    }
    let plain = normalize(given.path(), spec.normalize_path, spec.merge_slashes).map_err(|_| BAD_REQUEST)?;
    if plain == given.path() {
        return Ok(given);
    }
    let whole = given.query().map_or_else(|| plain.to_string(), |query| format!("{plain}?{query}"));
    PathAndQuery::try_from(whole).map_err(|_| BAD_REQUEST)
}

fn wants_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let named = |value: &HeaderValue| {
        value.to_str().is_ok_and(|v| v.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
    };
    headers.get_all(CONNECTION).iter().any(named).then(|| headers.get(UPGRADE).cloned())?
}

/// Takes away what belongs to one connection.
pub(super) fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            // Nobody may strip what the next hop relies on.
            .filter(|name| ![HOST, CONTENT_LENGTH, XFCC, TE].contains(name))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    let trailers = headers
        .get(TE)
        .is_some_and(|te| te.to_str().is_ok_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers"))));
    if headers.remove(TE).is_some() && trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
}

/// `x-forwarded-client-cert`: who calls, said by us alone.
fn forwarded_client(connection: &Connection, headers: &mut HeaderMap) {
    let peer = connection.peer.as_ref();
    match (connection.spec.xfcc, peer) {
        (Xfcc::AlwaysForward, _) | (Xfcc::Forward, Some(_)) => {}
        (Xfcc::Sanitize, _) | (_, None) => drop(headers.remove(XFCC)),
        (Xfcc::Append | Xfcc::Set, Some(peer)) => {
            if connection.spec.xfcc == Xfcc::Set {
                headers.remove(XFCC);
            }
            // A call that never left the process shows no certificate.
            let hash = if peer.hash.is_empty() { String::new() } else { format!("Hash={};", peer.hash) };
            append(headers, XFCC, &format!("By={};{hash}Subject=\"\";URI={}", peer.own, peer.identity));
        }
    }
}

fn append(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let before = headers.get(&name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    let all = before.map_or_else(|| text.to_owned(), |before| format!("{before},{text}"));
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(name, value);
    }
}

/// A random UUID.
fn request_id() -> HeaderValue {
    use rand::RngExt as _;
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [0u8; 36];
    let mut at = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text[at] = b'-';
            at += 1;
        }
        for digit in [byte >> 4, byte & 15] {
            text[at] = b"0123456789abcdef"[usize::from(digit)];
            at += 1;
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// The request as the next connection takes it; `None` if host or path can't be written.
pub(super) fn outgoing(
    parts: &Parts,
    head: &Head,
    path: &PathAndQuery,
    wire: Wire,
    upgrade: bool,
    body: RequestBody,
) -> Option<Request<RequestBody>> {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.headers_mut() = parts.headers.clone();
    let headers = request.headers_mut();
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path.clone());
    match wire {
        Wire::Http1 => {
            headers.insert(HOST, head.host.clone());
            join_cookies(headers);
            if upgrade && let Some(protocol) = &head.upgrade {
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, protocol.clone());
            }
        }
        Wire::Http2 | Wire::Hawser => {
            if wire == Wire::Hawser {
                let protocol = if head.http2 { "HTTP/2" } else { "HTTP/1.1" };
                headers.insert(APP_PROTOCOL, HeaderValue::from_static(protocol));
            }
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(Authority::try_from(head.host.as_bytes()).ok()?);
            *request.version_mut() = Version::HTTP_2;
        }
    }
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    Some(request)
}

/// HTTP/2 may cut a cookie into several headers; HTTP/1.1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    if all.next().is_none() || all.next().is_none() {
        return;
    }
    let joined: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(value) = HeaderValue::from_bytes(&joined.join(&b"; "[..])) {
        headers.insert(COOKIE, value);
    }
}

/// Cleans a response's headers.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(APP_PROTOCOL);
    headers.remove(XFCC);
}

/// Whether a request is gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}
