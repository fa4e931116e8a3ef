//! Room for bodies that come in bulk, lent by the worker.
//!
//! Invariant: a stream that waits for more holds none of it, and the worker keeps a bounded number for the next one.

use std::cell::RefCell;

/// Bytes of a room: what a connection reads in a turn, and some more.
const ROOM: usize = 128 * 1024;
/// The largest that is kept; a slow taker's may have grown.
const LARGEST: usize = 2 * ROOM;
/// A worker keeps so many.
const SPARE: usize = 8;
/// Less than that is not worth a room.
const BULK: usize = 4096;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Puts bytes behind those that wait.
pub(super) fn put(inbox: &mut Vec<u8>, bytes: &[u8]) {
    if inbox.capacity() == 0 && bytes.len() > BULK {
        *inbox = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(ROOM));
    }
    inbox.extend_from_slice(bytes);
}

/// Empties a buffer, and gives its room back if it has one.
pub(super) fn give_back(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() < ROOM {
        return;
    }
    let room = std::mem::take(buffer);
    if room.capacity() <= LARGEST {
        // At the end of a thread there is no list any more.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < SPARE {
                free.push(room);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_has_room_of_the_workers_and_what_is_short_its_own() {
        let (mut short, mut bulk) = (Vec::new(), Vec::new());
        put(&mut short, b"hello");
        put(&mut bulk, &[7; BULK + 1]);
        assert!(short.capacity() < BULK && bulk.capacity() >= ROOM);
        let place = bulk.as_ptr();
        give_back(&mut bulk);
        give_back(&mut short);
        assert_eq!(bulk.capacity(), 0);
        put(&mut bulk, &[8; BULK + 1]);
        assert_eq!((bulk.as_ptr(), bulk.len()), (place, BULK + 1));
    }

    #[test]
    fn what_has_grown_is_not_kept() {
        let mut bulk = Vec::with_capacity(LARGEST + 1);
        put(&mut bulk, &[7; BULK + 1]);
        give_back(&mut bulk);
        assert_eq!((bulk.capacity(), FREE.with_borrow(Vec::len)), (0, 0));
    }
}
