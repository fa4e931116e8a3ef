//! Copies of requests, for who wants to see them: nobody waits for what becomes of them.
//!
//! In: a request as it goes out, and its body when it is whole. Out: the same request at an endpoint of another cluster,
//! its host marked; the response is read and dropped. Bounded in number and time; what finds no room is dropped and counted.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::aside::{self, Aside};
use super::channel::Pump;
use super::head::Shape;
use super::message::{Fields, RequestHead};
use crate::config::{Config, Mirror};
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
            tokio::task::spawn_local(send(copy, (bytes.clone(), trailers.clone())));
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
async fn exchange(copy: Copy, body: Whole) -> Option<()> {
    let aside = Aside {
        worker: &copy.worker,
        config: &copy.config,
        cluster: &copy.cluster,
        shape: &copy.shape,
        attempt_count: copy.attempt_count.then_some(1),
        until: Instant::now() + LONGEST,
    };
    aside::call(&aside, copy.head, body, None).await.map(drop)
}

/// A body with its trailers.
type Whole = (Bytes, Option<Fields>);

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
