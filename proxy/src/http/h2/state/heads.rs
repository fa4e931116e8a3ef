//! HEADERS and CONTINUATION that come.

use super::{Block, Code, Fatal, Head, Part, Side, State, Stream, flag, kind};
use crate::http::channel::Broken;
use crate::http::h2::frame;
use crate::http::h2::frame::number31;
use crate::http::h2::head::{self, Asked, Parsed};
use crate::http::h2::hpack::Bad;
use crate::http::h2::limits::{CONTINUATIONS, INTERIM};
use crate::http::message::{Length, RequestHead, ResponseHead};

impl From<Bad> for Fatal {
    fn from(why: Bad) -> Self {
        let why = match why {
            Bad::Short => "a header block ends within a field",
            Bad::Number => "a number in a header block",
            Bad::Index => "an index in a header block",
            Bad::Huffman => "Huffman code in a header block",
            Bad::Size => "the size of a header table",
        };
        Self::new(Code::COMPRESSION_ERROR, why)
    }
}

impl State {
    pub(super) fn on_headers(&mut self, head: Head, mut payload: &[u8]) -> Result<(), Fatal> {
        let id = head.stream;
        if id.is_multiple_of(2) {
            return Err(Fatal::protocol("HEADERS on a stream that no client opens"));
        }
        if head.has(flag::PADDED) {
            let (padding, rest) = payload.split_first().ok_or(Fatal::size("padding without its length"))?;
            let text =
                rest.len().checked_sub(usize::from(*padding)).ok_or(Fatal::protocol("more padding than frame"))?;
            payload = &rest[..text];
        }
        let mut itself = false;
        if head.has(flag::PRIORITY) {
            let (on, rest) = payload.split_first_chunk::<5>().ok_or(Fatal::size("a priority without its length"))?;
            itself = number31([on[0], on[1], on[2], on[3]]) == id;
            payload = rest;
        }
        let ends = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            self.block(id, ends, payload)?;
        } else {
            self.block = Some(Block { id, ends, bytes: payload.to_vec(), frames: 0 });
        }
        if itself && self.streams.find(id).is_some() {
            return self.refuse(id, Code::PROTOCOL_ERROR, Broken::Malformed("a stream depends on itself"));
        }
        Ok(())
    }

    pub(super) fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let Some(block) = &mut self.block else { return Ok(()) };
        block.frames += 1;
        if block.frames > CONTINUATIONS || block.bytes.len() + payload.len() > self.limits.head as usize + 4096 {
            return Err(Fatal::flood("a header block without end"));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            self.block(block.id, block.ends, &block.bytes)?;
        }
        Ok(())
    }

    /// A block is whole. It is decoded whatever becomes of it: those that follow depend on it.
    fn block(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Fatal> {
        if let Some(key) = self.streams.find(id) {
            let Some(stream) = self.streams.get(key) else { return Ok(()) };
            return match stream.incoming {
                Part::Head => self.response(id, ends, block),
                Part::Body => self.trailers(id, ends, block),
                Part::Ended => {
                    self.skip(block)?;
                    self.refuse(id, Code::STREAM_CLOSED, Broken::Malformed("HEADERS after the end"))
                }
            };
        }
        if !self.is_idle(id) {
            self.skip(block)?;
            return if self.is_expected_late(id) {
                self.chatters(1)
            } else if self.ended.contains(&id) {
                Err(Fatal::new(Code::STREAM_CLOSED, "HEADERS on a closed stream"))
            } else {
                Err(Fatal::protocol("HEADERS on an earlier stream"))
            };
        }
        if self.side != Side::Server {
            return Err(Fatal::protocol("a response that nobody asked for"));
        }
        self.last_seen = id;
        if self.leaving {
            return self.skip(block);
        }
        self.request(id, ends, block)
    }

    fn skip(&mut self, block: &[u8]) -> Result<(), Fatal> {
        Ok(self.decoder.decode(block, |_| {})?)
    }

    fn request(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Fatal> {
        // Streams that were reset count until nobody works for them any more: opening and resetting gains nothing.
        let most = self.limits.streams as usize;
        if self.streams.open() >= most || self.streams.len() >= most.saturating_mul(2) {
            self.skip(block)?;
            return self.refuse(id, Code::REFUSED_STREAM, Broken::Refused);
        }
        self.last_taken = id;
        let bounds = self.bounds();
        match head::request(&mut self.decoder, block, ends, bounds)? {
            Parsed::Good(head) => {
                self.taken(id, ends, head);
                Ok(())
            }
            Parsed::Malformed(why) => {
                self.rejected[0] += 1;
                self.refuse(id, Code::PROTOCOL_ERROR, Broken::Malformed(why))
            }
            Parsed::TooLarge => {
                self.rejected[1] += 1;
                let too_large = ResponseHead { length: Length::Exact(0), ..ResponseHead::new(431) };
                self.put_head(id, true, |block| crate::http::h2::hpack::response(block, &too_large));
                self.answer()?;
                if ends { self.chatters(5) } else { self.refuse(id, Code::NO_ERROR, Broken::TooLarge) }
            }
        }
    }

    fn taken(&mut self, id: u32, ends: bool, head: RequestHead) {
        let mut stream = Stream::new(id, self.limits.stream_window, i64::from(self.peer.window));
        stream.incoming = if ends { Part::Ended } else { Part::Body };
        stream.asked = match head.method {
            http::Method::HEAD => Asked::Head,
            http::Method::CONNECT => Asked::Connect,
            _ => Asked::Other,
        };
        if let Length::Exact(n) = head.length {
            stream.awaited = Some(n);
        }
        let key = self.streams.add(stream);
        self.accepted.push_back((key, head));
        self.woke = true;
    }

    fn response(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Fatal> {
        let bounds = self.bounds();
        let key = self.streams.find(id);
        let asked = key.and_then(|key| self.streams.get(key)).map_or(Asked::Other, |s| s.asked);
        let head = match head::response(&mut self.decoder, block, ends, asked, bounds)? {
            Parsed::Good(head) => head,
            Parsed::Malformed(why) => return self.refuse(id, Code::PROTOCOL_ERROR, Broken::Malformed(why)),
            Parsed::TooLarge => return self.refuse(id, Code::CANCEL, Broken::TooLarge),
        };
        let Some(key) = key else { return Ok(()) };
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        if head.status < 200 {
            if stream.interim.len() >= INTERIM {
                return self.refuse(id, Code::ENHANCE_YOUR_CALM, Broken::Malformed("too many interim responses"));
            }
            stream.interim.push_back(head);
            self.woke |= stream.reader.wake();
            return self.chatters(1);
        }
        let bare = asked == Asked::Head || matches!(head.status, 204 | 304);
        stream.awaited = match head.length {
            _ if bare => Some(0),
            Length::Exact(n) => Some(n),
            _ => None,
        };
        stream.head = Some(head);
        stream.incoming = Part::Body;
        self.woke |= stream.reader.wake();
        if ends { self.ends(key, id) } else { Ok(()) }
    }

    fn trailers(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Fatal> {
        let bounds = self.bounds();
        let fields = match head::trailers(&mut self.decoder, block, bounds)? {
            Parsed::Good(fields) => fields,
            Parsed::Malformed(why) => return self.refuse(id, Code::PROTOCOL_ERROR, Broken::Malformed(why)),
            Parsed::TooLarge => return self.refuse(id, Code::ENHANCE_YOUR_CALM, Broken::TooLarge),
        };
        if !ends {
            return self.refuse(id, Code::PROTOCOL_ERROR, Broken::Malformed("trailers that do not end the stream"));
        }
        let Some(key) = self.streams.find(id) else { return Ok(()) };
        if let Some(stream) = self.streams.get(key)
            && !fields.is_empty()
        {
            stream.trailers = Some(fields);
        }
        self.ends(key, id)
    }

    /// Writes a header block: HEADERS, and CONTINUATION if it is larger than a frame.
    pub(super) fn put_head(&mut self, id: u32, ends: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; frame::HEAD]);
        if !std::mem::replace(&mut self.told_no_table, true) {
            // Whatever table the peer has or comes to allow, it stays empty.
            self.out.push(0x20);
        }
        encode(&mut self.out);
        let most = self.peer.frame as usize;
        let len = self.out.len() - at - frame::HEAD;
        let ends = if ends { flag::END_STREAM } else { 0 };
        let first = Head {
            len: len.min(most) as u32,
            kind: kind::HEADERS,
            flags: ends | if len <= most { flag::END_HEADERS } else { 0 },
            stream: id,
        };
        if let Some(head) = self.out.get_mut(at..at + frame::HEAD) {
            head.copy_from_slice(&first.bytes());
        }
        if len > most {
            let rest = self.out.split_off(at + frame::HEAD + most);
            let mut parts = rest.chunks(most).peekable();
            while let Some(part) = parts.next() {
                let last = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
                frame::put(&mut self.out, kind::CONTINUATION, last, id, part);
            }
        }
    }
}
