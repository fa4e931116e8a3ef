//! How far a connection is: what a sweep looks at to end those that take too long over a head, or idle, and what tells a
//! connection to end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It goes on.
    No,
    /// It ends so that nobody meets a connection that has just been closed. HTTP/1: the next answer is its last, whenever that is
    /// asked for. HTTP/2: the other end is told, and what is on its way still is taken.
    Last,
    /// It ends when its requests have; none is taken after (HTTP/1: `connection: close`; HTTP/2: GOAWAY).
    Graceful,
    /// It ends now: a head took too long, or nothing was asked for too long.
    Now,
}

/// Progress of one connection, of a client or to a server. It is shared by the connection and the worker that watches it.
#[derive(Debug)]
pub struct Progress {
    active: Cell<u32>,
    head: Cell<bool>,
    since: Cell<u32>,
    now: Rc<Cell<u32>>,
    ending: Cell<Ending>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    /// Of a new connection; `now` is the worker's clock, in seconds.
    pub fn new(now: Rc<Cell<u32>>) -> Rc<Self> {
        Rc::new(Self {
            active: Cell::new(0),
            head: Cell::new(false),
            since: Cell::new(now.get()),
            now,
            ending: Cell::new(Ending::No),
            waker: RefCell::new(None),
        })
    }

    /// The first byte of a head is there, and the rest is not.
    pub fn head_begun(&self) {
        if !self.head.replace(true) {
            self.since.set(self.now.get());
        }
    }

    /// A request begins: its head is whole.
    pub fn begin(&self) {
        self.head.set(false);
        self.active.set(self.active.get() + 1);
    }

    /// A request has ended.
    pub fn end(&self) {
        self.active.set(self.active.get().saturating_sub(1));
        self.since.set(self.now.get());
    }

    /// Requests in flight.
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// Tells the connection to end; what was told is never taken back.
    pub fn tell(&self, ending: Ending) {
        if ending > self.ending.get() {
            self.ending.set(ending);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Ends the connection if its head (`head`) or its idling (`idle`) took too long.
    pub fn sweep(&self, head: Duration, idle: Duration) {
        let age = Duration::from_secs(u64::from(self.now.get().saturating_sub(self.since.get())));
        let limit = if self.head.get() { head } else { idle };
        if self.active.get() == 0 && age > limit {
            self.tell(Ending::Now);
        }
    }

    /// Whether the connection is to end. The task that asks is woken when that changes.
    pub fn ending(&self, cx: &Context<'_>) -> Ending {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.ending.get()
    }

    /// Whether the connection is to end, without a wish to be woken.
    pub fn is_ending(&self) -> bool {
        self.ending.get() != Ending::No
    }
}
