//! Answers of our own: refusals, errors, redirects. Short, in plain text, with the flag that counters and log have.

use std::borrow::Cow;

use super::message::{Known, Length, ResponseHead};
use crate::upstream::Fault;

/// What an answer of our own says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// This.
    Whole(&'static str),
    /// That there is no response for this reason.
    Reset(&'static str),
}

/// An answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status.
    pub(super) status: u16,
    /// Status of gRPC, for requests of gRPC.
    pub(super) grpc: u8,
    /// Envoy's flag.
    pub(super) flags: &'static str,
    /// What the client is told.
    pub(super) text: Text,
    /// Envoy's word for it.
    pub(super) details: &'static str,
    /// Why nobody was reached.
    pub(super) failure: Option<&'static str>,
}

macro_rules! answers {
    ($($name:ident = $status:literal $grpc:literal $flags:literal $details:literal $text:expr;)+) => {
        $(pub(super) const $name: Answer =
            Answer { status: $status, grpc: $grpc, flags: $flags, text: $text, details: $details, failure: None };)+
    };
}

use Text::{Reset, Whole};

// What clients and alarms of Envoy's users look for in bodies is here what it is there.
answers! {
    BAD_REQUEST = 400 13 "DPE" "http1.codec_error" Whole("Bad Request");
    BAD_NAME = 400 13 "DPE" "http1.unexpected_underscore" Whole("Bad Request");
    BAD_PATH = 400 13 "-" "path_normalization_failed" Whole("");
    NO_HOST = 400 13 "-" "missing_host_header" Whole("");
    DENIED = 403 7 "-" "rbac_access_denied_matched_policy[none]" Whole("RBAC: access denied");
    UNAUTHORIZED = 403 7 "UAEX" "ext_authz_denied" Whole("");
    TOO_LARGE = 413 13 "-" "request_payload_too_large" Whole("Payload Too Large");
    BAD_TOKEN = 401 16 "-" "jwt_authn_access_denied" Whole("");
    FORBIDDEN_TOKEN = 403 7 "-" "jwt_authn_access_denied" Whole("");
    NO_UPGRADE = 403 7 "-" "upgrade_failed" Whole("");
    NO_ROUTE = 404 12 "NR" "route_not_found" Whole("");
    NO_CLUSTER = 503 14 "NC" "cluster_not_found" Whole("");
    NO_ENDPOINT = 503 14 "UH" "no_healthy_upstream" Whole("no healthy upstream");
    NO_CONNECTION = 503 14 "UF" "upstream_reset_before_response_started{remote_connection_failure}"
        Reset("remote connection failure");
    SLOW_CONNECTION = 503 14 "UF" "upstream_reset_before_response_started{connection_timeout}"
        Reset("connection timeout");
    BROKEN = 503 14 "UC" "upstream_reset_before_response_started{connection_termination}"
        Reset("connection termination");
    RESET = 503 14 "UR" "upstream_reset_before_response_started{remote_reset}" Reset("remote reset");
    NO_SWITCH = 503 14 "UR" "upstream_reset_before_response_started{remote_reset}" Reset("remote reset");
    REFUSED = 503 14 "UR" "upstream_reset_before_response_started{remote_refused_stream_reset}"
        Reset("remote refused stream reset");
    NONSENSE = 502 14 "UPE" "upstream_reset_before_response_started{protocol_error}" Reset("protocol error");
    OVERFLOW = 503 8 "UO" "upstream_reset_before_response_started{overflow}" Reset("overflow");
    OVERLOAD = 503 8 "OM" "overload" Whole("overload");
    TIMEOUT = 504 4 "UT" "response_timeout" Whole("upstream request timeout");
    TRY_TIMEOUT = 504 4 "UT" "upstream_per_try_timeout" Whole("upstream request timeout");
    STREAM_TIMEOUT = 504 4 "-" "max_duration_timeout" Whole("downstream duration timeout");
    FAULT = 200 2 "FI" "fault_filter_abort" Whole("fault filter abort");
    SLOW_REQUEST = 408 4 "-" "request_overall_timeout" Whole("request timeout");
}

impl Answer {
    /// That nobody was reached, and why.
    pub(super) fn unreached(fault: Fault) -> Self {
        let answer = if fault == Fault::Slow { SLOW_CONNECTION } else { NO_CONNECTION };
        Self { failure: fault.words(), ..answer }
    }

    /// The response; gRPC gets its own shape: a status in fields. `again` says that it was not the first try.
    pub(super) fn response(self, grpc: bool, again: bool) -> (ResponseHead, Cow<'static, str>) {
        let mut head = ResponseHead::new(if grpc { 200 } else { self.status });
        let text = self.text(again);
        if grpc {
            let code = [b'0' + self.grpc / 10, b'0' + self.grpc % 10];
            head.fields.push_known(Known::ContentType, b"application/grpc");
            head.fields.push_known(Known::GrpcStatus, if self.grpc < 10 { &code[1..] } else { &code });
            if !text.is_empty() {
                head.fields.push_known(Known::GrpcMessage, text.as_bytes());
            }
        } else if !text.is_empty() {
            head.fields.push_known(Known::ContentType, b"text/plain");
        }
        if self == OVERFLOW || self == OVERLOAD {
            head.fields.push_known(Known::Overloaded, b"true");
        }
        if grpc {
            return (head, "".into());
        }
        if !text.is_empty() {
            head.length = Length::Exact(text.len() as u64);
        }
        (head, text)
    }

    fn text(self, again: bool) -> Cow<'static, str> {
        let reason = match self.text {
            Whole(text) => return text.into(),
            Reset(reason) => reason,
        };
        let again = if again { "retried and the latest " } else { "" };
        format!("upstream connect error or disconnect/reset before headers. {again}reset reason: {reason}").into()
    }
}
