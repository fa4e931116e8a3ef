//! A connection as its driver and the owners of its streams share it.
//!
//! Invariant: whoever changes what is to be written wakes the driver, once; it writes after all tasks that are ready have run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::frame::Code;
use super::room;
use super::state::{State, Taken};
use super::stream::Waiter;
use super::streams::Key;
use crate::http::channel::{Broken, Piece};
use crate::http::message::Fields;

#[derive(Debug)]
pub(super) struct Shared {
    state: RefCell<State>,
    driver: RefCell<Waiter>,
    /// The driver waits for the peer to read: more to write is no news to it.
    pub(super) clogged: Cell<bool>,
}

impl Shared {
    pub(super) fn new(state: State) -> Rc<Self> {
        Rc::new(Self { state: RefCell::new(state), driver: RefCell::default(), clogged: Cell::new(false) })
    }

    /// Looks at or changes the state, as its driver.
    pub(super) fn drive<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.borrow_mut())
    }

    /// Changes the state, as anybody else.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let result = change(&mut state);
        let news = !state.output().is_empty() && !self.clogged.get() || state.active() == 0 && state.is_closed();
        drop(state);
        if news {
            self.driver.borrow_mut().wake();
        }
        result
    }

    /// The driver waits.
    pub(super) fn sleep(&self, cx: &Context<'_>) {
        self.driver.borrow_mut().wait(cx);
    }

    /// What every stream is reset for when nobody drives the connection any more.
    pub(super) fn lose(&self) {
        self.state.borrow_mut().lose();
    }
}

/// One stream in the hands of its owner. It is let go when this is dropped.
#[derive(Debug)]
pub(super) struct Owned {
    shared: Rc<Shared>,
    key: Key,
    /// Bytes of the body that came, and how many of them are consumed.
    buffer: Vec<u8>,
    at: usize,
    /// Nothing follows the buffer.
    last: bool,
    /// The end of the body was told, or there is none.
    told: bool,
}

impl Owned {
    pub(super) fn new(shared: Rc<Shared>, key: Key) -> Self {
        Self { shared, key, buffer: Vec::new(), at: 0, last: false, told: false }
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State, Key) -> T) -> T {
        self.shared.with(|state| change(state, self.key))
    }

    /// If nothing comes after the head there is no end to be told.
    pub(super) fn has_head(&mut self) {
        self.told = self.shared.drive(|state| state.has_all(self.key));
    }

    pub(super) fn poll_piece(&mut self, cx: &Context<'_>) -> Poll<Result<Piece<'_>, Broken>> {
        if self.at == self.buffer.len() {
            if self.told {
                return Poll::Ready(Ok(Piece::End));
            }
            room::give_back(&mut self.buffer);
            self.at = 0;
            let Self { shared, key, buffer, .. } = self;
            match ready!(shared.drive(|state| state.take_body(*key, buffer, cx)))? {
                Taken::Bytes(last) => self.last = last,
                Taken::Trailers(fields) => {
                    self.told = true;
                    return Poll::Ready(Ok(Piece::Trailers(fields)));
                }
                Taken::End => {
                    self.told = true;
                    return Poll::Ready(Ok(Piece::End));
                }
            }
        } else if !self.last {
            self.last = self.shared.drive(|state| state.has_all(self.key));
        }
        Poll::Ready(Ok(Piece::Data { bytes: self.held(), last: self.last }))
    }

    /// What came and is not consumed, as far as it was polled for.
    pub(super) fn held(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.buffer.len() - self.at);
        self.at += n;
        self.told |= self.last && self.at == self.buffer.len();
        // What is in the buffer came through a window, which is smaller than that.
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.with(|state, key| state.consumed(key, n));
    }

    pub(super) fn is_received(&self) -> bool {
        self.told
    }

    pub(super) fn poll_data(&mut self, cx: &Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Broken>> {
        self.with(|state, key| state.send_data(key, bytes, last, cx))
    }

    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.shared.drive(|state| state.poll_room(self.key, cx))
    }

    pub(super) fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        self.with(|state, key| state.send_end(key, trailers))
    }

    pub(super) fn reset_code(&self) -> Option<Code> {
        self.shared.drive(|state| state.reset_code(self.key))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.with(State::release);
    }
}

/// What [`crate::http::channel::Channel`] asks for, by an `Owned` in the field `stream`.
macro_rules! channel {
    ($name:ident) => {
        impl $name {
            /// What came of the body and is not consumed, as far as it was polled for.
            pub(super) fn held(&self) -> &[u8] {
                self.stream.held()
            }

            /// Waits until bytes of the body that goes out would be taken, or nothing is any more.
            pub(super) fn poll_room(&self, cx: &std::task::Context<'_>) -> std::task::Poll<()> {
                self.stream.poll_room(cx)
            }
        }

        impl crate::http::channel::Channel for $name {
            fn poll_piece(
                &mut self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<crate::http::channel::Piece<'_>, crate::http::channel::Broken>> {
                self.stream.poll_piece(cx)
            }

            fn consume(&mut self, n: usize) {
                self.stream.consume(n);
            }

            fn is_received(&self) -> bool {
                self.stream.is_received()
            }

            fn poll_data(
                &mut self,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
                last: bool,
            ) -> std::task::Poll<Result<usize, crate::http::channel::Broken>> {
                self.stream.poll_data(cx, bytes, last)
            }

            fn finish(
                &mut self,
                trailers: Option<&crate::http::message::Fields>,
            ) -> Result<(), crate::http::channel::Broken> {
                self.stream.finish(trailers)
            }

            fn poll_flush(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), crate::http::channel::Broken>> {
                std::task::Poll::Ready(Ok(()))
            }
        }
    };
}
pub(super) use channel;
