//! What filters do with requests of a route: faults on purpose, calls from other origins; and who gets copies.
//!
//! In: a route of a VirtualService. Out: configurations of Envoy's filters by their names, and mirrors. Invariant: a share
//! that is not said is what Istio takes it for: no fault, every copy.

use std::collections::BTreeMap;

use hawser_api::istio::StringMatch;
use hawser_api::istio::virtual_service::{
    Abort, CorsPolicy, Delay, Destination, HttpFaultInjection, HttpRoute, Percent, UnmatchedPreflights,
};
use hawser_api::proto::core::RuntimeFractionalPercent;
use hawser_api::proto::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use hawser_api::proto::envoy::extensions::filters::http::cors::v3::CorsPolicy as Cors;
use hawser_api::proto::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use hawser_api::proto::envoy::r#type::matcher::v3::StringMatcher;
use hawser_api::proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use hawser_api::proto::route::route_action::RequestMirrorPolicy;
use prost_types::Any;

use super::action::cluster;
use super::matching::text;
use crate::compiler::context::Context;
use crate::compiler::proto::{any, duration, exact, filter, name};
use crate::view::Class;

/// Configurations of filters for a route, by the filters' names.
pub(super) fn of_route(http: &HttpRoute, class: Class) -> BTreeMap<String, Any> {
    let mut all = BTreeMap::new();
    if let Some(fault) = &http.fault {
        all.insert(filter::FAULT.to_owned(), any(name::FAULT, &faults(fault)));
    }
    // gRPC programs know faults alone.
    if let Some(policy) = http.cors_policy.as_ref().filter(|_| class != Class::Grpc) {
        all.insert(filter::CORS.to_owned(), any(name::CORS_POLICY, &cors(policy)));
    }
    all
}

/// Who gets copies of a route's requests.
pub(super) fn mirrors(context: &Context<'_>, http: &HttpRoute, namespace: &str, port: u16) -> Vec<RequestMirrorPolicy> {
    if context.view.class == Class::Grpc {
        return Vec::new();
    }
    let one = |to: &Destination, share: Option<FractionalPercent>| {
        let share = share.unwrap_or_else(|| of_hundred(100));
        (share.numerator > 0).then(|| RequestMirrorPolicy {
            cluster: cluster(context, to, namespace, port),
            runtime_fraction: Some(RuntimeFractionalPercent { default_value: Some(share), ..Default::default() }),
        })
    };
    let share = http.mirror_percentage.as_ref().map(of_million).or(http.mirror_percent.map(of_hundred));
    let first = http.mirror.iter().filter_map(|to| one(to, share));
    let others = http.mirrors.iter().filter_map(|m| one(&m.destination, m.percentage.as_ref().map(of_million)));
    first.chain(others).collect()
}

fn faults(fault: &HttpFaultInjection) -> HttpFault {
    HttpFault { delay: fault.delay.as_ref().map(delay), abort: fault.abort.as_ref().map(abort) }
}

fn delay(delay: &Delay) -> FaultDelay {
    let percent = u32::try_from(delay.percent).unwrap_or_default();
    FaultDelay {
        fault_delay_secifier: delay.fixed_delay.map(|d| FaultDelaySecifier::FixedDelay(duration(d.get()))),
        percentage: Some(delay.percentage.as_ref().map_or_else(|| of_hundred(percent), of_million)),
    }
}

fn abort(abort: &Abort) -> FaultAbort {
    let status = abort.http_status.map(ErrorType::HttpStatus);
    FaultAbort {
        error_type: status.or(abort.grpc_code().map(ErrorType::GrpcStatus)),
        percentage: abort.percentage.as_ref().map(of_million),
    }
}

fn cors(policy: &CorsPolicy) -> Cors {
    let origin = |origin: &StringMatch| text(origin);
    let mut origins: Vec<StringMatcher> = policy.allow_origins.iter().filter_map(origin).collect();
    if origins.is_empty() {
        origins = policy.allow_origin.iter().map(|origin| exact(origin)).collect();
    }
    let all = of_hundred(100);
    Cors {
        allow_origin_string_match: origins,
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy.max_age.map(|age| age.get().as_secs().to_string()).unwrap_or_default(),
        allow_credentials: policy.allow_credentials,
        filter_enabled: Some(RuntimeFractionalPercent { default_value: Some(all), ..Default::default() }),
        forward_not_matching_preflights: Some(policy.unmatched_preflights != UnmatchedPreflights::Ignore),
    }
}

fn of_hundred(percent: u32) -> FractionalPercent {
    FractionalPercent { numerator: percent.min(100), denominator: DenominatorType::Hundred as i32 }
}

fn of_million(percent: &Percent) -> FractionalPercent {
    let numerator = (percent.value * 10_000.0).clamp(0.0, 1_000_000.0) as u32;
    FractionalPercent { numerator, denominator: DenominatorType::Million as i32 }
}
