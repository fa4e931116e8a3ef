//! Why there is no answer, and what that means for the next question.

use std::error::Error as _;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The token may not ask this, or is none.
    #[error("Consul refuses the token: {0}")]
    Denied(String),
    /// Consul has no ACLs.
    #[error("Consul has no ACLs")]
    NoAcls,
    /// There is nothing of that kind.
    #[error("Consul does not know this: {0}")]
    NotFound(String),
    /// Too many connections or requests at this server.
    #[error("the server takes no more of us now: {0}")]
    Crowded(String),
    /// No server can answer now.
    #[error("no server can answer now: {0}")]
    Unavailable(String),
    /// The datacenter is not known, or not to be reached from there.
    #[error("{0}")]
    NoPath(String),
    /// The server can't be reached, or breaks off.
    #[error("{0}")]
    Unreachable(String),
    /// The question is wrong: another server would say the same.
    #[error("Consul refuses the question: {0}")]
    Refused(String),
    /// More than is read.
    #[error("the answer is larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
    /// More at once than is held.
    #[error("answers that come at once are larger than {} MiB together", .0 >> 20)]
    TooMuch(usize),
    /// No JSON of the form that is known.
    #[error("the answer can't be read: {0}")]
    Unreadable(String),
    /// The token's file can't be read.
    #[error("{0}")]
    Token(String),
}

impl Failure {
    /// By the status of an answer and its text.
    pub(crate) fn of_status(status: u16, text: &str) -> Self {
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
        match status {
            403 => Self::Denied(text),
            401 => Self::NoAcls,
            404 | 405 => Self::NotFound(text),
            429 => Self::Crowded(text),
            503 => Self::Unavailable(text),
            // Servers that forward say what the other one said.
            500 if text.contains("No path to datacenter") => Self::NoPath(text),
            500 if text.contains("ACL not found") || text.contains("Permission denied") => Self::Denied(text),
            500..=599 => Self::Unreachable(format!("status {status}: {text}")),
            _ => Self::Refused(format!("status {status}: {text}")),
        }
    }

    /// Of a connection.
    pub(crate) fn of_transport(server: &str, error: &reqwest::Error) -> Self {
        // The innermost cause says it best, and the outer ones repeat the whole address.
        let mut cause = error.source();
        let mut text = String::new();
        let mut reset = false;
        while let Some(inner) = cause {
            text = inner.to_string();
            if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
                reset |= matches!(io.kind(), ConnectionReset | UnexpectedEof | BrokenPipe);
            }
            cause = inner.source();
        }
        if text.is_empty() {
            text = if error.is_timeout() { "no answer in time".to_owned() } else { "no answer".to_owned() };
        }
        // A server that is at its limit of connections hangs up on new ones without a word.
        let hung_up = reset || text.contains("before message completed");
        if hung_up && !error.is_body() {
            return Self::Crowded(format!("{server}: {text}"));
        }
        Self::Unreachable(format!("{server}: {text}"))
    }

    /// Whether another server may answer where this one did not.
    pub(crate) fn may_differ_elsewhere(&self) -> bool {
        matches!(self, Self::Crowded(_) | Self::Unreachable(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_to_do_next() {
        type Is = fn(&Failure) -> bool;
        let table: [(u16, &str, Is, bool); 9] = [
            (403, "ACL not found", |f| matches!(f, Failure::Denied(_)), false),
            (500, "rpc error: ACL not found", |f| matches!(f, Failure::Denied(_)), false),
            (401, "ACL support disabled", |f| matches!(f, Failure::NoAcls), false),
            (429, "", |f| matches!(f, Failure::Crowded(_)), true),
            (503, "", |f| matches!(f, Failure::Unavailable(_)), false),
            (500, "No cluster leader", |f| matches!(f, Failure::Unreachable(_)), true),
            (500, "No path to datacenter", |f| matches!(f, Failure::NoPath(_)), false),
            (404, "", |f| matches!(f, Failure::NotFound(_)), false),
            (400, "Bad request", |f| matches!(f, Failure::Refused(_)), false),
        ];
        for (status, text, is, elsewhere) in table {
            let failure = Failure::of_status(status, text);
            assert!(is(&failure) && failure.may_differ_elsewhere() == elsewhere, "{status} {text}: {failure:?}");
        }
    }
}
