//! A response on its way to the client, and the rest of the request on its way to the server.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::answer::{self, Answer};
use super::attempt::{Fired, Limits, Timer};
use super::channel::{Broken, Channel as _, End, Pump, Server, Then};
use super::finish::Exchange;
use super::message::ResponseHead;
use crate::upstream::Sender;

/// A response whose head is there.
pub(super) struct Answered {
    /// The head.
    pub(super) response: ResponseHead,
    /// What brings the rest.
    pub(super) sender: Sender,
    /// The request's body.
    pub(super) body: Pump,
    /// Until when it may take.
    pub(super) limits: Limits,
}

/// Hands a response on to its end; the connection it came by is kept for `keep`.
pub(super) async fn relay<S: Server>(
    server: &mut S,
    mut exchange: Box<Exchange>,
    answered: Answered,
    keep: Duration,
) -> Then {
    let Answered { response, mut sender, mut body, limits } = answered;
    let mut down = Pump::new(false);
    if sender.is_received() {
        down.give_up();
    }
    let sent = match server.respond(&response) {
        Err(why) => Err(Cut::Client(why)),
        Ok(()) if down.is_ended() && server.finish(None).is_err() => Err(Cut::Client(Broken::Gone)),
        Ok(()) => {
            let mut timer = limits.of_response();
            poll_fn(|cx| both(cx, server, &mut sender, &mut body, &mut down, &mut timer)).await
        }
    };
    exchange.moved(body.moved, down.moved);
    exchange.grpc_status(down.grpc_status);
    match sent {
        Ok(()) => {
            exchange.ended();
            if let Sender::Http1(kept) = sender
                && body.is_ended()
                && kept.connection.is_reusable()
            {
                exchange.connection.worker.pool.put(kept, keep);
            }
        }
        Err(cut) => {
            match cut {
                Cut::Client(why) => exchange.client_gone(why),
                Cut::Server(why) => {
                    let (flags, details) = after(why);
                    exchange.broke(flags, details);
                }
                Cut::Late(answer) => exchange.broke(answer.flags, answer.details),
            }
            server.abort();
        }
    }
    Then::Next
}

/// Why a response ends before its end.
enum Cut {
    Client(Broken),
    Server(Broken),
    Late(Answer),
}

/// A server that breaks off within its response, as access logs have it.
fn after(why: Broken) -> (&'static str, &'static str) {
    match why {
        Broken::Reset => ("UR", "upstream_reset_after_response_started{remote_reset}"),
        Broken::Refused => ("UR", "upstream_reset_after_response_started{remote_refused_stream_reset}"),
        Broken::Malformed(_) | Broken::TooLarge => ("UPE", "upstream_reset_after_response_started{protocol_error}"),
        Broken::Gone | Broken::Slow => ("UC", "upstream_reset_after_response_started{connection_termination}"),
    }
}

/// Moves both ways; ready when the response has ended.
fn both<S: Server>(
    cx: &mut Context<'_>,
    server: &mut S,
    sender: &mut Sender,
    body: &mut Pump,
    down: &mut Pump,
    timer: &mut Timer,
) -> Poll<Result<(), Cut>> {
    if !body.is_ended() {
        match body.poll(server, sender, cx) {
            Poll::Ready(Err(End::From(why))) => return Poll::Ready(Err(Cut::Client(why))),
            Poll::Ready(Err(End::To(_))) => body.give_up(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
    }
    match down.poll(sender, server, cx) {
        Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
        Poll::Ready(Err(End::From(why))) => return Poll::Ready(Err(Cut::Server(why))),
        Poll::Ready(Err(End::To(why))) => return Poll::Ready(Err(Cut::Client(why))),
        Poll::Pending => {}
    }
    if let Poll::Ready(fired) = timer.poll(cx, !body.is_ended()) {
        return Poll::Ready(Err(Cut::Late(match fired {
            Fired::Whole(answer) => *answer,
            Fired::Try | Fired::Request => answer::TIMEOUT,
        })));
    }
    if body.is_ended()
        && let Poll::Ready(why) = server.poll_gone(cx)
    {
        return Poll::Ready(Err(Cut::Client(why)));
    }
    Poll::Pending
}
