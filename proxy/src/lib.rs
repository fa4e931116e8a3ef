//! The data plane: capture, detect, route, balance, forward.
//!
//! In: connections that the host's redirection sends here, and configuration over xDS from the agent. Out: the same
//! bytes and requests at the right endpoint, encrypted, with the right identity on both ends. The folders follow the way of
//! a connection: `listen -> detect -> tls -> http | tcp -> route -> balance -> pool -> upstream`; beside them `config`
//! (xDS to an immutable model), `control` (the thread that holds no connection) and `telemetry`.
//! Invariant: what a stranger sends is bounded in size, number and time, and no lock is held across an await.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod access_log;
pub mod balance;
pub mod clock;
pub mod config;
pub mod control;
pub mod detect;
pub mod dns;
pub mod guard;
pub mod hbone;
pub mod http;
pub mod listen;
pub mod options;
pub mod pool;
pub mod route;
pub mod stream;
pub mod take_over;
pub mod tcp;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod worker;
