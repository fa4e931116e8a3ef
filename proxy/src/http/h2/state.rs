//! The state of a connection, without I/O.
//!
//! In: bytes as they come, in whatever pieces; what owners of streams want to send. Out: one queue of bytes to be written,
//! requests that came, wakers that are called. Invariants: what a peer can make us hold is bounded by [`Limits`]; a frame
//! is acted on in full or ends its stream or the connection; after the connection's end every stream knows of it.

mod control;
mod data;
mod heads;
mod incoming;
mod outgoing;
mod take;

pub(super) use incoming::Taken;

use std::collections::VecDeque;

use super::frame::{self, Code, Head, PREFACE, flag, kind};
use super::head::Bounds;
use super::hpack::Decoder;
use super::limits::{ANSWERS, Limits, Patience};
use super::stream::{Part, Stream, Waiter};
use super::streams::{Key, Streams};
use crate::http::channel::Broken;
use crate::http::message::{RequestHead, ResponseHead};

/// The window that everybody has before anything was said, and the connection's.
const WINDOW: u32 = 65_535;
/// The largest window.
const WIDEST: i64 = 0x7fff_ffff;
/// How many streams a client opens before it knows how many it may.
const ASSUMED: u32 = 100;
/// Streams that we reset and whose late frames are expected.
const REMEMBERED: usize = 256;

/// Which end we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests come in.
    Server,
    /// Requests go out; whether over TLS.
    Client {
        /// What `:scheme` says.
        secure: bool,
    },
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What the peer is told.
    pub code: Code,
    /// What is wrong.
    pub why: &'static str,
}

impl Fatal {
    pub(super) const fn new(code: Code, why: &'static str) -> Self {
        Self { code, why }
    }

    const fn protocol(why: &'static str) -> Self {
        Self::new(Code::PROTOCOL_ERROR, why)
    }

    const fn size(why: &'static str) -> Self {
        Self::new(Code::FRAME_SIZE_ERROR, why)
    }

    const fn flood(why: &'static str) -> Self {
        Self::new(Code::ENHANCE_YOUR_CALM, why)
    }
}

/// Where in the bytes that come we are.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// In the head of a frame.
    Head,
    /// In the payload of a frame that is looked at when it is whole.
    Payload(Head),
    /// In the payload of DATA.
    Data { id: u32, left: u32, padding: Option<u32>, ends: bool },
}

/// A header block that goes on in CONTINUATION.
#[derive(Debug)]
struct Block {
    id: u32,
    ends: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// What the peer told us about itself.
#[derive(Debug)]
struct Peer {
    /// Its SETTINGS came.
    known: bool,
    /// Window of a new stream.
    window: u32,
    /// The most bytes of a frame.
    frame: u32,
    /// Streams that we may open.
    streams: u32,
    /// It takes extended CONNECT.
    extended_connect: bool,
    /// It goes away.
    leaves: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub struct State {
    side: Side,
    limits: Limits,
    clock: fn() -> u64,
    reading: Reading,
    partial: Vec<u8>,
    decoder: Decoder,
    block: Option<Block>,
    peer: Peer,
    streams: Streams,
    accepted: VecDeque<(Key, RequestHead)>,
    /// The highest stream that the client opened, and the highest that was looked at.
    last_seen: u32,
    last_taken: u32,
    /// Of the next request, as a client.
    next: u32,
    /// What we may send, and the peer may, on all streams.
    window_out: i64,
    window_in: i64,
    consumed: u32,
    /// Streams that wait for the connection's window or for the queue.
    blocked: VecDeque<Key>,
    out: Vec<u8>,
    /// The beginning of `out` that is written already.
    written: usize,
    /// Counts how often all was written.
    turn: u32,
    /// Answers to the peer's frames in `out`.
    answers: u32,
    chatter: Patience,
    resets: Patience,
    /// Ids that we reset, the last ones, and ids that ended well.
    reset: VecDeque<u32>,
    ended: [u32; 16],
    pinged: u64,
    ponged: u64,
    pong: Waiter,
    /// GOAWAY was sent.
    leaving: bool,
    /// GOAWAY will be sent, and the peer knows when it has answered this PING.
    farewell: Option<u64>,
    /// No request is taken or sent any more.
    retired: bool,
    /// The header blocks that we send have told that they use no table.
    told_no_table: bool,
    fatal: Option<Fatal>,
    /// The connection is lost.
    lost: bool,
    /// A task was woken, or has to be started, since this was last asked.
    woke: bool,
    /// Requests that were malformed, or too large.
    rejected: [u32; 2],
}

impl State {
    /// A connection that begins. What is to be said first is in the queue.
    pub fn new(side: Side, limits: Limits, clock: fn() -> u64) -> Self {
        let now = clock();
        // Less would hold only when the peer has heard of it.
        let stream_window = limits.stream_window.max(WINDOW);
        let connection_window = limits.connection_window.max(WINDOW);
        let limits = Limits { stream_window, connection_window, ..limits };
        let mut this = Self {
            side,
            limits,
            clock,
            reading: if side == Side::Server { Reading::Preface(0) } else { Reading::Head },
            partial: Vec::new(),
            decoder: Decoder::default(),
            block: None,
            peer: Peer {
                known: false,
                window: WINDOW,
                frame: frame::PAYLOAD,
                streams: ASSUMED,
                extended_connect: false,
                leaves: false,
            },
            streams: Streams::default(),
            accepted: VecDeque::new(),
            last_seen: 0,
            last_taken: 0,
            next: 1,
            window_out: i64::from(WINDOW),
            window_in: i64::from(connection_window),
            consumed: 0,
            blocked: VecDeque::new(),
            out: Vec::new(),
            written: 0,
            turn: 0,
            answers: 0,
            chatter: Patience::with_chatter(now),
            resets: Patience::with_resets(now),
            reset: VecDeque::new(),
            ended: [0; 16],
            pinged: 0,
            ponged: 0,
            pong: Waiter::default(),
            leaving: false,
            farewell: None,
            retired: false,
            told_no_table: false,
            fatal: None,
            lost: false,
            woke: false,
            rejected: [0; 2],
        };
        this.greet();
        this
    }

