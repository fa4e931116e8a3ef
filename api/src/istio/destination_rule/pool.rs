//! How many connections and requests, and when an endpoint is left out.

use crate::istio::Duration;
use crate::istio::check::{Checker, net, text};
use crate::istio::duration::at_least_1ms;
use crate::istio::message::{enumeration, message};

message! {
    /// How many connections and requests.
    pub struct ConnectionPoolSettings {
        /// For TCP, and HTTP's connections.
        tcp: Option<TcpSettings>,
        /// For HTTP.
        http: Option<HttpSettings>,
    }

    /// For TCP, and HTTP's connections.
    pub struct TcpSettings [check_tcp] {
        /// Most connections; 0 is no limit.
        max_connections: i32,
        /// Time to connect; unset is 10 s.
        connect_timeout: Option<Duration>,
        /// Probes of idle connections.
        tcp_keepalive: Option<TcpKeepalive>,
        /// Longest life of a connection.
        max_connection_duration: Option<Duration>,
        /// Longest time without a byte; 0 is no limit.
        idle_timeout: Option<Duration>,
    }

    /// Probes of idle connections.
    pub struct TcpKeepalive [check_keepalive] {
        /// Unanswered ones before the connection is dead.
        probes: u32,
        /// Idle time before the first.
        time: Option<Duration>,
        /// Time between them.
        interval: Option<Duration>,
    }

    /// For HTTP.
    pub struct HttpSettings [check_http] {
        /// Most requests that wait for a connection; 0 is no limit.
        http1_max_pending_requests: i32,
        /// Most requests at once; 0 is no limit.
        http2_max_requests: i32,
        /// Most requests of one connection; 0 is no limit, 1 turns keep-alive off.
        max_requests_per_connection: i32,
        /// Most tries at once; 0 is no limit.
        max_retries: i32,
        /// Longest time without a request.
        idle_timeout: Option<Duration>,
        /// HTTP/1.1 as HTTP/2.
        h2_upgrade_policy: H2UpgradePolicy,
        /// Speak what the caller speaks.
        use_client_protocol: bool,
        /// Most streams of one connection; 0 is the peer's limit.
        max_concurrent_streams: i32,
        /// PINGs.
        http2_keep_alive: Option<Http2KeepAlive>,
    }

    /// HTTP/2's PINGs.
    pub struct Http2KeepAlive [check_h2_keepalive] {
        /// Time between them.
        interval: Option<Duration>,
        /// Time for the answer.
        timeout: Option<Duration>,
    }

    /// When an endpoint is left out.
    pub struct OutlierDetection [check_outlier] {
        /// Known, and without effect.
        consecutive_errors: i32,
        /// Count errors of our own apart.
        split_external_local_origin_errors: bool,
        /// Errors of our own in a row; unset is 5.
        consecutive_local_origin_failures: Option<u32>,
        /// 502, 503 and 504 in a row; 0 is never.
        consecutive_gateway_errors: Option<u32>,
        /// 5xx in a row; unset is 5, 0 is never.
        consecutive5xx_errors: Option<u32>,
        /// Time between looks; unset is 10 s.
        interval: Option<Duration>,
        /// Shortest time out; unset is 30 s.
        base_ejection_time: Option<Duration>,
        /// Largest share that is out at once; 0 is 10.
        max_ejection_percent: i32,
        /// Below this share of healthy ones nothing is left out.
        min_health_percent: i32,
        /// Statuses that count as errors.
        outlier_detection_http_error_codes: Vec<u32>,
    }

    /// Share of requests that may be tries.
    pub struct RetryBudget [check_budget] {
        /// In percent of the requests; unset is 20.
        percent: Option<f64>,
        /// So many may always be; 0 is 3.
        min_retry_concurrency: u32,
        /// Time over which it is counted.
        budget_interval: Option<Duration>,
    }
}

enumeration! {
    /// HTTP/1.1 as HTTP/2.
    pub enum H2UpgradePolicy {
        /// As the mesh says.
        Default = "DEFAULT",
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }
}

fn check_tcp(tcp: &TcpSettings, c: &mut Checker) {
    net::count(c, "max_connections", tcp.max_connections);
    at_least_1ms(c, "connect_timeout", tcp.connect_timeout);
    at_least_1ms(c, "max_connection_duration", tcp.max_connection_duration);
}

fn check_keepalive(keepalive: &TcpKeepalive, c: &mut Checker) {
    at_least_1ms(c, "time", keepalive.time);
    at_least_1ms(c, "interval", keepalive.interval);
}

fn check_http(http: &HttpSettings, c: &mut Checker) {
    for (field, value) in [
        ("http1_max_pending_requests", http.http1_max_pending_requests),
        ("http2_max_requests", http.http2_max_requests),
        ("max_requests_per_connection", http.max_requests_per_connection),
        ("max_retries", http.max_retries),
        ("max_concurrent_streams", http.max_concurrent_streams),
    ] {
        net::count(c, field, value);
    }
    at_least_1ms(c, "idle_timeout", http.idle_timeout);
    if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade && http.use_client_protocol {
        c.wrong("use_client_protocol", "only one of useClientProtocol and h2UpgradePolicy: UPGRADE can be set");
    }
}

fn check_h2_keepalive(keepalive: &Http2KeepAlive, c: &mut Checker) {
    at_least_1ms(c, "interval", keepalive.interval);
    at_least_1ms(c, "timeout", keepalive.timeout);
}

fn check_outlier(outlier: &OutlierDetection, c: &mut Checker) {
    at_least_1ms(c, "interval", outlier.interval);
    at_least_1ms(c, "base_ejection_time", outlier.base_ejection_time);
    for (field, value) in
        [("max_ejection_percent", outlier.max_ejection_percent), ("min_health_percent", outlier.min_health_percent)]
    {
        c.field(field, |c| text::tell(c, net::percentage(f64::from(value))));
    }
    c.each("outlier_detection_http_error_codes", &outlier.outlier_detection_http_error_codes, |c, code| {
        text::tell(c, net::status(*code, 100));
    });
    if !outlier.split_external_local_origin_errors && outlier.consecutive_local_origin_failures.is_some_and(|n| n > 0) {
        c.wrong("consecutive_local_origin_failures", "it needs splitExternalLocalOriginErrors: true");
    }
}

fn check_budget(budget: &RetryBudget, c: &mut Checker) {
    if let Some(percent) = budget.percent {
        c.field("percent", |c| text::tell(c, net::percentage(percent)));
    }
}
