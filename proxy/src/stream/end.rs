//! What bytes are carried from and to, without a copy where it can be helped.
//!
//! In: a stream of any kind. Out: what was read of it, where it lies. Invariant: what waits for nothing holds no buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::Stream;
use super::buffer::{Buffer, PIECE};

/// What bytes are carried from and to. What was read of it lies in `kept`, unless it keeps it itself.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// Ready when there is something to take, or when nothing more comes: then [`slices`](Self::slices) gives none.
    fn poll_fill(&mut self, cx: &mut Context<'_>, kept: &mut Kept) -> Poll<io::Result<()>> {
        let buffer = &mut kept.0;
        if !buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut buf = ReadBuf::new(&mut buffer.room()[..PIECE]);
        let polled = Pin::new(self).poll_read(cx, &mut buf);
        let n = buf.filled().len();
        if n == 0 {
            buffer.clear();
        }
        buffer.advance(n);
        polled
    }

    /// What can be taken, put at the front of `to`; how many slices these are.
    fn slices<'a>(&'a self, kept: &'a Kept, to: &mut [IoSlice<'a>]) -> usize {
        match to.first_mut() {
            Some(first) if !kept.0.is_empty() => {
                *first = IoSlice::new(kept.0.filled());
                1
            }
            _ => 0,
        }
    }

    /// `n` bytes of it were taken.
    fn taken(&mut self, kept: &mut Kept, n: usize) {
        kept.0.consume(n);
    }

    /// What can be taken has to wait.
    fn settle(&mut self, kept: &mut Kept) {
        kept.0.settle();
    }

    /// Ready when it is worth asking others for what is to be written here.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

/// What was read of an end that keeps nothing itself.
#[derive(Debug, Default)]
pub struct Kept(Buffer);

impl End for Stream {
    fn poll_fill(&mut self, cx: &mut Context<'_>, _: &mut Kept) -> Poll<io::Result<()>> {
        Self::poll_fill(self, cx)
    }

    fn slices<'a>(&'a self, _: &'a Kept, to: &mut [IoSlice<'a>]) -> usize {
        Self::slices(self, to)
    }

    fn taken(&mut self, _: &mut Kept, n: usize) {
        self.consumed(n);
    }

    fn settle(&mut self, _: &mut Kept) {
        Self::settle(self);
    }
}

impl End for DuplexStream {}

impl End for Box<dyn End> {
    fn poll_fill(&mut self, cx: &mut Context<'_>, kept: &mut Kept) -> Poll<io::Result<()>> {
        (**self).poll_fill(cx, kept)
    }

    fn slices<'a>(&'a self, kept: &'a Kept, to: &mut [IoSlice<'a>]) -> usize {
        (**self).slices(kept, to)
    }

    fn taken(&mut self, kept: &mut Kept, n: usize) {
        (**self).taken(kept, n);
    }

    fn settle(&mut self, kept: &mut Kept) {
        (**self).settle(kept);
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_room(cx)
    }
}
