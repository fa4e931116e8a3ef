//! From workers to files.
//!
//! In: lines, each written into a buffer of its worker. Out: the same in files, in whole buffers. One thread writes for
//! all; it starts with the first line, sleeps while there is none, and writes when a buffer is full enough or a quarter of
//! a second old. While lines come it looks by itself: a worker wakes it for a full buffer only. Invariant: a worker never waits for a file: it shares with the writer only the moment in which a full
//! buffer is changed for an empty one.

mod file;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::file::Files;
use super::{AccessLog, Clock, Record};
use crate::telemetry::Counters;

/// A buffer of so many bytes is written at once.
const ENOUGH: usize = 64 * 1024;
/// A line waits no longer.
const OLDEST: Duration = Duration::from_millis(250);
/// A buffer takes no more lines.
const MOST: usize = 256 * 1024;
/// Files that a worker writes at the same time.
const MOST_FILES: usize = 16;
/// Buffers of files without lines are kept up to so many.
const KEPT: usize = 4;

/// What brings lines to their files. Clones are the same writer.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
}

/// Lines of one worker.
pub struct Lines {
    buffers: Arc<Mutex<Buffers>>,
    shared: Arc<Shared>,
}

struct Shared {
    counters: Arc<Counters>,
    workers: Mutex<Vec<Arc<Mutex<Buffers>>>>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What the writer is told, and tells.
#[derive(Default)]
struct State {
    running: bool,
    /// There is a line.
    lines: bool,
    /// The writer looks for lines within [`OLDEST`] without being told.
    watching: bool,
    /// A buffer has enough.
    enough: bool,
    reopen: bool,
    /// How often all was asked to be written, and how often it was.
    asked: u64,
    done: u64,
}

impl State {
    /// Whether somebody wants something that can't wait.
    fn is_asked(&self) -> bool {
        self.reopen || self.asked != self.done
    }
}

/// Of one worker.
#[derive(Default)]
struct Buffers {
    clock: Clock,
    files: Vec<Buffer>,
}

struct Buffer {
    file: Arc<str>,
    bytes: Vec<u8>,
    lines: u64,
}

impl Lines {
    /// Writes a line into each of `logs` that takes the record.
    pub fn write(&self, logs: &[Arc<AccessLog>], record: &Record<'_>) {
        for log in logs {
            if log.filter.takes(record) {
                self.line(log, record);
            }
        }
    }

    fn line(&self, log: &AccessLog, record: &Record<'_>) {
        let mut buffers = self.buffers.lock();
        let Buffers { clock, files } = &mut *buffers;
        let at = match files.iter().position(|b| *b.file == *log.file) {
            Some(at) => at,
            None if files.len() < MOST_FILES => {
                files.push(Buffer { file: log.file.clone(), bytes: Vec::with_capacity(ENOUGH + 4096), lines: 0 });
                files.len() - 1
            }
            None => return self.shared.dropped(1),
        };
        let buffer = &mut files[at];
        let before = buffer.bytes.len();
        if before >= MOST {
            return self.shared.dropped(1);
        }
        log.format.write(record, clock, &mut buffer.bytes);
        buffer.lines += 1;
        let enough = before < ENOUGH && buffer.bytes.len() >= ENOUGH;
        drop(buffers);
        if before == 0 || enough {
            Shared::tell(&self.shared, enough);
        }
    }
}

impl Writer {
    /// A writer that counts what it drops.
    pub fn new(counters: Arc<Counters>) -> Self {
        let (workers, state, changed) = Default::default();
        Self { shared: Arc::new(Shared { counters, workers, state, changed }) }
    }

    /// Lines of a worker.
    pub fn lines(&self) -> Lines {
        let buffers = Arc::<Mutex<Buffers>>::default();
        self.shared.workers.lock().push(buffers.clone());
        Lines { buffers, shared: self.shared.clone() }
    }

    /// Has all files opened again, for whoever moves them away and tells us.
    pub fn reopen(&self) {
        self.shared.state.lock().reopen = true;
        self.shared.changed.notify_all();
    }

    /// Has everything written that was logged until now. `false` if that took longer than `within`.
    pub fn flush(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut state = self.shared.state.lock();
        if !state.running {
            // No line was ever written.
            return true;
        }
        state.asked += 1;
        let mine = state.asked;
        self.shared.changed.notify_all();
        while state.done < mine {
            if self.shared.changed.wait_until(&mut state, until).timed_out() {
                return state.done >= mine;
            }
        }
        true
    }
}

impl Shared {
    fn dropped(&self, lines: u64) {
        self.counters.access_log_dropped_lines.fetch_add(lines, Relaxed);
    }

    /// Tells the writer of lines; it is started with the first.
    fn tell(shared: &Arc<Self>, enough: bool) {
        let mut state = shared.state.lock();
        state.lines = true;
        state.enough |= enough;
        if !state.running {
            let writing = shared.clone();
            let started = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writing.run());
            if let Err(e) = started {
                // The next first line tries again; until then buffers fill and drop.
                return tracing::error!(error = %e, "the thread that writes access logs can't be started");
            }
            state.running = true;
        }
        if enough || !state.watching {
            shared.changed.notify_all();
        }
    }

    /// The writer's thread; it ends with the process.
    fn run(&self) {
        let mut files = Files::default();
        let mut spare = Vec::new();
        loop {
            let mut state = self.state.lock();
            let until = Instant::now() + OLDEST;
            state.watching = true;
            while !state.enough && !state.is_asked() {
                if self.changed.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
            state.watching = false;
            if !state.lines && !state.is_asked() {
                while !state.lines && !state.is_asked() {
                    self.changed.wait(&mut state);
                }
                continue;
            }
            (state.lines, state.enough) = (false, false);
            let (reopen, asked) = (std::mem::take(&mut state.reopen), state.asked);
            drop(state);
            if reopen {
                files.close();
            }
            self.write_all(&mut files, &mut spare);
            let mut state = self.state.lock();
            state.done = asked;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Writes what all workers have.
    fn write_all(&self, files: &mut Files, spare: &mut Vec<u8>) {
        // Workers that are gone have nothing to add, once their last lines are written.
        let mut gone = Vec::new();
        let workers = self.workers.lock().clone();
        for worker in &workers {
            // Nobody else but this list and the copy that is read.
            if Arc::strong_count(worker) == 2 {
                gone.push(Arc::as_ptr(worker));
            }
            for at in 0.. {
                let mut buffers = worker.lock();
                let Some(buffer) = buffers.files.get_mut(at) else {
                    if at > KEPT {
                        buffers.files.retain(|b| !b.bytes.is_empty());
                    }
                    break;
                };
                if buffer.bytes.is_empty() {
                    continue;
                }
                std::mem::swap(&mut buffer.bytes, spare);
                let lines = std::mem::take(&mut buffer.lines);
                let file = buffer.file.clone();
                drop(buffers);
                self.dropped(files.write(&file, spare, lines));
                spare.clear();
            }
        }
        drop(workers);
        self.workers.lock().retain(|w| !gone.contains(&Arc::as_ptr(w)));
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
