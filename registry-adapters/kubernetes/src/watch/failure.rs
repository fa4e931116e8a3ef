//! Why the API server does not say what was asked for, and what that means for the next question.

use std::time::Duration;

use crate::wire::Status;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It knows no such kind.
    #[error("the API server does not know this: {0}")]
    NotFound(String),
    /// We may not: for good, or because the server is starting and does not know yet who may what.
    #[error("the API server refuses it: {0}")]
    Denied(String),
    /// It does not know who we are: a token that ended, a certificate that was replaced.
    #[error("the API server does not accept the credentials: {0}")]
    Unauthorized(String),
    /// What we know is too old, or newer than anything the server has.
    #[error("the API server has lost its place: {0}")]
    Gone(String),
    /// It can't do what was asked for in this way.
    #[error("the API server refuses the question: {0}")]
    Refused(String),
    /// Somebody else wrote what was to be written, or it is another object by now.
    #[error("the API server sees a conflict: {0}")]
    Conflict(String),
    /// It has too much to do, or is starting: not before this time.
    #[error("the API server is busy: {0}")]
    Busy(String, Duration),
    /// It fails.
    #[error("the API server fails: {0}")]
    Failed(String),
    /// It can't be reached, or breaks off.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// It says something that can't be read.
    #[error("the API server's answer can't be read: {0}")]
    Unreadable(String),
    /// It says more of a kind than is taken in.
    #[error("the API server has too much of it: {0}")]
    TooMuch(String),
}

/// Longest wait that a server may ask for.
const LONGEST: Duration = Duration::from_secs(60);
/// To find out that there is too much costs much.
const TOO_MUCH: Duration = Duration::from_secs(120);
/// Longest text of a server that is shown.
const SHOWN: usize = 300;

impl Failure {
    /// By status code, `Retry-After`, and a body that may be a `Status`, and may be plain text.
    pub(crate) fn of_answer(code: u16, retry_after: Option<u64>, body: &[u8]) -> Self {
        match serde_json::from_slice::<Status>(body) {
            Ok(status) => Self::of(code, retry_after.unwrap_or(status.details.retry_after_seconds), &status),
            Err(_) => {
                let message = String::from_utf8_lossy(body).trim().to_owned();
                Self::of(code, retry_after.unwrap_or_default(), &Status { message, ..Status::default() })
            }
        }
    }

    /// By a `Status` in a stream, whose own code is the only one.
    pub(crate) fn of_status(status: &Status) -> Self {
        Self::of(status.code, status.details.retry_after_seconds, status)
    }

    fn of(code: u16, retry_after: u64, status: &Status) -> Self {
        let text: String = status.message.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let text = if text.is_empty() { format!("status {code}") } else { text };
        let wait = Duration::from_secs(retry_after).min(LONGEST);
        match code {
            401 => Self::Unauthorized(text),
            403 => Self::Denied(text),
            404 => Self::NotFound(text),
            409 => Self::Conflict(text),
            410 => Self::Gone(text),
            // A version from the future: the server's memory is shorter than ours.
            504 if status.message.contains("Too large resource version") => Self::Gone(text),
            408 | 429 | 503 | 504 => Self::Busy(text, wait),
            400..=499 => Self::Refused(text),
            _ => Self::Failed(format!("status {code}: {text}")),
        }
    }

    /// Not before this time.
    pub(crate) fn wait(&self) -> Duration {
        match self {
            Self::Busy(_, wait) => *wait,
            Self::TooMuch(_) => TOO_MUCH,
            _ => Duration::ZERO,
        }
    }
}
