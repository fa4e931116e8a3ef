//! Traces, as a proxy's own settings have them (the older way; see also Telemetry).

use std::collections::BTreeMap;

use super::OpenCensusContext;
use crate::istio::check::{Checker, net, text};
use crate::istio::destination_rule::ClientTlsSettings;
use crate::istio::message::message;
use crate::istio::telemetry::{EnvironmentTag, HeaderTag, LiteralTag};

message! {
    /// Traces.
    pub struct ProxyTracing [check_tracing] {
        /// To Zipkin.
        zipkin: Option<TracerAddress>,
        /// To Lightstep.
        lightstep: Option<LightstepTracer>,
        /// To Datadog.
        datadog: Option<TracerAddress>,
        /// To Stackdriver.
        stackdriver: Option<StackdriverTracer>,
        /// To an OpenCensus agent.
        open_census_agent: Option<OpenCensusTracer>,
        /// Further tags.
        custom_tags: BTreeMap<String, ProxyCustomTag>,
        /// Longest tag of a path; 0 is 256.
        max_path_tag_length: u32,
        /// Share of requests that are sampled, in percent.
        sampling: f64,
        /// TLS towards the collector.
        tls_settings: Option<ClientTlsSettings>,
        /// Istio's own tags.
        enable_istio_tags: Option<bool>,
    }

    /// Where a collector is.
    pub struct TracerAddress [check_address] {
        /// `host:port`.
        address: String,
    }

    /// Lightstep.
    pub struct LightstepTracer {
        /// `host:port`.
        address: String,
        /// Token.
        access_token: String,
    }

    /// Stackdriver.
    pub struct StackdriverTracer {
        /// To standard output.
        debug: bool,
        /// Limit.
        max_number_of_attributes: Option<i64>,
        /// Limit.
        max_number_of_annotations: Option<i64>,
        /// Limit.
        max_number_of_message_events: Option<i64>,
    }

    /// An OpenCensus agent.
    pub struct OpenCensusTracer {
        /// Where it is.
        address: String,
        /// How traces are passed on.
        context: Vec<OpenCensusContext>,
    }

    /// A tag: one of the three.
    pub struct ProxyCustomTag [check_tag] {
        /// A fixed text.
        literal: Option<LiteralTag>,
        /// A variable of the proxy's environment.
        environment: Option<EnvironmentTag>,
        /// A header of the request.
        header: Option<HeaderTag>,
    }
}

fn check_tracing(tracing: &ProxyTracing, c: &mut Checker) {
    c.at_most_one(&[
        ("zipkin", tracing.zipkin.is_some()),
        ("lightstep", tracing.lightstep.is_some()),
        ("datadog", tracing.datadog.is_some()),
        ("stackdriver", tracing.stackdriver.is_some()),
        ("openCensusAgent", tracing.open_census_agent.is_some()),
    ]);
    c.field("sampling", |c| text::tell(c, net::percentage(tracing.sampling)));
}

fn check_address(tracer: &TracerAddress, c: &mut Checker) {
    // A variable of the environment may stand for the address, as in $(HOST_IP):8126.
    if !tracer.address.is_empty() && !tracer.address.contains("$(") {
        c.field("address", |c| text::tell(c, net::host_port(&tracer.address)));
    }
}

fn check_tag(tag: &ProxyCustomTag, c: &mut Checker) {
    c.exactly_one(&[
        ("literal", tag.literal.is_some()),
        ("environment", tag.environment.is_some()),
        ("header", tag.header.is_some()),
    ]);
}
