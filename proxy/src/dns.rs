//! Names of endpoints: looked up with the host's own settings, as often as their answers say.
//!
//! In: names that clusters refer to. Out: addresses, whenever they change. Invariants: what is asked at a time, what an answer
//! may hold and how long anything takes is bounded; a look-up that fails leaves the last good answer as it is.

mod ask;
mod message;
mod resolver;
mod schedule;
mod settings;

pub use resolver::Resolver;
pub use schedule::Wish;
