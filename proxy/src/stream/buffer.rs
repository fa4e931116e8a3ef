//! Room for bytes, lent by the worker.
//!
//! In: bytes on their way. Out: the same bytes. Invariant: a buffer that holds nothing has no memory, so an idle
//! connection has none; what waits for long can be moved to a place of its own size.

use std::cell::RefCell;

/// Records of TLS that fill a buffer.
const RECORDS: usize = 8;
/// What they take on the wire: no more than the kernel sends in two pieces, each of 44 segments of 1,460 bytes or 45 of 1,448
/// or 1,428. A byte more would be a packet of its own, with its own way through firewalls and its own answer.
pub(crate) const WIRE: usize = 2 * 44 * 1460;
/// What they carry.
pub(crate) const DATA: usize = WIRE - RECORDS * 22;
/// Bytes that are read at once to be sent on: in frames of HTTP/2 they fill these records to the last byte.
pub(crate) const PIECE: usize = DATA - RECORDS * 9;
/// Bytes of a whole buffer: these records, and short ones before and behind them.
pub(crate) const SIZE: usize = WIRE + 64;
/// A worker keeps so many for the next one.
const SPARE: usize = 8;
/// What is worth a whole buffer while it waits.
const WORTH: usize = SIZE / 8;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes between `start` and `end`; behind them there is room. What lies before `start` is kept until
/// [`settle`](Self::settle) or [`room`](Self::room): a caller may still use it.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("start", &self.start).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Buffer {
    /// Of bytes that are there; the first `start` are passed.
    pub(crate) fn of(bytes: Vec<u8>, start: usize) -> Self {
        let end = bytes.len();
        Self { bytes, start: start.min(end), end }
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What it holds.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// What it holds, to be changed in place.
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Where [`filled`](Self::filled) begins in [`bytes`](Self::bytes).
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// All of its memory, what was passed included.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// All of its memory.
    pub(crate) fn passed(&self) -> &[u8] {
        &self.bytes
    }

    /// `n` bytes are done with; they stay where they are.
    pub(crate) fn pass(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// `n` bytes are done with; memory that holds nothing is given back.
    pub(crate) fn consume(&mut self, n: usize) {
        self.pass(n);
        if self.is_empty() {
            self.clear();
        }
    }

    /// The room behind what it holds, as much as there can be.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() < SIZE {
            let mut whole = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE]);
            let kept = self.end - self.start;
            whole[..kept].copy_from_slice(self.filled());
            self.bytes = whole;
            (self.start, self.end) = (0, kept);
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// `n` bytes of the room were filled.
    pub(crate) fn advance(&mut self, n: usize) {
        self.end = (self.end + n).min(self.bytes.len());
    }

    /// Whether it is no waste to let `n` bytes wait in it.
    pub(crate) fn is_worth(&self, n: usize) -> bool {
        n >= WORTH || self.bytes.len() < SIZE
    }

    /// Takes no more memory than is worth it, because what it holds must wait.
    pub(crate) fn settle(&mut self) {
        let kept = self.end - self.start;
        if kept == 0 {
            self.clear();
        } else if !self.is_worth(kept) {
            let rest = self.filled().to_vec();
            self.clear();
            self.bytes = rest;
            self.end = kept;
        }
    }

    /// Holds nothing any more.
    pub(crate) fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        (self.start, self.end) = (0, 0);
        if bytes.len() == SIZE {
            // At the end of a thread there is no list any more.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                if free.len() < SPARE {
                    free.push(bytes);
                }
            });
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_takes_its_own_size_and_nothing_takes_none() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.room().len(), SIZE);
        buffer.room()[..5].copy_from_slice(b"hello");
        buffer.advance(5);
        buffer.consume(1);
        buffer.settle();
        assert_eq!((buffer.filled(), buffer.bytes.len()), (&b"ello"[..], 4));
        assert_eq!(buffer.room().len(), SIZE - 4);
        assert_eq!(buffer.filled(), b"ello");
        buffer.consume(4);
        assert_eq!(buffer.bytes.capacity(), 0);
    }
}
