//! Why a connection ends before its time, and the alert that says so.

use std::io;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record was not sealed by the other end, or not in this order.
    #[error("a record is not authentic")]
    NotAuthentic,
    /// A record or message is longer than allowed.
    #[error("a record is too long")]
    TooLong,
    /// A record or message comes where none of its kind may.
    #[error("an unexpected record")]
    Unexpected,
    /// Something can't be read.
    #[error("a malformed record")]
    Malformed,
    /// A value that is not allowed.
    #[error("an illegal value")]
    Illegal,
    /// Something of ours failed.
    #[error("the record layer failed")]
    Internal,
    /// The other end complains; the number is TLS's.
    #[error("the other end sent alert {0}")]
    Alert(u8),
    /// It was over before.
    #[error("the connection is broken")]
    Broken,
}

impl Fault {
    /// TLS's number for it; none if the other end has no use for it.
    pub(super) fn alert(self) -> Option<u8> {
        match self {
            Self::Unexpected => Some(10),
            Self::NotAuthentic => Some(20),
            Self::TooLong => Some(22),
            Self::Illegal => Some(47),
            Self::Malformed => Some(50),
            Self::Internal => Some(80),
            Self::Alert(_) | Self::Broken => None,
        }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::Broken => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, fault)
    }
}
