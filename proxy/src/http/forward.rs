//! One request, from its head to the end of its response: checked, routed, tried, answered.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::answer::{self, Answer};
use super::attempt::{Limits, Outcome, attempt};
use super::channel::{Broken, Held, Pump, Server, Then};
use super::connection::Connection;
use super::filters::{self, Verdict};
use super::finish::{Exchange, InFlight};
use super::guarded::Guarded;
use super::head::{self, Shape, Switch};
use super::message::{Known, Length, RequestHead, ResponseHead, Version};
use super::own::{refuse, send, send_bytes};
use super::retry::{Event, Tries};
use super::{guarded, h1, mirror, relay, switch};
use crate::access_log::{Details, Flags, Record};
use crate::balance::{self, Outcome as Blame, Tried};
use crate::config::{Action, Cluster, Config, Discovery, Forward, HeaderOps, HttpProtocol, Redirect, Route};
use crate::listen::Side;
use crate::route::{self, Asked};
use crate::tcp::Active;
use crate::telemetry::{Flow, FlowLabels, Party, Reporter, RequestResult};
use crate::tls::Offer;
use crate::upstream::{Purpose, Sender, Target, To};
use crate::worker::chance;

/// Serves a request.
pub(super) async fn handle<S: Server>(connection: &Rc<Connection>, head: RequestHead, server: &mut S) -> Then {
    let mut exchange = Exchange::new(connection, head);
    let config = connection.worker.config();
    let config: &Arc<Config> = &config;
    let mut shape = match head::take(connection, &mut exchange.head) {
        Ok(shape) => shape,
        Err(answer) => {
            count_nowhere(&mut exchange, config);
            return send(server, exchange, answer).await;
        }
    };
    if shape.grpc {
        exchange.is_grpc();
    }
    if connection.worker.shared.overload.is_on() {
        count_nowhere(&mut exchange, config);
        return send(server, exchange, answer::OVERLOAD).await;
    }
    let mut held = None;
    if connection.is_guarded() {
        match Box::pin(guarded::guard(connection, config, &mut exchange, &shape, server)).await {
            Guarded::Passes(None) => {}
            Guarded::Passes(some) => {
                // Whoever held its body back was asked for it.
                shape.expects = false;
                held = some;
            }
            Guarded::Refused(refused) => {
                count_nowhere(&mut exchange, config);
                return Box::pin(refuse(server, exchange, *refused)).await;
            }
            Guarded::Gone(why) => {
                count_nowhere(&mut exchange, config);
                return gone(server, exchange, why).await;
            }
        }
    }
    let found = config.routes(&connection.spec).and_then(|table| {
        let asked = asked(&exchange.head);
        route::find(table, &asked, || chance() % 1_000_000)
    });
    // A tunnel leads somewhere, or nowhere: no answer of a route is one.
    let found = found.filter(|(_, r)| shape.switch != Switch::Connect || matches!(r.action, Action::Forward(_)));
    let Some((host, found)) = found else {
        count_nowhere(&mut exchange, config);
        return send(server, exchange, answer::NO_ROUTE).await;
    };
    exchange.takes(found);
    if let Some(filters) = &found.filters {
        match Box::pin(filters::apply(&mut exchange, found, filters, server)).await {
            Verdict::Pass => {}
            Verdict::Answer(answer) => {
                count_nowhere(&mut exchange, config);
                return send(server, exchange, answer).await;
            }
            Verdict::Respond(response) => {
                count_nowhere(&mut exchange, config);
                exchange.answered("-", &response, "cors_response");
                return send_bytes(server, exchange, response, b"").await;
            }
            Verdict::Gone(why) => {
                count_nowhere(&mut exchange, config);
                exchange.client_gone(why);
                return Then::Next;
            }
        }
    }
    match &found.action {
        Action::Forward(forward) => {
            if let Err(answer) = head::lets_through(connection, forward, &shape.switch) {
                count_nowhere(&mut exchange, config);
                return send(server, exchange, answer).await;
            }
            let attempt_count = host.attempt_count;
            let call = Call { connection, config, route: found, forward, shape, attempt_count };
            call.run(server, exchange, held).await
        }
        Action::Respond(status, body) => {
            let mut response = ResponseHead::new(status.as_u16());
            if !body.is_empty() {
                response.length = Length::Exact(body.len() as u64);
                response.fields.push_known(Known::ContentType, b"text/plain");
            }
            own(server, exchange, config, (response, body), &found.ops).await
        }
        Action::Redirect(redirect) => {
            let response = redirected(&exchange.head, found, redirect);
            own(server, exchange, config, (response, b""), &found.ops).await
        }
    }
}

