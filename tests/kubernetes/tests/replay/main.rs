//! What a real Kubernetes API server answered, asked of the double: the recordings in `recordings/`, and scenarios told
//! after them, which run against a real server too (`cargo xtask test kubernetes-real`).
#![allow(clippy::unwrap_used)]

mod client;
mod cluster;
mod compare;
mod discovery;
mod endpoints;
mod faults;
mod lists;
mod manifests;
mod own;
mod program;
mod real;
mod recordings;
mod tokens;
mod watches;
mod writes;
