//! Milliseconds since the process began, one number that fits an atomic; and the date as HTTP writes it.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first call; never 0, so that 0 can mean never.
pub fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// The date of now, as HTTP writes it (RFC 9110, 5.6.7). It is made once a second.
pub fn http_date() -> [u8; 29] {
    thread_local! {
        static LAST: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [0; 29])) };
    }
    let second = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    LAST.with(|last| match last.get() {
        (of, date) if of == second => date,
        _ => {
            let date = crate::access_log::http_date(second);
            last.set((second, date));
            date
        }
    })
}
