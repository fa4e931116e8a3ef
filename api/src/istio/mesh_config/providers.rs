//! Extension providers: services that other resources name for authorization, traces, metrics and logs.

mod authorization;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::istio::check::Checker;
use crate::istio::message::{enumeration, message};
use crate::istio::{Duration, Port};

message! {
    /// A provider: a name, and one of the others.
    pub struct ExtensionProvider [check_provider] {
        /// What it is called.
        name: String,
        /// Authorization over HTTP.
        envoy_ext_authz_http: Option<ExtAuthzHttp>,
        /// Authorization over gRPC.
        envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
        /// Traces to Zipkin.
        zipkin: Option<ZipkinTracing>,
        /// Known, and without effect.
        lightstep: Option<LightstepTracing>,
        /// Traces to Datadog.
        datadog: Option<DatadogTracing>,
        /// Traces and logs to Stackdriver.
        stackdriver: Option<Stackdriver>,
        /// Known, and without effect.
        opencensus: Option<OpenCensusAgent>,
        /// Traces to SkyWalking.
        skywalking: Option<SkyWalkingTracing>,
        /// Traces by OpenTelemetry.
        opentelemetry: Option<OpenTelemetryTracing>,
        /// Metrics for Prometheus.
        prometheus: Option<PrometheusMetrics>,
        /// Access logs to a file.
        envoy_file_access_log: Option<FileAccessLog>,
        /// Access logs of HTTP over gRPC.
        envoy_http_als: Option<HttpGrpcLog>,
        /// Access logs of TCP over gRPC.
        envoy_tcp_als: Option<TcpGrpcLog>,
        /// Access logs by OpenTelemetry.
        envoy_otel_als: Option<OpenTelemetryLog>,
        /// Secrets.
        sds: Option<SdsProvider>,
    }

    /// How much of a request's body is sent along.
    pub struct ExtAuthzRequestBody {
        /// Most bytes.
        max_request_bytes: u32,
        /// Of a longer body, its beginning.
        allow_partial_message: bool,
        /// As bytes.
        pack_as_bytes: bool,
    }

    /// Authorization over HTTP.
    pub struct ExtAuthzHttp [authorization::http] {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// For the answer.
        timeout: Option<Duration>,
        /// What stands before the path.
        path_prefix: String,
        /// Without an answer, allow.
        fail_open: bool,
        /// Route again after it changed headers.
        clear_route_cache: bool,
        /// Status without an answer.
        status_on_error: String,
        /// Old form of `includeRequestHeadersInCheck`.
        include_headers_in_check: Vec<String>,
        /// Headers sent along.
        include_request_headers_in_check: Vec<String>,
        /// Headers added.
        include_additional_headers_in_check: BTreeMap<String, String>,
        /// The body.
        include_request_body_in_check: Option<ExtAuthzRequestBody>,
        /// Headers of the answer that go on to the service.
        headers_to_upstream_on_allow: Vec<String>,
        /// Headers of a refusal that go to the client.
        headers_to_downstream_on_deny: Vec<String>,
        /// Headers of a consent that go to the client.
        headers_to_downstream_on_allow: Vec<String>,
    }

    /// Authorization over gRPC.
    pub struct ExtAuthzGrpc [authorization::grpc] {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// For the answer.
        timeout: Option<Duration>,
        /// Without an answer, allow.
        fail_open: bool,
        /// Route again after it changed headers.
        clear_route_cache: bool,
        /// Status without an answer.
        status_on_error: String,
        /// The body.
        include_request_body_in_check: Option<ExtAuthzRequestBody>,
    }

    /// Traces to Zipkin.
    pub struct ZipkinTracing {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Longest tag; 0 is 256.
        max_tag_length: u32,
        /// Short trace ids.
        enable64bit_trace_id: bool,
        /// Path of the collector.
        path: String,
        /// How traces are passed on.
        trace_context_option: TraceContextOption,
        /// For the collector's answer.
        timeout: Option<Duration>,
        /// Further headers.
        headers: Vec<ProviderHeader>,
    }

    /// Traces to Lightstep.
    pub struct LightstepTracing {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Token.
        access_token: String,
        /// Longest tag.
        max_tag_length: u32,
    }

    /// Traces to Datadog.
    pub struct DatadogTracing {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Longest tag.
        max_tag_length: u32,
    }

    /// Traces to SkyWalking.
    pub struct SkyWalkingTracing {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Token.
        access_token: String,
    }

    /// Traces and logs to Stackdriver.
    pub struct Stackdriver {
        /// To standard output.
        debug: bool,
        /// Limit.
        max_number_of_attributes: Option<i64>,
        /// Limit.
        max_number_of_annotations: Option<i64>,
        /// Limit.
        max_number_of_message_events: Option<i64>,
        /// Longest tag.
        max_tag_length: u32,
        /// Logs.
        logging: Option<StackdriverLogging>,
    }

    /// Logs to Stackdriver.
    pub struct StackdriverLogging {
        /// Labels, as CEL expressions.
        labels: BTreeMap<String, String>,
    }

    /// Traces to an OpenCensus agent.
    pub struct OpenCensusAgent {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// How traces are passed on.
        context: Vec<OpenCensusContext>,
        /// Longest tag.
        max_tag_length: u32,
    }

    /// Metrics for Prometheus.
    pub struct PrometheusMetrics {}

    /// Access logs to a file.
    pub struct FileAccessLog {
        /// The file.
        path: String,
        /// What a line looks like.
        log_format: Option<LogFormat>,
        /// Leave out what is empty.
        omit_empty_values: bool,
    }

    /// What a log entry looks like.
    pub struct LogFormat {
        /// As text.
        text: Option<String>,
        /// As JSON.
        labels: Option<Map<String, Value>>,
    }

    /// Access logs of HTTP over gRPC.
    pub struct HttpGrpcLog {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Name of the log.
        log_name: String,
        /// What else is logged.
        filter_state_objects_to_log: Vec<String>,
        /// What else is logged.
        additional_request_headers_to_log: Vec<String>,
        /// What else is logged.
        additional_response_headers_to_log: Vec<String>,
        /// What else is logged.
        additional_response_trailers_to_log: Vec<String>,
    }

    /// Access logs of TCP over gRPC.
    pub struct TcpGrpcLog {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Name of the log.
        log_name: String,
        /// What else is logged.
        filter_state_objects_to_log: Vec<String>,
    }

    /// Access logs by OpenTelemetry.
    pub struct OpenTelemetryLog {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Name of the log.
        log_name: String,
        /// What an entry looks like.
        log_format: Option<OpenTelemetryLogFormat>,
    }

    /// What a log entry looks like.
    pub struct OpenTelemetryLogFormat {
        /// The body.
        text: String,
        /// Attributes.
        labels: Option<Map<String, Value>>,
    }

    /// Traces by OpenTelemetry.
    pub struct OpenTelemetryTracing {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// Longest tag.
        max_tag_length: u32,
        /// Over HTTP.
        http: Option<HttpService>,
        /// Over gRPC.
        grpc: Option<GrpcService>,
        /// What is told of the proxy.
        resource_detectors: Option<ResourceDetectors>,
        /// What is told of the service.
        service_attribute_enrichment: ServiceAttributeEnrichment,
        /// Dynatrace decides what is sampled.
        dynatrace_sampler: Option<DynatraceSampler>,
    }

    /// Dynatrace decides what is sampled.
    pub struct DynatraceSampler {
        /// Tenant.
        tenant: String,
        /// Cluster.
        cluster_id: i32,
        /// If Dynatrace does not answer.
        root_spans_per_minute: u32,
        /// Its API.
        http_service: Option<DynatraceApi>,
    }

    /// Dynatrace's API.
    pub struct DynatraceApi {
        /// The service.
        service: String,
        /// Its port.
        port: Port,
        /// How it is called.
        http: Option<HttpService>,
    }

    /// Secrets.
    pub struct SdsProvider {
        /// Name.
        name: String,
        /// The service.
        service: String,
        /// Its port.
        port: Port,
    }

    /// A call over HTTP.
    pub struct HttpService {
        /// Path.
        path: String,
        /// For the answer.
        timeout: Option<Duration>,
        /// Further headers.
        headers: Vec<ProviderHeader>,
    }

    /// A call over gRPC.
    pub struct GrpcService {
        /// For the answer.
        timeout: Option<Duration>,
        /// Further headers.
        initial_metadata: Vec<ProviderHeader>,
    }

    /// A header.
    pub struct ProviderHeader [check_header] {
        /// Name.
        name: String,
        /// Value.
        value: Option<String>,
        /// Value, from a variable of the environment.
        env_name: Option<String>,
    }

    /// What is told of the proxy.
    pub struct ResourceDetectors {
        /// From the environment.
        environment: Option<EnvironmentResourceDetector>,
        /// From Dynatrace's files.
        dynatrace: Option<DynatraceResourceDetector>,
    }

    /// From the environment.
    pub struct EnvironmentResourceDetector {}

    /// From Dynatrace's files.
    pub struct DynatraceResourceDetector {}
}

