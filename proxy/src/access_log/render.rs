//! A record as a line.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use hawser_api::access_log::{Fact, GrpcStatus, TimeFormat};

use super::format::{Field, Node, Of, Op, Piece, Shape};
use super::text::{Quoting, address, escape, ip, number};
use super::{Clock, Details, Flags, Format, Record};
use crate::http::message::{Fields, Known, Length, Version};

impl Format {
    /// Writes the line of a record.
    pub fn write(&self, record: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
        let mut line = Line { record, clock, out, omit_empty: self.omit_empty };
        match &self.shape {
            Shape::Text(pieces) => line.pieces(pieces, Quoting::Text),
            Shape::Json(node) => {
                line.node(node);
                line.out.push(b'\n');
            }
        }
    }
}

/// A line that is being written.
struct Line<'l> {
    record: &'l Record<'l>,
    clock: &'l mut Clock,
    out: &'l mut Vec<u8>,
    omit_empty: bool,
}

/// What an operator comes to.
enum Value<'v> {
    None,
    Number(u64),
    Bytes(&'v [u8]),
    Address(SocketAddr),
    Ip(IpAddr),
    Time(SystemTime, Option<&'v TimeFormat>),
    Flags(Flags),
    FlagsLong(Flags),
    Details(&'v Details),
    Words(&'v str),
}

impl Line<'_> {
    fn pieces(&mut self, pieces: &[Piece], quoting: Quoting) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.out.extend_from_slice(text),
                Piece::Op(op) => self.op(op, quoting, if self.omit_empty { b"" } else { b"-" }, false),
            }
        }
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Fixed(text) => self.out.extend_from_slice(text),
            Node::Text(pieces) => {
                self.out.push(b'"');
                self.pieces(pieces, Quoting::Json);
                self.out.push(b'"');
            }
            Node::Typed(op) => self.op(op, Quoting::Json, b"null", true),
            Node::List(all) => {
                self.out.push(b'[');
                for (i, node) in all.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    self.node(node);
                }
                self.out.push(b']');
            }
            Node::Object(fields) => {
                self.out.push(b'{');
                let mut first = true;
                for (key, node) in fields {
                    if self.omit_empty && is_absent(node, self.record) {
                        continue;
                    }
                    if !std::mem::take(&mut first) {
                        self.out.push(b',');
                    }
                    self.out.extend_from_slice(key);
                    self.node(node);
                }
                self.out.push(b'}');
            }
        }
    }

    /// Writes what an operator comes to: `absent` if it has no value, and with `quotes` in quotation marks if it is no
    /// number.
    fn op(&mut self, op: &Op, quoting: Quoting, absent: &[u8], quotes: bool) {
        let found = value(op, self.record);
        let out = &mut *self.out;
        let quotes = quotes && !matches!(found, Value::None | Value::Number(_));
        if quotes {
            out.push(b'"');
        }
        match found {
            Value::None => out.extend_from_slice(absent),
            // A column that is there and empty would make columns of the others.
            Value::Bytes([]) if quoting == Quoting::Text => out.extend_from_slice(absent),
            Value::Bytes(bytes) => escape(bytes, quoting, out),
            Value::Number(value) => number(value, out),
            Value::Address(value) => address(value, out),
            Value::Ip(value) => ip(value, out),
            Value::Time(time, format) => self.clock.write(time, format, out),
            Value::Flags(flags) => flags.write(out),
            Value::FlagsLong(flags) => flags.write_long(out),
            Value::Words(text) => word_of(text, quoting, out),
            Value::Details(details) => self::details(details, self.record.transport_failure, quoting, out),
        }
        if quotes {
            out.push(b'"');
        }
    }
}

fn details(details: &Details, failure: Option<&str>, quoting: Quoting, out: &mut Vec<u8>) {
    let (word, inner, end) = details.parts();
    out.extend_from_slice(word.as_bytes());
    if end.is_empty() {
        return;
    }
    word_of(inner, quoting, out);
    if let Some(why) = failure.filter(|_| details.is_connecting()) {
        out.push(b'|');
        word_of(why, quoting, out);
    }
    out.extend_from_slice(end.as_bytes());
}

/// Writes text without blanks, as the words around it have none.
fn word_of(text: &str, quoting: Quoting, out: &mut Vec<u8>) {
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 {
            out.push(b'_');
        }
        escape(word.as_bytes(), quoting, out);
    }
}

