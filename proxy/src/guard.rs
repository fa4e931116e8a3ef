//! Whether a request or a connection may pass.
//!
//! In: the guards of its filter chain, and what is known of it. Out: yes, or who says no. Pure but for what has to be asked of
//! others. Invariant: what belongs to a chain that discovery has replaced is held to what stands in its place now.

pub(crate) mod authz;
mod chains;
mod facts;
pub(crate) mod jwt;
mod marks;
mod rbac;

pub(crate) use chains::{Now, now};
pub(crate) use facts::Facts;
pub use marks::{Mark, Marks};
pub(crate) use rbac::{Verdict, decide};
