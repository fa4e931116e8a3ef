//! Reads and writes for a connection's state.
//!
//! In: a byte stream. Out: the state is told of what came, and what it has to say is written: once for all streams that had
//! something in this turn of the event loop. An idle connection holds neither a read nor a write buffer.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep};

use super::limits::Limits;
use super::shared::Shared;
use super::state::State;
use crate::stream::Stream;

/// Bytes that are read before others have their turn: what came is to be taken while it is in the processor's cache, and as
/// much as a socket takes at once.
const TURN: usize = 48 * 1024;
/// How long a peer may take to read our last words.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection does beside reading and writing, as a server or as a client.
pub(super) trait Role {
    /// Whether a silent peer is asked if it lives. Servers may take that amiss of clients.
    const ASKS: bool;

    /// Before each turn; an error ends the connection at once.
    fn before(&mut self, shared: &Shared, cx: &Context<'_>) -> io::Result<()>;

    /// After bytes came.
    fn after(&mut self, shared: &Rc<Shared>);
}

/// Drives a connection to its end.
pub(super) async fn run(io: Stream, shared: Rc<Shared>, role: impl Role) -> io::Result<()> {
    let lost = Lost(shared);
    let limits = lost.0.drive(|state| *state.limits());
    let mut driver = Driver { io, role, limits, deferred: false, unflushed: false, heard: false, ping: false };
    let mut timer = pin!(sleep(limits.silence));
    std::future::poll_fn(|cx| driver.poll(&lost.0, cx, timer.as_mut())).await?;
    if !lost.0.drive(|state| state.is_lost()) {
        // The peer is to read our last words, which it does not if it is still sending when the connection is gone.
        let _ = tokio::time::timeout(LINGER, driver.close()).await;
    }
    match lost.0.drive(|state| state.fatal()) {
        Some(fatal) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {}", fatal.code, fatal.why))),
        None => Ok(()),
    }
}

/// Streams of a connection that nobody drives hear of it, even if the driver is dropped in the middle.
struct Lost(Rc<Shared>);

impl Drop for Lost {
    fn drop(&mut self) {
        self.0.lose();
    }
}

struct Driver<R> {
    io: Stream,
    role: R,
    limits: Limits,
    /// Tasks that were woken by what came have their turn before it is written.
    deferred: bool,
    unflushed: bool,
    /// Something came since the timer went off.
    heard: bool,
    /// The peer was asked whether it lives.
    ping: bool,
}

impl<R: Role> Driver<R> {
    fn poll(&mut self, shared: &Rc<Shared>, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<io::Result<()>> {
        self.role.before(shared, cx)?;
        if R::ASKS || self.limits.asks {
            self.keep_alive(shared, cx, timer)?;
        }
        // Who was woken by our writing has run since.
        shared.drive(State::take_woke);
        let again = self.read(shared, cx)?;
        self.role.after(shared);
        let (woke, silent) = shared.drive(|state| (state.take_woke(), state.output().is_empty()));
        if woke && !silent && !self.deferred {
            self.deferred = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.deferred = false;
        let written = self.write(shared, cx)?;
        shared.clogged.set(!written);
        if let Some(active) = shared.drive(|state| state.is_lost().then(|| state.active())) {
            return Poll::Ready(match active {
                0 => Ok(()),
                _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within a request")),
            });
        }
        if written && shared.drive(|state| state.is_done()) {
            return Poll::Ready(Ok(()));
        }
        shared.sleep(cx);
        if again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Takes what there is from where it was read to; whether there may be more.
    fn read(&mut self, shared: &Shared, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut came = 0;
        while came < TURN {
            if shared.drive(|state| state.is_full() || state.is_done()) {
                self.io.settle();
                return Ok(false);
            }
            if self.io.poll_fill(cx)?.is_pending() {
                return Ok(false);
            }
            let mut slices = [IoSlice::new(&[]); Stream::SLICES];
            let count = self.io.slices(&mut slices);
            let n = shared.drive(|state| {
                let slices = slices.get(..count).unwrap_or_default();
                slices.iter().for_each(|slice| state.receive(slice));
                slices.iter().map(|slice| slice.len()).sum()
            });
            if n == 0 {
                shared.lose();
                return Ok(false);
            }
            self.io.consumed(n);
            self.heard = true;
            came += n;
        }
        Ok(true)
    }

    /// Writes what there is; whether all of it is on its way.
    fn write(&mut self, shared: &Shared, cx: &mut Context<'_>) -> io::Result<bool> {
        loop {
            let wrote = shared.drive(|state| match state.output() {
                [] => Ok(None),
                output => match Pin::new(&mut self.io).poll_write(cx, output) {
                    Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(n)) => {
                        state.wrote(n);
                        Ok(Some(true))
                    }
                    Poll::Ready(Err(e)) => Err(e),
                    Poll::Pending => Ok(Some(false)),
                },
            })?;
            match wrote {
                Some(true) => self.unflushed = true,
                Some(false) => return Ok(false),
                None => break,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(done) => done?,
                Poll::Pending => return Ok(false),
            }
            self.unflushed = false;
        }
        Ok(true)
    }

    /// Asks a silent peer whether it lives. One timer that is looked at when it goes off: nothing per request.
    fn keep_alive(&mut self, shared: &Shared, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> io::Result<()> {
        while timer.as_mut().poll(cx).is_ready() {
            let heard = std::mem::take(&mut self.heard);
            if self.ping && !heard {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not answer"));
            }
            self.ping = !heard;
            if self.ping {
                shared.drive(|state| state.ping());
            }
            timer.as_mut().reset(Instant::now() + if self.ping { self.limits.answer } else { self.limits.silence });
        }
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.io.shutdown().await?;
        let mut scratch = [0; 1024];
        // Enough for what was under way, and no more.
        for _ in 0..1024 {
            if self.io.read(&mut scratch).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}
