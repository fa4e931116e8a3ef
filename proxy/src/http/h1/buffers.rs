//! Where bytes wait between the stream and the codec.
//!
//! Buffers belong to the thread: a connection borrows one to read into, or to write from, and gives it back when it is empty.
//! Few bytes that must wait are copied to a place of their own size. Invariant: who waits with nothing to keep, keeps nothing.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::stream::Stream;

/// Size of a buffer that is read into.
pub(super) const READ: usize = 64 * 1024;
/// As many bytes may wait in a place of their own.
const FEW: usize = 4 * 1024;
/// Beyond it, what is to be written is written before more is taken.
const FULL: usize = 32 * 1024;
/// Buffers that a thread keeps of each kind.
const SPARE: usize = 8;

thread_local! {
    static READERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static WRITERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

type Pool = std::thread::LocalKey<RefCell<Vec<Vec<u8>>>>;

fn borrow(pool: &'static Pool) -> Option<Vec<u8>> {
    pool.try_with(|spare| spare.borrow_mut().pop()).ok().flatten()
}

fn give_back(pool: &'static Pool, buffer: Vec<u8>) {
    // A thread that ends has no pool any more.
    let _ = pool.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    });
}

/// How many buffers to read into are lent: tests count them, each in a thread of its own.
#[cfg(test)]
pub(super) fn lent() -> usize {
    MADE.get() - READERS.with_borrow(Vec::len)
}

#[cfg(test)]
thread_local! {
    static MADE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn new_reader() -> Vec<u8> {
    #[cfg(test)]
    MADE.set(MADE.get() + 1);
    vec![0; READ]
}

/// What was read and not consumed.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// A borrowed buffer ([`READ`] long), a place of its own (shorter), or nothing.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl Input {
    /// What there is.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.at..self.end).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// `n` bytes are done with.
    pub(super) fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.end);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Reads once; 0 is the end. Whoever keeps a buffer full without consuming must not read on.
    pub(super) fn poll_fill(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.len() < READ {
            let mut buffer = borrow(&READERS).unwrap_or_else(new_reader);
            let kept = self.bytes();
            let n = kept.len();
            buffer[..n].copy_from_slice(kept);
            (self.buffer, self.at, self.end) = (buffer, 0, n);
        } else if self.at > 0 {
            self.buffer.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
        }
        let room = &mut self.buffer[self.end..];
        if room.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too much at once")));
        }
        let mut room = ReadBuf::new(room);
        let read = Pin::new(stream).poll_read(cx, &mut room);
        let n = room.filled().len();
        self.end += n;
        if n == 0 {
            self.settle();
        }
        Poll::Ready(ready!(read).map(|()| n))
    }

    /// What is there has to wait: it shall not hold a whole buffer.
    pub(super) fn settle(&mut self) {
        let n = self.end - self.at;
        if n == 0 {
            self.clear();
        } else if n <= FEW && self.buffer.len() == READ {
            let few = self.bytes().to_vec();
            self.clear();
            (self.buffer, self.end) = (few, n);
        }
    }

    /// Takes out what there is.
    pub(super) fn take(&mut self) -> Bytes {
        let bytes = Bytes::copy_from_slice(self.bytes());
        self.clear();
        bytes
    }

    fn clear(&mut self) {
        (self.at, self.end) = (0, 0);
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == READ {
            give_back(&READERS, buffer);
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    sent: usize,
    /// The stream has bytes that it may not have brought on their way.
    unflushed: bool,
    /// Bytes written since [`Output::begin`].
    wrote: bool,
}

impl Output {
    /// A message begins: nothing of it was written.
    pub(super) fn begin(&mut self) {
        self.wrote = false;
    }

    /// Whether a byte was written since [`Output::begin`].
    pub(super) fn wrote(&self) -> bool {
        self.wrote
    }

    /// Where to append what is to be written.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = borrow(&WRITERS).unwrap_or_else(|| Vec::with_capacity(4096));
        }
        &mut self.buffer
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.buffer.len() && !self.unflushed
    }

    /// Forgets what was not written.
    pub(super) fn clear(&mut self) {
        self.sent = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        if (1..=4 * FULL).contains(&buffer.capacity()) {
            give_back(&WRITERS, buffer);
        }
    }

    /// Ready when there is room for more.
    pub(super) fn poll_room(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.buffer.len() - self.sent >= FULL {
            ready!(self.poll_some(stream, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all and brings it on its way.
    pub(super) fn poll_flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.buffer.len() {
            ready!(self.poll_some(stream, cx))?;
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits, `bytes` and `tail` behind it without a copy; how many of `bytes` were taken, at least one. `tail`
    /// is taken with the last of them.
    pub(super) fn poll_through(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        bytes: &[u8],
        tail: &'static [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let before = &self.buffer[self.sent..];
            let waits = before.len();
            let all = [IoSlice::new(before), IoSlice::new(bytes), IoSlice::new(tail)];
            let all = if waits == 0 { &all[1..] } else { &all[..] };
            let n = wrote(ready!(Pin::new(&mut *stream).poll_write_vectored(cx, all)))?;
            (self.wrote, self.unflushed) = (true, true);
            self.advance(n.min(waits));
            let Some(taken) = n.checked_sub(waits).filter(|n| *n > 0) else { continue };
            if let Some(of_tail) = taken.checked_sub(bytes.len()) {
                let rest = tail.get(of_tail..).unwrap_or_default();
                if !rest.is_empty() {
                    self.buffer().extend_from_slice(rest);
                }
            }
            return Poll::Ready(Ok(taken.min(bytes.len())));
        }
    }

    fn poll_some(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let n = wrote(ready!(Pin::new(stream).poll_write(cx, &self.buffer[self.sent..])))?;
        (self.wrote, self.unflushed) = (true, true);
        self.advance(n);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, n: usize) {
        self.sent += n;
        if self.sent == self.buffer.len() {
            self.clear();
        } else if self.sent >= FULL {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.clear();
    }
}

fn wrote(n: io::Result<usize>) -> io::Result<usize> {
    n.and_then(|n| if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) })
}
