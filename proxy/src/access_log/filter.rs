//! Which requests a log has.

use super::{Flags, Record};

/// Which requests a log has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Those that failed: status 500 or above, a response flag, or a status of gRPC that is not OK.
    Errors,
    /// By status.
    Status(Comparison, u32),
    /// By milliseconds.
    Duration(Comparison, u32),
    /// Those with one of these response flags.
    Flags(Flags),
    /// Those with one of these statuses of gRPC, a set by bit; or, if `true`, all others.
    Grpc(u32, bool),
    /// Those that all of them let through.
    And(Vec<Filter>),
    /// Those that one of them lets through.
    Or(Vec<Filter>),
}

/// How a number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// At least.
    AtLeast,
    /// At most.
    AtMost,
    /// Not equal.
    NotEqual,
}

impl Filter {
    /// Whether a request belongs into the log.
    pub fn takes(&self, record: &Record<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Errors => record.is_error(),
            Self::Status(comparison, value) => comparison.holds(record.status.into(), *value),
            Self::Duration(comparison, value) => {
                comparison.holds(u32::try_from(record.duration.as_millis()).unwrap_or(u32::MAX), *value)
            }
            Self::Flags(flags) => record.flags.has_any(*flags),
            Self::Grpc(set, others) => {
                // What is no gRPC has the status that its HTTP status means.
                let code = record.grpc_status.or(record.grpc_code()).unwrap_or(match record.status {
                    200..=299 => 0,
                    _ => 2,
                });
                (code < 32 && set >> code & 1 == 1) != *others
            }
            Self::And(all) => all.iter().all(|f| f.takes(record)),
            Self::Or(all) => all.iter().any(|f| f.takes(record)),
        }
    }
}

impl Comparison {
    fn holds(self, is: u32, value: u32) -> bool {
        match self {
            Self::Equal => is == value,
            Self::AtLeast => is >= value,
            Self::AtMost => is <= value,
            Self::NotEqual => is != value,
        }
    }
}
