//! Bytes carried both ways.
//!
//! In: two ends. Out: what one says reaches the other, its end included (half-close), until both have ended, one breaks,
//! or nothing moved for too long. An idle connection holds no buffer: what was read is written from where it lies, and
//! only what the other end does not take is kept. What is not taken stops the reading.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::stream::Stream;
use crate::stream::end::{End, Kept};

/// When one end has finished, the other has this long of silence, not the whole idle time.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(300);
/// Buffers that a direction carries before others have their turn.
const TURN: usize = 4;

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the first to the second.
    pub forth: u64,
    /// From the second to the first.
    pub back: u64,
}

/// Carries bytes between `a` and `b`; `count` is told of each step.
///
/// # Errors
/// If one of them breaks, or nothing moves for `idle`.
pub async fn carry<A: End, B: End>(
    a: &mut A,
    b: &mut B,
    idle: Duration,
    mut count: impl FnMut(Carried),
) -> io::Result<()> {
    let (mut forth, mut back) = (Way::default(), Way::default());
    let mut timer = std::pin::pin!(tokio::time::sleep(idle));
    let mut last = tokio::time::Instant::now();
    poll_fn(|cx| {
        let before = (forth.carried, back.carried);
        let forth_end = forth.step(cx, a, b)?;
        let back_end = back.step(cx, b, a)?;
        let moved = Carried { forth: forth.carried - before.0, back: back.carried - before.1 };
        if moved != Carried::default() {
            last = tokio::time::Instant::now();
            count(moved);
        }
        if forth_end.is_ready() && back_end.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let half = forth_end.is_ready() || back_end.is_ready();
        let idle = if half { idle.min(HALF_CLOSED_IDLE) } else { idle };
        // The timer is moved when it fires, not with each byte.
        while timer.as_mut().poll(cx).is_ready() || half && timer.deadline() > last + idle {
            if last.elapsed() >= idle {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved for too long")));
            }
            timer.as_mut().reset(last + idle);
        }
        Poll::Pending
    })
    .await
}

/// One direction.
#[derive(Default)]
struct Way {
    kept: Kept,
    carried: u64,
    /// Written since the last flush.
    unflushed: bool,
    state: State,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    Closing,
    Closed,
}

impl Way {
    fn step<R: End, W: End>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>> {
        for _ in 0..TURN {
            match self.state {
                State::Open => {}
                State::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Closed;
                    return Poll::Ready(Ok(()));
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
            if to.poll_room(cx).is_pending() || from.poll_fill(cx, &mut self.kept)?.is_pending() {
                return self.rest(cx, to);
            }
            let mut slices = [IoSlice::new(&[]); Stream::SLICES];
            let written = match from.slices(&self.kept, &mut slices) {
                0 => {
                    self.state = State::Closing;
                    continue;
                }
                1 => Pin::new(&mut *to).poll_write(cx, &slices[0]),
                count => Pin::new(&mut *to).poll_write_vectored(cx, &slices[..count]),
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    from.taken(&mut self.kept, n);
                    self.carried += n as u64;
                    self.unflushed = true;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    from.settle(&mut self.kept);
                    return self.rest(cx, to);
                }
            }
        }
        // A direction that never rests must let others run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Before it waits, what was written must go.
    fn rest<W: End>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        if self.unflushed && Pin::new(to).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Plain;
    use crate::tls::{self, testing};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn one_end_may_finish_while_the_other_goes_on() {
        let (mut client, mut a) = duplex(16);
        let (mut b, mut server) = duplex(16);
        let mut total = Carried::default();
        let proxy = carry(&mut a, &mut b, Duration::from_secs(5), |c| {
            total.forth += c.forth;
            total.back += c.back;
        });
        let client = async {
            client.write_all(&[7; 1000]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let server = async {
            let mut asked = Vec::new();
            server.read_to_end(&mut asked).await.unwrap();
            server.write_all(&[8; 2000]).await.unwrap();
            server.shutdown().await.unwrap();
            asked.len()
        };
        let (done, answer, asked) = tokio::join!(proxy, client, server);
        done.unwrap();
        assert_eq!((asked, answer.len()), (1000, 2000));
        assert_eq!(total, Carried { forth: 1000, back: 2000 });
    }

    #[tokio::test]
    async fn two_proxies_carry_a_lot_both_ways_within_tls_and_each_end_by_itself() {
        let (client, server) = testing::Pki::new().configs(&rustls::version::TLS13, None);
        let ((mut near, outer), (ours, theirs), (inner, mut far)) = (duplex(50_000), duplex(30_000), duplex(7_000));
        let (up, down) = tokio::join!(
            tls::connect(Arc::new(client), "reviews".try_into().unwrap(), Plain::memory(ours)),
            tls::accept(Arc::new(server), Plain::memory(theirs), Duration::from_secs(5)),
        );
        let (mut up, mut down) = (up.unwrap().stream, down.unwrap().stream);
        let (mut outer, mut inner) = (Stream::plain(Plain::memory(outer)), Stream::plain(Plain::memory(inner)));
        let idle = Duration::from_secs(5);
        let (mut forth, mut back) = (0, 0);
        let caller = carry(&mut outer, &mut up, idle, |c| (forth, back) = (forth + c.forth, back + c.back));
        let callee = carry(&mut down, &mut inner, idle, |_| {});
        let (asked, answered) = (vec![1; 300_000], vec![2; 400_000]);
        let near = async {
            near.write_all(&asked).await.unwrap();
            near.shutdown().await.unwrap();
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let far = async {
            let mut question = Vec::new();
            far.read_to_end(&mut question).await.unwrap();
            far.write_all(&answered).await.unwrap();
            far.shutdown().await.unwrap();
            question
        };
        let (a, b, answer, question) = tokio::join!(caller, callee, near, far);
        a.unwrap();
        b.unwrap();
        assert!(question == asked && answer == answered);
        assert_eq!((forth, back), (300_000, 400_000));
    }

    #[tokio::test]
    async fn a_wire_that_is_cut_is_no_end() {
        let (client, server) = testing::Pki::new().configs(&rustls::version::TLS13, None);
        let ((ours, theirs), (outer, _app)) = (duplex(30_000), duplex(16));
        let (up, down) = tokio::join!(
            tls::connect(Arc::new(client), "reviews".try_into().unwrap(), Plain::memory(ours)),
            tls::accept(Arc::new(server), Plain::memory(theirs), Duration::from_secs(5)),
        );
        drop(down);
        let mut outer = Stream::plain(Plain::memory(outer));
        let error = carry(&mut outer, &mut up.unwrap().stream, Duration::from_secs(5), |_| {}).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn silence_ends_a_connection() {
        let (_client, mut a) = duplex(16);
        let (mut b, _server) = duplex(16);
        let error = carry(&mut a, &mut b, Duration::from_millis(20), |_| {}).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
