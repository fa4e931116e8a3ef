//! What owners of streams take.

use std::task::{Context, Poll};

use super::{Code, Key, Part, State};
use crate::http::channel::Broken;
use crate::http::message::{Fields, ResponseHead};

/// What there is of a body.
#[derive(Debug)]
pub(in crate::http::h2) enum Taken {
    /// The buffer that was passed holds bytes; whether they are the last of all.
    Bytes(bool),
    Trailers(Fields),
    End,
}

impl State {
    /// Takes what has come of a body, by exchange of buffers: `buffer` is empty.
    pub(in crate::http::h2) fn take_body(
        &mut self,
        key: Key,
        buffer: &mut Vec<u8>,
        cx: &Context<'_>,
    ) -> Poll<Result<Taken, Broken>> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(Broken::Gone)) };
        if !stream.inbox.is_empty() {
            std::mem::swap(&mut stream.inbox, buffer);
            return Poll::Ready(Ok(Taken::Bytes(stream.incoming == Part::Ended && stream.trailers.is_none())));
        }
        // What is whole stays whole, whatever became of the stream after.
        if stream.incoming == Part::Ended {
            return Poll::Ready(Ok(stream.trailers.take().map_or(Taken::End, Taken::Trailers)));
        }
        match stream.broken {
            Some(why) => Poll::Ready(Err(why)),
            None => {
                stream.reader.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Whether nothing follows what was taken.
    pub(in crate::http::h2) fn has_all(&mut self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|s| s.incoming == Part::Ended && s.inbox.is_empty() && s.trailers.is_none())
    }

    /// The next head of a response.
    pub(in crate::http::h2) fn take_response(
        &mut self,
        key: Key,
        cx: &Context<'_>,
    ) -> Poll<Result<ResponseHead, Broken>> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(Broken::Gone)) };
        if let Some(head) = stream.interim.pop_front().or_else(|| stream.head.take()) {
            return Poll::Ready(Ok(head));
        }
        match stream.broken {
            Some(why) => Poll::Ready(Err(why)),
            None => {
                stream.reader.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Why a stream goes no further; its owner is woken when that comes to be.
    pub(in crate::http::h2) fn is_broken(&mut self, key: Key, cx: &Context<'_>) -> Poll<Broken> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Broken::Gone) };
        match stream.broken {
            Some(why) => Poll::Ready(why),
            None => {
                stream.reader.wait(cx);
                Poll::Pending
            }
        }
    }

    /// The code that the peer reset a stream with.
    pub(in crate::http::h2) fn reset_code(&mut self, key: Key) -> Option<Code> {
        self.streams.get(key).and_then(|stream| stream.reset)
    }
}
