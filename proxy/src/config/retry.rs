//! When a request is tried again, and how often.
//!
//! In: `RetryPolicy`. Out: [`RetryPolicy`], whose words were read; [`crate::http`] decides by it.

use std::time::Duration;

use hawser_api::proto::route as proto;

use super::proto::{Refused, refuse, timeout};

/// Retries.
#[derive(Debug)]
pub struct RetryPolicy {
    /// After what.
    pub on: RetryOn,
    /// How many.
    pub most: u32,
    /// The time of each try.
    pub per_try: Option<Duration>,
    /// Whether endpoints that failed are left out.
    pub other_hosts: bool,
    /// Whether priorities that failed are left out, so that what is far away is tried too.
    pub other_priorities: bool,
    /// Wait before the first retry; doubles.
    pub wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

/// After what a request is tried again.
#[derive(Clone, Debug, Default)]
pub struct RetryOn {
    /// The connection failed.
    pub connect_failure: bool,
    /// The server refused the stream.
    pub refused_stream: bool,
    /// The connection broke before an answer.
    pub reset: bool,
    /// The same, before anything of the request was sent.
    pub unsent: bool,
    /// Status 502, 503, 504.
    pub gateway_error: bool,
    /// Status 500 and above.
    pub server_error: bool,
    /// Status 409.
    pub conflict: bool,
    /// The answer says that it was refused for its rate.
    pub rate_limited: bool,
    /// These statuses.
    pub statuses: Vec<u16>,
    /// These statuses of gRPC in the head of an answer.
    pub grpc: Vec<u8>,
}

/// Checks a policy.
pub(super) fn retry(r: &proto::RetryPolicy) -> Result<RetryPolicy, Refused> {
    let mut on = RetryOn::default();
    for word in r.retry_on.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.unsent = true,
            "envoy-ratelimited" => on.rate_limited = true,
            "gateway-error" => on.gateway_error = true,
            "5xx" => on.server_error = true,
            "retriable-4xx" => on.conflict = true,
            "retriable-status-codes" => {
                on.statuses.extend(r.retriable_status_codes.iter().filter_map(|c| u16::try_from(*c).ok()));
            }
            "cancelled" => on.grpc.push(1),
            "deadline-exceeded" => on.grpc.push(4),
            "resource-exhausted" => on.grpc.push(8),
            "internal" => on.grpc.push(13),
            "unavailable" => on.grpc.push(14),
            status => match status.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => on.statuses.push(status),
                _ => refuse!("retry_on: {word:?} is not supported"),
            },
        }
    }
    let back_off = r.retry_back_off.as_ref();
    let wait = timeout("base_interval", back_off.and_then(|b| b.base_interval.as_ref()))?;
    let wait = wait.unwrap_or(Duration::from_millis(25));
    let longest = timeout("max_interval", back_off.and_then(|b| b.max_interval.as_ref()))?;
    Ok(RetryPolicy {
        on,
        most: r.num_retries.unwrap_or(1).min(20),
        per_try: timeout("per_try_timeout", r.per_try_timeout.as_ref())?,
        other_hosts: !r.retry_host_predicate.is_empty(),
        other_priorities: r.retry_priority.is_some(),
        wait,
        longest_wait: longest.unwrap_or(wait * 10),
    })
}
