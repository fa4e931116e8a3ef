//! Connections that stop being HTTP: after both ends have agreed, bytes are carried.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::channel::{Server, Then};
use super::finish::Exchange;
use super::h2::Tunnel;
use super::message::{Known, Length};
use super::relay::Answered;
use crate::tcp;
use crate::upstream::{Rest, Sender};

/// A connection that was switched may be silent so long.
const IDLE: Duration = Duration::from_secs(3600);

/// Answers the client, and carries bytes between both ends until they have ended; the exchange ends with them.
pub(super) async fn carry<S: Server>(
    server: &mut S,
    mut exchange: Box<Exchange>,
    answered: Answered,
    upgrade: Option<Vec<u8>>,
) -> Then {
    let Answered { mut response, sender, .. } = answered;
    let own = server.can_become();
    response.length = if own { Length::None } else { Length::Unknown };
    match upgrade {
        Some(protocol) if own => {
            response.fields.push_known(Known::Connection, b"upgrade");
            response.fields.push_known(Known::Upgrade, &protocol);
        }
        // HTTP/2 says it with a 200 (RFC 8441, 5).
        Some(_) => response.status = 200,
        None => {}
    }
    let flushed = match server.respond(&response) {
        Ok(()) => poll_fn(|cx| server.poll_flush(cx)).await,
        Err(why) => Err(why),
    };
    if let Err(why) = flushed {
        exchange.client_gone(why);
        return Then::Next;
    }
    let mut far = match sender {
        Sender::Http1(kept) => {
            let (stream, rest) = kept.into_stream();
            Far { bytes: Box::new(stream), rest: Some(rest) }
        }
        Sender::Http2(stream) => Far { bytes: Box::new(Tunnel::new(stream)), rest: None },
    };
    if own {
        return Then::Become(Box::new(move |mut client| {
            Box::pin(async move { between(&mut client, &mut far, exchange).await })
        }));
    }
    between(&mut Tunnel::new(server), &mut far, exchange).await;
    Then::Next
}

/// The server's end.
struct Far {
    bytes: Box<dyn tcp::End>,
    /// Of a connection that has no task of its own which sees to it.
    rest: Option<Rest>,
}

async fn between<C: tcp::End>(client: &mut C, far: &mut Far, mut exchange: Box<Exchange>) {
    let (mut up, mut down) = (0, 0);
    let whole = {
        let mut carrying = std::pin::pin!(tcp::carry(client, &mut far.bytes, IDLE, |moved| {
            up += moved.forth;
            down += moved.back;
        }));
        poll_fn(|cx| match &far.rest {
            Some(rest) if rest.is_lost(cx) => Poll::Ready(false),
            _ => carrying.as_mut().poll(cx).map(|_| true),
        })
        .await
    };
    exchange.moved(up, down);
    if whole {
        exchange.ended();
    } else {
        exchange.broke("UC", "upstream_reset_after_response_started{connection_termination}");
    }
}
