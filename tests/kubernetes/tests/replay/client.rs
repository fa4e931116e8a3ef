//! A client that sees what is on the wire: whole answers, and streams line by line.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longer than anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Whoever asks.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    connector: TlsConnector,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// A stream of lines, and how it ended.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    // The connection lives as long as the stream is read.
    _sender: SendRequest<Full<Bytes>>,
}

/// What a stream has next.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Event(Value),
    /// The body ended as it should.
    End,
    /// It broke off; what was left of a line.
    Broken(String),
}

impl Client {
    pub(crate) fn new(address: &str, authority: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address: address.to_owned(), connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Asks; a token of `None` is none.
    pub(crate) async fn ask(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Answer {
        let asked = self.send(token, method, path, headers, body);
        let (_sender, response) =
            tokio::time::timeout(LIMIT, asked).await.expect("answered in time").expect("answered");
        let (head, body) = response.into_parts();
        let bytes = tokio::time::timeout(LIMIT, body.collect()).await.expect("in time").expect("whole").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Begins a stream.
    pub(crate) async fn watch(&self, token: Option<&str>, path: &str, headers: &[(String, String)]) -> Lines {
        let asked = self.send(token, "GET", path, headers, Vec::new());
        let (sender, response) = tokio::time::timeout(LIMIT, asked).await.expect("answered in time").expect("answered");
        assert_eq!(response.status().as_u16(), 200, "{path}");
        Lines { body: response.into_body(), rest: Vec::new(), _sender: sender }
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Result<(SendRequest<Full<Bytes>>, http::Response<Incoming>), Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(&self.address).await?;
        let stream = self.connector.connect(ServerName::try_from("localhost")?, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.address);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            request = request.header("user-agent", "recorder/1.0");
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
            request = request.header("accept", "*/*");
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        Ok((sender, response))
    }
}

impl Lines {
    /// The next line.
    pub(crate) async fn next(&mut self) -> Line {
        self.next_within(LIMIT).await.expect("something comes in time")
    }

    /// The next line, if one comes in time.
    pub(crate) async fn next_within(&mut self, limit: Duration) -> Option<Line> {
        tokio::time::timeout(limit, self.line()).await.ok()
    }

    /// The next line that is an event of this type.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        match self.next().await {
            Line::Event(event) => {
                assert_eq!(event["type"], kind, "{event}");
                event["object"].clone()
            }
            other => panic!("no {kind} but {other:?}"),
        }
    }

    /// All that comes until the end.
    pub(crate) async fn rest(&mut self) -> (Vec<Value>, Line) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Line::Event(event) => events.push(event),
                end => return (events, end),
            }
        }
    }

    async fn line(&mut self) -> Line {
        loop {
            if let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return match serde_json::from_slice(&line) {
                    Ok(event) => Line::Event(event),
                    Err(_) => Line::Broken(String::from_utf8_lossy(&line).into_owned()),
                };
            }
            match self.body.frame().await {
                None if self.rest.is_empty() => return Line::End,
                None | Some(Err(_)) => return Line::Broken(String::from_utf8_lossy(&self.rest).into_owned()),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
            }
        }
    }
}
