//! A double of a Kubernetes API server, for tests: it speaks as the real one does, and goes wrong on demand.
//!
//! In: objects as YAML, [`Fault`]s. Out: a server on an address of its own, with TLS, tokens and a kubeconfig; what it was
//! asked. Nothing here is for use outside of tests: it keeps all in memory and forgets it. What it does is held against
//! recordings of a real server (`tests/replay.rs`), and, where there is one, against a running one (`tests/real.rs`).

mod admit;
mod after;
mod ask;
mod auth;
mod delete;
mod discovery;
mod double;
mod faults;
mod fields;
mod identity;
mod kinds;
mod load;
mod managed;
mod patch;
mod read;
mod refusal;
mod reply;
mod reviews;
mod schema;
mod selector;
mod serve;
mod server;
mod store;
mod tokens;
mod watching;
mod world;
mod write;

pub use auth::User;
pub use double::{Double, Options};
pub use faults::{Fault, On, What};
pub use load::Load;
pub use server::{Seen, Timing};
pub use store::Kept;
