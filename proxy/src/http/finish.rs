//! The end of a request: what is counted and logged of it, whichever way it ends.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use super::answer;
use super::channel::Broken;
use super::connection::Connection;
use super::message::{Fields, Known, RequestHead, ResponseHead};
use super::{filters, hash};
use crate::access_log::{Details, Flags, Record, Reset};
use crate::config::{Action, Cluster, HashPolicy, Route};
use crate::guard::Marks;
use crate::guard::authz::Changes;
use crate::route;
use crate::tcp::Active;
use crate::telemetry::{Flow, RequestResult};
use crate::upstream::Target;

/// A request in flight. It is counted and logged once, when it is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) connection: Rc<Connection>,
    /// The request's head, changed on its way.
    pub(super) head: RequestHead,
    flow: Option<Rc<Flow>>,
    result: RequestResult,
    began: Instant,
    ended: bool,
    retried: bool,
    /// What became of it before it was answered: its retries were used up, or there were too many.
    before: Flags,
    moved: (u64, u64),
    held: Option<(InFlight, Option<Active>)>,
    /// How long it was held up on purpose.
    delay: Duration,
    /// The route that changes headers of its response.
    route: Option<Arc<Route>>,
    /// A cookie that its client gets, which leads it to the same endpoint again.
    cookie: Option<Box<str>>,
    /// What somebody who was asked wants changed in its response.
    changes: Option<Box<Changes>>,
    /// The origin that may see its response, and the route that says so.
    crosses: Option<Box<Crosses>>,
    log: Option<Box<Logged>>,
}

/// An origin that may see a response, and the route that says so.
#[derive(Debug)]
struct Crosses {
    route: Arc<Route>,
    origin: Box<[u8]>,
}

/// What only a log wants to know.
#[derive(Debug, Default)]
struct Logged {
    response: Option<ResponseHead>,
    details: Option<&'static str>,
    failure: Option<&'static str>,
    attempts: u32,
    endpoint: Option<SocketAddr>,
    response_duration: Option<Duration>,
    route: Option<Arc<Route>>,
    cluster: Option<Arc<str>>,
    original_path: Option<String>,
    refused: Option<Details>,
    marks: Marks,
}

/// A request of a cluster, counted.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Cluster>, fn(&Cluster) -> &AtomicU32);

impl InFlight {
    /// Counts, if `limit` allows.
    pub(super) fn begin(cluster: &Arc<Cluster>, counter: fn(&Cluster) -> &AtomicU32, limit: u32) -> Option<Self> {
        if counter(cluster).fetch_add(1, Relaxed) >= limit {
            counter(cluster).fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self(cluster.clone(), counter))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Relaxed);
    }
}

impl Exchange {
    /// A request that began now.
    /// In a place of its own: it is handed from step to step.
    pub(super) fn new(connection: &Rc<Connection>, head: RequestHead) -> Box<Self> {
        let result = RequestResult { grpc: false, status: 0, grpc_status: None, flags: "-" };
        let flow = connection.flow.clone();
        let log = (!connection.logs().is_empty()).then(Box::default);
        let connection = connection.clone();
        Box::new(Self {
            connection,
            head,
            flow,
            result,
            began: Instant::now(),
            ended: false,
            retried: false,
            before: Flags::NONE,
            moved: (0, 0),
            held: None,
            delay: Duration::ZERO,
            route: None,
            cookie: None,
            changes: None,
            crosses: None,
            log,
        })
    }

    /// What it counts for.
    pub(super) fn counts_for(&mut self, flow: Rc<Flow>) {
        self.flow = Some(flow);
    }

    /// Whether it counts for something already: calls that come in do from the start.
    pub(super) fn is_counted(&self) -> bool {
        self.flow.is_some()
    }

    /// It is gRPC.
    pub(super) fn is_grpc(&mut self) {
        self.result.grpc = true;
    }

    /// It takes this route.
    pub(super) fn takes(&mut self, route: &Arc<Route>) {
        if !route.ops.response.is_empty() && matches!(route.action, Action::Forward(_)) {
            self.route = Some(route.clone());
        }
        if let Some(log) = &mut self.log {
            log.route = Some(route.clone());
        }
    }

    /// Something that is to be told of it happened on its way, however it ends.
    pub(super) fn is_marked(&mut self, flag: Flags) {
        self.before |= flag;
    }

    /// It is held up on purpose.
    pub(super) fn is_delayed(&mut self, time: Duration) {
        self.delay = time;
    }

    /// The hash of what `policies` name, which leads it to its endpoint.
    pub(super) fn hashes(&mut self, policies: &[HashPolicy]) -> Option<u64> {
        let made = hash::of(&self.head, policies, &self.connection);
        self.cookie = made.cookie.map(String::into_boxed_str);
        made.hash
    }

    /// Gives the client its cookie, if it gets one.
    pub(super) fn set_cookie(&self, fields: &mut Fields) {
        if let Some(cookie) = &self.cookie {
            fields.push(b"set-cookie", cookie.as_bytes());
        }
    }

    /// Scripts of `origin` may see its response.
    pub(super) fn crosses(&mut self, route: Arc<Route>, origin: Box<[u8]>) {
        self.crosses = Some(Box::new(Crosses { route, origin }));
    }

    /// Its response is changed so, before what its route says.
    pub(super) fn is_changed(&mut self, changes: Changes) {
        match &mut self.changes {
            Some(before) => before.extend(changes),
            None => self.changes = Some(Box::new(changes)),
        }
    }

    /// Changes a response as those who were asked want it.
    pub(super) fn change_as_asked(&self, fields: &mut Fields) {
        if let Some(changes) = &self.changes {
            changes.fields(fields);
        }
    }

