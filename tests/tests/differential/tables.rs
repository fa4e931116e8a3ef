//! The cases.
#![cfg_attr(rustfmt, rustfmt_skip)]

mod answers;
mod caller;
mod connections;
pub(crate) mod custom;
mod destinations;
mod entries;
mod failures;
mod faults;
mod framing;
mod heads;
mod http2;
mod kept;
mod peers;
mod policies;
mod routes;
mod sidecars;
mod targets;
mod tokens;
mod transports;

use crate::case::{Case, case};
use crate::policies::Set;

pub(crate) use sidecars::LISTENED;

/// A request that no policy is about, on each way in.
pub(crate) const OUTBOUND: &Case = &case("a plain request", "GET / HTTP/1.1\nhost: {host}\n\n");
pub(crate) const INBOUND: &Case = &case("a plain request that comes in", "GET / HTTP/1.1\nhost: {host}\n\n").inbound();

/// Sets of policies.
pub(crate) fn sets() -> impl Iterator<Item = &'static Set> {
    policies::SETS.iter().chain(custom::SETS).chain(tokens::SETS).chain(peers::SETS).chain(sidecars::SETS)
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    let tables = [
        framing::CASES,
        heads::CASES,
        targets::CASES,
        connections::CASES,
        answers::CASES,
        caller::CASES,
        http2::CASES,
        failures::CASES,
        routes::CASES,
        faults::CASES,
        destinations::CASES,
        entries::CASES,
        transports::CASES,
    ];
    tables.into_iter().flatten()
}
