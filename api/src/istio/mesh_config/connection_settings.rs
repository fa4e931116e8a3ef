//! Limits of a proxy's connections.

use crate::istio::Duration;
use crate::istio::check::{Checker, net};
use crate::istio::message::{enumeration, message};

message! {
    /// Limits of connections.
    pub struct ConnectionSettings [check_settings] {
        /// Where the proxy stands.
        profile: ConnectionProfile,
        /// Buffer of a connection from a client.
        listener_per_connection_buffer_limit_bytes: Option<i32>,
        /// Buffer of a connection to an endpoint.
        cluster_per_connection_buffer_limit_bytes: Option<i32>,
        /// Longest time without a request.
        http_idle_timeout: Option<Duration>,
        /// Longest life of a connection.
        http_max_connection_duration: Option<Duration>,
        /// For requests in flight when a connection ends.
        http_drain_timeout: Option<Duration>,
        /// For a whole request to arrive.
        http_request_timeout: Option<Duration>,
        /// For a request's headers to arrive.
        http_request_headers_timeout: Option<Duration>,
        /// Longest time without a byte of a request.
        http_stream_idle_timeout: Option<Duration>,
        /// Longest request.
        http_max_stream_duration: Option<Duration>,
        /// Most requests of a connection at once.
        http_max_concurrent_streams: Option<i32>,
        /// HTTP/2's window of a request.
        http2_initial_stream_window_size: Option<i32>,
        /// HTTP/2's window of a connection.
        http2_initial_connection_window_size: Option<i32>,
        /// Headers with `_` in their names.
        http_headers_with_underscores_action: HeadersWithUnderscoresAction,
        /// Merge slashes of paths.
        http_merge_slashes: Option<bool>,
        /// Paths with escaped slashes.
        http_path_with_escaped_slashes_action: PathWithEscapedSlashesAction,
        /// Most connections of a listener.
        listener_connection_limit: Option<i32>,
        /// Most connections from clients.
        global_downstream_connection_limit: Option<i32>,
    }
}

enumeration! {
    /// Where a proxy stands.
    pub enum ConnectionProfile {
        /// Beside a workload.
        Sidecar = "SIDECAR",
        /// At the mesh's edge.
        Edge = "EDGE",
    }

    /// What becomes of headers with `_` in their names.
    pub enum HeadersWithUnderscoresAction {
        /// As `HEADERS_WITH_UNDERSCORES_ALLOW`.
        Unspecified = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
        /// They stay.
        Allow = "HEADERS_WITH_UNDERSCORES_ALLOW",
        /// The request is refused.
        RejectRequest = "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
        /// They are taken out.
        DropHeader = "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
    }

    /// What becomes of paths with escaped slashes.
    pub enum PathWithEscapedSlashesAction {
        /// As `KEEP_UNCHANGED`.
        Unspecified = "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
        /// They stay.
        KeepUnchanged = "KEEP_UNCHANGED",
        /// The request is refused.
        RejectRequest = "REJECT_REQUEST",
        /// The client is redirected.
        UnescapeAndRedirect = "UNESCAPE_AND_REDIRECT",
        /// They are unescaped.
        UnescapeAndForward = "UNESCAPE_AND_FORWARD",
    }
}

fn check_settings(settings: &ConnectionSettings, c: &mut Checker) {
    for (field, value) in [
        ("listener_per_connection_buffer_limit_bytes", settings.listener_per_connection_buffer_limit_bytes),
        ("cluster_per_connection_buffer_limit_bytes", settings.cluster_per_connection_buffer_limit_bytes),
        ("http_max_concurrent_streams", settings.http_max_concurrent_streams),
        ("http2_initial_stream_window_size", settings.http2_initial_stream_window_size),
        ("http2_initial_connection_window_size", settings.http2_initial_connection_window_size),
        ("listener_connection_limit", settings.listener_connection_limit),
        ("global_downstream_connection_limit", settings.global_downstream_connection_limit),
    ] {
        net::count(c, field, value.unwrap_or_default());
    }
}
