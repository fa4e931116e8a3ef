//! Telemetry: traces, metrics and access logs of workloads.

use std::collections::BTreeMap;

use super::check::{Checker, net, text};
use super::duration::at_least_1ms;
use super::message::{enumeration, message};
use super::{Duration, LabelSelector, PolicyTargetReference};

message! {
    /// Traces, metrics and access logs of workloads.
    pub struct Telemetry [check_telemetry] {
        /// Workloads it is for; none is all.
        selector: Option<LabelSelector>,
        /// What it is attached to.
        target_ref: Option<PolicyTargetReference>,
        /// What it is attached to.
        target_refs: Vec<PolicyTargetReference>,
        /// Traces.
        tracing: Vec<Tracing>,
        /// Metrics.
        metrics: Vec<Metrics>,
        /// Access logs.
        access_logging: Vec<AccessLogging>,
    }

    /// Traces.
    pub struct Tracing [check_tracing] {
        /// Which side.
        r#match: Option<TracingSelector>,
        /// Where to.
        providers: Vec<ProviderRef>,
        /// Share of requests that are sampled.
        random_sampling_percentage: Option<f64>,
        /// Pass traces on, but report none.
        disable_span_reporting: Option<bool>,
        /// Further tags.
        custom_tags: BTreeMap<String, CustomTag>,
        /// Take the decision from the request's id.
        use_request_id_for_trace_sampling: Option<bool>,
        /// Istio's own tags.
        enable_istio_tags: Option<bool>,
        /// Pass no trace on.
        disable_context_propagation: Option<bool>,
    }

    /// Which side of a call is traced.
    pub struct TracingSelector {
        /// Which side.
        mode: WorkloadMode,
    }

    /// An extension provider of the mesh's configuration.
    pub struct ProviderRef [check_provider] {
        /// Name.
        name: String,
    }

    /// A tag: one of the four.
    pub struct CustomTag [check_tag] {
        /// A fixed text.
        literal: Option<LiteralTag>,
        /// A variable of the proxy's environment.
        environment: Option<EnvironmentTag>,
        /// A header of the request.
        header: Option<HeaderTag>,
        /// A format, as access logs have it.
        formatter: Option<FormatterTag>,
    }

    /// A fixed text.
    pub struct LiteralTag [check_literal] {
        /// The text.
        value: String,
    }

    /// A variable of the proxy's environment.
    pub struct EnvironmentTag [check_environment] {
        /// Its name.
        name: String,
        /// If it is not set.
        default_value: String,
    }

    /// A header of the request.
    pub struct HeaderTag [check_header] {
        /// Its name.
        name: String,
        /// If it is not there.
        default_value: String,
    }

    /// A format, as access logs have it.
    pub struct FormatterTag [check_formatter] {
        /// The format.
        value: String,
    }

    /// Metrics.
    pub struct Metrics [check_metrics] {
        /// Where to.
        providers: Vec<ProviderRef>,
        /// Changes of single metrics, in order.
        overrides: Vec<MetricsOverrides>,
        /// Time between reports.
        reporting_interval: Option<Duration>,
    }

    /// A change of metrics.
    pub struct MetricsOverrides {
        /// Which metrics.
        r#match: Option<MetricSelector>,
        /// None of them.
        disabled: Option<bool>,
        /// Changes of their tags.
        tag_overrides: BTreeMap<String, TagOverride>,
    }

    /// Which metrics.
    pub struct MetricSelector [check_metric] {
        /// One of Istio's.
        metric: Option<IstioMetric>,
        /// Any other, by name.
        custom_metric: Option<String>,
        /// Which side.
        mode: WorkloadMode,
    }

    /// A change of a tag.
    pub struct TagOverride [check_override] {
        /// What to do.
        operation: TagOperation,
        /// The new value, a CEL expression.
        value: String,
    }

    /// Access logs.
    pub struct AccessLogging {
        /// Which side.
        r#match: Option<LogSelector>,
        /// Where to.
        providers: Vec<ProviderRef>,
        /// No logs.
        disabled: Option<bool>,
        /// Which requests.
        filter: Option<LogFilter>,
    }

    /// Which side of a call is logged.
    pub struct LogSelector {
        /// Which side.
        mode: WorkloadMode,
    }

    /// Which requests are logged.
    pub struct LogFilter [check_filter] {
        /// A CEL expression.
        expression: String,
    }
}

