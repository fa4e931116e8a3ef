//! Proxies beside the one that serves: one that is to take over, and those that have made room.
//!
//! In: their connections. Out: that the first one serves, or is gone; that one of the others has ended. Invariant: there is at
//! most one of the first, for a bounded time, and few of the others.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use hawser_api::handover::{End, Message, Serving, encode};
use hawser_sockets::send_fds;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

/// The most that have made room and go on at a time.
const MOST: usize = 2;
/// How long one that is to take over may take: longer than whoever started it waits.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long it may take to send an order.
const ORDER: Duration = Duration::from_secs(5);
/// The longest message of one that is to take over.
const LONGEST: usize = 256;

/// A connected proxy.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) stream: UnixStream,
    pub(super) pid: i32,
    pub(super) version: String,
    /// How many workers it runs.
    pub(super) workers: u32,
    /// Whether it knows how to make room.
    pub(super) can_yield: bool,
}

/// One that is to take over.
#[derive(Debug)]
pub(super) struct Candidate {
    peer: Peer,
    heard: Vec<u8>,
    until: Instant,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Became {
    /// It serves.
    Serving(Peer),
    /// It is gone, or is no use; why.
    Gone(String),
}

/// Those that have made room, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Formers(VecDeque<Peer>);

impl Peer {
    /// Waits until it is gone. What it says means nothing to us.
    pub(super) async fn gone(&mut self) {
        let mut buffer = [0; 256];
        poll_fn(|cx| {
            loop {
                let mut read = ReadBuf::new(&mut buffer);
                match std::pin::Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    /// Tells it to end.
    pub(super) async fn order(&self, end: End) {
        let message = encode(&Message::End(end));
        if !timeout(ORDER, send_fds(&self.stream, &message, &[])).await.is_ok_and(|sent| sent.is_ok()) {
            tracing::warn!(pid = self.pid, "a proxy does not take the order to end");
        }
    }
}

impl Candidate {
    /// It has its sockets.
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, heard: Vec::new(), until: Instant::now() + PATIENCE }
    }

    /// It is not wanted any more, though it may serve already.
    pub(super) async fn dismiss(self) {
        self.peer.order(END_NOW).await;
    }

    /// Waits until it serves, or is gone. It may be dropped and asked again.
    pub(super) async fn became(candidate: &mut Option<Self>) -> Became {
        let Some(waiting) = candidate else { return std::future::pending().await };
        let heard = tokio::time::timeout_at(waiting.until, waiting.hear()).await;
        let pid = waiting.peer.pid;
        let peer = candidate.take().map(|candidate| candidate.peer);
        match (heard, peer) {
            (Ok(Ok(Serving { serving: true })), Some(peer)) => Became::Serving(peer),
            (Ok(Ok(_)), _) => Became::Gone(format!("process {pid} does not want to serve")),
            (Ok(Err(why)), _) => Became::Gone(format!("process {pid}: {why}")),
            (Err(_), _) => {
                Became::Gone(format!("process {pid} did not say for {} s that it serves", PATIENCE.as_secs()))
            }
        }
    }

    /// Its one message, a frame as `hawser_sockets` has it, read so that nothing is lost when this is dropped.
    async fn hear(&mut self) -> Result<Serving, String> {
        loop {
            if let Some((length, rest)) = self.heard.split_first_chunk::<4>() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                if length > LONGEST {
                    return Err(format!("it sent {length} bytes"));
                }
                if let Some(message) = rest.get(..length) {
                    return serde_json::from_slice(message).map_err(|error| format!("its message: {error}"));
                }
            }
            self.peer.stream.readable().await.map_err(|error| error.to_string())?;
            let mut buffer = [0; LONGEST + 4];
            match self.peer.stream.try_read(&mut buffer) {
                Ok(0) => return Err("it has ended; its log says why".to_owned()),
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Formers {
    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Takes one more; the oldest is ended if they are too many.
    pub(super) async fn add(&mut self, former: Peer) {
        self.0.push_back(former);
        while self.0.len() > MOST {
            if let Some(oldest) = self.0.pop_front() {
                tracing::info!(
                    pid = oldest.pid,
                    version = oldest.version,
                    "the oldest former proxy ends for a newer one"
                );
                oldest.order(END_NOW).await;
            }
        }
    }

    /// Waits until one has ended, and forgets it.
    pub(super) async fn one_ended(&mut self) {
        let index = poll_fn(|cx| {
            for (index, former) in self.0.iter_mut().enumerate() {
                if std::pin::pin!(former.gone()).poll(cx).is_ready() {
                    return Poll::Ready(index);
                }
            }
            Poll::Pending
        })
        .await;
        if let Some(former) = self.0.remove(index) {
            tracing::info!(pid = former.pid, version = former.version, "a former proxy has ended");
        }
    }

    /// Tells all of them to end.
    pub(super) async fn order(&self, end: End) {
        for former in &self.0 {
            former.order(end).await;
        }
    }

    /// Waits until all have ended.
    pub(super) async fn ended(&mut self) {
        while !self.0.is_empty() {
            self.one_ended().await;
        }
    }
}

/// Without any time.
pub(super) const END_NOW: End = End { end_within: 0, yields: false };

#[cfg(test)]
mod tests {
    use hawser_sockets::{FdLimits, recv_fds};

    use super::*;

    fn peer(pid: i32) -> (Peer, UnixStream) {
        let (stream, theirs) = UnixStream::pair().unwrap();
        (Peer { stream, pid, version: "1".into(), workers: 1, can_yield: true }, theirs)
    }

    async fn told(stream: &UnixStream) -> Message {
        serde_json::from_slice(&recv_fds(stream, FdLimits::default()).await.unwrap().0).unwrap()
    }

    #[tokio::test]
    async fn a_candidate_serves_when_it_has_said_so_whole() {
        let (ours, theirs) = peer(7);
        let mut candidate = Some(Candidate::new(ours));
        let frame = [&16_u32.to_be_bytes()[..], br#"{"serving":true}"#].concat();
        for part in frame.chunks(5) {
            let early = timeout(Duration::from_millis(1), Candidate::became(&mut candidate)).await;
            assert!(early.is_err() && candidate.is_some());
            theirs.try_write(part).unwrap();
        }
        assert!(matches!(Candidate::became(&mut candidate).await, Became::Serving(peer) if peer.pid == 7));
        assert!(candidate.is_none());
    }

    #[tokio::test]
    async fn a_candidate_that_dies_or_talks_nonsense_is_gone() {
        for (said, word) in [(&b""[..], "ended"), (&[0, 0, 0, 1, b'x'], "message"), (&[255; 4], "4294967295 bytes")] {
            let (ours, theirs) = peer(7);
            let mut candidate = Some(Candidate::new(ours));
            if !said.is_empty() {
                theirs.try_write(said).unwrap();
            }
            drop(theirs);
            match Candidate::became(&mut candidate).await {
                Became::Gone(why) => assert!(why.contains(word), "{why}"),
                became @ Became::Serving(_) => panic!("{became:?}"),
            }
            assert!(candidate.is_none());
        }
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_is_ended_and_all_are_told() {
        let mut formers = Formers::default();
        let (peers, theirs): (Vec<_>, Vec<_>) = (1..=3).map(peer).unzip();
        for peer in peers {
            formers.add(peer).await;
        }
        assert_eq!(formers.count(), 2);
        assert_eq!(told(&theirs[0]).await, Message::End(END_NOW));
        let end = End { end_within: 30, yields: false };
        formers.order(end).await;
        assert_eq!((told(&theirs[1]).await, told(&theirs[2]).await), (Message::End(end), Message::End(end)));
        drop(theirs);
        timeout(Duration::from_secs(5), formers.ended()).await.unwrap();
        assert_eq!(formers.count(), 0);
    }
}
