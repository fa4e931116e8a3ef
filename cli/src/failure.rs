//! What went wrong, in words for people and a code for scripts.

use std::fmt;

use tonic::{Code, Status};

use crate::exit;
use crate::terminal;

/// An error as `hawser` ends with it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) code: u8,
    message: String,
    hints: Vec<String>,
    /// Because nobody listens where it asked.
    absence: bool,
}

/// What verbs return: their exit code, or a failure.
pub(crate) type Outcome<T = u8> = Result<T, Failure>;

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hints: Vec::new(), absence: false }
    }

    /// With a cure.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Because nobody listens where it asked.
    pub(crate) fn absence(self) -> Self {
        Self { absence: true, ..self }
    }

    /// Whether nobody listens where it asked.
    pub(crate) fn is_absence(&self) -> bool {
        self.absence
    }

    /// Says it on stderr.
    pub(crate) fn print(&self) {
        eprintln!("{}: {}", terminal::red("error"), self.message);
        for hint in &self.hints {
            eprintln!("{}: {hint}", terminal::cyan("hint"));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = |key: &str| status.metadata().get(key).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let message = printable(status.message());
        let mut failure = match text("hawser-reason").as_deref().and_then(exit::by_word) {
            Some(reason) => {
                let message = if message.is_empty() { reason.sentence.to_owned() } else { message };
                Self::new(reason.code, message).hint(reason.hint)
            }
            None => Self::new(code(status.code()), or_code(message, status.code())),
        };
        if let Some(hint) = text("hawser-hint") {
            failure.hints = vec![printable(&hint)];
        } else if status.code() == Code::PermissionDenied && failure.hints.is_empty() {
            failure = failure.hint("run it with sudo");
        }
        failure
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(exit::FAILURE, error.to_string())
    }
}

fn code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange => exit::INVALID,
        Code::NotFound => exit::NOT_FOUND,
        Code::Unavailable => exit::NO_SOCKET,
        _ => exit::FAILURE,
    }
}

fn or_code(message: String, code: Code) -> String {
    if message.is_empty() { code.description().to_owned() } else { message }
}

/// Text from elsewhere without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_sentence_and_gets_its_code_and_cure() {
        let mut status = Status::permission_denied("the token expired 3 minutes ago");
        status.metadata_mut().insert("hawser-reason", "token-expired".parse().unwrap());
        let failure = Failure::from(status);
        assert_eq!((failure.code, failure.to_string().as_str()), (11, "the token expired 3 minutes ago"));
        assert_eq!(failure.hints.len(), 1);
    }

    #[test]
    fn a_terminal_is_never_driven_from_afar() {
        assert_eq!(Failure::from(Status::internal("a\x1b[2Jb")).to_string(), "a[2Jb");
    }
}
