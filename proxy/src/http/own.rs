//! Answers of our own on their way.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http::Method;

use super::answer::Answer;
use super::channel::{Broken, Server, Then};
use super::finish::Exchange;
use super::head::{self, is_grpc};
use super::message::ResponseHead;

/// Ends a request with an answer of our own.
pub(super) async fn send<S: Server>(server: &mut S, mut exchange: Box<Exchange>, answer: Answer) -> Then {
    let (response, body) = answer.response(is_grpc(&exchange.head.fields), exchange.is_retried());
    exchange.answered(answer.flags, &response, answer.details);
    exchange.failed_for(answer.failure);
    send_bytes(server, exchange, response, body.as_bytes()).await
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
