//! A body that comes in, whichever way it is framed.

use super::chunk::Chunks;
use super::framing::Framing;
use crate::http::channel::Broken;
use crate::http::message::Fields;

/// How far it is.
#[derive(Debug)]
pub(super) enum Inbound {
    /// Its end was told, or there is none.
    Ended,
    /// So many bytes are to come.
    Exact(u64),
    /// In chunks.
    Chunked(Chunks),
    /// Until the connection ends.
    UntilClose,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Found {
    /// More must be read to know.
    More,
    /// So many bytes of data; `last` if nothing follows them.
    Data { len: usize, last: bool },
    /// Trailers, then nothing.
    Trailers(Fields),
    /// Nothing.
    End,
}

impl Inbound {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Exact(0) => Self::Ended,
            Framing::Exact(n) => Self::Exact(n),
            Framing::Chunked => Self::Chunked(Chunks::new()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// What comes next, and how many bytes before it are done with.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<(usize, Found), Broken> {
        let found = match self {
            Self::Ended => (0, Found::End),
            Self::Exact(_) | Self::UntilClose if bytes.is_empty() => (0, Found::More),
            Self::Exact(left) => {
                let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                (0, Found::Data { len, last: len as u64 == *left })
            }
            Self::UntilClose => (0, Found::Data { len: bytes.len(), last: false }),
            Self::Chunked(chunks) => chunks.next(bytes)?,
        };
        if let (_, Found::Trailers(_) | Found::End) = found {
            *self = Self::Ended;
        }
        Ok(found)
    }

    /// `n` bytes of data are done with: how many are with those that frame them.
    pub(super) fn took(&mut self, n: usize) -> usize {
        let (behind, ended) = match self {
            Self::Exact(left) => {
                *left = left.saturating_sub(n as u64);
                (0, *left == 0)
            }
            Self::Chunked(chunks) => chunks.took(n),
            Self::Ended | Self::UntilClose => (0, false),
        };
        if ended {
            *self = Self::Ended;
        }
        n + behind
    }

    /// The connection has ended: whether the body has with it.
    pub(super) fn closed(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Ended;
        }
        self.has_ended()
    }
}
