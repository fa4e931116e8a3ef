//! What a route says to filters: faults on purpose, calls from other origins.
//!
//! In: configurations by the filters' names. Out: [`Filters`], or nothing where there is none: a route without them costs
//! nothing for them.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_api::proto::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use hawser_api::proto::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use hawser_api::proto::envoy::extensions::filters::http::fault::v3::{HttpFault, fault_abort::ErrorType};
use hawser_api::proto::envoy::r#type::v3::FractionalPercent;

use super::StringMatch;
use super::proto::{At as _, Refused, duration, refuse, unpack};

/// What comes before a route's action.
#[derive(Debug, Default)]
pub struct Filters {
    /// Faults.
    pub fault: Option<Fault>,
    /// Calls from other origins.
    pub cors: Option<Cors>,
}

/// Faults on purpose, each with its share of requests in a million.
#[derive(Debug, Default)]
pub struct Fault {
    /// A wait.
    pub delay: Option<(Duration, u32)>,
    /// An error.
    pub abort: Option<(Abort, u32)>,
}

/// An error on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// A status of HTTP.
    Http(u16),
    /// A status of gRPC.
    Grpc(u8),
}

/// Who may call from another origin.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<StringMatch>,
    /// `access-control-allow-methods`; empty is none.
    pub methods: String,
    /// `access-control-allow-headers`.
    pub headers: String,
    /// `access-control-expose-headers`.
    pub expose: String,
    /// `access-control-max-age`.
    pub max_age: String,
    /// `access-control-allow-credentials`.
    pub credentials: bool,
    /// Whether preflights of other origins go on to the server.
    pub forwards: bool,
}

impl Filters {
    /// Checks what a route says; `None` if it says nothing.
    pub(super) fn new(all: &BTreeMap<String, prost_types::Any>) -> Result<Option<Self>, Refused> {
        let mut filters = Self::default();
        for (name, any) in all {
            if let Some(fault) = unpack::<HttpFault>(any)? {
                filters.fault = Some(self::fault(&fault).at(name)?);
            } else if let Some(policy) = unpack::<CorsPolicy>(any)? {
                filters.cors = cors(&policy).at(name)?;
            } else {
                refuse!("{name}: {:?} is not supported", any.type_url);
            }
        }
        let nothing = filters.fault.is_none() && filters.cors.is_none();
        Ok((!nothing).then_some(filters))
    }
}

impl Cors {
    /// Whether scripts of an origin may call.
    pub fn admits(&self, origin: &str) -> bool {
        self.origins.iter().any(|m| m.matches("*") || m.matches(origin))
    }
}

fn fault(fault: &HttpFault) -> Result<Fault, Refused> {
    let delay = match &fault.delay {
        None => None,
        Some(delay) => {
            let Some(FaultDelaySecifier::FixedDelay(time)) = &delay.fault_delay_secifier else {
                refuse!("delay: only fixed_delay is supported");
            };
            let time = duration("fixed_delay", Some(time))?.unwrap_or_default();
            Some((time, share(delay.percentage.as_ref())))
        }
    };
    let abort = match &fault.abort {
        None => None,
        Some(abort) => {
            let error = match abort.error_type {
                Some(ErrorType::HttpStatus(status)) => match u16::try_from(status) {
                    Ok(status) if (200..600).contains(&status) => Abort::Http(status),
                    _ => refuse!("abort: http_status {status} is no final status"),
                },
                Some(ErrorType::GrpcStatus(status)) => match u8::try_from(status) {
                    Ok(status) if status <= 16 => Abort::Grpc(status),
                    _ => refuse!("abort: grpc_status {status} is unknown"),
                },
                None => refuse!("abort: http_status or grpc_status is missing"),
            };
            Some((error, share(abort.percentage.as_ref())))
        }
    };
    Ok(Fault { delay, abort })
}

fn cors(policy: &CorsPolicy) -> Result<Option<Cors>, Refused> {
    let enabled = policy.filter_enabled.as_ref().map_or(1_000_000, |f| share(f.default_value.as_ref()));
    if enabled == 0 {
        return Ok(None);
    }
    if enabled < 1_000_000 {
        refuse!("filter_enabled: only 0 and 100 percent are supported");
    }
    for value in [&policy.allow_methods, &policy.allow_headers, &policy.expose_headers, &policy.max_age] {
        if http::HeaderValue::from_str(value).is_err() {
            refuse!("{value:?} can't be a header's value");
        }
    }
    Ok(Some(Cors {
        origins: policy.allow_origin_string_match.iter().map(StringMatch::new).collect::<Result<_, _>>()?,
        methods: policy.allow_methods.clone(),
        headers: policy.allow_headers.clone(),
        expose: policy.expose_headers.clone(),
        max_age: policy.max_age.clone(),
        credentials: policy.allow_credentials.unwrap_or(false),
        forwards: policy.forward_not_matching_preflights.unwrap_or(true),
    }))
}

/// A share in a million; absent is none.
pub(super) fn share(percent: Option<&FractionalPercent>) -> u32 {
    let Some(percent) = percent else { return 0 };
    let of = [10_000, 100, 1][usize::try_from(percent.denominator).unwrap_or(0).min(2)];
    percent.numerator.saturating_mul(of).min(1_000_000)
}
