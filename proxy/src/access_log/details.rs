//! Who made a response, and why: the words of Envoy's `%RESPONSE_CODE_DETAILS%`.

use std::fmt;
use std::sync::Arc;

/// Who made a response, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Details {
    /// The endpoint.
    ViaUpstream,
    /// A route that says what is answered, a redirect among them.
    DirectResponse,
    /// No route takes it.
    RouteNotFound,
    /// The route's cluster is not known.
    ClusterNotFound,
    /// The cluster has no endpoint to offer.
    NoHealthyUpstream,
    /// The endpoint did not answer in time.
    ResponseTimeout,
    /// The endpoint did not answer in the time of one try.
    PerTryTimeout,
    /// The exchange lasted longer than a route allows.
    MaxStreamDuration,
    /// The exchange with the endpoint broke before it answered.
    ResetBefore(Reset),
    /// It broke within the answer.
    ResetAfter(Reset),
    /// The client went away.
    DownstreamDisconnect,
    /// The client gave the stream up (HTTP/2).
    DownstreamReset,
    /// Nothing moved for too long.
    StreamIdleTimeout,
    /// The head took too long to come.
    HeaderTimeout,
    /// The request took too long to come.
    RequestTimeout,
    /// The request's body is larger than may be kept.
    PayloadTooLarge,
    /// The request's head is too large.
    HeadersTooLarge,
    /// It has too many fields.
    TooManyHeaders,
    /// The request names no host.
    MissingHost,
    /// The path can't be made plain.
    PathNormalization,
    /// A header has an underscore in its name.
    UnexpectedUnderscore,
    /// An HTTP/1 request that breaks its rules.
    Http1Malformed,
    /// An HTTP/2 stream that breaks its rules.
    Http2Malformed,
    /// An upgrade that no route lets through.
    UpgradeRefused,
    /// CONNECT is not served.
    ConnectRefused,
    /// An authorization policy refused it: the policy, empty if none allowed it.
    Denied(Arc<str>),
    /// A token is missing or not valid: why.
    Unauthenticated(Arc<str>),
    /// A fault that was asked for.
    FaultAbort,
    /// Too many requests.
    RateLimited,
    /// The proxy has too much to do.
    Overload,
    /// Something else, in words of Envoy.
    Other(&'static str),
}

/// How an exchange with an endpoint broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// No connection could be made.
    ConnectionFailure,
    /// Connecting took too long.
    ConnectionTimeout,
    /// The connection ended.
    ConnectionTermination,
    /// A limit of the cluster was reached.
    Overflow,
    /// The endpoint gave the stream up.
    RemoteReset,
    /// The endpoint refused the stream before it did anything.
    RemoteRefused,
    /// We gave it up.
    LocalReset,
    /// What the endpoint said is no HTTP.
    ProtocolError,
}

impl Reset {
    fn text(self) -> &'static str {
        match self {
            Self::ConnectionFailure => "remote_connection_failure",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionTermination => "connection_termination",
            Self::Overflow => "overflow",
            Self::RemoteReset => "remote_reset",
            Self::RemoteRefused => "remote_refused_stream_reset",
            Self::LocalReset => "local_reset",
            Self::ProtocolError => "protocol_error",
        }
    }
}

impl Details {
    /// The parts it is written in: a word, and what stands behind it in brackets of its own kind.
    pub(super) fn parts(&self) -> (&'static str, &str, &'static str) {
        let whole = |text| (text, "", "");
        match self {
            Self::ViaUpstream => whole("via_upstream"),
            Self::DirectResponse => whole("direct_response"),
            Self::RouteNotFound => whole("route_not_found"),
            Self::ClusterNotFound => whole("cluster_not_found"),
            Self::NoHealthyUpstream => whole("no_healthy_upstream"),
            Self::ResponseTimeout => whole("response_timeout"),
            Self::PerTryTimeout => whole("upstream_per_try_timeout"),
            Self::MaxStreamDuration => whole("max_duration_timeout"),
            Self::ResetBefore(why) => ("upstream_reset_before_response_started{", why.text(), "}"),
            Self::ResetAfter(why) => ("upstream_reset_after_response_started{", why.text(), "}"),
            Self::DownstreamDisconnect => whole("downstream_remote_disconnect"),
            Self::DownstreamReset => whole("http2.remote_reset"),
            Self::StreamIdleTimeout => whole("stream_idle_timeout"),
            Self::HeaderTimeout => whole("request_header_timeout"),
            Self::RequestTimeout => whole("request_overall_timeout"),
            Self::PayloadTooLarge => whole("request_payload_too_large"),
            Self::HeadersTooLarge => whole("http1.headers_too_large"),
            Self::TooManyHeaders => whole("http1.too_many_headers"),
            Self::MissingHost => whole("missing_host_header"),
            Self::PathNormalization => whole("path_normalization_failed"),
            Self::UnexpectedUnderscore => whole("http1.unexpected_underscore"),
            Self::Http1Malformed => whole("http1.codec_error"),
            Self::Http2Malformed => whole("http2.violation.of.messaging.rule"),
            Self::UpgradeRefused => whole("upgrade_failed"),
            Self::ConnectRefused => whole("connect_not_served"),
            Self::Denied(policy) if policy.is_empty() => whole("rbac_access_denied_matched_policy[none]"),
            Self::Denied(policy) => ("rbac_access_denied_matched_policy[", policy, "]"),
            Self::Unauthenticated(why) => ("jwt_authn_access_denied{", why, "}"),
            Self::FaultAbort => whole("fault_filter_abort"),
            Self::RateLimited => whole("request_rate_limited"),
            Self::Overload => whole("overload"),
            Self::Other(text) => whole(text),
        }
    }

    /// Whether why TLS failed belongs to it.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self, Self::ResetBefore(Reset::ConnectionFailure | Reset::ConnectionTermination))
    }
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, inner, end) = self.parts();
        write!(f, "{word}{inner}{end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_in_envoys_words() {
        for (details, text) in [
            (Details::ViaUpstream, "via_upstream"),
            (Details::ResponseTimeout, "response_timeout"),
            (
                Details::ResetBefore(Reset::ConnectionFailure),
                "upstream_reset_before_response_started{remote_connection_failure}",
            ),
            (Details::ResetAfter(Reset::RemoteReset), "upstream_reset_after_response_started{remote_reset}"),
            (Details::Denied("".into()), "rbac_access_denied_matched_policy[none]"),
            (Details::Denied("ns/deny".into()), "rbac_access_denied_matched_policy[ns/deny]"),
        ] {
            assert_eq!(details.to_string(), text);
        }
    }
}
