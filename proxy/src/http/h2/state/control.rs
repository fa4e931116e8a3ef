//! Frames that are about the connection or a stream as such: SETTINGS, PING, GOAWAY, RST_STREAM, WINDOW_UPDATE, PRIORITY.

use std::task::Context;

use super::{Code, Fatal, Head, Part, Side, State, WIDEST, WINDOW, flag, frame, kind};
use crate::http::channel::Broken;
use crate::http::h2::frame::{PREFACE, number31};

const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

impl State {
    /// What is said first. Nothing waits for the peer to acknowledge it: all of it allows more than what holds without.
    pub(super) fn greet(&mut self) {
        let Self { limits, .. } = *self;
        let first = match self.side {
            Side::Server => [(MAX_CONCURRENT_STREAMS, limits.streams), (ENABLE_CONNECT_PROTOCOL, 1)],
            Side::Client { .. } => [(ENABLE_PUSH, 0), (MAX_CONCURRENT_STREAMS, 0)],
        };
        let rest = [(INITIAL_WINDOW_SIZE, limits.stream_window), (MAX_HEADER_LIST_SIZE, limits.head)];
        let mut payload = Vec::with_capacity(24);
        for (id, value) in first.into_iter().chain(rest) {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        if self.side != Side::Server {
            self.out.extend_from_slice(PREFACE);
        }
        frame::put(&mut self.out, kind::SETTINGS, 0, 0, &payload);
        let more = limits.connection_window.saturating_sub(WINDOW);
        if more > 0 {
            frame::put(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }

    pub(super) fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal::protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() {
                self.chatters(1)
            } else {
                Err(Fatal::size("SETTINGS that only acknowledge"))
            };
        }
        let (settings, []) = payload.as_chunks::<6>() else {
            return Err(Fatal::size("SETTINGS"));
        };
        // Each may mean work for every stream.
        self.chatters(10 + settings.len() as u32)?;
        for [i0, i1, v0, v1, v2, v3] in settings {
            self.setting(u16::from_be_bytes([*i0, *i1]), u32::from_be_bytes([*v0, *v1, *v2, *v3]))?;
        }
        self.peer.known = true;
        self.woke |= self.pong.wake();
        frame::put(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        self.answer()
    }

    fn setting(&mut self, id: u16, value: u32) -> Result<(), Fatal> {
        match id {
            ENABLE_PUSH if value > 1 || value == 1 && self.side != Side::Server => {
                return Err(Fatal::protocol("ENABLE_PUSH"));
            }
            MAX_CONCURRENT_STREAMS => self.peer.streams = value,
            INITIAL_WINDOW_SIZE if i64::from(value) > WIDEST => {
                return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE"));
            }
            INITIAL_WINDOW_SIZE => {
                let change = i64::from(value) - i64::from(self.peer.window);
                self.peer.window = value;
                for stream in self.streams.iter() {
                    stream.window_out += change;
                    if stream.window_out > WIDEST {
                        return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE"));
                    }
                    if change > 0 {
                        self.woke |= stream.writer.wake();
                    }
                }
            }
            MAX_FRAME_SIZE if !(frame::PAYLOAD..1 << 24).contains(&value) => {
                return Err(Fatal::protocol("MAX_FRAME_SIZE"));
            }
            MAX_FRAME_SIZE => self.peer.frame = value,
            ENABLE_CONNECT_PROTOCOL if value > 1 || value == 0 && self.peer.extended_connect => {
                return Err(Fatal::protocol("ENABLE_CONNECT_PROTOCOL"));
            }
            ENABLE_CONNECT_PROTOCOL => self.peer.extended_connect = value == 1,
            // We use no table; heads of any size are sent, as the peer's limit is advice.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal::protocol("PING on a stream"));
        }
        let Ok(opaque) = <[u8; 8]>::try_from(payload) else { return Err(Fatal::size("PING")) };
        self.chatters(1)?;
        if head.has(flag::ACK) {
            self.ponged = self.ponged.max(u64::from_be_bytes(opaque).min(self.pinged));
            self.woke |= self.pong.wake();
            return Ok(());
        }
        frame::put(&mut self.out, kind::PING, flag::ACK, 0, payload);
        self.answer()
    }

    /// Asks the peer whether it lives; what [`State::ponged`] is to be asked for.
    pub(in crate::http::h2) fn ping(&mut self) -> u64 {
        // One that is under way answers for all.
        if self.pinged == self.ponged {
            self.pinged += 1;
            frame::put(&mut self.out, kind::PING, 0, 0, &self.pinged.to_be_bytes());
        }
        self.pinged
    }

    /// Whether a PING was answered; one task is woken when it is.
    pub(in crate::http::h2) fn ponged(&mut self, ping: u64, cx: Option<&Context<'_>>) -> bool {
        if self.ponged < ping
            && let Some(cx) = cx
        {
            self.pong.wait(cx);
        }
        self.ponged >= ping
    }

    pub(super) fn on_goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal::protocol("GOAWAY on a stream"));
        }
        let Some((last, _)) = payload.split_first_chunk::<4>().filter(|(_, rest)| rest.len() >= 4) else {
            return Err(Fatal::size("GOAWAY"));
        };
        self.chatters(10)?;
        self.peer.leaves = true;
        self.retired = true;
        let last = number31(*last);
        if self.side != Side::Server {
            let mut refused = Vec::new();
            for stream in self.streams.iter() {
                if stream.id > last && stream.broken.is_none() && !stream.is_over() {
                    refused.push(stream.id);
                    self.woke |= stream.breaks(Broken::Refused, None);
                }
            }
            for id in refused {
                self.streams.close(id);
                self.remember(id);
            }
        }
        Ok(())
    }

    pub(super) fn on_reset(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let Ok(code) = <[u8; 4]>::try_from(payload) else { return Err(Fatal::size("RST_STREAM")) };
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(Fatal::protocol("RST_STREAM of an idle stream"));
        }
        let code = Code(u32::from_be_bytes(code));
        let Some(key) = self.streams.find(head.stream) else { return self.chatters(1) };
        self.streams.close(head.stream);
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let early = stream.outgoing != Part::Ended;
        let refused = code == Code::REFUSED_STREAM && self.side != Side::Server;
        self.woke |= stream.breaks(if refused { Broken::Refused } else { Broken::Reset }, Some(code));
        if self.side == Side::Server && early && !self.resets.spend(1, self.clock) {
            return Err(Fatal::flood("too many requests that are reset"));
        }
        Ok(())
    }

    pub(super) fn on_window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let Ok(more) = <[u8; 4]>::try_from(payload) else { return Err(Fatal::size("WINDOW_UPDATE")) };
        let more = i64::from(number31(more));
        self.chatters(1)?;
        if head.stream == 0 {
            if more == 0 {
                return Err(Fatal::protocol("WINDOW_UPDATE by nothing"));
            }
            self.window_out += more;
            if self.window_out > WIDEST {
                return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "a window that is too wide"));
            }
            self.unblock();
            return Ok(());
        }
        if self.is_idle(head.stream) {
            return Err(Fatal::protocol("WINDOW_UPDATE of an idle stream"));
        }
        let Some(stream) = self.streams.find(head.stream).and_then(|key| self.streams.get(key)) else { return Ok(()) };
        if more == 0 {
            return self.refuse(head.stream, Code::PROTOCOL_ERROR, Broken::Malformed("WINDOW_UPDATE by nothing"));
        }
        stream.window_out += more;
        if stream.window_out > WIDEST {
            return self.refuse(head.stream, Code::FLOW_CONTROL_ERROR, Broken::Malformed("a window that is too wide"));
        }
        self.woke |= stream.writer.wake();
        Ok(())
    }

    pub(super) fn on_priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream == 0 {
            return Err(Fatal::protocol("PRIORITY of stream 0"));
        }
        self.chatters(2)?;
        let Some(on) = payload.first_chunk::<4>().filter(|_| payload.len() == 5) else {
            // Of a stream that is not there nothing can be reset.
            return match self.streams.find(head.stream) {
                Some(_) => self.refuse(head.stream, Code::FRAME_SIZE_ERROR, Broken::Malformed("PRIORITY")),
                None => Err(Fatal::size("PRIORITY")),
            };
        };
        // Who still says what depends on what is heard, no more.
        if number31(*on) == head.stream && self.streams.find(head.stream).is_some() {
            return self.refuse(head.stream, Code::PROTOCOL_ERROR, Broken::Malformed("a stream depends on itself"));
        }
        Ok(())
    }
}