    /// Takes bytes that came.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.fatal.is_none()
            && !self.lost
            && let Err(fatal) = self.take(bytes)
        {
            self.fail(fatal);
        }
    }

    /// What is to be written.
    pub fn output(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    /// So much of the output is written.
    pub fn wrote(&mut self, n: usize) {
        self.written += n;
        let left = self.out.len().saturating_sub(self.written);
        if left > 0 {
            // What is written makes room, or a peer that never quite catches up would let the queue grow for ever.
            if self.written > left {
                self.out.drain(..self.written);
                self.written = 0;
            }
            return;
        }
        self.written = 0;
        self.out.clear();
        self.answers = 0;
        self.turn = self.turn.wrapping_add(1);
        if self.out.capacity() > 2 * self.limits.queue || self.out.capacity() > 2048 && self.streams.len() == 0 {
            // An idle connection is small.
            self.out = Vec::new();
        }
        self.unblock();
    }

    /// Whether the peer is to take what was said before more of it is heard.
    pub fn is_full(&self) -> bool {
        self.out.len() - self.written > 2 * self.limits.queue
    }

    /// Why the connection ends, if it broke rules.
    pub fn fatal(&self) -> Option<Fatal> {
        self.fatal
    }

    /// Bytes that the queue takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.out.capacity()
    }

    /// Its bounds.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the connection is lost.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether nothing more is to be read: it ended by our will or the peer's, and its streams too.
    pub fn is_done(&self) -> bool {
        self.fatal.is_some() || self.lost || (self.leaving || self.peer.leaves) && self.streams.len() == 0
    }

    /// How many streams have an owner.
    pub fn active(&self) -> usize {
        self.streams.len()
    }

    /// Whether frames of a head that is not whole yet have come.
    pub(super) fn in_head(&self) -> bool {
        self.block.is_some() || matches!(self.reading, Reading::Payload(Head { kind: kind::HEADERS, .. }))
    }

    /// The next request that came.
    pub(super) fn accept(&mut self) -> Option<(Key, RequestHead)> {
        while let Some((key, head)) = self.accepted.pop_front() {
            if self.streams.get(key).is_some_and(|s| s.broken.is_none()) {
                return Some((key, head));
            }
            self.release(key);
        }
        None
    }

    /// Answers every request that came with a bare status: for who looks at a connection without serving it. How many.
    pub fn answer_all(&mut self, status: u16) -> usize {
        let mut count = 0;
        while let Some((key, _)) = self.accept() {
            // A stream that cannot be answered is over.
            let _ = self.send_response(key, &ResponseHead::new(status));
            self.release(key);
            count += 1;
        }
        count
    }

    /// How many requests were malformed, and how many too large, since this was last asked.
    pub(super) fn take_rejected(&mut self) -> [u32; 2] {
        std::mem::take(&mut self.rejected)
    }

    /// Whether tasks were woken since this was last asked.
    pub(super) fn take_woke(&mut self) -> bool {
        std::mem::take(&mut self.woke)
    }

    /// The connection is lost.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.end_all();
    }

