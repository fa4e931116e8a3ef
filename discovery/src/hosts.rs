//! The life of joined hosts: tokens in, records, certificates and leases out.

pub mod address;
pub mod epoch;
pub mod proof;
pub mod refusal;
pub mod tokens;
