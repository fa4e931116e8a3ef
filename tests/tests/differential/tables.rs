//! The cases.
#![cfg_attr(rustfmt, rustfmt_skip)]

mod answers;
mod caller;
mod connections;
mod failures;
mod framing;
mod heads;
mod http2;
mod kept;
mod routes;
mod targets;

use crate::case::Case;

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
    ];
    tables.into_iter().flatten()
}
