//! Copies of requests, for who wants to see them: nobody waits for what becomes of them.
//!
//! In: a request as it goes out, and its body when it is whole. Out: the same request at an endpoint of another cluster,
//! its host marked; the response is read and dropped. Bounded in number and time; what finds no room is dropped and counted.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::answer;
use super::attempt::{Limits, Outcome, attempt};
use super::channel::{Broken, Channel, Piece, Pump, Server};
use super::finish::InFlight;
use super::forward::offer;
use super::head::Shape;
use super::message::{Fields, RequestHead, ResponseHead};
use crate::balance::{self, Outcome as Blame, Tried};
use crate::config::{Config, Discovery, Mirror};
use crate::tcp::Active;
use crate::upstream::{Purpose, Sender, Target, To};
use crate::worker::{Worker, chance};

/// The most copies of a thread that are on their way.
const MOST: usize = 256;
/// None is on its way for longer.
const LONGEST: Duration = Duration::from_secs(60);
/// What is added to the name of a copy's host.
const MARK: &str = "-shadow";

thread_local! {
    static ON_THEIR_WAY: Cell<usize> = const { Cell::new(0) };
}

/// A copy that is about to be sent.
struct Copy {
    worker: Rc<Worker>,
    config: Arc<Config>,
    cluster: Arc<str>,
    head: RequestHead,
    shape: Shape,
    attempt_count: bool,
}

/// What copies have in common with their request.
pub(super) struct Of<'r> {
    pub(super) worker: &'r Rc<Worker>,
    pub(super) config: &'r Arc<Config>,
    pub(super) head: &'r RequestHead,
    pub(super) shape: &'r Shape,
    pub(super) attempt_count: bool,
}

/// Copies a request that is about to be sent, with its body, to those of `mirrors` that chance takes.
pub(super) fn begin(of: &Of<'_>, mirrors: &[Mirror], body: &mut Pump) {
    let mut copies = Vec::new();
    for mirror in mirrors.iter().filter(|m| chance() % 1_000_000 < m.share) {
        let mut head = of.head.clone();
        let host = marked(head.authority());
        head.set_authority(host.as_bytes());
        copies.push(Copy {
            worker: of.worker.clone(),
            config: of.config.clone(),
            cluster: mirror.cluster.clone(),
            head,
            shape: of.shape.clone(),
            attempt_count: of.attempt_count,
        });
    }
    if copies.is_empty() {
        return;
    }
    let counters = of.worker.shared.counters.clone();
    let start = move |body: Option<(Bytes, Option<Fields>)>| {
        let Some((bytes, trailers)) = body else {
            counters.mirrors_dropped.fetch_add(copies.len() as u64, Relaxed);
            return;
        };
        for copy in copies {
            tokio::task::spawn_local(send(copy, Whole { bytes: bytes.clone(), trailers: trailers.clone() }));
        }
    };
    if body.is_ended() {
        start(Some((Bytes::new(), None)));
    } else {
        body.copy(Box::new(start));
    }
}

/// `host:port` becomes `host-shadow:port`.
fn marked(host: &str) -> String {
    let name = crate::route::without_port(host);
    format!("{name}{MARK}{}", &host[name.len()..])
}

/// A place among those on their way.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        (ON_THEIR_WAY.get() < MOST).then(|| {
            ON_THEIR_WAY.set(ON_THEIR_WAY.get() + 1);
            Self
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        ON_THEIR_WAY.set(ON_THEIR_WAY.get() - 1);
    }
}

async fn send(copy: Copy, body: Whole) {
    let counters = copy.worker.shared.counters.clone();
    let sent = async {
        let _place = Place::take()?;
        Box::pin(tokio::time::timeout(LONGEST, exchange(copy, body))).await.ok()?
    };
    let counter = if sent.await.is_some() { &counters.mirrored } else { &counters.mirrors_dropped };
    counter.fetch_add(1, Relaxed);
}

/// Sends a copy and reads its response to the end; `None` if there was none.
async fn exchange(mut copy: Copy, mut body: Whole) -> Option<()> {
    let config = copy.config.clone();
    let cluster = config.clusters.get(&copy.cluster).filter(|c| c.spec.discovery != Discovery::Original)?;
    let _in_flight = InFlight::begin(cluster, |c| &c.state.requests, cluster.spec.limits.requests)?;
    let now = crate::clock::now_ms();
    let endpoint = balance::choose(cluster, now, &Tried::new(), None, chance)?;
    let _active = Active::new(endpoint);
    let target = Target { cluster, to: To::Endpoint(endpoint) };
    let offer = offer(&target, &copy.shape, &copy.head);
    let mut limits = Limits::default();
    limits.end_by(Instant::now() + LONGEST, &answer::TIMEOUT);
    let mut pump = Pump::new(body.is_received());
    let to = (&copy.worker, &config, &target, offer, Purpose::Request);
    let count = copy.attempt_count.then_some(1);
    let outcome = attempt(to, &mut copy.head, &copy.shape, count, &mut body, &mut pump, &mut limits).await;
    let (blame, answered) = match outcome {
        Outcome::Answered(response, sender) => (Blame::Status(response.status), Some(sender)),
        Outcome::Failed(..) | Outcome::Late(_) => (Blame::NoAnswer, None),
        Outcome::ClientGone(_) => return None,
    };
    balance::report(cluster, endpoint, blame, crate::clock::now_ms());
    let mut sender = answered?;
    let mut down = Pump::new(sender.is_received());
    let read = poll_fn(|cx| {
        if !pump.is_ended() && matches!(pump.poll(&mut body, &mut sender, cx), Poll::Ready(Err(_))) {
            pump.give_up();
        }
        down.poll(&mut sender, &mut body, cx)
    })
    .await;
    read.ok()?;
    if let Sender::Http1(kept) = sender
        && pump.is_ended()
        && kept.connection.is_reusable()
    {
        copy.worker.pool.put(kept, cluster.spec.options.idle_timeout);
    }
    Some(())
}

/// Stands where the client would: it has the body, and wants no response.
struct Whole {
    bytes: Bytes,
    trailers: Option<Fields>,
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
        Poll::Ready(Ok(bytes.len()))
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
    use super::marked;

    #[test]
    fn the_host_of_a_copy_is_marked_before_its_port() {
        for (host, is) in
            [("a.test", "a.test-shadow"), ("a.test:80", "a.test-shadow:80"), ("[::1]:80", "[::1]-shadow:80")]
        {
            assert_eq!(marked(host), is);
        }
    }
}