fn is_absent(node: &Node, record: &Record<'_>) -> bool {
    matches!(node, Node::Typed(op) if matches!(value(op, record), Value::None))
}

// In one piece with what writes the value, none has to be made up in memory.
#[inline(always)]
fn value<'v>(op: &'v Op, record: &'v Record<'v>) -> Value<'v> {
    match op {
        Op::Fact(fact) => self::fact(*fact, record),
        Op::Start(format) => Value::Time(record.start, format.as_ref()),
        Op::Emit(format) => Value::Time(record.start + record.duration, format.as_ref()),
        Op::Field { of, first, or, most } => {
            let found = match field(*of, first, record) {
                Value::None => or.as_ref().map_or(Value::None, |or| field(*of, or, record)),
                found => found,
            };
            match found {
                Value::Bytes(bytes) => Value::Bytes(&bytes[..bytes.len().min(*most)]),
                other => other,
            }
        }
        Op::Grpc(form) => match (record.grpc_code(), form) {
            (None, _) => Value::None,
            (Some(code), GrpcStatus::Number) => Value::Number(code.into()),
            (Some(code), form) => match GRPC.get(usize::from(code)) {
                Some((camel, _)) if *form == GrpcStatus::Camel => Value::Bytes(camel.as_bytes()),
                Some((_, snake)) => Value::Bytes(snake.as_bytes()),
                None => Value::Number(code.into()),
            },
        },
        Op::Fixed(text) => Value::Bytes(text.as_bytes()),
        Op::Metadata { filter, key, most } => match record.marks.and_then(|marks| marks.find(filter, key)) {
            Some(text) => Value::Bytes(&text.as_bytes()[..text.len().min(*most)]),
            None => Value::None,
        },
        Op::Unset => Value::None,
    }
}

#[inline(always)]
fn fact<'v>(fact: Fact, r: &Record<'v>) -> Value<'v> {
    let text = |text: Option<&'v str>| text.map_or(Value::None, |t| Value::Bytes(t.as_bytes()));
    let name = |name: &'v str| text(Some(name).filter(|n| !n.is_empty()));
    let version = |version: Option<Version>| {
        text(version.map(|v| match v {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }))
    };
    let millis = |d: Option<Duration>| d.map_or(Value::None, |d| Value::Number(in_millis(d)));
    let address = |a: Option<SocketAddr>| a.map_or(Value::None, Value::Address);
    let ip = |a: Option<SocketAddr>| a.map_or(Value::None, |a| Value::Ip(a.ip()));
    let port = |a: Option<SocketAddr>| a.map_or(Value::None, |a| Value::Number(a.port().into()));
    let d = &r.downstream;
    match fact {
        Fact::Protocol => version(r.request.map(|h| h.version).or(r.version)),
        Fact::UpstreamProtocol => version(r.upstream_version),
        Fact::ResponseCode => Value::Number(r.status.into()),
        Fact::ResponseCodeDetails => r.details.map_or(Value::None, Value::Details),
        Fact::ConnectionTerminationDetails => text(r.termination),
        Fact::ResponseFlags => Value::Flags(r.flags),
        Fact::ResponseFlagsLong => Value::FlagsLong(r.flags),
        Fact::UpstreamTransportFailureReason => r.transport_failure.map_or(Value::None, Value::Words),
        Fact::BytesReceived => Value::Number(r.received),
        Fact::BytesSent => Value::Number(r.sent),
        Fact::Duration => millis(Some(r.duration)),
        Fact::RequestDuration => millis(r.request_duration),
        Fact::RequestTxDuration => millis(r.request_sent),
        Fact::ResponseDuration => millis(r.response_duration),
        Fact::ResponseTxDuration => millis(r.response_duration.map(|began| r.duration.saturating_sub(began))),
        Fact::UpstreamHost | Fact::UpstreamRemoteAddress => address(r.endpoint),
        Fact::UpstreamCluster | Fact::UpstreamClusterRaw => name(r.cluster),
        Fact::UpstreamLocalAddress => address(r.upstream_local),
        Fact::UpstreamLocalAddressWithoutPort => ip(r.upstream_local),
        Fact::UpstreamLocalPort => port(r.upstream_local),
        Fact::UpstreamRemoteAddressWithoutPort => ip(r.endpoint),
        Fact::UpstreamRemotePort => port(r.endpoint),
        Fact::UpstreamPeerUriSan => text(r.upstream_peer),
        Fact::UpstreamRequestAttemptCount => Value::Number(r.attempts.into()),
        Fact::DownstreamLocalAddress => address(d.local),
        Fact::DownstreamLocalAddressWithoutPort => ip(d.local),
        Fact::DownstreamLocalPort => port(d.local),
        Fact::DownstreamRemoteAddress => address(d.remote),
        Fact::DownstreamRemoteAddressWithoutPort => ip(d.remote),
        Fact::DownstreamRemotePort => port(d.remote),
        Fact::DownstreamDirectRemoteAddress => address(d.direct),
        Fact::DownstreamDirectRemoteAddressWithoutPort => ip(d.direct),
        Fact::DownstreamDirectRemotePort => port(d.direct),
        Fact::DownstreamPeerUriSan => text(d.peer),
        Fact::DownstreamLocalUriSan => text(d.own),
        Fact::DownstreamPeerFingerprint256 => text(d.peer_hash),
        Fact::DownstreamTransportFailureReason => r.downstream_failure.map_or(Value::None, Value::Words),
        Fact::DownstreamTlsVersion => text(d.tls),
        Fact::RequestedServerName => text(d.server_name),
        Fact::RouteName => name(r.route),
        Fact::FilterChainName => name(d.chain),
        // Its operator is made a fixed text.
        Fact::Hostname => Value::None,
        Fact::ConnectionId => Value::Number(d.id),
        Fact::GrpcStatusNumber => r.grpc_code().map_or(Value::None, |code| Value::Number(code.into())),
    }
}

