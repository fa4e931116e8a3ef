//! Why a host is refused: a stable word for programs, a sentence with the cure for people.

use hawser_api::names::reasons;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::store::StoreError;

/// Why a host is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("this join token is not known here: make one with `hawser token create` on this mesh's control host")]
    TokenUnknown,
    #[error("this join token expired {0} ago: make a new one with `hawser token create`")]
    TokenExpired(String),
    #[error("this join token was used {0} of {0} times: make a new one, with --uses for more hosts")]
    TokenUsedUp(u32),
    #[error("this join token was revoked: make a new one with `hawser token create`")]
    TokenRevoked,
    #[error("this join token is not taken from {0}: it is bound to {1}")]
    SourceRefused(std::net::IpAddr, String),
    #[error(
        "another host uses this host's key (it was copied, or this disk was restored from an older state): \
         run `hawser leave --force` here and join again with a new token"
    )]
    HostCloned,
    #[error("this host was revoked: run `hawser leave --force` here and join again with a new token")]
    HostRevoked,
    #[error("this host is not known here, or was forgotten: join it again with a new token")]
    HostUnknown,
    #[error("this host's certificates ended longer ago than the rejoin window of {0}: join again with a new token")]
    RejoinWindowPassed(String),
    #[error("the signature of the host key is wrong: this was not said by the host, or was changed on its way")]
    SignatureInvalid,
    #[error("group {0} does not exist: make it with `hawser token create --group {0} --port ...` or `hawser apply`")]
    GroupUnknown(String),
    #[error("{0}: no host of this group can join until that is changed, because its policy could not be enforced")]
    PolicyNotEnforceable(String),
    #[error("address {0} can't be used: {1}; name another with `hawser join --address`")]
    AddressRefused(String, String),
    #[error("this host has joined as group {0} already: run `hawser leave` first")]
    AlreadyJoined(String),
    #[error("{0}")]
    Malformed(String),
    #[error("discovery has too much to do just now: try again in a few seconds")]
    Busy,
    #[error("discovery is starting: {0} is still missing; try again in a few seconds")]
    NotReady(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sign(#[from] crate::identity::SignError),
}

impl Refusal {
    /// The word in metadata key `hawser-reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TokenUnknown => reasons::TOKEN_UNKNOWN,
            Self::TokenExpired(_) => reasons::TOKEN_EXPIRED,
            Self::TokenUsedUp(_) => reasons::TOKEN_USED_UP,
            Self::TokenRevoked => reasons::TOKEN_REVOKED,
            Self::SourceRefused(..) => reasons::SOURCE_REFUSED,
            Self::HostCloned => reasons::HOST_CLONED,
            Self::HostRevoked => reasons::HOST_REVOKED,
            Self::HostUnknown => reasons::HOST_UNKNOWN,
            Self::RejoinWindowPassed(_) => reasons::REJOIN_WINDOW_PASSED,
            Self::SignatureInvalid => reasons::SIGNATURE_INVALID,
            Self::GroupUnknown(_) => reasons::GROUP_UNKNOWN,
            Self::PolicyNotEnforceable(_) => reasons::POLICY_NOT_ENFORCEABLE,
            Self::AddressRefused(..) => reasons::ADDRESS_REFUSED,
            Self::AlreadyJoined(_) => reasons::ALREADY_JOINED,
            Self::Malformed(_) => reasons::MALFORMED,
            Self::Busy | Self::NotReady(_) => reasons::NOT_READY,
            Self::Store(_) | Self::Sign(_) => reasons::INTERNAL,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::TokenUnknown | Self::TokenExpired(_) | Self::TokenUsedUp(_) | Self::TokenRevoked => {
                Code::Unauthenticated
            }
            Self::SignatureInvalid | Self::HostUnknown => Code::Unauthenticated,
            Self::SourceRefused(..) | Self::HostRevoked => Code::PermissionDenied,
            Self::HostCloned | Self::RejoinWindowPassed(_) | Self::GroupUnknown(_) | Self::PolicyNotEnforceable(_) => {
                Code::FailedPrecondition
            }
            Self::AlreadyJoined(_) => Code::AlreadyExists,
            Self::AddressRefused(..) | Self::Malformed(_) => Code::InvalidArgument,
            Self::Busy | Self::NotReady(_) => Code::Unavailable,
            Self::Store(StoreError::Full(_)) => Code::ResourceExhausted,
            Self::Store(_) | Self::Sign(_) => Code::Internal,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(refusal.code(), refusal.to_string());
        status.metadata_mut().insert(reasons::KEY, MetadataValue::from_static(refusal.reason()));
        status
    }
}