enumeration! {
    /// How traces are passed on to Zipkin.
    pub enum TraceContextOption {
        /// B3's headers.
        B3 = "USE_B3",
        /// And W3C's.
        B3WithW3c = "USE_B3_WITH_W3C_PROPAGATION",
    }

    /// How traces are passed on with OpenCensus.
    pub enum OpenCensusContext {
        /// Not at all.
        Unspecified = "UNSPECIFIED",
        /// W3C's headers.
        W3c = "W3C_TRACE_CONTEXT",
        /// gRPC's.
        GrpcBin = "GRPC_BIN",
        /// Google's.
        CloudTrace = "CLOUD_TRACE_CONTEXT",
        /// B3's.
        B3 = "B3",
    }

    /// What is told of the service.
    pub enum ServiceAttributeEnrichment {
        /// Istio's canonical service.
        IstioCanonical = "ISTIO_CANONICAL",
        /// OpenTelemetry's conventions.
        OtelSemanticConventions = "OTEL_SEMANTIC_CONVENTIONS",
    }
}

fn check_provider(provider: &ExtensionProvider, c: &mut Checker) {
    c.required("name", !provider.name.is_empty());
    if provider.envoy_ext_authz_http.is_some() || provider.envoy_ext_authz_grpc.is_some() {
        authorization::name(c, &provider.name);
    }
    c.exactly_one(&[
        ("envoyExtAuthzHttp", provider.envoy_ext_authz_http.is_some()),
        ("envoyExtAuthzGrpc", provider.envoy_ext_authz_grpc.is_some()),
        ("zipkin", provider.zipkin.is_some()),
        ("lightstep", provider.lightstep.is_some()),
        ("datadog", provider.datadog.is_some()),
        ("stackdriver", provider.stackdriver.is_some()),
        ("opencensus", provider.opencensus.is_some()),
        ("skywalking", provider.skywalking.is_some()),
        ("opentelemetry", provider.opentelemetry.is_some()),
        ("prometheus", provider.prometheus.is_some()),
        ("envoyFileAccessLog", provider.envoy_file_access_log.is_some()),
        ("envoyHttpAls", provider.envoy_http_als.is_some()),
        ("envoyTcpAls", provider.envoy_tcp_als.is_some()),
        ("envoyOtelAls", provider.envoy_otel_als.is_some()),
        ("sds", provider.sds.is_some()),
    ]);
}

fn check_header(header: &ProviderHeader, c: &mut Checker) {
    c.required("name", !header.name.is_empty());
    c.exactly_one(&[("value", header.value.is_some()), ("envName", header.env_name.is_some())]);
}
