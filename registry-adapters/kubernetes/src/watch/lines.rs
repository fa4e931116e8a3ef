//! Cuts a stream of bytes into lines.
//!
//! Invariant: no more is held than one line, and none is longer than [`LONGEST`].

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest line: a few times of what etcd takes for an object.
pub(super) const LONGEST: usize = 8 << 20;

/// A line that is longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// What is not yet a line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: BytesMut,
    /// Of what is held, so much was searched.
    searched: usize,
}

impl Lines {
    /// Takes in what came.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        self.held.extend_from_slice(bytes);
    }

    /// The next line, without its end.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            let found = self.held[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(at) = found.map(|at| self.searched + at) else {
                self.searched = self.held.len();
                return if self.held.len() > LONGEST { Err(TooLong) } else { Ok(None) };
            };
            let line = self.held.split_to(at).freeze();
            self.held.advance(1);
            self.searched = 0;
            if self.held.is_empty() {
                // What was once long need not be held for ever.
                self.held = BytesMut::new();
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<Bytes> {
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn lines_are_the_same_wherever_the_stream_is_cut() {
        let stream = b"{\"a\":1}\n{\"b\":2}\r\n\n{\"c\":3}\n{\"unfinished";
        for cut in 0..stream.len() {
            let mut lines = Lines::default();
            lines.push(&Bytes::copy_from_slice(&stream[..cut]));
            let mut got = all(&mut lines);
            lines.push(&Bytes::copy_from_slice(&stream[cut..]));
            got.extend(all(&mut lines));
            assert_eq!(got, [&b"{\"a\":1}"[..], b"{\"b\":2}\r", b"{\"c\":3}"], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_held_for_ever() {
        let mut lines = Lines::default();
        let piece = Bytes::from(vec![b'x'; LONGEST / 2]);
        lines.push(&piece);
        assert_eq!(lines.next(), Ok(None));
        lines.push(&piece);
        assert_eq!(lines.next(), Ok(None));
        lines.push(&piece);
        assert_eq!(lines.next(), Err(TooLong));
    }
}
