//! Faults on purpose.

use crate::istio::Duration;
use crate::istio::check::{Checker, net, text};
use crate::istio::duration::at_least_1ms;
use crate::istio::error::shown;
use crate::istio::message::message;

message! {
    /// Faults on purpose.
    pub struct HttpFaultInjection [check_fault] {
        /// Wait before going on.
        delay: Option<Delay>,
        /// Answer with an error.
        abort: Option<Abort>,
    }

    /// A wait.
    pub struct Delay [check_delay] {
        /// Old form of `percentage`.
        percent: i32,
        /// How long.
        fixed_delay: Option<Duration>,
        /// Known, and refused: nothing honours it.
        exponential_delay: Option<Duration>,
        /// Share of requests.
        percentage: Option<Percent>,
    }

    /// An error.
    pub struct Abort [check_abort] {
        /// As an HTTP status.
        http_status: Option<u32>,
        /// As a gRPC status, by name or number.
        grpc_status: Option<String>,
        /// As an HTTP/2 error; known, and refused: nothing honours it.
        http2_error: Option<String>,
        /// Share of requests.
        percentage: Option<Percent>,
    }

    /// A share, 0 to 100.
    pub struct Percent [check_percent] {
        /// Of a hundred.
        value: f64,
    }
}

fn check_fault(fault: &HttpFaultInjection, c: &mut Checker) {
    if fault.delay.is_none() && fault.abort.is_none() {
        c.problem("one of delay, abort is required");
    }
}

fn check_delay(delay: &Delay, c: &mut Checker) {
    c.exactly_one(&[
        ("fixedDelay", delay.fixed_delay.is_some()),
        ("exponentialDelay", delay.exponential_delay.is_some()),
    ]);
    at_least_1ms(c, "fixed_delay", delay.fixed_delay);
    if delay.exponential_delay.is_some() {
        c.wrong("exponential_delay", "it is not supported; use fixedDelay");
    }
    c.field("percent", |c| text::tell(c, net::percentage(f64::from(delay.percent))));
}

/// Names of gRPC's statuses, by number.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Abort {
    /// The gRPC status as a number, if there is one.
    pub fn grpc_code(&self) -> Option<u32> {
        let text = self.grpc_status.as_deref()?;
        let named = GRPC.iter().position(|name| *name == text).and_then(|n| u32::try_from(n).ok());
        named.or_else(|| text.parse().ok().filter(|code| *code <= 16))
    }
}

fn check_abort(abort: &Abort, c: &mut Checker) {
    c.exactly_one(&[
        ("httpStatus", abort.http_status.is_some()),
        ("grpcStatus", abort.grpc_status.is_some()),
        ("http2Error", abort.http2_error.is_some()),
    ]);
    if let Some(status) = abort.http_status {
        c.field("http_status", |c| text::tell(c, net::status(status, 200)));
    }
    if let Some(status) = abort.grpc_status.as_ref().filter(|_| abort.grpc_code().is_none()) {
        c.wrong("grpc_status", format!("\"{}\" is not a gRPC status, such as UNAVAILABLE or 14", shown(status)));
    }
    if abort.http2_error.is_some() {
        c.wrong("http2_error", "it is not supported; use httpStatus or grpcStatus");
    }
}

fn check_percent(percent: &Percent, c: &mut Checker) {
    c.field("value", |c| text::tell(c, net::percentage(percent.value)));
}