enumeration! {
    /// Which side of a call.
    pub enum WorkloadMode {
        /// Both.
        ClientAndServer = "CLIENT_AND_SERVER",
        /// The caller's.
        Client = "CLIENT",
        /// The callee's.
        Server = "SERVER",
    }

    /// Istio's metrics.
    pub enum IstioMetric {
        /// All of them.
        All = "ALL_METRICS",
        /// `istio_requests_total`.
        RequestCount = "REQUEST_COUNT",
        /// `istio_request_duration_milliseconds`.
        RequestDuration = "REQUEST_DURATION",
        /// `istio_request_bytes`.
        RequestSize = "REQUEST_SIZE",
        /// `istio_response_bytes`.
        ResponseSize = "RESPONSE_SIZE",
        /// `istio_tcp_connections_opened_total`.
        TcpOpenedConnections = "TCP_OPENED_CONNECTIONS",
        /// `istio_tcp_connections_closed_total`.
        TcpClosedConnections = "TCP_CLOSED_CONNECTIONS",
        /// `istio_tcp_sent_bytes_total`.
        TcpSentBytes = "TCP_SENT_BYTES",
        /// `istio_tcp_received_bytes_total`.
        TcpReceivedBytes = "TCP_RECEIVED_BYTES",
        /// `istio_request_messages_total`.
        GrpcRequestMessages = "GRPC_REQUEST_MESSAGES",
        /// `istio_response_messages_total`.
        GrpcResponseMessages = "GRPC_RESPONSE_MESSAGES",
    }

    /// What to do with a tag.
    pub enum TagOperation {
        /// Set it.
        Upsert = "UPSERT",
        /// Take it out.
        Remove = "REMOVE",
    }
}

fn check_telemetry(telemetry: &Telemetry, c: &mut Checker) {
    let Telemetry { selector, target_ref, target_refs, .. } = telemetry;
    super::selector::check_either(c, selector.as_ref(), target_ref.as_ref(), target_refs);
}

fn check_tracing(tracing: &Tracing, c: &mut Checker) {
    if let Some(percentage) = tracing.random_sampling_percentage {
        c.field("random_sampling_percentage", |c| text::tell(c, net::percentage(percentage)));
    }
    c.field("custom_tags", |c| {
        if tracing.custom_tags.contains_key("") {
            c.problem("a tag's name is empty");
        }
    });
}

fn check_provider(provider: &ProviderRef, c: &mut Checker) {
    c.required("name", !provider.name.is_empty());
}

fn check_tag(tag: &CustomTag, c: &mut Checker) {
    c.exactly_one(&[
        ("literal", tag.literal.is_some()),
        ("environment", tag.environment.is_some()),
        ("header", tag.header.is_some()),
        ("formatter", tag.formatter.is_some()),
    ]);
}

fn check_literal(tag: &LiteralTag, c: &mut Checker) {
    c.required("value", !tag.value.is_empty());
}

fn check_environment(tag: &EnvironmentTag, c: &mut Checker) {
    c.required("name", !tag.name.is_empty());
}

fn check_header(tag: &HeaderTag, c: &mut Checker) {
    c.required("name", !tag.name.is_empty());
}

fn check_formatter(tag: &FormatterTag, c: &mut Checker) {
    c.required("value", !tag.value.is_empty());
}

fn check_metrics(metrics: &Metrics, c: &mut Checker) {
    at_least_1ms(c, "reporting_interval", metrics.reporting_interval);
}

fn check_metric(metric: &MetricSelector, c: &mut Checker) {
    c.at_most_one(&[("metric", metric.metric.is_some()), ("customMetric", metric.custom_metric.is_some())]);
    if metric.custom_metric.as_deref() == Some("") {
        c.required("custom_metric", false);
    }
}

fn check_override(change: &TagOverride, c: &mut Checker) {
    match change.operation {
        TagOperation::Upsert if change.value.is_empty() => {
            c.wrong("value", "value must be set when operation is UPSERT")
        }
        TagOperation::Remove if !change.value.is_empty() => {
            c.wrong("value", "value must not be set when operation is REMOVE");
        }
        _ => {}
    }
}

fn check_filter(filter: &LogFilter, c: &mut Checker) {
    c.required("expression", !filter.expression.is_empty());
}