/// Ends a request whose client went away, or sent what is no HTTP.
async fn gone<S: Server>(server: &mut S, mut exchange: Box<Exchange>, why: Broken) -> Then {
    if matches!(why, Broken::Malformed(_) | Broken::TooLarge) {
        // It is still there, and hears what it did wrong.
        return Box::pin(send(server, exchange, answer::BAD_REQUEST)).await;
    }
    exchange.client_gone(why);
    Then::Next
}

/// Counts and logs what came and was no request.
pub(super) fn rejected(connection: &Connection, status: u16, details: &'static str) {
    let config = connection.worker.config();
    let flow = connection.flow.clone().unwrap_or_else(|| nowhere(connection, &config, None));
    // A client that is slow, or names no host, breaks no rule of the protocol.
    let quiet = matches!(details, "request_header_timeout" | "missing_host_header");
    let flags = if quiet { Flags::NONE } else { Flags::DPE };
    flow.request(RequestResult { grpc: false, status, grpc_status: None, flags: flags.short() }, 0);
    let logs = connection.logs();
    if !logs.is_empty() {
        // Of HTTP/2, what is malformed gets no answer: its stream is reset.
        let (version, status, sent) = match details.starts_with("http2.") {
            true => (Some(Version::Http2), if status == 400 { 0 } else { status }, 0),
            false if details == "missing_host_header" => (Some(Version::Http11), status, 0),
            false => (Some(Version::Http11), status, h1::reason(status).len() as u64),
        };
        let details = Details::Other(details);
        let new = Record::new(connection.downstream(), SystemTime::now(), Duration::ZERO);
        connection.worker.lines.write(logs, &Record { version, status, sent, flags, details: Some(&details), ..new });
    }
}

fn asked(head: &RequestHead) -> Asked<'_> {
    let (path, query) = head.path_and_query();
    // A tunnel has no path: whatever takes all paths takes it.
    let path = if path.is_empty() { "/" } else { path };
    Asked { host: head.authority(), path, query, method: &head.method, headers: &head.fields }
}

fn redirected(head: &RequestHead, route: &Route, redirect: &Redirect) -> ResponseHead {
    let mut response = ResponseHead::new(redirect.status.as_u16());
    response.length = Length::Exact(0);
    let location = route::location(route, redirect, &asked(head));
    response.fields.push_known(Known::Location, location.as_bytes());
    response
}

/// Answers as a route says.
async fn own<S: Server>(
    server: &mut S,
    mut exchange: Box<Exchange>,
    config: &Arc<Config>,
    (mut response, body): (ResponseHead, &[u8]),
    ops: &HeaderOps,
) -> Then {
    route::change(&mut response.fields, &ops.response);
    exchange.change_as_asked(&mut response.fields);
    count_nowhere(&mut exchange, config);
    exchange.answered("-", &response, "direct_response");
    send_bytes(server, exchange, response, body).await
}

fn count_nowhere(exchange: &mut Exchange, config: &Arc<Config>) {
    if !exchange.is_counted() {
        let flow = nowhere(&exchange.connection, config, None);
        exchange.counts_for(flow);
    }
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
    connection: &'c Rc<Connection>,
    config: &'c Arc<Config>,
    route: &'c Route,
    forward: &'c Forward,
    shape: Shape,
    attempt_count: bool,
}

