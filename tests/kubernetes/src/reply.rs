//! Answers, and how they are put into bytes.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::ask::Want;
use crate::refusal::Refusal;
use crate::server::Found;
use crate::store::{Entry, Form};

/// A part of a stream, or the cut that ends it.
pub(crate) type Part = Result<Frame<Bytes>, std::io::Error>;
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    headers: Vec<(HeaderName, String)>,
    body: Content,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Stream(mpsc::Receiver<Part>),
}

impl Reply {
    pub(crate) fn json(code: u16, body: Vec<u8>) -> Self {
        Self { code, headers: vec![(CONTENT_TYPE, "application/json".to_owned())], body: Content::Whole(body.into()) }
    }

    pub(crate) fn value(code: u16, value: &Value) -> Self {
        Self::json(code, value.to_string().into_bytes())
    }

    pub(crate) fn text(code: u16, text: &str) -> Self {
        let headers = vec![(CONTENT_TYPE, "text/plain; charset=utf-8".to_owned())];
        Self { code, headers, body: Content::Whole(text.to_owned().into()) }
    }

    pub(crate) fn stream(parts: mpsc::Receiver<Part>) -> Self {
        let headers = vec![(CONTENT_TYPE, "application/json".to_owned())];
        Self { code: 200, headers, body: Content::Stream(parts) }
    }

    /// An object, as the client wants it.
    pub(crate) fn object(code: u16, entry: &Arc<Entry>, found: &Found, want: Want) -> Self {
        let mut out = Vec::new();
        entry.write(&form(found, want), &mut out);
        Self::json(code, out)
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        let mut reply = match &refusal.text {
            Some(text) => Self::text(refusal.code().as_u16(), text),
            None => Self::value(refusal.code().as_u16(), &refusal.status()),
        };
        if let Some(seconds) = refusal.retry_after {
            reply = reply.with(RETRY_AFTER, &seconds.to_string());
        }
        reply
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name || name == WARNING);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With a `Warning` header each.
    pub(crate) fn warned(self, warnings: &[String]) -> Self {
        warnings.iter().fold(self, |reply, text| {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            reply.with(WARNING, &format!("299 - \"{quoted}\""))
        })
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = match self.body {
            Content::Whole(bytes) => Full::new(bytes).map_err(|never: Infallible| match never {}).boxed(),
            Content::Stream(parts) => BodyExt::boxed(StreamBody::new(ReceiverStream::new(parts))),
        };
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(self.code).unwrap_or_default();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

/// How an object of a kind is written alone.
pub(crate) fn form(found: &Found, want: Want) -> Form {
    match want {
        Want::Whole => Form::Whole { api_version: found.api_version(), kind: found.kind.name.clone() },
        Want::Metadata => Form::Metadata,
    }
}

impl Reply {
    /// The same, broken off half-way.
    pub(crate) fn cut(self) -> Self {
        let Content::Whole(bytes) = self.body else { return self };
        let (parts, rest) = mpsc::channel(2);
        tokio::spawn(async move {
            // Whoever left does not see the end either.
            let _ = parts.send(Ok(Frame::data(bytes.slice(..bytes.len() / 2)))).await;
            tokio::time::sleep(crate::watching::FLUSH).await;
            let _ = parts.send(crate::faults::broken()).await;
        });
        Self { body: Content::Stream(rest), ..self }
    }
}
