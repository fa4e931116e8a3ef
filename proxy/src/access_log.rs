//! Access logs: a line for each request and each TCP connection.
//!
//! In: a [`Record`] of what is known at the end of a request, and the logs that its listener has ([`AccessLog`]: what is
//! written, where, of which requests). Out: lines in files. A worker writes a line into a buffer ([`Lines`]); one thread
//! of the process ([`Writer`]) brings buffers to their files. Invariants: the request path never waits for a file, memory
//! is bounded (what finds no room is dropped and counted), and no byte of a stranger can begin a line, end one, or leave
//! the JSON string it is in.
//!
//! The way of a request:
//!
//! 1. `let logs = worker.shared.access_logs.of(&spec.access_log)`: the logs that count. None: nothing need be kept.
//! 2. When it ends: fill a [`Record`] and call `worker.lines.write(logs, &record)`. That is all; there is no flush and no
//!    tick.

mod details;
mod filter;
mod flags;
mod format;
mod record;
mod render;
mod sink;
mod text;
mod time;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use details::{Details, Reset};
pub use filter::{Comparison, Filter};
pub use flags::Flags;
pub use format::Format;
pub use record::{Downstream, Record};
pub use sink::{Lines, Writer};
pub use time::Clock;
pub(crate) use time::http_date;

/// One access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Which requests it has.
    pub filter: Filter,
    /// What a line is.
    pub format: Arc<Format>,
    /// The file: a path, `/dev/stdout` or `/dev/stderr`.
    pub file: Arc<str>,
}

/// Which logs count: those of the configuration, or one from the command line instead.
#[derive(Clone, Debug, Default)]
pub struct AccessLogs {
    instead: Option<Arc<[Arc<AccessLog>]>>,
}

impl AccessLogs {
    /// Those of the configuration.
    pub fn configured() -> Self {
        Self::default()
    }

    /// None at all.
    pub fn off() -> Self {
        Self { instead: Some(Arc::new([])) }
    }

    /// This one, whatever the configuration says.
    pub fn instead(log: AccessLog) -> Self {
        Self { instead: Some(Arc::new([Arc::new(log)])) }
    }

    /// Those that count for a listener that has `configured`.
    pub fn of<'l>(&'l self, configured: &'l [Arc<AccessLog>]) -> &'l [Arc<AccessLog>] {
        self.instead.as_deref().unwrap_or(configured)
    }
}