impl Call<'_> {
    async fn run<S: Server>(&self, server: &mut S, mut exchange: Box<Exchange>, held: Option<Held>) -> Then {
        let weighted = route::cluster(self.forward, chance());
        let Some(cluster) = self.config.clusters.get(&weighted.name) else {
            count_nowhere(&mut exchange, self.config);
            return send(server, exchange, answer::NO_CLUSTER).await;
        };
        let Some(in_flight) = InFlight::begin(cluster, |c| &c.state.requests, cluster.spec.limits.requests) else {
            return self.refuse(server, exchange, cluster, answer::OVERFLOW).await;
        };
        let hash = match self.forward.hash.as_slice() {
            [] => None,
            policies => exchange.hashes(policies),
        };
        self.shape(&mut exchange, &weighted.ops);
        let host = cluster.spec.options.asks_for_host.then(|| exchange.head.host().to_owned());
        let limits = self.limits(&exchange, server.is_received());
        let mut tries = Tries::new(self.forward.retry.as_ref(), &exchange.head.method);
        let mut body = held.map_or_else(|| Pump::new(server.is_received()), Pump::of_held);
        if !body.is_ended() && self.shape.switch == Switch::No && tries.may_resend(exchange.head.length) {
            body.keep();
        }
        if !self.forward.mirrors.is_empty() && self.shape.switch == Switch::No {
            let (worker, config, head) = (&self.connection.worker, self.config, &exchange.head);
            let of = mirror::Of { worker, config, head, shape: &self.shape, attempt_count: self.attempt_count };
            mirror::begin(&of, &self.forward.mirrors, &mut body);
        }
        let mut tried = Tried::new();
        let elsewhere = self.forward.retry.as_ref().is_none_or(|r| r.other_hosts || r.other_priorities);
        let mut retrying = None;
        if self.shape.expects && exchange.head.version == Version::Http2 && !server.is_received() {
            // We ask for the body, not the server: it never hears of the expectation. (HTTP/1 asks when it reads.)
            let _ = server.interim(&ResponseHead::new(100));
        }
        loop {
            // A try that failed may have taken of it, or given it up.
            body.restart(server.is_received());
            let Some(target) = self.target(cluster, hash, &tried, host.as_deref()) else {
                return self.refuse(server, exchange, cluster, answer::NO_ENDPOINT).await;
            };
            exchange.tries(&target);
            let active = target.endpoint().map(Active::new);
            let attempt_count = self.attempt_count.then(|| tries.retried() + 1);
            let offer = offer(&target, &self.shape, &exchange.head);
            let purpose = match self.shape.switch {
                Switch::Upgrade(_) => Purpose::Upgrade,
                Switch::Connect => Purpose::Connect,
                Switch::No if tries.retried() > 0 => Purpose::Again,
                Switch::No => Purpose::Request,
            };
            let mut limits = limits.of_try(self.forward.retry.as_ref().and_then(|r| r.per_try));
            let to = (&self.connection.worker, self.config, &target, offer, purpose);
            let outcome =
                attempt(to, &mut exchange.head, &self.shape, attempt_count, server, &mut body, &mut limits).await;
            let (event, answer) = match outcome {
                Outcome::Answered(response, sender) => {
                    self.blame(&target, Blame::Status(response.status));
                    let event = Event::answer(&response);
                    match self.may_retry(cluster, &mut tries, event, &body, &mut exchange, &mut retrying) {
                        Some(wait) => {
                            tried.extend(target.endpoint().map(|e| e.state.id).filter(|_| elsewhere));
                            drop((response, sender, active));
                            if let Some(why) = pause(server, wait, limits.deadline()).await {
                                return self.client_gone(server, exchange, &target, why).await;
                            }
                            continue;
                        }
                        None => {
                            drop(retrying);
                            body.settle();
                            exchange.holds(in_flight, active);
                            self.count(&mut exchange, &target);
                            let answered = relay::Answered { response, sender, body, limits };
                            return self.answer(server, exchange, cluster, answered, &weighted.ops).await;
                        }
                    }
                }
                Outcome::Failed(event, answer) => (event, answer),
                Outcome::Late(answer) => {
                    if answer == answer::TIMEOUT {
                        self.blame(&target, Blame::Status(504));
                    }
                    self.count(&mut exchange, &target);
                    return send(server, exchange, answer).await;
                }
                Outcome::ClientGone(why) => return self.client_gone(server, exchange, &target, why).await,
            };
            if event != Event::Dead {
                self.blame(&target, if event == Event::TryTimeout { Blame::Status(504) } else { Blame::NoAnswer });
                tried.extend(target.endpoint().map(|e| e.state.id).filter(|_| elsewhere));
            }
            match self.may_retry(cluster, &mut tries, event, &body, &mut exchange, &mut retrying) {
                Some(wait) => {
                    if let Some(why) = pause(server, wait, limits.deadline()).await {
                        return self.client_gone(server, exchange, &target, why).await;
                    }
                }
                None => {
                    self.count(&mut exchange, &target);
                    return send(server, exchange, answer).await;
                }
            }
        }
    }

    async fn client_gone<S: Server>(
        &self,
        server: &mut S,
        mut exchange: Box<Exchange>,
        target: &Target<'_>,
        why: Broken,
    ) -> Then {
        self.count(&mut exchange, target);
        gone(server, exchange, why).await
    }

    async fn refuse<S: Server>(
        &self,
        server: &mut S,
        mut exchange: Box<Exchange>,
        cluster: &Arc<Cluster>,
        answer: Answer,
    ) -> Then {
        if !exchange.is_counted() {
            exchange.counts_for(nowhere(self.connection, self.config, Some(cluster)));
        }
        send(server, exchange, answer).await
    }

    async fn answer<S: Server>(
        &self,
        server: &mut S,
        mut exchange: Box<Exchange>,
        cluster: &Arc<Cluster>,
        mut answered: relay::Answered,
        ops: &HeaderOps,
    ) -> Then {
        let mut upgrade = head::clean_response(&mut answered.response);
        head::date(&mut answered.response.fields);
        let http2 = matches!(answered.sender, Sender::Http2(_));
        if let Switch::Upgrade(protocol) = &self.shape.switch
            && http2
            && (200..300).contains(&answered.response.status)
        {
            // HTTP/2 says with it what HTTP/1.1 says with a 101.
            answered.response.status = 101;
            upgrade = Some(protocol.clone().into_bytes());
            if let Some(key) = exchange.head.fields.get("sec-websocket-key")
                && answered.response.fields.get("sec-websocket-accept").is_none()
            {
                let accept = head::websocket_accept(key);
                answered.response.fields.push(b"sec-websocket-accept", accept.as_bytes());
            }
        }
        exchange.set_cookie(&mut answered.response.fields);
        route::change(&mut answered.response.fields, &ops.response);
        route::change(&mut answered.response.fields, &self.route.ops.response);
        exchange.change_as_asked(&mut answered.response.fields);
        exchange.expose(&mut answered.response.fields);
        let status = answered.response.status;
        exchange.answered("-", &answered.response, "via_upstream");
        let switched = match &self.shape.switch {
            Switch::No => false,
            Switch::Upgrade(_) => status == 101,
            Switch::Connect => (200..300).contains(&status),
        };
        if status == 101 && !switched {
            return send(server, exchange, answer::NONSENSE).await;
        }
        if self.shape.expects && status >= 300 && !answered.body.is_touched() {
            // The server refused before anything of the body came: it gets none.
            answered.body.give_up();
        }
        if switched {
            return Box::pin(switch::carry(server, exchange, answered, upgrade)).await;
        }
        let timeout = cluster.spec.options.idle_timeout;
        relay::relay(server, exchange, answered, timeout).await
    }

    fn may_retry(
        &self,
        cluster: &Arc<Cluster>,
        tries: &mut Tries<'_>,
        event: Event,
        body: &Pump,
        exchange: &mut Exchange,
        retrying: &mut Option<InFlight>,
    ) -> Option<Duration> {
        let Some(wait) = tries.again(event, body.can_restart(), chance()) else {
            if tries.is_exhausted() && tries.asks_for(event) {
                exchange.gave_up(Flags::URX);
            }
            return None;
        };
        if event != Event::Dead && retrying.is_none() {
            let requests = cluster.state.requests.load(std::sync::atomic::Ordering::Relaxed);
            let most = cluster.spec.limits.retries_beside(requests);
            *retrying = InFlight::begin(cluster, |c| &c.state.retries, most);
            if retrying.is_none() {
                exchange.gave_up(Flags::UO);
                return None;
            }
        }
        exchange.is_tried_again();
        self.connection.worker.counters().retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(wait)
    }

    /// The request as the route wants it.
    fn shape(&self, exchange: &mut Exchange, ops: &HeaderOps) {
        let (path, query) = exchange.head.path_and_query();
        if let Some(new) = route::rewritten(self.route, self.forward, path, query) {
            exchange.rewrites();
            let old = exchange.head.path().to_owned();
            exchange.head.fields.set("x-envoy-original-path", old.as_bytes());
            exchange.head.set_path(new.as_bytes());
        }
        let head = &mut exchange.head;
        route::change(&mut head.fields, &ops.request);
        route::change(&mut head.fields, &self.route.ops.request);
        // A route that sets `host` sets the authority.
        let named = head.fields.known(Known::Host).map(<[u8]>::to_vec);
        if named.is_some() {
            head.fields.remove_known(Known::Host);
        }
        let rewritten = named.or_else(|| self.forward.host_rewrite.as_ref().map(|h| h.as_bytes().to_vec()));
        if let Some(new) = rewritten {
            let old = head.authority().to_owned();
            if self.forward.forwarded_host {
                head.fields.push_known(Known::ForwardedHost, old.as_bytes());
            }
            head.fields.set("x-envoy-original-host", old.as_bytes());
            head.set_authority(&new);
        }
    }

    fn limits(&self, exchange: &Exchange, received: bool) -> Limits {
        let began = Instant::from_std(exchange.began());
        let mut limits = Limits::default();
        if let Some(timeout) = self.forward.timeout {
            // Sending its request is the client's own time.
            if received {
                limits.end_by(began + timeout, &answer::TIMEOUT);
            } else {
                limits.end_after(timeout, &answer::TIMEOUT);
            }
        }
        if let Some(longest) = self.forward.longest_stream {
            limits.end_by(began + longest, &answer::STREAM_TIMEOUT);
        }
        if self.shape.grpc
            && let Some(timeout) = head::grpc_timeout(&exchange.head.fields)
        {
            limits.end_by(began + timeout, &answer::TIMEOUT);
        }
        limits.request_by(self.connection.spec.request_timeout.map(|d| began + d));
        limits
    }

    fn target<'t>(
        &'t self,
        cluster: &'t Arc<Cluster>,
        hash: Option<u64>,
        tried: &Tried,
        host: Option<&'t str>,
    ) -> Option<Target<'t>> {
        let caller = self.connection.from.as_ref().map(|from| (from, &self.connection.to));
        if cluster.spec.discovery == Discovery::Original {
            if self.connection.bound {
                return None;
            }
            return Some(Target {
                cluster,
                to: To::Address(cluster.spec.original_address(self.connection.to)),
                caller,
                host,
            });
        }
        let now = crate::clock::now_ms();
        // What failed twice near by is tried farther away, if the route says so.
        let farther = tried.len() >= 2 && self.forward.retry.as_ref().is_some_and(|r| r.other_priorities);
        let found = if farther { balance::choose_farther(cluster, now, tried, hash, chance) } else { None };
        let endpoint = found.or_else(|| balance::choose(cluster, now, tried, hash, chance))?;
        Some(Target { cluster, to: To::Endpoint(endpoint), caller, host })
    }

    /// Takes an endpoint's answer or silence into account.
    fn blame(&self, target: &Target<'_>, outcome: Blame) {
        let Some(endpoint) = target.endpoint() else { return };
        if balance::report(target.cluster, endpoint, outcome, crate::clock::now_ms()) {
            let counters = self.connection.worker.counters();
            counters.ejections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::info!(cluster = %target.cluster.spec.name, endpoint = %endpoint.spec.address, "endpoint ejected");
        }
    }

    /// What requests to an endpoint count for; of those that come in it was known before.
    fn count(&self, exchange: &mut Exchange, target: &Target<'_>) {
        if self.connection.side == Side::Inbound {
            return;
        }
        let worker = &self.connection.worker;
        let flow = match target.endpoint() {
            None => nowhere(self.connection, self.config, Some(target.cluster)),
            Some(endpoint) => {
                // The flow keeps the workload, so its place tells it from others.
                let key = (endpoint.state.id, Arc::as_ptr(&endpoint.spec.workload) as u64);
                worker.flows.borrow_mut().get(key, || {
                    let workload = endpoint.spec.workload.clone();
                    let labels = FlowLabels {
                        reporter: Reporter::Source,
                        source: worker.own(self.config),
                        destination: Party { workload, principal: endpoint.spec.identity.clone() },
                        service: FlowLabels::of(&target.cluster.spec.service),
                        mutual_tls: None,
                    };
                    Flow::new(labels, worker.registry.clone())
                })
            }
        };
        exchange.counts_for(flow);
    }
}

