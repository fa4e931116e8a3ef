//! DATA that comes, and the windows that let it.

use super::{Code, Fatal, Key, Part, Side, State, frame, kind};
use crate::http::channel::Broken;
use crate::http::h2::room;

impl State {
    /// A frame of `len` bytes begins: padding counts too.
    pub(super) fn data_begin(&mut self, id: u32, len: u32, ends: bool) -> Result<(), Fatal> {
        if self.is_idle(id) {
            return Err(Fatal::protocol("DATA on an idle stream"));
        }
        if i64::from(len) > self.window_in {
            return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "more than the connection's window"));
        }
        self.window_in -= i64::from(len);
        if len == 0 && !ends {
            self.chatters(2)?;
        }
        let Some(key) = self.streams.find(id) else {
            return if self.is_expected_late(id) {
                self.chatters(1)
            } else {
                self.refuse(id, Code::STREAM_CLOSED, Broken::Gone)
            };
        };
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let wrong = match stream.incoming {
            Part::Ended => Some((Code::STREAM_CLOSED, "DATA after the end")),
            Part::Head => Some((Code::PROTOCOL_ERROR, "DATA before a head")),
            Part::Body if len > stream.window_in => Some((Code::FLOW_CONTROL_ERROR, "more than the window")),
            Part::Body => None,
        };
        match wrong {
            Some((code, why)) => self.refuse(id, code, Broken::Malformed(why)),
            None => {
                stream.window_in -= len;
                Ok(())
            }
        }
    }

    /// A part of it.
    pub(super) fn data(&mut self, id: u32, bytes: &[u8]) -> Result<(), Fatal> {
        // A part of a frame.
        let len = bytes.len() as u32;
        let Some(stream) = self.streams.find(id).and_then(|key| self.streams.get(key)) else {
            self.credit(len);
            return Ok(());
        };
        if let Some(awaited) = &mut stream.awaited {
            match awaited.checked_sub(u64::from(len)) {
                Some(left) => *awaited = left,
                None => {
                    self.credit(len);
                    let why = Broken::Malformed("longer than its content-length");
                    return self.refuse(id, Code::PROTOCOL_ERROR, why);
                }
            }
        }
        stream.unconsumed += len;
        room::put(&mut stream.inbox, bytes);
        self.woke |= stream.reader.wake();
        self.chatter.win(1);
        Ok(())
    }

    /// All bytes of the frame have come.
    pub(super) fn data_end(&mut self, id: u32, ends: bool) -> Result<(), Fatal> {
        if !ends {
            return Ok(());
        }
        let Some(key) = self.streams.find(id) else { return Ok(()) };
        self.ends(key, id)
    }

    /// The peer has ended its direction.
    pub(super) fn ends(&mut self, key: Key, id: u32) -> Result<(), Fatal> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        if stream.awaited.is_some_and(|left| left > 0) {
            return self.refuse(id, Code::PROTOCOL_ERROR, Broken::Malformed("shorter than its content-length"));
        }
        stream.incoming = Part::Ended;
        self.woke |= stream.reader.wake();
        self.settle(key);
        Ok(())
    }

    /// Whether frames of a closed stream may still come without a fault of the peer's.
    pub(super) fn is_expected_late(&self, id: u32) -> bool {
        self.reset.contains(&id) || self.leaving && self.side == Side::Server && id > self.last_taken
    }

    /// Bytes of a stream are of no use: the peer may send so many more.
    pub(super) fn credit_stream(&mut self, id: u32, n: u32) {
        if let Some(key) = self.streams.find(id) {
            self.open_window(key, n);
        }
    }

    /// Its owner has consumed bytes.
    pub(in crate::http::h2) fn consumed(&mut self, key: Key, n: u32) {
        if let Some(stream) = self.streams.get(key) {
            stream.unconsumed = stream.unconsumed.saturating_sub(n);
            self.open_window(key, n);
            self.credit(n);
        }
    }

    fn open_window(&mut self, key: Key, n: u32) {
        let half = self.limits.stream_window / 2;
        let Some(stream) = self.streams.get(key) else { return };
        stream.consumed += n;
        if stream.consumed >= half && stream.incoming == Part::Body && stream.broken.is_none() {
            let n = std::mem::take(&mut stream.consumed);
            stream.window_in += n;
            let id = stream.id;
            frame::put(&mut self.out, kind::WINDOW_UPDATE, 0, id, &n.to_be_bytes());
        }
    }

    /// The same for the connection.
    pub(super) fn credit(&mut self, n: u32) {
        self.consumed += n;
        if self.consumed >= self.limits.connection_window / 2 && self.fatal.is_none() && !self.lost {
            let n = std::mem::take(&mut self.consumed);
            self.window_in += i64::from(n);
            frame::put(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &n.to_be_bytes());
        }
    }
}
