//! Answers of our own on their way.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http::Method;

use super::answer::Answer;
use super::channel::{Broken, Server, Then};
use super::finish::Exchange;
use super::head::{self, is_grpc};
use super::message::{Fields, Known, Length, ResponseHead, grpc_status_of};
use crate::guard::authz::Changes;

/// Ends a request with an answer of our own.
pub(super) async fn send<S: Server>(server: &mut S, mut exchange: Box<Exchange>, answer: Answer) -> Then {
    let (mut response, body) = answer.response(is_grpc(&exchange.head.fields), exchange.is_retried());
    exchange.change(&mut response.fields);
    exchange.change_as_asked(&mut response.fields);
    exchange.expose(&mut response.fields);
    exchange.answered(answer.flags, &response, answer.details);
    exchange.failed_for(answer.failure);
    send_bytes(server, exchange, response, body.as_bytes()).await
}

/// An answer of a guard.
#[derive(Debug)]
pub(super) struct Refused {
    /// What it is, if nothing else is said.
    pub(super) answer: Answer,
    /// Fields beside its own.
    pub(super) fields: Fields,
    /// What becomes of all its fields.
    pub(super) changes: Option<Changes>,
    /// Status and body in place of its own.
    pub(super) instead: Option<(u16, Vec<u8>)>,
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Self {
        Self { answer, fields: Fields::default(), changes: None, instead: None }
    }
}

/// Ends a request with an answer of a guard.
pub(super) async fn refuse<S: Server>(server: &mut S, mut exchange: Box<Exchange>, refused: Refused) -> Then {
    let grpc = is_grpc(&exchange.head.fields);
    let Refused { answer, fields, changes, instead } = refused;
    let (mut response, body) = answer.response(grpc, false);
    let mut body = body.into_owned().into_bytes();
    match instead {
        Some((status, bytes)) if grpc => {
            let code = grpc_status_of(status).to_string();
            response.fields.remove_known(Known::GrpcStatus);
            response.fields.push_known(Known::GrpcStatus, code.as_bytes());
            if !bytes.is_empty() {
                response.fields.push_known(Known::GrpcMessage, escaped(&bytes).as_bytes());
            }
        }
        Some((status, bytes)) => {
            response.status = status;
            if !bytes.is_empty() {
                response.length = Length::Exact(bytes.len() as u64);
                response.fields.push_known(Known::ContentType, b"text/plain");
            }
            body = bytes;
        }
        None => {}
    }
    fields.iter().for_each(|field| response.fields.push(field.name, field.value));
    if let Some(changes) = changes {
        let keep: &[&str] = if grpc { &["content-type", "grpc-status", "grpc-message"] } else { &[] };
        changes.replace(&mut response.fields, keep);
    }
    exchange.change_as_asked(&mut response.fields);
    exchange.answered(answer.flags, &response, answer.details);
    send_bytes(server, exchange, response, &body).await
}

/// Text as `grpc-message` has it.
fn escaped(text: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'~' if *byte != b'%' => out.push(*byte as char),
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// Sends a response that is whole.
pub(super) async fn send_bytes<S: Server>(
    server: &mut S,
    mut exchange: Box<Exchange>,
    mut response: ResponseHead,
    body: &[u8],
) -> Then {
    head::date(&mut response.fields);
    let mut rest = if exchange.head.method == Method::HEAD { &b""[..] } else { body };
    exchange.moved(0, rest.len() as u64);
    let mut finished = false;
    let sent = match server.respond(&response) {
        Ok(()) => poll_fn(|cx| poll(cx, server, &mut rest, &mut finished)).await,
        Err(why) => Err(why),
    };
    match sent {
        Ok(()) => exchange.ended(),
        Err(why) => exchange.client_gone(why),
    }
    Then::Next
}

fn poll<S: Server>(
    cx: &mut Context<'_>,
    server: &mut S,
    rest: &mut &[u8],
    finished: &mut bool,
) -> Poll<Result<(), Broken>> {
    while !rest.is_empty() {
        let n = match server.poll_data(cx, rest, true) {
            Poll::Ready(done) => done?,
            Poll::Pending => {
                return match server.poll_flush(cx) {
                    Poll::Ready(Err(why)) => Poll::Ready(Err(why)),
                    _ => Poll::Pending,
                };
            }
        };
        *rest = &rest[n..];
        *finished = rest.is_empty();
    }
    if !*finished {
        *finished = true;
        server.finish(None)?;
    }
    ready!(server.poll_flush(cx))?;
    Poll::Ready(Ok(()))
}
