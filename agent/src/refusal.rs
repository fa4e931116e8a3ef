//! Why something was refused: one sentence for people, one stable word for programs.
//!
//! In: gRPC statuses of discovery, errors of our own. Out: the same as a gRPC status whose metadata key
//! `hawser-reason` holds the word, for the command line.

use hawser_api::names::reasons;
use tonic::{Code, Status};

use crate::discovery::DialError;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// `token-expired` and so on; empty if there is none.
    pub(crate) reason: String,
    pub(crate) sentence: String,
}

impl Refusal {
    /// A refusal of our own.
    pub(crate) fn new(code: Code, reason: &str, sentence: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), sentence: sentence.into() }
    }

    /// Whether asking again changes nothing until a person did something.
    pub(crate) fn is_final(&self) -> bool {
        const FINAL: [&str; 4] = ["host-cloned", "host-revoked", "host-unknown", "rejoin-window-passed"];
        FINAL.contains(&self.reason.as_str())
    }

    /// The sentence for a reason that came without one.
    fn sentence_of(reason: &str) -> &'static str {
        match reason {
            "token-unknown" => "discovery does not know this join token: make a new one with `hawser token create`",
            "token-expired" => "the join token has expired: make a new one with `hawser token create`",
            "token-used-up" => "the join token has no use left: make a new one with `hawser token create`",
            "token-revoked" => "the join token was revoked: make a new one with `hawser token create`",
            "source-refused" => "the join token may not be used from this host's address",
            "host-cloned" => {
                "another host uses this host's key: one is a copy of the other. On the copy, run `hawser leave --force` \
                 and join again"
            }
            "host-revoked" => "this host's record was revoked: join again with a new token",
            "host-unknown" => "discovery has no record of this host: run `hawser leave --force` and join again",
            "rejoin-window-passed" => "this host was off for too long: run `hawser leave --force` and join again",
            "signature-invalid" => "discovery did not accept the host key's signature",
            "group-unknown" => "the token's workload group does not exist any more",
            "policy-not-enforceable" => "a security policy selects this group that this version can't enforce",
            "address-refused" => "discovery refused this host's address: name another one with `--address`",
            _ => "discovery refused",
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let reason =
            status.metadata().get(reasons::KEY).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let said = status.message().trim();
        let sentence = match (said.is_empty(), reason.is_empty(), status.code()) {
            (false, false, _) => said.to_owned(),
            (true, false, _) => Self::sentence_of(&reason).to_owned(),
            (_, true, Code::Unavailable) => format!("the connection to discovery broke: {said}"),
            (false, true, _) => format!("discovery refused: {said}"),
            (true, true, code) => format!("discovery refused: {code}"),
        };
        Self { code: status.code(), reason, sentence }
    }
}

impl From<DialError> for Refusal {
    fn from(error: DialError) -> Self {
        let (code, reason) = match &error {
            DialError::NotTrusted { .. } => (Code::PermissionDenied, "discovery-not-trusted"),
            DialError::Unreachable(_) => (Code::Unavailable, "discovery-unreachable"),
            DialError::Setup(_) => (Code::Internal, ""),
        };
        Self::new(code, reason, error.to_string())
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(refusal) => refusal,
            Err(error) => Self::new(Code::Internal, "", format!("{error:#}")),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(refusal.code, refusal.sentence);
        if let Ok(value) = refusal.reason.parse()
            && !refusal.reason.is_empty()
        {
            status.metadata_mut().insert(reasons::KEY, value);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_passes_through_with_its_sentence() {
        let refusal = Refusal::from(Status::from(Refusal::new(Code::FailedPrecondition, "token-expired", "it is old")));
        assert_eq!((refusal.reason.as_str(), refusal.sentence.as_str()), ("token-expired", "it is old"));
        let silent = Refusal::from(Status::from(Refusal::new(Code::FailedPrecondition, "host-cloned", "")));
        assert!(silent.sentence.contains("copy") && silent.is_final());
        assert_eq!(Refusal::from(anyhow::Error::from(silent.clone())), silent);
    }
}
