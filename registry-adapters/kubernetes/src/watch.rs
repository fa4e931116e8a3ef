//! One kind of object, followed: its list, and every change of it, for as long as discovery runs.
//!
//! In: answers of the API server, their ends, silence. Out: whole lists and changes, each once and in order, and how the
//! server is. [`Machine`] decides without I/O what is asked next and what an answer means; [`run`] asks. Invariant: a
//! list that is not complete is never said; what was said stays until the server itself says otherwise; what a server may say
//! is bounded.

mod absent;
mod failure;
mod lines;
mod machine;
mod measure;
mod run;

pub(crate) use failure::Failure;
pub(crate) use machine::{Change, Limits};
pub(crate) use measure::OBJECTS;
pub(crate) use run::{Said, Waker, Watched, run, whole};
