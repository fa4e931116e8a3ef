//! How a connection that carries HTTP is served: `HttpConnectionManager`, checked.

use std::sync::Arc;
use std::time::Duration;

use hawser_api::proto::core::http_protocol_options::HeadersWithUnderscoresAction;
use hawser_api::proto::envoy::extensions::filters::http::router::v3::Router;
use hawser_api::proto::http_connection_manager::{self as proto, HttpConnectionManager};

use super::access_log::access_logs;
use super::guard::Guard;
use super::proto::{At as _, Refused, refuse, timeout, unpack};
use super::route::RouteTable;
use crate::access_log::AccessLog;

/// A checked `HttpConnectionManager`.
#[derive(Debug)]
pub struct HttpSpec {
    /// Where requests go.
    pub routes: RouteSource,
    /// What refuses requests, in the order in which it acts.
    pub guards: Vec<Guard>,
    /// Which HTTP is spoken.
    pub codec: Codec,
    /// What `x-forwarded-client-cert` becomes.
    pub xfcc: Xfcc,
    /// Upgrades that are let through, lower case.
    pub upgrades: Vec<String>,
    /// Whether `.` and `..` are resolved in paths.
    pub normalize_path: bool,
    /// Whether repeated slashes become one.
    pub merge_slashes: bool,
    /// What is done with `%2f` and `%5c`.
    pub escapes: Escapes,
    /// Whether a missing `x-request-id` is made up.
    pub request_id: bool,
    /// Whether the peer's address is added to `x-forwarded-for`.
    pub remote_address: bool,
    /// Whether HTTP/1.0 is served.
    pub http10: bool,
    /// What `host` an HTTP/1.0 request without one gets.
    pub http10_host: Option<String>,
    /// The most headers of a request.
    pub max_headers: usize,
    /// The head must be there after so long.
    pub head_timeout: Duration,
    /// The whole request must be there after so long.
    pub request_timeout: Option<Duration>,
    /// A connection without a request is closed after so long.
    pub idle_timeout: Duration,
    /// Whether a header whose name has an underscore makes a request refused.
    pub refuse_underscores: bool,
    /// Concurrent streams of an HTTP/2 connection.
    pub max_streams: u32,
    /// Access logs of its requests.
    pub access_log: Vec<Arc<AccessLog>>,
}

/// Where the routes of a connection are.
#[derive(Debug)]
pub enum RouteSource {
    /// A resource of its own.
    Named(Arc<str>),
    /// With the listener.
    Inline(Arc<RouteTable>),
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// What comes.
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What `x-forwarded-client-cert` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xfcc {
    /// Taken away.
    Sanitize,
    /// Left over mTLS, taken away else.
    Forward,
    /// Left, with the caller added, over mTLS; taken away else.
    Append,
    /// The caller alone over mTLS; taken away else.
    Set,
    /// Left, whoever says it.
    AlwaysForward,
}

/// What is done with escaped slashes in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// They stay.
    Keep,
    /// The request is refused.
    Reject,
}

impl HttpSpec {
    pub(super) fn new(hcm: &HttpConnectionManager) -> Result<Self, Refused> {
        use proto::http_connection_manager as kinds;
        let mut guards = Vec::new();
        for filter in &hcm.http_filters {
            if let Some(guard) = Guard::of_http(filter).at("http_filters")? {
                guards.push(guard);
                continue;
            }
            let Some(proto::http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else { continue };
            if unpack::<Router>(any)?.is_none() && !filter.is_optional {
                refuse!("http_filters: {:?} is not supported", any.type_url);
            }
        }
        let routes = match &hcm.route_specifier {
            Some(kinds::RouteSpecifier::Rds(rds)) if !rds.route_config_name.is_empty() => {
                RouteSource::Named(rds.route_config_name.as_str().into())
            }
            Some(kinds::RouteSpecifier::RouteConfig(config)) => {
                RouteSource::Inline(Arc::new(RouteTable::new(config).at("route_config")?))
            }
            _ => refuse!("rds or route_config is missing"),
        };
        let codec = match kinds::CodecType::try_from(hcm.codec_type) {
            Ok(kinds::CodecType::Auto) => Codec::Auto,
            Ok(kinds::CodecType::Http1) => Codec::Http1,
            Ok(kinds::CodecType::Http2) => Codec::Http2,
            _ => refuse!("codec_type {} is not supported", hcm.codec_type),
        };
        let xfcc = match kinds::ForwardClientCertDetails::try_from(hcm.forward_client_cert_details) {
            Ok(kinds::ForwardClientCertDetails::Sanitize) => Xfcc::Sanitize,
            Ok(kinds::ForwardClientCertDetails::ForwardOnly) => Xfcc::Forward,
            Ok(kinds::ForwardClientCertDetails::AppendForward) => Xfcc::Append,
            Ok(kinds::ForwardClientCertDetails::SanitizeSet) => Xfcc::Set,
            Ok(kinds::ForwardClientCertDetails::AlwaysForwardOnly) => Xfcc::AlwaysForward,
            Err(_) => refuse!("forward_client_cert_details {} is unknown", hcm.forward_client_cert_details),
        };
        let escapes = match kinds::PathWithEscapedSlashesAction::try_from(hcm.path_with_escaped_slashes_action) {
            Ok(
                kinds::PathWithEscapedSlashesAction::ImplementationSpecificDefault
                | kinds::PathWithEscapedSlashesAction::KeepUnchanged,
            ) => Escapes::Keep,
            Ok(kinds::PathWithEscapedSlashesAction::RejectRequest) => Escapes::Reject,
            _ => refuse!("path_with_escaped_slashes_action: only KEEP_UNCHANGED and REJECT_REQUEST are supported"),
        };
        let common = hcm.common_http_protocol_options.unwrap_or_default();
        let http1 = hcm.http_protocol_options.clone().unwrap_or_default();
        let http2 = hcm.http2_protocol_options.unwrap_or_default();
        let refuse_underscores = match HeadersWithUnderscoresAction::try_from(common.headers_with_underscores_action) {
            Ok(HeadersWithUnderscoresAction::Allow) => false,
            Ok(HeadersWithUnderscoresAction::RejectRequest) => true,
            _ => refuse!("headers_with_underscores_action: only ALLOW and REJECT_REQUEST are supported"),
        };
        let upgrades = hcm.upgrade_configs.iter().filter(|u| u.enabled.unwrap_or(true));
        Ok(Self {
            routes,
            guards,
            codec,
            xfcc,
            upgrades: upgrades.map(|u| u.upgrade_type.to_ascii_lowercase()).collect(),
            normalize_path: hcm.normalize_path.unwrap_or(false),
            merge_slashes: hcm.merge_slashes,
            escapes,
            request_id: hcm.generate_request_id.unwrap_or(true),
            remote_address: hcm.use_remote_address.unwrap_or(false),
            http10: http1.accept_http_10,
            http10_host: Some(http1.default_host_for_http_10).filter(|h| !h.is_empty()),
            max_headers: common.max_headers_count.map_or(100, |n| n.clamp(1, 1000) as usize),
            head_timeout: timeout("request_headers_timeout", hcm.request_headers_timeout.as_ref())?
                .unwrap_or(Duration::from_secs(30)),
            request_timeout: timeout("request_timeout", hcm.request_timeout.as_ref())?,
            idle_timeout: timeout("idle_timeout", common.idle_timeout.as_ref())?.unwrap_or(Duration::from_secs(3600)),
            refuse_underscores,
            max_streams: http2.max_concurrent_streams.unwrap_or(1000).clamp(1, 10_000),
            access_log: access_logs(&hcm.access_log)?,
        })
    }
}