/// What is offered to an endpoint.
pub(super) fn offer(target: &Target<'_>, shape: &Shape, head: &RequestHead) -> Offer {
    let http2 = match target.cluster.spec.options.protocol {
        HttpProtocol::AsReceived => shape.http2,
        HttpProtocol::Http1 => false,
        HttpProtocol::Http2 => true,
    };
    match (http2, target.is_hawser()) {
        // A body before it becomes something else is a thing of HTTP/1.1 alone.
        _ if shape.switch != Switch::No && has_body(head) => Offer::Http1,
        (false, false) => Offer::Http1,
        (true, false) => Offer::Http2,
        (false, true) => Offer::HawserHttp1,
        (true, true) => Offer::HawserHttp2,
    }
}

fn has_body(head: &RequestHead) -> bool {
    head.version != Version::Http2 && !matches!(head.length, Length::None | Length::Exact(0))
}

/// Waits before a retry; ends early, and says why, when there is nobody any more who waits for it.
pub(super) async fn pause<S: Server>(server: &mut S, wait: Duration, deadline: Option<Instant>) -> Option<Broken> {
    if wait.is_zero() {
        return None;
    }
    let until = Instant::now() + wait;
    let mut sleep = std::pin::pin!(tokio::time::sleep_until(deadline.map_or(until, |d| d.min(until))));
    poll_fn(|cx| match server.poll_gone(cx) {
        Poll::Ready(why) => Poll::Ready(Some(why)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
