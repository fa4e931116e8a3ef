//! The end of a request: what is counted, and what becomes of its connection.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::codec::{Http1, OnEnd, RequestBody};
use crate::config::Cluster;
use crate::pool::Key;
use crate::tcp::Active;
use crate::telemetry::{Flow, RequestResult};
use crate::upstream;
use crate::worker::Worker;

/// A request in flight. It is counted once, whichever way it ends.
#[derive(Debug)]
pub(super) struct Exchange {
    flow: Option<Rc<Flow>>,
    result: RequestResult,
    began: Instant,
    ended: bool,
    /// The connection it is on.
    pub(super) back: Option<Back>,
    /// Counted of its endpoint and cluster.
    pub(super) held: Option<(Option<Active>, InFlight)>,
    /// For the access log.
    pub(super) log: Option<Box<Logged>>,
}

/// What the access log says of a request.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) method: http::Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) upstream: Option<std::net::SocketAddr>,
}

/// The connection of a request, and where it goes afterwards.
#[derive(Debug)]
pub(super) enum Back {
    /// To the pool, if the request's body was sent.
    Http1 { worker: Rc<Worker>, connection: Box<Http1>, key: Key, timeout: Duration, body: RequestBody },
    /// It is shared.
    Http2(#[expect(dead_code, reason = "held until it is dropped")] Option<upstream::Stream>),
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
    pub(super) fn new(grpc: bool) -> Self {
        let result = RequestResult { grpc, status: 0, grpc_status: None, flags: "-" };
        Self { flow: None, result, began: Instant::now(), ended: false, back: None, held: None, log: None }
    }

    /// What it counts for.
    pub(super) fn counts_for(&mut self, flow: Rc<Flow>) {
        self.flow = Some(flow);
    }

    /// It has an answer.
    pub(super) fn answered(&mut self, status: u16, flags: &'static str, headers: &HeaderMap) {
        self.result.status = status;
        self.result.flags = flags;
        self.read_grpc(headers);
    }

    /// Since when.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    fn read_grpc(&mut self, headers: &HeaderMap) {
        if self.result.grpc
            && let Some(status) = headers.get("grpc-status").and_then(|v| v.to_str().ok()?.parse::<u8>().ok())
        {
            self.result.grpc_status = Some(status);
        }
    }

    fn count(&mut self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(log) = self.log.take() {
            tracing::info!(
                target: "access",
                method = %log.method, host = %log.host, path = %log.path, status = self.result.status,
                flags = self.result.flags, micros, upstream = ?log.upstream,
            );
        }
        if let Some(flow) = self.flow.take() {
            flow.request(self.result, micros);
        }
    }
}

impl OnEnd for Exchange {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.read_grpc(trailers);
    }

    fn ended(&mut self) {
        self.ended = true;
        if let Some(Back::Http1 { worker, connection, key, timeout, body }) = self.back.take_if(|b| b.is_http1())
            && body.is_sent()
        {
            worker.pool.put(key, *connection, timeout);
        }
    }
}

impl Back {
    fn is_http1(&self) -> bool {
        matches!(self, Self::Http1 { .. })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            // The client went away, or the response broke off.
            self.result.flags = if self.result.status == 0 { "DC" } else { "UC" };
        }
        self.count();
    }
}
