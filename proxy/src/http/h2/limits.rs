//! Bounds of a connection, and how patient we are with a peer that makes work.

use std::time::Duration;

/// Bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at a time that a client may open; the most that we open as a client.
    pub streams: u32,
    /// Bytes of a head, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub head: u32,
    /// Fields of a head.
    pub fields: usize,
    /// Requests with an underscore in a field's name are refused: some applications take it for a hyphen.
    pub refuse_underscores: bool,
    /// Bytes that a peer may send on a stream before they are consumed; at least 65535, which hold before it was told.
    pub stream_window: u32,
    /// The same, of all streams together: the most memory that bodies of a connection take.
    pub connection_window: u32,
    /// Bytes of bodies that wait to be written.
    pub queue: usize,
    /// A client asks whether its server lives, too.
    pub asks: bool,
    /// Silence after which a server asks whether its client lives, at the earliest.
    pub silence: Duration,
    /// How long it may take to answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            head: 60 * 1024,
            fields: 100,
            refuse_underscores: false,
            stream_window: 256 * 1024,
            connection_window: 4 * 1024 * 1024,
            queue: 256 * 1024,
            asks: false,
            silence: Duration::from_secs(60),
            answer: Duration::from_secs(20),
        }
    }
}

/// Frames that answer a peer and wait to be written: beyond, it does not read what it makes us say.
pub(super) const ANSWERS: u32 = 1000;
/// Interim responses that nobody has taken yet.
pub(super) const INTERIM: usize = 16;
/// CONTINUATION frames of a block. A head of the largest size needs four.
pub(super) const CONTINUATIONS: u32 = 16;

/// Patience: spent by what a peer may do now and then but not all the time, won back by time and by work that is of use.
#[derive(Debug)]
pub(super) struct Patience {
    left: u32,
    most: u32,
    /// Won back in a second.
    rate: u32,
    since: u64,
}

impl Patience {
    pub(super) fn new(most: u32, rate: u32, now: u64) -> Self {
        Self { left: most, most, rate, since: now }
    }

    /// For frames that change nothing: empty DATA, PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown ones.
    pub(super) fn with_chatter(now: u64) -> Self {
        Self::new(10_000, 1_000, now)
    }

    /// For requests that are reset before they are answered (CVE-2023-44487), or that break rules so that we reset them.
    pub(super) fn with_resets(now: u64) -> Self {
        Self::new(1_000, 200, now)
    }

    /// Spends some; `false` if there is none left. Only then the time is asked for.
    pub(super) fn spend(&mut self, cost: u32, clock: fn() -> u64) -> bool {
        if self.left < cost {
            let now = clock();
            let won = now.saturating_sub(self.since).saturating_mul(u64::from(self.rate)) / 1000;
            self.since = now;
            self.win(u32::try_from(won).unwrap_or(u32::MAX));
        }
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Wins some back.
    pub(super) fn win(&mut self, some: u32) {
        self.left = self.left.saturating_add(some).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });

    #[test]
    fn patience_ends_and_comes_back_with_time_and_use() {
        let clock = || NOW.get();
        let mut patience = Patience::new(10, 5, 0);
        assert!((0..10).all(|_| patience.spend(1, clock)));
        assert!(!patience.spend(1, clock));
        NOW.set(1000);
        assert!((0..5).all(|_| patience.spend(1, clock)) && !patience.spend(1, clock));
        patience.win(100);
        assert!((0..10).all(|_| patience.spend(1, clock)) && !patience.spend(1, clock));
    }
}
