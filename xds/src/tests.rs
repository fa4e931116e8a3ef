//! A world that sessions are tested against, and the tests that drive both ends through random histories.

mod convergence;
mod sotw_convergence;
pub(crate) mod world;
