//! One request, from its head to the head of its response: checked, routed, tried, answered.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::codec::{InBody, RequestBody, ResponseBody, Upgrade, Why};
use super::connection::Connection;
use super::finish::{Back, Exchange, InFlight, Logged};
use super::head::{self, Head, Wire};
use super::retry::{Event, Tries};
use super::upgrade;
use crate::balance::{self, Outcome, Tried};
use crate::config::{Action, Cluster, Config, Discovery, Forward, HeaderOps, HttpProtocol, Route};
use crate::listen::Side;
use crate::route::{self, Asked};
use crate::tcp::Active;
use crate::telemetry::{Flow, FlowLabels, Party, Reporter};
use crate::tls::Offer;
use crate::upstream::{self, Lease, Problem, Sender, Target, To};
use crate::worker::chance;

/// Answers a request.
pub(super) async fn handle(
    connection: &Connection,
    request: Request<InBody>,
    client: Option<Upgrade>,
) -> io::Result<Response<ResponseBody>> {
    let (mut parts, body) = request.into_parts();
    let mut exchange = Box::new(Exchange::new(head::is_grpc(&parts.headers)));
    if let Some(flow) = &connection.flow {
        exchange.counts_for(flow.clone());
    }
    let config = connection.worker.config();
    let head = match head::take(connection, &mut parts) {
        Ok(head) => head,
        Err(answer) => return Ok(end(connection, &config, exchange, &parts, answer)),
    };
    if connection.worker.shared.access_log {
        let (host, path) = (String::from_utf8_lossy(head.host.as_bytes()).into_owned(), head.path.to_string());
        exchange.log = Some(Box::new(Logged { method: parts.method.clone(), host, path, upstream: None }));
    }
    let Some(table) = config.routes(&connection.spec) else {
        return Ok(end(connection, &config, exchange, &parts, answer::NO_ROUTE));
    };
    let asked = Asked {
        host: head.host.to_str().unwrap_or_default(),
        path: head.path.path(),
        query: head.path.query(),
        method: &parts.method,
        headers: &parts.headers,
    };
    let Some((host, found)) = route::find(table, &asked, || chance() % 1_000_000) else {
        return Ok(end(connection, &config, exchange, &parts, answer::NO_ROUTE));
    };
    match &found.action {
        Action::Forward(forward) => {
            let attempt_count = host.attempt_count;
            let call = Call { connection, config: &config, route: found, forward, attempt_count };
            call.run(parts, head, body, client, exchange).await
        }
        Action::Respond(status, body) => {
            let mut response = Response::new(ResponseBody::own(body.clone()));
            *response.status_mut() = *status;
            Ok(own(connection, &config, exchange, response, &found.ops))
        }
        Action::Redirect(redirect) => {
            let mut response = Response::new(ResponseBody::own(""));
            *response.status_mut() = redirect.status;
            match HeaderValue::from_str(&route::location(found, redirect, &asked)) {
                Ok(location) => drop(response.headers_mut().insert(LOCATION, location)),
                Err(_) => return Ok(end(connection, &config, exchange, &parts, answer::BAD_REQUEST)),
            }
            Ok(own(connection, &config, exchange, response, &found.ops))
        }
    }
}

/// Ends a request with an answer of our own.
fn end(
    connection: &Connection,
    config: &Arc<Config>,
    mut exchange: Box<Exchange>,
    parts: &Parts,
    answer: Answer,
) -> Response<ResponseBody> {
    let response = answer.response(head::is_grpc(&parts.headers));
    if connection.flow.is_none() {
        exchange.counts_for(nowhere(connection, config, None));
    }
    exchange.answered(answer.status.as_u16(), answer.flags, response.headers());
    response.map(|body| body.on_end(exchange))
}

fn own(
    connection: &Connection,
    config: &Arc<Config>,
    mut exchange: Box<Exchange>,
    mut response: Response<ResponseBody>,
    ops: &HeaderOps,
) -> Response<ResponseBody> {
    route::change(response.headers_mut(), &ops.response);
    if connection.flow.is_none() {
        exchange.counts_for(nowhere(connection, config, None));
    }
    exchange.answered(response.status().as_u16(), "-", response.headers());
    response.map(|body| body.on_end(exchange))
}

/// The flow of requests that reached no endpoint.
fn nowhere(connection: &Connection, config: &Arc<Config>, cluster: Option<&Arc<Cluster>>) -> Rc<Flow> {
    let worker = &connection.worker;
    let key = (0, cluster.map_or(0, |c| Arc::as_ptr(&c.spec) as u64));
    worker.flows.borrow_mut().get(key, || {
        let labels = FlowLabels {
            reporter: Reporter::Source,
            source: worker.own(config),
            destination: Party::default(),
            service: cluster.map_or_else(|| FlowLabels::of(&Default::default()), |c| FlowLabels::of(&c.spec.service)),
            mutual_tls: None,
        };
        Flow::new(labels, worker.registry.clone())
    })
}

