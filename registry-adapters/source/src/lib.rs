//! What every polled or blocking registry shares: how often to ask, what changed, what to believe, what to remember.
//!
//! In: what a source says, part by part (a part is one service of the source), and that it fails or answers again.
//! Out: the difference as events of `hawser-mesh`, a state for operators, a file from which the next run starts.
//! `pacing, sweep -> ledger -> stored`, and [`Driver`], which joins them to discovery. Invariant: silence, a failure
//! or a sudden loss of much of what was known removes nothing.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod context;
mod driver;
mod fingerprint;
pub mod ledger;
pub mod pacing;
pub mod poll;
pub mod settings;
mod status;
pub mod stored;
mod sweep;

pub use context::{Context, Handle, Interest};
pub use driver::{Closed, Driver, Heard};
pub use fingerprint::Fingerprint;
pub use ledger::Ledger;
pub use settings::{Freeze, Settings};
pub use status::{Status, Trouble, Unseen};
pub use sweep::Sweep;
