//! tmp
pub mod balance;
pub mod clock;
pub mod config;
pub mod detect;
pub mod route;
pub mod stream;
pub mod tcp;
pub mod tls;
