//! What owners of streams send.

use std::task::{Context, Poll};

use super::{Code, Head, Key, Part, Side, State, Stream, flag, frame, kind};
use crate::http::channel::Broken;
use crate::http::h2::head::Asked;
use crate::http::h2::hpack;
use crate::http::message::{Fields, Length, RequestHead, ResponseHead};
use crate::stream::buffer::PIECE;

/// What a stream puts into the queue at once; who has put in so much lets others have their turn.
const SHARE: usize = PIECE;
/// Bytes of a frame of DATA: with its head it fills a record of TLS, and a peer that reads records finds whole frames.
const FRAME: u32 = frame::PAYLOAD - frame::HEAD as u32;
/// Less room than that is not worth a frame if there is more to send.
const CRUMB: usize = 4096;

impl State {
    /// A place for a request.
    pub(in crate::http::h2) fn open(&mut self) -> Result<Key, Broken> {
        if self.is_closed() {
            return Err(Broken::Gone);
        }
        if !self.has_room() {
            return Err(Broken::Refused);
        }
        let stream = Stream::new(0, self.limits.stream_window, i64::from(self.peer.window));
        Ok(self.streams.add(stream))
    }

    /// Whether no request is taken any more.
    pub(in crate::http::h2) fn is_closed(&self) -> bool {
        self.retired
    }

    /// Whether another request fits.
    pub(in crate::http::h2) fn has_room(&self) -> bool {
        let most = self.peer.streams.min(self.limits.streams) as usize;
        // Ids end some day.
        let ids = (0x7fff_ffff_u32.saturating_sub(self.next) / 2) as usize;
        !self.retired && self.streams.len() < most.min(ids)
    }

    /// Whether the peer takes extended CONNECT, as far as it is known.
    pub(in crate::http::h2) fn takes_extended_connect(&self) -> bool {
        self.peer.extended_connect
    }

    /// Whether the peer's SETTINGS have come, or nothing will come any more; one task is woken when they do.
    pub(in crate::http::h2) fn is_settled(&mut self, cx: &Context<'_>) -> bool {
        let settled = self.peer.known || self.retired;
        if !settled {
            self.pong.wait(cx);
        }
        settled
    }

    /// Takes a connection out of use.
    pub(in crate::http::h2) fn retire(&mut self) {
        self.retired = true;
    }

    /// Sends the head of a request.
    pub(in crate::http::h2) fn send_request(
        &mut self,
        key: Key,
        head: &RequestHead,
        length: Length,
    ) -> Result<(), Broken> {
        let Side::Client { secure } = self.side else { return Err(Broken::Gone) };
        let stream = self.streams.get(key).ok_or(Broken::Gone)?;
        if let Some(broken) = stream.broken {
            return Err(broken);
        }
        if stream.outgoing != Part::Head {
            return Err(Broken::Malformed("a second request on a stream"));
        }
        // Nothing of it was seen: it may be sent elsewhere.
        if self.retired || self.next > 0x7fff_ffff {
            return Err(Broken::Refused);
        }
        let id = self.next;
        let connect = head.method == http::Method::CONNECT;
        let ends = length == Length::None && !connect || length == Length::Exact(0);
        stream.asked = match head.method {
            http::Method::HEAD => Asked::Head,
            _ if connect => Asked::Connect,
            _ => Asked::Other,
        };
        stream.owed = owed(length);
        stream.outgoing = if ends { Part::Ended } else { Part::Body };
        // The peer may have changed its mind since the place was taken; until now no frame could say so.
        stream.window_out = i64::from(self.peer.window);
        self.next += 2;
        self.streams.name(key, id);
        self.put_head(id, ends, |block| hpack::request(block, head, length, secure));
        Ok(())
    }

    /// Sends the head of a response, or of an interim one.
    pub(in crate::http::h2) fn send_response(&mut self, key: Key, head: &ResponseHead) -> Result<(), Broken> {
        let stream = self.streams.get(key).ok_or(Broken::Gone)?;
        if let Some(broken) = stream.broken {
            return Err(broken);
        }
        if stream.outgoing != Part::Head || head.status == 101 {
            return Err(Broken::Malformed("a response where none may be"));
        }
        let id = stream.id;
        if head.status < 200 {
            self.put_head(id, false, |block| hpack::response(block, head));
            return Ok(());
        }
        let tunnel = stream.asked == Asked::Connect && head.status < 300;
        let bare = stream.asked == Asked::Head || matches!(head.status, 204 | 304);
        let ends = bare || matches!(head.length, Length::None | Length::Exact(0)) && !tunnel;
        stream.owed = if bare { None } else { owed(head.length) };
        stream.outgoing = if ends { Part::Ended } else { Part::Body };
        self.put_head(id, ends, |block| hpack::response(block, head));
        if ends {
            self.settle(key);
        }
        Ok(())
    }

