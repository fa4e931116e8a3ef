//! What comes before a route's action: faults on purpose, calls from other origins.
//!
//! In: a request, what its route says. Out: that it goes on, or its answer. The order is Istio's: faults first, so that
//! an answer that is a fault says nothing of origins.

use std::sync::Arc;

use http::Method;

use super::answer::{Answer, FAULT};
use super::channel::{Broken, Server};
use super::finish::Exchange;
use super::forward::pause;
use super::message::{Fields, Length, ResponseHead, grpc_status_of};
use crate::access_log::Flags;
use crate::config::{Abort, Action, Cors, Fault, Filters, Route};
use crate::worker::chance;

/// What becomes of a request.
pub(super) enum Verdict {
    /// It goes on.
    Pass,
    /// An answer of our own.
    Answer(Answer),
    /// A response without a body.
    Respond(ResponseHead),
    /// The client has gone.
    Gone(Broken),
}

/// Does what `filters` of `route` say.
pub(super) async fn apply<S: Server>(
    exchange: &mut Exchange,
    route: &Arc<Route>,
    filters: &Filters,
    server: &mut S,
) -> Verdict {
    if let Some(fault) = &filters.fault {
        match inject(exchange, fault, server).await {
            Verdict::Pass => {}
            verdict => return verdict,
        }
    }
    // What is not forwarded is for everybody, as in Envoy.
    let forwards = matches!(route.action, Action::Forward(_));
    let cors = filters.cors.as_ref().filter(|_| forwards);
    cors.map_or(Verdict::Pass, |cors| cross(exchange, route, cors))
}

async fn inject<S: Server>(exchange: &mut Exchange, fault: &Fault, server: &mut S) -> Verdict {
    let drawn = |share: u32| chance() % 1_000_000 < share;
    if let Some((time, share)) = fault.delay
        && drawn(share)
    {
        exchange.is_marked(Flags::DI);
        exchange.is_delayed(time);
        if let Some(why) = pause(server, time, None).await {
            return Verdict::Gone(why);
        }
    }
    match fault.abort {
        Some((abort, share)) if drawn(share) => Verdict::Answer(match abort {
            Abort::Http(status) => Answer { status, grpc: grpc_status_of(status), ..FAULT },
            Abort::Grpc(status) => Answer { grpc: status, ..FAULT },
        }),
        _ => Verdict::Pass,
    }
}

fn cross(exchange: &mut Exchange, route: &Arc<Route>, cors: &Cors) -> Verdict {
    let fields = &exchange.head.fields;
    let Some(origin) = fields.get("origin").filter(|origin| !origin.is_empty()) else { return Verdict::Pass };
    let admitted = std::str::from_utf8(origin).is_ok_and(|origin| cors.admits(origin));
    let asks = fields.get("access-control-request-method").is_some_and(|method| !method.is_empty());
    let preflight = exchange.head.method == Method::OPTIONS && asks;
    if !preflight || !admitted && cors.forwards {
        if admitted {
            let origin = origin.into();
            exchange.crosses(route.clone(), origin);
        }
        return Verdict::Pass;
    }
    let mut response = ResponseHead::new(200);
    response.length = Length::Exact(0);
    if admitted {
        expose(cors, origin, &mut response.fields);
    }
    for (name, value) in [
        ("access-control-allow-methods", &cors.methods),
        ("access-control-allow-headers", &cors.headers),
        ("access-control-max-age", &cors.max_age),
    ] {
        if !value.is_empty() {
            response.fields.push(name.as_bytes(), value.as_bytes());
        }
    }
    Verdict::Respond(response)
}

/// Lets scripts of an origin see a response.
pub(super) fn expose(cors: &Cors, origin: &[u8], fields: &mut Fields) {
    if !cors.expose.is_empty() {
        fields.set("access-control-expose-headers", cors.expose.as_bytes());
    }
    fields.set("access-control-allow-origin", origin);
    if cors.credentials {
        fields.set("access-control-allow-credentials", b"true");
    }
}
