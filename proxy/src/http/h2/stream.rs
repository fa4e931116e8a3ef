//! One stream: what came and was not taken, what may be sent, who waits.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use super::frame::Code;
use super::head::Asked;
use crate::http::channel::Broken;
use crate::http::message::{Fields, ResponseHead};

/// How far one direction of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its head has not come yet.
    Head,
    /// Its body has not ended.
    Body,
    /// It has ended.
    Ended,
}

/// A stream. It is there from its first frame, or from its owner's wish for one, until its owner lets it go; its id is known
/// only while frames may come.
#[derive(Debug)]
pub(super) struct Stream {
    /// 0 until a client has sent its request.
    pub(super) id: u32,
    /// What was received.
    pub(super) incoming: Part,
    /// What was sent.
    pub(super) outgoing: Part,
    /// Bytes of the body that came and that its owner has not taken.
    pub(super) inbox: Vec<u8>,
    /// Bytes that came and are not consumed: the inbox, and what its owner holds.
    pub(super) unconsumed: u32,
    /// Bytes that were consumed and for which the peer's window was not opened again.
    pub(super) consumed: u32,
    /// Bytes that the peer may send.
    pub(super) window_in: u32,
    /// Bytes that we may send; below 0 if the peer took back what it had allowed.
    pub(super) window_out: i64,
    /// Bytes that are still to come, if that was said.
    pub(super) awaited: Option<u64>,
    /// Bytes that are still to be sent, if that was said.
    pub(super) owed: Option<u64>,
    /// What the request asks for.
    pub(super) asked: Asked,
    pub(super) head: Option<ResponseHead>,
    pub(super) interim: VecDeque<ResponseHead>,
    pub(super) trailers: Option<Fields>,
    /// Why it goes no further.
    pub(super) broken: Option<Broken>,
    /// The code it was reset with.
    pub(super) reset: Option<Code>,
    /// It waits among those that a written queue or the connection's window lets go on.
    pub(super) queued: bool,
    /// A turn, and what it has put into the queue then.
    pub(super) turn: (u32, usize),
    pub(super) reader: Waiter,
    pub(super) writer: Waiter,
}

impl Stream {
    pub(super) fn new(id: u32, window_in: u32, window_out: i64) -> Self {
        Self {
            id,
            incoming: Part::Head,
            outgoing: Part::Head,
            inbox: Vec::new(),
            unconsumed: 0,
            consumed: 0,
            window_in,
            window_out,
            awaited: None,
            owed: None,
            asked: Asked::Other,
            head: None,
            interim: VecDeque::new(),
            trailers: None,
            broken: None,
            reset: None,
            queued: false,
            turn: (0, 0),
            reader: Waiter::default(),
            writer: Waiter::default(),
        }
    }

    /// It goes no further; whoever waits hears of it. What happened first counts.
    pub(super) fn breaks(&mut self, why: Broken, code: Option<Code>) -> bool {
        self.broken.get_or_insert(why);
        if self.reset.is_none() {
            self.reset = code;
        }
        let reader = self.reader.wake();
        self.writer.wake() || reader
    }

    /// What it has put into the queue of a turn.
    pub(super) fn sent_in(&self, turn: u32) -> usize {
        if self.turn.0 == turn { self.turn.1 } else { 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.incoming == Part::Ended && self.outgoing == Part::Ended
    }
}

/// Somebody who waits. The waker is kept from one wait to the next: making one costs more than comparing it.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    waker: Option<Waker>,
    waits: bool,
}

impl Waiter {
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        self.waits = true;
    }

    /// Whether somebody was woken.
    pub(super) fn wake(&mut self) -> bool {
        let waits = std::mem::take(&mut self.waits);
        if waits && let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
        waits
    }
}