    /// Says in a response who may see it.
    pub(super) fn expose(&self, fields: &mut Fields) {
        let Some(Crosses { route, origin }) = self.crosses.as_deref() else { return };
        if let Some(cors) = route.filters.as_ref().and_then(|filters| filters.cors.as_ref()) {
            filters::expose(cors, origin, fields);
        }
    }

    /// Changes a response of our own as its route would have changed an endpoint's.
    pub(super) fn change(&self, fields: &mut Fields) {
        if let Some(route) = &self.route {
            route::change(fields, &route.ops.response);
        }
    }

    /// Its path is about to be changed.
    pub(super) fn rewrites(&mut self) {
        if let Some(log) = &mut self.log {
            log.original_path = Some(self.head.path().to_owned());
        }
    }

    /// A guard refuses it.
    pub(super) fn refused(&mut self, why: Details) {
        if let Some(log) = &mut self.log {
            log.refused = Some(why);
        }
    }

    /// Policies want this written down.
    pub(super) fn marks(&mut self, marks: Marks) {
        if let Some(log) = &mut self.log {
            log.marks = marks;
        }
    }

    /// It is tried at an endpoint.
    pub(super) fn tries(&mut self, target: &Target<'_>) {
        if let Some(log) = &mut self.log {
            log.endpoint = Some(target.address());
            log.attempts += 1;
            log.cluster = Some(target.cluster.spec.name.clone());
        }
    }

    /// It needed a retry, and all that it may have were used up (`URX`), or all that the cluster may have are (`UO`).
    pub(super) fn gave_up(&mut self, why: Flags) {
        self.before |= why;
    }

    /// It is sent once more.
    pub(super) fn is_tried_again(&mut self) {
        self.retried = true;
    }

    /// Whether it was.
    pub(super) fn is_retried(&self) -> bool {
        self.retried
    }

    /// Why nobody was reached.
    pub(super) fn failed_for(&mut self, failure: Option<&'static str>) {
        if let Some(log) = &mut self.log {
            log.failure = failure;
        }
    }

    /// It counts as one of its cluster and its endpoint, until it is dropped: what it has switched to counts too.
    pub(super) fn holds(&mut self, request: InFlight, endpoint: Option<Active>) {
        self.held = Some((request, endpoint));
    }

    /// It has an answer.
    pub(super) fn answered(&mut self, flags: &'static str, response: &ResponseHead, details: &'static str) {
        self.result.status = response.status;
        self.flags(flags);
        if self.result.grpc {
            let text = response.fields.known(Known::GrpcStatus).and_then(|v| std::str::from_utf8(v).ok());
            self.result.grpc_status = text.and_then(|v| v.parse().ok());
        }
        if let Some(log) = &mut self.log {
            log.response = Some(response.clone());
            log.details = Some(details);
            log.response_duration = Some(self.began.elapsed());
        }
    }

    /// Its trailers had a status of gRPC.
    pub(super) fn grpc_status(&mut self, status: Option<u8>) {
        if self.result.grpc && status.is_some() {
            self.result.grpc_status = status;
        }
    }

    /// Bytes of both bodies.
    pub(super) fn moved(&mut self, up: u64, down: u64) {
        self.moved = (up, down);
    }

    /// It broke off.
    pub(super) fn broke(&mut self, flags: &'static str, details: &'static str) {
        self.flags(flags);
        self.ended = true;
        if let Some(log) = &mut self.log {
            log.details = Some(details);
        }
    }

    /// Its client went away, gave it up, or sent what is no HTTP.
    #[cold]
    pub(super) fn client_gone(&mut self, why: Broken) {
        match why {
            Broken::Reset => self.broke("DR", "http2.remote_reset"),
            Broken::Malformed(_) | Broken::TooLarge => self.broke("DPE", "http1.codec_error"),
            Broken::Gone | Broken::Refused | Broken::Slow => self.broke("DC", "downstream_remote_disconnect"),
        }
    }

    fn flags(&mut self, flags: &'static str) {
        let empty = self.before.is_empty();
        self.result.flags = if empty { flags } else { (self.before | Flags::parse(flags)).short() };
    }

    /// Its response was sent to the end.
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }

    /// Since when it is on its way, but for the time that it was held up on purpose.
    pub(super) fn began(&self) -> Instant {
        self.began + self.delay
    }

    fn log(&self, log: &Logged, duration: Duration) {
        let connection = &self.connection;
        let start = SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH);
        let details = log.details.map(|text| match text {
            // Here the reason follows in the same word.
            _ if text == answer::NO_CONNECTION.details => Details::ResetBefore(Reset::ConnectionFailure),
            text => Details::Other(text),
        });
        let record = Record {
            response_duration: log.response_duration,
            request: Some(&self.head),
            original_path: log.original_path.as_deref(),
            response: log.response.as_ref(),
            status: self.result.status,
            grpc: self.result.grpc,
            grpc_status: self.result.grpc_status,
            flags: Flags::parse(self.result.flags),
            details: log.refused.as_ref().or(details.as_ref()),
            marks: Some(&log.marks),
            transport_failure: log.failure,
            received: self.moved.0,
            sent: self.moved.1,
            attempts: log.attempts,
            endpoint: log.endpoint,
            cluster: log.cluster.as_deref().unwrap_or_default(),
            route: log.route.as_ref().map_or("", |route| route.name.as_str()),
            ..Record::new(connection.downstream(), start, duration)
        };
        connection.worker.lines.write(connection.logs(), &record);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            // Its task was dropped: the client went away.
            self.broke("DC", "downstream_remote_disconnect");
        }
        let duration = self.began.elapsed();
        if let Some(flow) = self.flow.take() {
            flow.request(self.result, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        }
        if let Some(log) = self.log.take() {
            self.log(&log, duration);
        }
    }
}
