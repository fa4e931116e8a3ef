//! Heads of messages, whatever version of HTTP brings or takes them.
//!
//! In: names and values as a codec parsed them. Out: the same, changed as routes want it, for another codec to write. All
//! text of a head lies in one buffer; fields are places in it. Names are lower case. Nothing here checks what a
//! stranger sent: codecs do, before they put it here.

mod fields;
mod known;

pub use fields::{Field, Fields, Name};
pub use known::Known;

use http::Method;

use fields::Span;

/// Version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.0.
    Http10,
    /// 1.1.
    Http11,
    /// 2.
    Http2,
}

/// How long a body is. It says how a message is framed; no head carries `content-length` or `transfer-encoding` as a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// No body follows, and no length is told: a GET, a 204, a 304.
    None,
    /// So many bytes, which are told. After the head of an answer to HEAD none of them follows.
    Exact(u64),
    /// Whoever sends it says when it ends; trailers may follow.
    Unknown,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// Version it came by.
    pub version: Version,
    /// How long the body is.
    pub length: Length,
    /// Fields, without `host`, `content-length`, `transfer-encoding`.
    pub fields: Fields,
    authority: Span,
    path: Span,
    protocol: Span,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status, 100 to 999.
    pub status: u16,
    /// Version it came by.
    pub version: Version,
    /// How long the body is.
    pub length: Length,
    /// Fields, without `content-length`, `transfer-encoding`.
    pub fields: Fields,
}

impl RequestHead {
    /// A head without fields.
    pub fn new(method: Method, version: Version) -> Self {
        let (authority, path, protocol) = Default::default();
        Self { method, version, length: Length::None, fields: Fields::default(), authority, path, protocol }
    }

    /// Host, with its port if it has one; empty if the request named none (HTTP/1.0), or is CONNECT without.
    pub fn authority(&self) -> &str {
        self.fields.text(self.authority)
    }

    /// The host that it names, without its port, and without the brackets of an address.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => authority.split_once(':').map_or(authority, |(host, _)| host),
        }
    }

    /// As [`RequestHead::authority`], for who writes it.
    pub(super) fn authority_bytes(&self) -> &[u8] {
        self.fields.span(self.authority)
    }

    /// As [`RequestHead::path`], for who writes it.
    pub(super) fn path_bytes(&self) -> &[u8] {
        self.fields.span(self.path)
    }

    /// Sets the host.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.fields.keep(authority);
    }

    /// Path and query in origin form, or `*`; empty only of CONNECT.
    pub fn path(&self) -> &str {
        self.fields.text(self.path)
    }

    /// Sets path and query.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.fields.keep(path);
    }

    /// `:protocol` of an extended CONNECT (RFC 8441); empty without.
    pub fn protocol(&self) -> &str {
        self.fields.text(self.protocol)
    }

    /// Sets `:protocol`.
    pub fn set_protocol(&mut self, protocol: &[u8]) {
        self.protocol = self.fields.keep(protocol);
    }

    /// Path without the query, and the query without its question mark.
    pub fn path_and_query(&self) -> (&str, Option<&str>) {
        match self.path().split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path(), None),
        }
    }
}

impl ResponseHead {
    /// A head without fields and without a body.
    pub fn new(status: u16) -> Self {
        Self { status, version: Version::Http11, length: Length::None, fields: Fields::default() }
    }
}

/// Whether a field may come behind a body: what frames, routes, authenticates or belongs to the connection may not
/// (RFC 9110, 6.5.1).
pub(super) fn may_trail(name: &[u8]) -> bool {
    const NEVER: &[&str] = &[
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
        "x-forwarded-client-cert",
        "x-hawser-protocol",
    ];
    !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

/// The status of gRPC that stands for one of HTTP (gRPC, "HTTP to gRPC Status Code Mapping").
pub(crate) fn grpc_status_of(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