    /// Sends bytes of a body, as many as windows and the queue allow.
    pub(in crate::http::h2) fn send_data(
        &mut self,
        key: Key,
        bytes: &[u8],
        last: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<usize, Broken>> {
        let (room, window) = (self.room(), self.window_out);
        let (turn, most) = (self.turn, self.peer.frame.min(FRAME) as usize);
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(Broken::Gone)) };
        if let Some(broken) = stream.broken {
            return Poll::Ready(Err(broken));
        }
        if stream.outgoing != Part::Body {
            return Poll::Ready(Err(Broken::Malformed("a body where none may be")));
        }
        if let Some(owed) = stream.owed
            && (bytes.len() as u64 > owed || last && (bytes.len() as u64) < owed)
        {
            return Poll::Ready(Err(Broken::Malformed("a body of another length than was said")));
        }
        if bytes.is_empty() {
            return Poll::Ready(if last { self.send_end(key, None).map(|()| 0) } else { Ok(0) });
        }
        let sent = stream.sent_in(turn);
        let room = if sent >= SHARE || room < CRUMB && room < bytes.len() { 0 } else { room };
        let windows = usize::try_from(window.min(stream.window_out)).unwrap_or(0);
        let n = bytes.len().min(SHARE).min(room).min(windows);
        if n == 0 {
            self.wait_for_room(key, cx);
            return Poll::Pending;
        }
        let (taken, id) = (&bytes[..n], stream.id);
        let ends = last && n == bytes.len();
        stream.window_out -= n as i64;
        stream.turn = (turn, sent + n);
        if let Some(owed) = &mut stream.owed {
            *owed -= n as u64;
        }
        if ends {
            stream.outgoing = Part::Ended;
        }
        self.window_out -= n as i64;
        let frames = n.div_ceil(most);
        // There are peers that open their windows again for every few kilobytes.
        self.chatter.win(frames as u32 * 10);
        self.out.reserve(n + frames * frame::HEAD);
        let mut parts = taken.chunks(most).peekable();
        while let Some(part) = parts.next() {
            let ends = ends && parts.peek().is_none();
            frame::put(&mut self.out, kind::DATA, if ends { flag::END_STREAM } else { 0 }, id, part);
        }
        if ends {
            self.settle(key);
        }
        Poll::Ready(Ok(n))
    }

    /// Waits until bytes of a body would be taken, or nothing is any more.
    pub(in crate::http::h2) fn poll_room(&mut self, key: Key, cx: &Context<'_>) -> Poll<()> {
        let (room, window, turn) = (self.room(), self.window_out, self.turn);
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(()) };
        if stream.broken.is_some()
            || stream.outgoing != Part::Body
            || window.min(stream.window_out) > 0 && room >= CRUMB && stream.sent_in(turn) < SHARE
        {
            return Poll::Ready(());
        }
        self.wait_for_room(key, cx);
        Poll::Pending
    }

    /// Bytes that the queue takes.
    fn room(&self) -> usize {
        self.limits.queue.saturating_sub(self.out.len() - self.written)
    }

    fn wait_for_room(&mut self, key: Key, cx: &Context<'_>) {
        let Some(stream) = self.streams.get(key) else { return };
        stream.writer.wait(cx);
        // Its own window says by itself when it opens.
        if stream.window_out > 0 && !std::mem::replace(&mut stream.queued, true) {
            self.blocked.push_back(key);
        }
    }

    /// Ends a body, if it has not ended yet.
    pub(in crate::http::h2) fn send_end(&mut self, key: Key, trailers: Option<&Fields>) -> Result<(), Broken> {
        let Some(stream) = self.streams.get(key) else { return Err(Broken::Gone) };
        match stream.outgoing {
            Part::Ended => return Ok(()),
            _ if stream.broken.is_some() => return Err(stream.broken.unwrap_or(Broken::Gone)),
            Part::Head => return Err(Broken::Malformed("an end without a beginning")),
            Part::Body => {}
        }
        let id = stream.id;
        if stream.owed.is_some_and(|owed| owed > 0) {
            self.abort(key, Code::INTERNAL_ERROR);
            return Err(Broken::Malformed("a body shorter than was said"));
        }
        stream.outgoing = Part::Ended;
        match trailers.filter(|fields| !fields.is_empty()) {
            Some(fields) => self.put_head(id, true, |block| hpack::trailers(block, fields)),
            None => {
                let end = Head { len: 0, kind: kind::DATA, flags: flag::END_STREAM, stream: id };
                self.out.extend_from_slice(&end.bytes());
            }
        }
        self.settle(key);
        Ok(())
    }

    /// Ends a stream in the middle.
    pub(in crate::http::h2) fn abort(&mut self, key: Key, code: Code) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.id != 0 && stream.broken.is_none() && !stream.is_over() {
            let id = stream.id;
            stream.breaks(Broken::Reset, None);
            self.streams.close(id);
            self.put_reset(id, code);
        }
    }
}

fn owed(length: Length) -> Option<u64> {
    match length {
        Length::Exact(n) => Some(n),
        Length::None | Length::Unknown => None,
    }
}