    /// The peer broke rules that hold for the whole connection.
    fn fail(&mut self, fatal: Fatal) {
        self.fatal = Some(fatal);
        let mut payload = Vec::with_capacity(8 + fatal.why.len());
        payload.extend_from_slice(&self.last_taken.to_be_bytes());
        payload.extend_from_slice(&fatal.code.0.to_be_bytes());
        payload.extend_from_slice(fatal.why.as_bytes());
        frame::put(&mut self.out, kind::GOAWAY, 0, 0, &payload);
        self.end_all();
    }

    fn end_all(&mut self) {
        self.retired = true;
        self.accepted.clear();
        for stream in self.streams.iter() {
            stream.breaks(Broken::Gone, None);
        }
        self.pong.wake();
        self.woke = true;
    }

    /// Lets requests in flight end, and takes no more.
    pub(super) fn leave(&mut self) {
        self.retired = true;
        if !std::mem::replace(&mut self.leaving, true) && self.fatal.is_none() && !self.lost {
            let mut payload = [0; 8];
            payload[..4].copy_from_slice(&self.last_taken.to_be_bytes());
            frame::put(&mut self.out, kind::GOAWAY, 0, 0, &payload);
        }
    }

    /// The same, but takes what is on its way still: the peer is told first (RFC 9113, 6.8), and has heard it when it answers a
    /// PING.
    pub(super) fn leave_in_time(&mut self) {
        match self.farewell {
            _ if self.leaving || self.fatal.is_some() || self.lost => {}
            None => {
                frame::put(&mut self.out, kind::GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
                self.pinged += 1;
                frame::put(&mut self.out, kind::PING, 0, 0, &self.pinged.to_be_bytes());
                self.farewell = Some(self.pinged);
            }
            Some(ping) if self.ponged >= ping => self.leave(),
            Some(_) => {}
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            bytes: self.limits.head as usize,
            fields: self.limits.fields,
            refuse_underscores: self.limits.refuse_underscores && self.side == Side::Server,
        }
    }

    /// Ends a stream because of what its peer did.
    fn refuse(&mut self, id: u32, code: Code, broken: Broken) -> Result<(), Fatal> {
        self.put_reset(id, code);
        self.answer()?;
        if let Some(key) = self.streams.find(id) {
            self.streams.close(id);
            let woke = self.streams.get(key).is_some_and(|s| s.breaks(broken, None));
            self.woke |= woke;
            // A peer may make us do what it must not do itself.
            if self.side == Side::Server && !self.resets.spend(1, self.clock) {
                return Err(Fatal::flood("too many streams that break rules"));
            }
        } else if !self.chatter.spend(5, self.clock) {
            return Err(Fatal::flood("too many frames that break rules"));
        }
        Ok(())
    }

    fn put_reset(&mut self, id: u32, code: Code) {
        frame::put(&mut self.out, kind::RST_STREAM, 0, id, &code.0.to_be_bytes());
        self.remember(id);
    }

    fn remember(&mut self, id: u32) {
        if self.reset.len() >= REMEMBERED {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    /// Counts a frame that the peer made us send.
    fn answer(&mut self) -> Result<(), Fatal> {
        self.answers += 1;
        if self.answers > ANSWERS { Err(Fatal::flood("answers are not read")) } else { Ok(()) }
    }

    /// Closes a stream of which both directions have ended.
    fn settle(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.is_over() {
            let id = stream.id;
            if self.streams.close(id) {
                self.ended[id as usize / 2 % self.ended.len()] = id;
                self.resets.win(1);
                self.chatter.win(20);
            }
        }
    }

    /// Lets those go on that wait for the queue or the connection's window.
    fn unblock(&mut self) {
        for _ in 0..self.blocked.len() {
            let Some(key) = self.blocked.pop_front() else { break };
            if let Some(stream) = self.streams.get(key)
                && std::mem::take(&mut stream.queued)
            {
                self.woke |= stream.writer.wake();
            }
        }
    }

    /// Its owner lets a stream go. What had not ended is reset.
    pub(super) fn release(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        let (id, unconsumed, broken) = (stream.id, stream.unconsumed, stream.broken.is_some());
        let (incoming, outgoing) = (stream.incoming, stream.outgoing);
        self.streams.close(id);
        self.streams.remove(key);
        if !broken && id != 0 && !(incoming == Part::Ended && outgoing == Part::Ended) {
            let code = match self.side {
                Side::Client { .. } => Code::CANCEL,
                // The whole response is there, the rest of the request is not wanted.
                Side::Server if outgoing == Part::Ended => Code::NO_ERROR,
                Side::Server => Code::INTERNAL_ERROR,
            };
            self.put_reset(id, code);
        }
        self.credit(unconsumed);
    }
}
