//! The adapters against what they are made for: HTTP servers, files, a DNS server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod dns;
mod files;
mod follower;
mod http;
