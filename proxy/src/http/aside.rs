//! Requests of our own beside those of clients: copies, questions to others.
//!
//! In: a request with its whole body. Out: the response from an endpoint of a cluster, with as much of its body as is
//! wanted. Bounded in time by whoever calls, in size by what it wants.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::answer;
use super::attempt::{Limits, Outcome, attempt};
use super::channel::{Broken, Channel, Piece, Pump, Server};
use super::finish::InFlight;
use super::forward::offer;
use super::head::Shape;
use super::message::{Fields, RequestHead, ResponseHead};
use super::retry::Event;
use crate::balance::{self, Outcome as Blame, Tried};
use crate::config::{Config, Discovery};
use crate::tcp::Active;
use crate::upstream::{Purpose, Sender, Target, To};
use crate::worker::{Worker, chance};

/// Connections that were kept and found dead, one after the other.
const DEAD: usize = 3;

/// A request of our own.
pub(super) struct Aside<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) config: &'a Arc<Config>,
    pub(super) cluster: &'a str,
    pub(super) shape: &'a Shape,
    pub(super) attempt_count: Option<u32>,
    /// It is over by then.
    pub(super) until: Instant,
}

/// A response to it.
pub(super) struct Response {
    pub(super) head: ResponseHead,
    /// Its body, as far as it was wanted.
    pub(super) body: Vec<u8>,
    /// `grpc-status` of its trailers.
    pub(super) grpc_status: Option<u8>,
}

/// Sends a request and reads its response to the end, of which `wanted` bytes are kept, if any are; a longer one is none.
pub(super) async fn call(
    aside: &Aside<'_>,
    mut head: RequestHead,
    (bytes, trailers): (Bytes, Option<Fields>),
    wanted: Option<usize>,
) -> Option<Response> {
    let found = aside.config.clusters.get(aside.cluster);
    let cluster = found.filter(|c| c.spec.discovery != Discovery::Original)?;
    let _in_flight = InFlight::begin(cluster, |c| &c.state.requests, cluster.spec.limits.requests)?;
    let endpoint = balance::choose(cluster, crate::clock::now_ms(), &Tried::new(), None, chance)?;
    let _active = Active::new(endpoint);
    let host = cluster.spec.options.asks_for_host.then(|| head.host().to_owned());
    let target = Target { cluster, to: To::Endpoint(endpoint), caller: None, host: host.as_deref() };
    let offer = offer(&target, aside.shape, &head);
    let mut limits = Limits::default();
    limits.end_by(aside.until, &answer::TIMEOUT);
    let mut dead = 0;
    loop {
        let mut whole = Whole { bytes: bytes.clone(), trailers: trailers.clone(), taken: Vec::new(), wanted };
        let mut pump = Pump::new(whole.is_received());
        let purpose = if dead == 0 { Purpose::Request } else { Purpose::Again };
        let to = (aside.worker, aside.config, &target, offer, purpose);
        let outcome =
            attempt(to, &mut head, aside.shape, aside.attempt_count, &mut whole, &mut pump, &mut limits).await;
        let (blame, answered) = match outcome {
            Outcome::Answered(response, sender) => (Blame::Status(response.status), Some((response, sender))),
            Outcome::Failed(Event::Dead, _) if dead < DEAD => {
                dead += 1;
                continue;
            }
            Outcome::Failed(..) | Outcome::Late(_) => (Blame::NoAnswer, None),
            Outcome::ClientGone(_) => return None,
        };
        balance::report(cluster, endpoint, blame, crate::clock::now_ms());
        let (head, mut sender) = answered?;
        let mut down = Pump::new(sender.is_received());
        let read = poll_fn(|cx| {
            if !pump.is_ended() && matches!(pump.poll(&mut whole, &mut sender, cx), Poll::Ready(Err(_))) {
                pump.give_up();
            }
            down.poll(&mut sender, &mut whole, cx)
        });
        tokio::time::timeout_at(aside.until, read).await.ok()?.ok()?;
        if let Sender::Http1(kept) = sender
            && pump.is_ended()
            && kept.connection.is_reusable()
        {
            aside.worker.pool.put(kept, cluster.spec.options.idle_timeout);
        }
        return Some(Response { head, body: whole.taken, grpc_status: down.grpc_status });
    }
}

/// Stands where a client would: it has the body, and takes of the response what is wanted.
struct Whole {
    bytes: Bytes,
    trailers: Option<Fields>,
    taken: Vec<u8>,
    wanted: Option<usize>,
}

impl Channel for Whole {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Result<Piece<'_>, Broken>> {
        Poll::Ready(Ok(match self.trailers.take() {
            trailers if !self.bytes.is_empty() => {
                self.trailers = trailers;
                Piece::Data { bytes: &self.bytes, last: self.trailers.is_none() }
            }
            Some(trailers) => Piece::Trailers(trailers),
            None => Piece::End,
        }))
    }

    fn consume(&mut self, n: usize) {
        let _ = self.bytes.split_to(n);
    }

    fn is_received(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }

    fn poll_data(&mut self, _: &mut Context<'_>, bytes: &[u8], _: bool) -> Poll<Result<usize, Broken>> {
        Poll::Ready(match self.wanted {
            Some(most) if self.taken.len() + bytes.len() > most => Err(Broken::TooLarge),
            Some(_) => {
                self.taken.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            None => Ok(bytes.len()),
        })
    }

    fn finish(&mut self, _: Option<&Fields>) -> Result<(), Broken> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }
}

impl Server for Whole {
    fn interim(&mut self, _: &ResponseHead) -> Result<(), Broken> {
        Ok(())
    }

    fn respond(&mut self, _: &ResponseHead) -> Result<(), Broken> {
        Ok(())
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<Broken> {
        Poll::Pending
    }

    fn abort(&mut self) {}

    fn can_become(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::channel::Held;
    use super::*;

    fn end(text: &'static str) -> Whole {
        Whole { bytes: Bytes::from_static(text.as_bytes()), trailers: None, taken: Vec::new(), wanted: Some(100) }
    }

    #[test]
    fn what_was_held_of_a_body_is_sent_before_the_rest_and_again_from_its_start() {
        let mut cx = Context::from_waker(Waker::noop());
        for (beginning, rest) in [("abc", Some("def")), ("abc", None), ("", None)] {
            let mut held = Held::default();
            assert!(held.take(beginning.as_bytes()));
            if rest.is_none() {
                held.end(None);
            }
            let mut pump = Pump::of_held(held);
            pump.keep();
            let (mut from, all) = (end(rest.unwrap_or_default()), format!("{beginning}{}", rest.unwrap_or_default()));
            for _ in 0..2 {
                assert!(pump.can_restart());
                pump.restart(from.is_received());
                let mut to = end("");
                assert!(matches!(pump.poll(&mut from, &mut to, &mut cx), Poll::Ready(Ok(()))));
                assert_eq!(to.taken, all.as_bytes());
                assert!(pump.is_ended());
            }
        }
    }

    #[test]
    fn an_answer_that_settles_a_request_does_not_cut_off_its_body() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut held = Held::default();
        assert!(held.take(b"abc"));
        let mut pump = Pump::of_held(held);
        pump.settle();
        let (mut from, mut to) = (end("def"), end(""));
        assert!(matches!(pump.poll(&mut from, &mut to, &mut cx), Poll::Ready(Ok(()))));
        assert_eq!(to.taken, b"abcdef");
    }
}