/// A request that is forwarded.
struct Call<'c> {
    connection: &'c Connection,
    config: &'c Arc<Config>,
    route: &'c Route,
    forward: &'c Forward,
    attempt_count: bool,
}

/// What one try came to.
enum Tried1 {
    Answered(Box<Response<InBody>>, Lease, Option<Active>),
    Failed(Event, Answer),
}

impl Call<'_> {
    async fn run(
        &self,
        mut parts: Parts,
        mut head: Head,
        body: InBody,
        client: Option<Upgrade>,
        mut exchange: Box<Exchange>,
    ) -> io::Result<Response<ResponseBody>> {
        let weighted = route::cluster(self.forward, chance());
        let Some(cluster) = self.config.clusters.get(&weighted.name) else {
            return Ok(end(self.connection, self.config, exchange, &parts, answer::NO_CLUSTER));
        };
        if self.connection.flow.is_none() {
            exchange.counts_for(nowhere(self.connection, self.config, Some(cluster)));
        }
        let limits = cluster.spec.limits;
        let Some(in_flight) = InFlight::begin(cluster, |c| &c.state.requests, limits.requests) else {
            return Ok(self.refuse(exchange, &parts, answer::OVERFLOW));
        };
        let path = match self.shape(&mut parts, &mut head, &weighted.ops) {
            Some(path) => path,
            None => return Ok(self.refuse(exchange, &parts, answer::BAD_REQUEST)),
        };
        let client = client.filter(|_| self.lets_through(&head));
        let body = RequestBody::new(body);
        let deadline = [self.forward.timeout, self.forward.longest_stream].into_iter().flatten().min();
        let deadline = deadline.map(|d| Instant::from_std(exchange.began()) + d);
        let mut tries = Tries::new(self.forward.retry.as_ref(), &parts.method);
        let mut tried = Tried::new();
        let mut retrying = None;
        loop {
            if self.attempt_count {
                let count = HeaderValue::from(tries.retried() + 1);
                parts.headers.insert(HeaderName::from_static("x-envoy-attempt-count"), count);
            }
            let target = match self.target(cluster, &mut tried) {
                Some(target) => target,
                None => return Ok(self.refuse(exchange, &parts, answer::NO_ENDPOINT)),
            };
            if let Some(log) = &mut exchange.log {
                log.upstream = Some(target.address());
            }
            let again = tries.retried() > 0;
            let attempt = self.attempt(&parts, &head, &path, &target, client.is_some(), again, &body);
            let per_try = self.forward.retry.as_ref().and_then(|r| r.per_try).map(|d| Instant::now() + d);
            let limit = match (deadline, per_try) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let outcome = match limit {
                None => attempt.await,
                Some(limit) => match tokio::time::timeout_at(limit, attempt).await {
                    Ok(outcome) => outcome,
                    Err(_) if deadline.is_some_and(|d| d <= Instant::now()) => {
                        self.blame(&target, Outcome::Status(504));
                        return Ok(self.refuse(exchange, &parts, answer::TIMEOUT));
                    }
                    Err(_) => Tried1::Failed(Event::TryTimeout, answer::TIMEOUT),
                },
            };
            let (event, answer) = match outcome {
                Tried1::Answered(response, lease, active) => {
                    let status = response.status().as_u16();
                    self.blame(&target, Outcome::Status(status));
                    let grpc = response.headers().get("grpc-status").and_then(|v| v.to_str().ok()?.parse().ok());
                    let event = Event::Answer(status, grpc);
                    match self.may_retry(cluster, &mut tries, event, &body, &mut retrying) {
                        Some(wait) => {
                            tried.extend(target.endpoint().map(|e| e.state.id));
                            pause(wait, deadline).await;
                            continue;
                        }
                        None => {
                            drop(retrying);
                            exchange.held = Some((active, in_flight));
                            return Ok(self.answer(
                                *response,
                                lease,
                                &target,
                                client,
                                exchange,
                                body,
                                deadline,
                                &weighted.ops,
                            ));
                        }
                    }
                }
                Tried1::Failed(event, answer) => (event, answer),
            };
            if !matches!(event, Event::Dead) {
                self.blame(&target, if event == Event::TryTimeout { Outcome::Status(504) } else { Outcome::NoAnswer });
                tried.extend(target.endpoint().map(|e| e.state.id));
            }
            match self.may_retry(cluster, &mut tries, event, &body, &mut retrying) {
                Some(wait) => pause(wait, deadline).await,
                None => return Ok(self.refuse(exchange, &parts, answer)),
            }
        }
    }

    fn may_retry(
        &self,
        cluster: &Arc<Cluster>,
        tries: &mut Tries<'_>,
        event: Event,
        body: &RequestBody,
        retrying: &mut Option<InFlight>,
    ) -> Option<Duration> {
        let wait = tries.again(event, body.is_whole(), chance())?;
        if event != Event::Dead && retrying.is_none() {
            *retrying = Some(InFlight::begin(cluster, |c| &c.state.retries, cluster.spec.limits.retries)?);
        }
        self.connection.worker.counters().retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(wait)
    }

    /// The request as the route wants it; returns its path.
    fn shape(&self, parts: &mut Parts, head: &mut Head, ops: &HeaderOps) -> Option<PathAndQuery> {
        let path = match route::rewritten(self.route, self.forward, head.path.path(), head.path.query()) {
            Some(new) => PathAndQuery::try_from(new).ok()?,
            None => head.path.clone(),
        };
        route::change(&mut parts.headers, &ops.request);
        route::change(&mut parts.headers, &self.route.ops.request);
        let rewritten = parts.headers.remove(http::header::HOST).or_else(|| self.forward.host_rewrite.clone());
        if let Some(new) = rewritten {
            if self.forward.forwarded_host {
                parts.headers.append(HeaderName::from_static("x-forwarded-host"), head.host.clone());
            }
            head.host = new;
        }
        Some(path)
    }

    fn lets_through(&self, head: &Head) -> bool {
        let Some(wanted) = head.upgrade.as_ref().and_then(|u| u.to_str().ok()) else { return false };
        let own = self.forward.upgrades.iter().find(|(kind, _)| kind.eq_ignore_ascii_case(wanted));
        own.map_or_else(
            || self.connection.spec.upgrades.iter().any(|u| u.eq_ignore_ascii_case(wanted)),
            |(_, yes)| *yes,
        )
    }

    fn target(&self, cluster: &Arc<Cluster>, tried: &mut Tried) -> Option<Target> {
        if cluster.spec.discovery == Discovery::Original {
            return Some(Target { cluster: cluster.clone(), to: To::Address(self.connection.to) });
        }
        let now = crate::clock::now_ms();
        let endpoint = balance::choose(cluster, now, tried, chance).or_else(|| {
            // All were tried: one of them is better than none.
            tried.clear();
            balance::choose(cluster, now, tried, chance)
        })?;
        Some(Target { cluster: cluster.clone(), to: To::Endpoint(endpoint.clone()) })
    }

    #[allow(clippy::too_many_arguments)]
    async fn attempt(
        &self,
        parts: &Parts,
        head: &Head,
        path: &PathAndQuery,
        target: &Target,
        upgrade: bool,
        again: bool,
        body: &RequestBody,
    ) -> Tried1 {
        let active = target.endpoint().map(Active::new);
        let offer = offer(target, head, upgrade);
        let fresh = upgrade || again;
        let mut lease = match upstream::lease(&self.connection.worker, self.config, target, offer, fresh).await {
            Ok(lease) => lease,
            Err(Problem::Limit) => return Tried1::Failed(Event::TryTimeout, answer::OVERFLOW),
            Err(Problem::Connect | Problem::NoSecret) => {
                return Tried1::Failed(Event::NoConnection, answer::NO_CONNECTION);
            }
        };
        let wire = match (&lease.sender, lease.hawser) {
            (Sender::Http1(_), _) => Wire::Http1,
            (Sender::Http2(_), true) => Wire::Hawser,
            (Sender::Http2(_), false) => Wire::Http2,
        };
        let Some(request) = head::outgoing(parts, head, path, wire, upgrade, body.clone()) else {
            return Tried1::Failed(Event::Answer(400, None), answer::BAD_REQUEST);
        };
        let sent = match &mut lease.sender {
            Sender::Http1(connection) => connection.send(request).await,
            Sender::Http2(connection) => {
                lease.stream = Some(upstream::Stream::begin(connection));
                connection.send(request).await
            }
        };
        match sent {
            Ok(response) => Tried1::Answered(Box::new(response), lease, active),
            Err(failed) => match failed.why {
                _ if failed.unsent.is_some() && lease.reused => Tried1::Failed(Event::Dead, answer::BROKEN),
                _ if failed.unsent.is_some() => Tried1::Failed(Event::NoConnection, answer::NO_CONNECTION),
                Why::Refused => Tried1::Failed(Event::Refused, answer::BROKEN),
                Why::Broken => Tried1::Failed(Event::Broken, answer::BROKEN),
                Why::Nonsense => Tried1::Failed(Event::Answer(502, None), answer::NONSENSE),
            },
        }
    }

    /// Takes an endpoint's answer or silence into account.
    fn blame(&self, target: &Target, outcome: Outcome) {
        let Some(endpoint) = target.endpoint() else { return };
        if balance::report(&target.cluster, endpoint, outcome, crate::clock::now_ms()) {
            let counters = self.connection.worker.counters();
            counters.ejections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::info!(cluster = %target.cluster.spec.name, endpoint = %endpoint.spec.address, "endpoint ejected");
        }
    }

    fn refuse(&self, exchange: Box<Exchange>, parts: &Parts, answer: Answer) -> Response<ResponseBody> {
        let mut exchange = exchange;
        let response = answer.response(head::is_grpc(&parts.headers));
        exchange.answered(answer.status.as_u16(), answer.flags, response.headers());
        response.map(|body| body.on_end(exchange))
    }

    #[allow(clippy::too_many_arguments)]
    fn answer(
        &self,
        mut response: Response<InBody>,
        lease: Lease,
        target: &Target,
        client: Option<Upgrade>,
        mut exchange: Box<Exchange>,
        body: RequestBody,
        deadline: Option<Instant>,
        ops: &HeaderOps,
    ) -> Response<ResponseBody> {
        let worker = &self.connection.worker;
        if self.connection.side == Side::Outbound && target.endpoint().is_some() {
            exchange.counts_for(self.flow(target));
        }
        let status = response.status();
        let protocol = response.headers().get(http::header::UPGRADE).cloned();
        head::clean_response(response.headers_mut());
        route::change(response.headers_mut(), &ops.response);
        route::change(response.headers_mut(), &self.route.ops.response);
        exchange.answered(status.as_u16(), "-", response.headers());
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(protocol)) = (client, protocol) else {
                exchange.answered(502, answer::NONSENSE.flags, response.headers());
                return answer::NONSENSE.response(false).map(|body| body.on_end(exchange));
            };
            let headers = response.headers_mut();
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(http::header::UPGRADE, protocol);
            let server = hyper::upgrade::on(&mut response);
            upgrade::carry(worker, client, server, exchange);
            return response.map(|_| ResponseBody::own(""));
        }
        exchange.back = Some(match lease.sender {
            Sender::Http1(connection) => Back::Http1 {
                worker: worker.clone(),
                connection,
                key: lease.key,
                timeout: target.cluster.spec.idle_timeout,
                body,
            },
            Sender::Http2(_) => Back::Http2(lease.stream),
        });
        *response.version_mut() = http::Version::HTTP_11;
        response.map(|body| ResponseBody::handed_on(body, deadline).on_end(exchange))
    }

    /// What requests to an endpoint count for.
    fn flow(&self, target: &Target) -> Rc<Flow> {
        let worker = &self.connection.worker;
        let Some(endpoint) = target.endpoint() else {
            return nowhere(self.connection, self.config, Some(&target.cluster));
        };
        // The flow keeps the workload, so its place tells it from others.
        let key = (endpoint.state.id, Arc::as_ptr(&endpoint.spec.workload) as u64);
        worker.flows.borrow_mut().get(key, || {
            let labels = FlowLabels {
                reporter: Reporter::Source,
                source: worker.own(self.config),
                destination: Party {
                    workload: endpoint.spec.workload.clone(),
                    principal: endpoint.spec.identity.clone(),
                },
                service: FlowLabels::of(&target.cluster.spec.service),
                mutual_tls: None,
            };
            Flow::new(labels, worker.registry.clone())
        })
    }
}

/// What is offered to an endpoint.
fn offer(target: &Target, head: &Head, upgrade: bool) -> Offer {
    let http2 = match target.cluster.spec.protocol {
        HttpProtocol::AsReceived => head.http2,
        HttpProtocol::Http1 => false,
        HttpProtocol::Http2 => true,
    };
    match (http2, target.is_hawser()) {
        _ if upgrade => Offer::Http1,
        (false, false) => Offer::Http1,
        (true, false) => Offer::Http2,
        (false, true) => Offer::HawserHttp1,
        (true, true) => Offer::HawserHttp2,
    }
}

async fn pause(wait: Duration, deadline: Option<Instant>) {
    if !wait.is_zero() {
        let until = Instant::now() + wait;
        tokio::time::sleep_until(deadline.map_or(until, |d| d.min(until))).await;
    }
}
