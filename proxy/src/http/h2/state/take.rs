//! Bytes as they come, cut into frames.

use super::{Fatal, PREFACE, Reading, Side, State, flag, frame, kind};
use crate::http::h2::frame::{HEAD, Head};

impl State {
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Fatal> {
        while !bytes.is_empty() {
            match self.reading {
                Reading::Preface(at) => {
                    let expected = &PREFACE[at..];
                    let n = expected.len().min(bytes.len());
                    if expected[..n] != bytes[..n] {
                        return Err(Fatal::protocol("no preface of HTTP/2"));
                    }
                    bytes = &bytes[n..];
                    self.reading = if n == expected.len() { Reading::Head } else { Reading::Preface(at + n) };
                }
                Reading::Head => {
                    let head = match bytes.split_first_chunk::<HEAD>() {
                        Some((head, rest)) if self.partial.is_empty() => {
                            bytes = rest;
                            *head
                        }
                        _ => {
                            if !self.gather(&mut bytes, HEAD) {
                                return Ok(());
                            }
                            let head = self.partial.first_chunk::<HEAD>().copied().unwrap_or_default();
                            self.partial.clear();
                            head
                        }
                    };
                    self.begin(Head::parse(head))?;
                }
                Reading::Payload(head) => {
                    let len = head.len as usize;
                    match bytes.split_at_checked(len) {
                        Some((payload, rest)) if self.partial.is_empty() => {
                            bytes = rest;
                            self.reading = Reading::Head;
                            self.frame(head, payload)?;
                        }
                        _ => {
                            if !self.gather(&mut bytes, len) {
                                return Ok(());
                            }
                            let mut payload = std::mem::take(&mut self.partial);
                            self.reading = Reading::Head;
                            self.frame(head, &payload)?;
                            if payload.capacity() <= 256 {
                                payload.clear();
                                self.partial = payload;
                            }
                        }
                    }
                }
                Reading::Data { id, left, padding: None, ends } => {
                    let (padding, rest) = bytes.split_first().unwrap_or((&0, &[]));
                    bytes = rest;
                    let (padding, left) = (u32::from(*padding), left - 1);
                    if padding > left {
                        return Err(Fatal::protocol("more padding than frame"));
                    }
                    // Padding fills windows, and nobody consumes it.
                    self.credit_stream(id, padding + 1);
                    self.credit(padding + 1);
                    self.reading = Reading::Data { id, left, padding: Some(padding), ends };
                    if left == padding {
                        self.data_end(id, ends)?;
                    }
                    if left == 0 {
                        self.reading = Reading::Head;
                    }
                }
                Reading::Data { id, left, padding: Some(padding), ends } => {
                    let (part, rest) = bytes.split_at(bytes.len().min(left as usize));
                    bytes = rest;
                    let text = left - padding;
                    let (body, _) = part.split_at(part.len().min(text as usize));
                    // A part of a frame is shorter than a frame.
                    let (part, now) = (part.len() as u32, body.len() as u32);
                    if now > 0 {
                        self.data(id, body)?;
                        if now == text {
                            self.data_end(id, ends)?;
                        }
                    }
                    let padding = padding.min(left - part);
                    self.reading = match left - part {
                        0 => Reading::Head,
                        left => Reading::Data { id, left, padding: Some(padding), ends },
                    };
                }
            }
        }
        Ok(())
    }

    /// Fills the buffer up to `len`; whether it is full.
    fn gather(&mut self, bytes: &mut &[u8], len: usize) -> bool {
        let (now, rest) = bytes.split_at(bytes.len().min(len - self.partial.len()));
        self.partial.extend_from_slice(now);
        *bytes = rest;
        self.partial.len() == len
    }

    /// A frame begins.
    fn begin(&mut self, head: Head) -> Result<(), Fatal> {
        if !self.peer.known && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fatal::protocol("the first frame is not SETTINGS"));
        }
        if head.len > frame::PAYLOAD {
            return Err(Fatal::size("a frame that is too large"));
        }
        match &self.block {
            Some(block) if head.kind != kind::CONTINUATION || head.stream != block.id => {
                return Err(Fatal::protocol("a frame within a header block"));
            }
            None if head.kind == kind::CONTINUATION => {
                return Err(Fatal::protocol("CONTINUATION of nothing"));
            }
            _ => {}
        }
        if head.kind == kind::DATA {
            return self.begin_data(head);
        }
        if head.len == 0 {
            return self.frame(head, &[]);
        }
        self.reading = Reading::Payload(head);
        Ok(())
    }

    fn begin_data(&mut self, head: Head) -> Result<(), Fatal> {
        if head.stream == 0 {
            return Err(Fatal::protocol("DATA on stream 0"));
        }
        let (padded, ends) = (head.has(flag::PADDED), head.has(flag::END_STREAM));
        if padded && head.len == 0 {
            return Err(Fatal::size("padding without its length"));
        }
        self.data_begin(head.stream, head.len, ends)?;
        if head.len == 0 {
            return self.data_end(head.stream, ends);
        }
        let padding = if padded { None } else { Some(0) };
        self.reading = Reading::Data { id: head.stream, left: head.len, padding, ends };
        Ok(())
    }

    /// A frame other than DATA is whole.
    fn frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        match head.kind {
            kind::HEADERS => self.on_headers(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::PRIORITY => self.on_priority(head, payload),
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::SETTINGS => self.on_settings(head, payload),
            // We ask for none as a client, and no client may send one.
            kind::PUSH_PROMISE => Err(Fatal::protocol("PUSH_PROMISE")),
            kind::PING => self.on_ping(head, payload),
            kind::GOAWAY => self.on_goaway(head, payload),
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            _ => self.chatters(1),
        }
    }

    /// A frame came that changes nothing.
    pub(super) fn chatters(&mut self, cost: u32) -> Result<(), Fatal> {
        if self.chatter.spend(cost, self.clock) { Ok(()) } else { Err(Fatal::flood("too many frames for nothing")) }
    }

    /// Whether a stream has never been opened.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        id.is_multiple_of(2)
            || match self.side {
                Side::Server => id > self.last_seen,
                Side::Client { .. } => id >= self.next,
            }
    }
}
