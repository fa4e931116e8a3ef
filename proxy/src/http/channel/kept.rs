//! What was taken of a body, kept so that it can be sent once more, or to others too.
//!
//! In: the pieces of a body on its way. Out: the same pieces again, from the start; for who wants a copy, the whole body
//! when it is there. Bounded: each by its limit, all of a thread together by [`MOST`]; what finds no room is not kept.

use std::cell::Cell;
use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Broken, Channel};
use crate::http::message::Fields;

/// The most that is kept of a body that may be sent again.
pub(in crate::http) const AGAIN: usize = 64 * 1024;
/// The most that is kept of a body that others get a copy of.
const COPIED: usize = 1024 * 1024;
/// The most that a thread keeps of all bodies.
const MOST: usize = 16 * 1024 * 1024;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Takes the copy of a body that is there in whole, with its trailers; `None` if it was too large.
pub(in crate::http) type Copies = Box<dyn FnOnce(Option<(Bytes, Option<Fields>)>)>;

/// What was taken of a body.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    trailers: Option<Fields>,
    /// All of it is there.
    whole: bool,
    /// How much was sent since it was begun anew.
    at: usize,
    /// It may be sent again.
    again: bool,
    copies: Option<Copies>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.bytes.len()).field("whole", &self.whole).finish_non_exhaustive()
    }
}

impl Kept {
    /// Keeps a body so that it can be sent again, unless it is too large already.
    pub(super) fn again(&mut self) {
        self.again = self.bytes.len() <= AGAIN;
    }

    /// Keeps a body until it is whole; who takes the copy is told then.
    pub(super) fn copies(&mut self, copies: Copies) {
        if self.whole {
            return copies(Some((Bytes::copy_from_slice(&self.bytes), self.trailers.clone())));
        }
        self.copies = Some(copies);
    }

    /// Takes bytes before they are on their way; `false` if there is no room for them.
    pub(super) fn hold(&mut self, bytes: &[u8]) -> bool {
        if HELD.get() + bytes.len() > MOST {
            return false;
        }
        HELD.set(HELD.get() + bytes.len());
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// What was taken.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is something of the body here that must be sent from here.
    pub(super) fn has_part(&self) -> bool {
        !self.bytes.is_empty() || self.whole
    }

    /// Whether it can be sent from its start.
    pub(super) fn is_again(&self) -> bool {
        self.again
    }

    /// It is not sent again; whether it is still of use.
    pub(super) fn settle(&mut self) -> bool {
        self.again = false;
        self.copies.is_some()
    }

    /// Sends it from its start.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// Takes bytes that are on their way; `false` if there is no room for them.
    pub(super) fn take(&mut self, bytes: &[u8], last: bool) -> bool {
        let all = self.bytes.len() + bytes.len();
        self.again &= all <= AGAIN;
        let wanted = self.again || self.copies.is_some() && all <= COPIED;
        let room = HELD.get() + bytes.len() <= MOST;
        if !wanted || !room {
            return false;
        }
        HELD.set(HELD.get() + bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.at = self.bytes.len();
        if last {
            self.end(None);
        }
        true
    }

    /// The body has ended.
    pub(super) fn end(&mut self, trailers: Option<&Fields>) {
        self.whole = true;
        self.trailers = trailers.cloned();
        if let Some(copies) = self.copies.take() {
            copies(Some((Bytes::copy_from_slice(&self.bytes), self.trailers.clone())));
        }
    }

    /// Whether there is something that was taken and must be sent anew.
    pub(super) fn is_behind(&self) -> bool {
        self.at < self.bytes.len()
    }

    /// Whether it is all there, so that nothing more comes.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Sends what was taken; ready with whether that was the end of the body.
    pub(super) fn replay<B: Channel>(&mut self, to: &mut B, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        let rest = &self.bytes[self.at..];
        let last = self.whole && self.trailers.is_none();
        if rest.is_empty() {
            to.finish(self.trailers.as_ref())?;
            return Poll::Ready(Ok(true));
        }
        let n = ready!(to.poll_data(cx, rest, last))?;
        self.at += n;
        Poll::Ready(Ok(last && self.at == self.bytes.len()))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        HELD.set(HELD.get() - self.bytes.len());
        if let Some(copies) = self.copies.take() {
            copies(None);
        }
    }
}
