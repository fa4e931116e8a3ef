//! How connections to endpoints are spoken on and how long they last.

use std::time::Duration;

use hawser_api::proto::cluster as proto;
use hawser_api::proto::core::Http2ProtocolOptions;
use hawser_api::proto::envoy::extensions::upstreams::http::v3::http_protocol_options::OutlierDetection;
use hawser_api::proto::envoy::extensions::upstreams::http::v3::{HttpProtocolOptions, http_protocol_options};

use super::super::Refused;
use super::super::proto::{duration, refuse, timeout, unpack};
use super::HttpProtocol;

/// What a cluster says of its connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which HTTP is spoken.
    pub protocol: HttpProtocol,
    /// An idle connection is kept so long.
    pub idle_timeout: Duration,
    /// A connection takes no more requests after so long.
    pub longest: Option<Duration>,
    /// The most requests of a connection; 0: no limit.
    pub requests_per_connection: u32,
    /// The most requests at once of a connection of HTTP/2; 0: what the server takes.
    pub streams: u32,
    /// After which silence the other end of a connection of HTTP/2 is asked whether it lives, and how long it has to answer.
    pub pings: Option<(Duration, Duration)>,
    /// Probes of TCP, if they are not as always.
    pub keepalive: Option<Keepalive>,
    /// In TLS with servers of others, the host that a request names is asked for.
    pub asks_for_host: bool,
    /// And their certificate must be for it.
    pub host_in_certificate: bool,
}

/// Probes of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first.
    pub time: Duration,
    /// Time between them.
    pub interval: Duration,
    /// Unanswered ones before the connection is dead.
    pub probes: Option<u32>,
}

const IDLE: Duration = Duration::from_secs(60);

impl Options {
    /// Of a cluster that says nothing.
    pub(super) fn of(protocol: HttpProtocol) -> Self {
        Self {
            protocol,
            idle_timeout: IDLE,
            longest: None,
            requests_per_connection: 0,
            streams: 0,
            pings: None,
            keepalive: None,
            asks_for_host: false,
            host_in_certificate: false,
        }
    }
}

/// Reads what a cluster says, and which answers count as errors.
pub(super) fn options(cluster: &proto::Cluster) -> Result<(Options, Option<OutlierDetection>), Refused> {
    use http_protocol_options::UpstreamProtocolOptions as Upstream;
    use http_protocol_options::explicit_http_config::ProtocolConfig;
    // As in Envoy: a server is only known to speak HTTP/2 if somebody says so.
    let mut options = Options::of(HttpProtocol::Http1);
    let mut errors = None;
    for any in cluster.typed_extension_protocol_options.values() {
        let Some(message) = unpack::<HttpProtocolOptions>(any)? else {
            refuse!("typed_extension_protocol_options: {:?} is not supported", any.type_url);
        };
        options.protocol = match &message.upstream_protocol_options {
            Some(Upstream::ExplicitHttpConfig(c)) => match &c.protocol_config {
                Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                    of_http2(http2, &mut options)?;
                    HttpProtocol::Http2
                }
                _ => HttpProtocol::Http1,
            },
            Some(Upstream::UseDownstreamProtocolConfig(c)) => {
                if let Some(http2) = &c.http2_protocol_options {
                    of_http2(http2, &mut options)?;
                }
                HttpProtocol::AsReceived
            }
            None => HttpProtocol::AsReceived,
        };
        if let Some(common) = &message.common_http_protocol_options {
            options.idle_timeout = duration("idle_timeout", common.idle_timeout.as_ref())?
                .unwrap_or(IDLE)
                .clamp(Duration::from_millis(100), Duration::from_secs(3600));
            options.requests_per_connection = common.max_requests_per_connection.unwrap_or(0);
            options.longest = timeout("max_connection_duration", common.max_connection_duration.as_ref())?;
        }
        let names = message.upstream_http_protocol_options.unwrap_or_default();
        (options.asks_for_host, options.host_in_certificate) = (names.auto_sni, names.auto_san_validation);
        errors = message.outlier_detection;
    }
    let keepalive = cluster.upstream_connection_options.as_ref().and_then(|o| o.tcp_keepalive.as_ref());
    options.keepalive = keepalive.map(|k| {
        let seconds = |n: Option<u32>, default: u32| Duration::from_secs(n.unwrap_or(default).clamp(1, 32_767).into());
        Keepalive {
            // What is not said is as the kernel has it.
            time: seconds(k.keepalive_time, 7200),
            interval: seconds(k.keepalive_interval, 75),
            probes: k.keepalive_probes.map(|n| n.clamp(1, 127)),
        }
    });
    Ok((options, errors))
}

fn of_http2(http2: &Http2ProtocolOptions, options: &mut Options) -> Result<(), Refused> {
    options.streams = http2.max_concurrent_streams.unwrap_or(0);
    if let Some(keepalive) = &http2.connection_keepalive
        && let Some(interval) = timeout("connection_keepalive.interval", keepalive.interval.as_ref())?
    {
        let answer = timeout("connection_keepalive.timeout", keepalive.timeout.as_ref())?;
        options.pings = Some((interval, answer.unwrap_or(Duration::from_secs(20))));
    }
    Ok(())
}
