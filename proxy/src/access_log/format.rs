//! Formats, made ready once for many lines.

use std::collections::BTreeMap;

use hawser_api::access_log::{
    ENVOY_TEXT, Fact, FormatError, GrpcStatus, Header, ISTIO_JSON, ISTIO_TEXT, Operator, Part, TimeFormat, parse,
};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::text::{Quoting, escape};
use crate::http::message::Known;

/// What a line is: text with operators, or a JSON object of them.
#[derive(Debug)]
pub struct Format {
    pub(super) shape: Shape,
    /// Whether what has no value is left out, instead of written as `-` or `null`.
    pub(super) omit_empty: bool,
    request_headers: Vec<Box<str>>,
    response_headers: Vec<Box<str>>,
}

#[derive(Debug)]
pub(super) enum Shape {
    Text(Vec<Piece>),
    Json(Node),
}

/// A piece of a text.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes as they are, escaped where they have to be.
    Text(Box<[u8]>),
    Op(Op),
}

/// A value of JSON.
#[derive(Debug)]
pub(super) enum Node {
    /// Keys are written with their quotation marks and colon.
    Object(Vec<(Box<[u8]>, Node)>),
    List(Vec<Node>),
    /// One operator: number, string or null.
    Typed(Op),
    /// A string.
    Text(Vec<Piece>),
    /// Anything that never changes.
    Fixed(Box<[u8]>),
}

/// An operator, made ready.
#[derive(Debug)]
pub(super) enum Op {
    Fact(Fact),
    Start(Option<TimeFormat>),
    Emit(Option<TimeFormat>),
    Field { of: Of, first: Field, or: Option<Field>, most: usize },
    Grpc(GrpcStatus),
    Fixed(Box<str>),
    Metadata { filter: Box<str>, key: Box<str>, most: usize },
    Unset,
}

/// Which head a field is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Request,
    /// Without what follows a question mark.
    RequestWithoutQuery,
    Response,
    Trailers,
}

/// A field of a head, or what its head says otherwise.
#[derive(Debug)]
pub(super) enum Field {
    Method,
    Path,
    OriginalPath,
    Authority,
    Scheme,
    Protocol,
    Status,
    Length,
    Encoding,
    Known(Known),
    Named(Box<str>),
}

/// How deep JSON may be nested.
const DEEPEST: usize = 16;

impl Format {
    /// A text; it ends its lines itself.
    ///
    /// # Errors
    /// If an operator is not known.
    pub fn text(format: &str, omit_empty: bool) -> Result<Self, FormatError> {
        let mut made = Self::empty(omit_empty);
        made.shape = Shape::Text(made.pieces(format, Quoting::Text)?);
        Ok(made)
    }

    /// A JSON object, a line each. With `typed` numbers are numbers and what has no value is `null`; else all are strings.
    ///
    /// # Errors
    /// If an operator is not known, or it is nested too deep.
    pub fn json(format: &Struct, typed: bool, omit_empty: bool) -> Result<Self, String> {
        let mut made = Self::empty(omit_empty);
        made.shape = Shape::Json(made.object(format, typed, 0)?);
        Ok(made)
    }

    /// Istio's text.
    pub fn istio_text() -> Self {
        // It is known to be good; without a format there would be no line.
        Self::text(ISTIO_TEXT, false).unwrap_or_else(|_| Self::empty(false))
    }

    /// Istio's JSON.
    pub fn istio_json() -> Self {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields: BTreeMap<_, _> = ISTIO_JSON.iter().map(|(key, op)| ((*key).to_owned(), text(op))).collect();
        Self::json(&Struct { fields }, true, false).unwrap_or_else(|_| Self::empty(false))
    }

    /// Envoy's text.
    pub fn envoy_text() -> Self {
        Self::text(ENVOY_TEXT, false).unwrap_or_else(|_| Self::empty(false))
    }

    /// Names of request headers that are written, lower case: [`super::Record::request`] must still have them. Those that the
    /// head itself says (method, path, host, length) are not among them.
    pub fn request_headers(&self) -> &[Box<str>] {
        &self.request_headers
    }

    /// The same of the response.
    pub fn response_headers(&self) -> &[Box<str>] {
        &self.response_headers
    }

    fn empty(omit_empty: bool) -> Self {
        let shape = Shape::Text(Vec::new());
        Self { shape, omit_empty, request_headers: Vec::new(), response_headers: Vec::new() }
    }

    fn pieces(&mut self, format: &str, quoting: Quoting) -> Result<Vec<Piece>, FormatError> {
        let parts = parse(format)?;
        Ok(parts
            .into_iter()
            .map(|part| match part {
                Part::Text(text) if quoting == Quoting::Json => Piece::Text(quoted(&text).into()),
                Part::Text(text) => Piece::Text(text.into_bytes().into()),
                Part::Operator(operator) => Piece::Op(self.op(operator)),
            })
            .collect())
    }