fn field<'v>(of: Of, field: &'v Field, record: &Record<'v>) -> Value<'v> {
    let bytes = |bytes: Option<&'v [u8]>| bytes.map_or(Value::None, Value::Bytes);
    match of {
        Of::Request | Of::RequestWithoutQuery => {
            let Some(head) = record.request else { return Value::None };
            let text = |text: &'v str| bytes(Some(text.as_bytes()).filter(|t| !t.is_empty()));
            let found = match field {
                Field::Method => text(head.method.as_str()),
                Field::Path => text(head.path()),
                Field::OriginalPath => match record.original_path {
                    Some(path) => text(path),
                    None => bytes(head.fields.get("x-envoy-original-path")),
                },
                Field::Authority => text(head.authority()),
                Field::Scheme => text(if record.downstream.tls.is_some() { "https" } else { "http" }),
                Field::Protocol => text(head.protocol()),
                Field::Status => Value::None,
                Field::Length => length(head.length),
                Field::Encoding => encoding(head.length, head.version),
                Field::Known(_) | Field::Named(_) => bytes(named(&head.fields, field)),
            };
            match found {
                Value::Bytes(all) if of == Of::RequestWithoutQuery => {
                    Value::Bytes(all.split(|b| *b == b'?').next().unwrap_or_default())
                }
                found => found,
            }
        }
        Of::Response => {
            let Some(head) = record.response else { return Value::None };
            match field {
                Field::Status => Value::Number(head.status.into()),
                Field::Length => length(head.length),
                Field::Encoding => encoding(head.length, head.version),
                field => bytes(named(&head.fields, field)),
            }
        }
        Of::Trailers => bytes(record.trailers.and_then(|fields| named(fields, field))),
    }
}

fn named<'f>(fields: &'f Fields, field: &Field) -> Option<&'f [u8]> {
    match field {
        Field::Known(known) => fields.known(*known),
        Field::Named(name) => {
            fields.iter().find(|f| f.known == Known::Other && f.name == name.as_bytes()).map(|f| f.value)
        }
        _ => None,
    }
}

/// As `Duration::as_millis`, without its 128 bits.
fn in_millis(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1000).saturating_add(d.subsec_millis().into())
}

fn length(length: Length) -> Value<'static> {
    match length {
        Length::Exact(bytes) => Value::Number(bytes),
        Length::None | Length::Unknown => Value::None,
    }
}

fn encoding(length: Length, version: Version) -> Value<'static> {
    match (length, version) {
        (Length::Unknown, Version::Http11) => Value::Bytes(b"chunked"),
        _ => Value::None,
    }
}

/// Statuses of gRPC by number.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];
