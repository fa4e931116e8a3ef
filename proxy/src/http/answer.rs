//! Answers of our own: refusals, errors, redirects. Short, in plain text, with the flag that counters and log have.

use super::message::{Known, Length, ResponseHead};
use crate::upstream::Fault;

/// An answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status.
    pub(super) status: u16,
    /// Status of gRPC, for requests of gRPC.
    pub(super) grpc: u8,
    /// Envoy's flag.
    pub(super) flags: &'static str,
    /// A sentence for the client.
    pub(super) text: &'static str,
    /// Envoy's word for it.
    pub(super) details: &'static str,
    /// Why nobody was reached.
    pub(super) failure: Option<&'static str>,
}

macro_rules! answers {
    ($($name:ident = $status:literal $grpc:literal $flags:literal $details:literal $text:literal;)+) => {
        $(pub(super) const $name: Answer =
            Answer { status: $status, grpc: $grpc, flags: $flags, text: $text, details: $details, failure: None };)+
    };
}

answers! {
    BAD_REQUEST = 400 13 "DPE" "http1.codec_error" "the request is malformed\n";
    BAD_NAME = 400 13 "DPE" "http1.unexpected_underscore" "the request is malformed\n";
    BAD_PATH = 400 13 "-" "path_normalization_failed" "the request's path is malformed\n";
    NO_HOST = 400 13 "-" "missing_host_header" "the request names no host\n";
    NO_UPGRADE = 403 7 "-" "upgrade_failed" "this protocol is not served here\n";
    NO_ROUTE = 404 12 "NR" "route_not_found" "no route for this request\n";
    NO_CLUSTER = 503 14 "NC" "cluster_not_found" "the service of this route is not known\n";
    NO_ENDPOINT = 503 14 "UH" "no_healthy_upstream" "no healthy upstream\n";
    NO_CONNECTION = 503 14 "UF" "upstream_reset_before_response_started{remote_connection_failure}" "upstream connect error\n";
    SLOW_CONNECTION = 503 14 "UF" "upstream_reset_before_response_started{connection_timeout}" "upstream connect error\n";
    BROKEN = 503 14 "UC" "upstream_reset_before_response_started{connection_termination}"
        "the upstream connection broke before an answer\n";
    RESET = 503 14 "UR" "upstream_reset_before_response_started{remote_reset}" "the upstream reset the request\n";
    NO_SWITCH = 503 14 "UR" "upstream_reset_before_response_started{remote_reset}"
        "the upstream does not take this protocol over HTTP/2\n";
    REFUSED = 503 14 "UR" "upstream_reset_before_response_started{remote_refused_stream_reset}"
        "the upstream refused the request\n";
    NONSENSE = 502 14 "UPE" "upstream_reset_before_response_started{protocol_error}" "the upstream's answer is no HTTP\n";
    OVERFLOW = 503 8 "UO" "upstream_reset_before_response_started{overflow}" "too many requests to this service\n";
    OVERLOAD = 503 8 "OM" "overload" "this proxy is short of memory\n";
    TIMEOUT = 504 4 "UT" "response_timeout" "upstream request timeout\n";
    TRY_TIMEOUT = 504 4 "UT" "upstream_per_try_timeout" "upstream request timeout\n";
    STREAM_TIMEOUT = 504 4 "-" "max_duration_timeout" "the request took longer than it may\n";
    SLOW_REQUEST = 408 4 "-" "request_overall_timeout" "the request took too long to arrive\n";
}

impl Answer {
    /// That nobody was reached, and why.
    pub(super) fn unreached(fault: Fault) -> Self {
        let answer = if fault == Fault::Slow { SLOW_CONNECTION } else { NO_CONNECTION };
        Self { failure: fault.words(), ..answer }
    }

    /// The response; gRPC gets its own shape: a status in fields.
    pub(super) fn response(self, grpc: bool) -> (ResponseHead, &'static [u8]) {
        let mut head = ResponseHead::new(if grpc { 200 } else { self.status });
        if grpc {
            let code = [b'0' + self.grpc / 10, b'0' + self.grpc % 10];
            head.fields.push_known(Known::ContentType, b"application/grpc");
            head.fields.push_known(Known::GrpcStatus, if self.grpc < 10 { &code[1..] } else { &code });
            head.fields.push_known(Known::GrpcMessage, self.text.trim_ascii_end().as_bytes());
            return (head, b"");
        }
        head.fields.push_known(Known::ContentType, b"text/plain");
        if self == OVERFLOW || self == OVERLOAD {
            head.fields.push_known(Known::Overloaded, b"true");
        }
        head.length = Length::Exact(self.text.len() as u64);
        (head, self.text.as_bytes())
    }
}