    fn object(&mut self, format: &Struct, typed: bool, depth: usize) -> Result<Node, String> {
        if depth >= DEEPEST {
            return Err(format!("json_format is nested deeper than {DEEPEST}"));
        }
        let mut fields = Vec::with_capacity(format.fields.len());
        for (key, value) in &format.fields {
            let mut name = vec![b'"'];
            name.extend_from_slice(&quoted(key));
            name.extend_from_slice(b"\":");
            let node = self.node(value, typed, depth + 1).map_err(|e| format!("{key}: {e}"))?;
            fields.push((name.into(), node));
        }
        Ok(Node::Object(fields))
    }

    fn node(&mut self, value: &Value, typed: bool, depth: usize) -> Result<Node, String> {
        let fixed = |text: String| Node::Fixed(text.into_bytes().into());
        Ok(match &value.kind {
            None | Some(Kind::NullValue(_)) => fixed("null".to_owned()),
            Some(Kind::BoolValue(value)) => fixed(value.to_string()),
            Some(Kind::NumberValue(value)) => {
                fixed(serde_json::Number::from_f64(*value).map_or_else(|| "null".to_owned(), |n| n.to_string()))
            }
            Some(Kind::StructValue(inner)) => self.object(inner, typed, depth)?,
            Some(Kind::ListValue(list)) if depth < DEEPEST => {
                let all: Result<_, _> = list.values.iter().map(|v| self.node(v, typed, depth + 1)).collect();
                Node::List(all?)
            }
            Some(Kind::ListValue(_)) => return Err(format!("json_format is nested deeper than {DEEPEST}")),
            Some(Kind::StringValue(text)) => {
                let mut pieces = self.pieces(text, Quoting::Json).map_err(|e| e.to_string())?;
                match pieces.pop() {
                    Some(Piece::Op(op)) if typed && pieces.is_empty() => Node::Typed(op),
                    last => {
                        pieces.extend(last);
                        Node::Text(pieces)
                    }
                }
            }
        })
    }

    fn op(&mut self, operator: Operator) -> Op {
        match operator {
            Operator::Fact(Fact::Hostname) => hostname().map_or(Op::Unset, Op::Fixed),
            Operator::Fact(fact) => Op::Fact(fact),
            Operator::StartTime(format) => Op::Start(format),
            Operator::EmitTime(format) => Op::Emit(format),
            Operator::Request(header) => self.field(Of::Request, header),
            Operator::RequestWithoutQuery(header) => self.field(Of::RequestWithoutQuery, header),
            Operator::Response(header) => self.field(Of::Response, header),
            Operator::Trailer(header) => self.field(Of::Trailers, header),
            Operator::GrpcStatus(form) => Op::Grpc(form),
            Operator::Environment(name, most) => match std::env::var(&name) {
                Ok(value) => Op::Fixed(value.chars().take(most.unwrap_or(usize::MAX)).collect::<String>().into()),
                Err(_) => Op::Unset,
            },
            Operator::Metadata { filter, key, most } => {
                Op::Metadata { filter: filter.into(), key: key.into(), most: most.unwrap_or(usize::MAX) }
            }
            Operator::Unset => Op::Unset,
        }
    }

    fn field(&mut self, of: Of, header: Header) -> Op {
        let mut ready = |name: String| {
            let field = Field::new(of, &name);
            if matches!(field, Field::Known(_) | Field::Named(_)) {
                let list = match of {
                    Of::Request | Of::RequestWithoutQuery => Some(&mut self.request_headers),
                    Of::Response => Some(&mut self.response_headers),
                    Of::Trailers => None,
                };
                if let Some(list) = list.filter(|l| !l.iter().any(|n| **n == *name)) {
                    list.push(name.into());
                }
            }
            field
        };
        let first = ready(header.name);
        let or = header.or.map(ready);
        Op::Field { of, first, or, most: header.most.unwrap_or(usize::MAX) }
    }
}

impl Field {
    fn new(of: Of, name: &str) -> Self {
        let request = matches!(of, Of::Request | Of::RequestWithoutQuery);
        match name {
            ":method" if request => Self::Method,
            ":path" if request => Self::Path,
            "x-envoy-original-path" if request => Self::OriginalPath,
            ":authority" | "host" if request => Self::Authority,
            ":scheme" if request => Self::Scheme,
            ":protocol" if request => Self::Protocol,
            ":status" if of == Of::Response => Self::Status,
            "content-length" if of != Of::Trailers => Self::Length,
            "transfer-encoding" if of != Of::Trailers => Self::Encoding,
            _ => match Known::of(name.as_bytes()) {
                Known::Other => Self::Named(name.into()),
                known => Self::Known(known),
            },
        }
    }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // What an operator wrote is not cut.
    text.as_bytes().chunks(super::text::LONGEST).for_each(|chunk| escape(chunk, Quoting::Json, &mut out));
    out
}

fn hostname() -> Option<Box<str>> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim_ascii_end()).filter(|n| !n.is_empty()).map(Into::into)
}
