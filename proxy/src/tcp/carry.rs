//! Bytes carried both ways.
//!
//! In: two streams. Out: what one end says reaches the other, its end included (half-close), until both have ended, one
//! breaks, or nothing moved for too long. An idle connection holds no buffer: bytes pass through one scratch buffer of
//! the worker, and only what the other end does not take at once is kept.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are read at once, and the most that wait for a slow end.
const SCRATCH: usize = 64 * 1024;
/// When one end has finished, the other has this long of silence, not the whole idle time.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(300);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

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
pub async fn carry<A, B>(a: &mut A, b: &mut B, idle: Duration, mut count: impl FnMut(Carried)) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
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
    /// Read, and not yet taken.
    kept: Vec<u8>,
    /// How much of it is written.
    written: usize,
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
    fn step<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // A direction that never rests must let others run.
        for _ in 0..16 {
            if self.state == State::Closed {
                return Poll::Ready(Ok(()));
            }
            ready!(self.drain(cx, to))?;
            if self.state == State::Closing {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.state = State::Closed;
                return Poll::Ready(Ok(()));
            }
            match self.pass(cx, from, to)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is kept.
    fn drain<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while self.written < self.kept.len() {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept[self.written..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        if !self.kept.is_empty() {
            self.kept = Vec::new();
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what it can; pending if there is nothing to read.
    fn pass<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        BUFFER.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(result) => result?,
            }
            let bytes = buf.filled();
            if bytes.is_empty() {
                self.state = State::Closing;
                return Ok(Poll::Ready(()));
            }
            self.carried += bytes.len() as u64;
            self.unflushed = true;
            let mut done = 0;
            while done < bytes.len() {
                match Pin::new(&mut *to).poll_write(cx, &bytes[done..]) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(n)) => done += n,
                    Poll::Ready(Err(e)) => return Err(e),
                    Poll::Pending => {
                        self.kept = bytes[done..].to_vec();
                        self.written = 0;
                        break;
                    }
                }
            }
            Ok(Poll::Ready(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    async fn silence_ends_a_connection() {
        let (_client, mut a) = duplex(16);
        let (mut b, _server) = duplex(16);
        let error = carry(&mut a, &mut b, Duration::from_millis(20), |_| {}).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
