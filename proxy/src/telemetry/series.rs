//! Series of one worker: atomics that the worker writes and a scrape reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::labels::{FlowLabels, RequestResult};

/// Upper bounds of request durations, in milliseconds, as Envoy has them.
pub(super) const BUCKETS: [u64; 17] =
    [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000];
/// The most series of each kind in one worker; what comes later shares one series a result.
const MOST: usize = 10_000;

/// Requests of one flow and result.
#[derive(Debug, Default)]
pub struct RequestSeries {
    pub(super) count: AtomicU64,
    pub(super) micros: AtomicU64,
    pub(super) buckets: [AtomicU64; BUCKETS.len()],
}

/// Connections of one flow.
#[derive(Debug, Default)]
pub struct TcpSeries {
    /// Opened.
    pub opened: AtomicU64,
    /// Closed.
    pub closed: AtomicU64,
    /// Bytes from the caller to the callee.
    pub received: AtomicU64,
    /// Bytes from the callee to the caller.
    pub sent: AtomicU64,
}

impl RequestSeries {
    /// Counts a request.
    pub fn add(&self, micros: u64) {
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        // Each bucket counts its own; a scrape adds those below.
        if let Some(i) = BUCKETS.iter().position(|b| micros <= b * 1000) {
            self.buckets[i].fetch_add(1, Relaxed);
        }
    }
}

type Key = (Arc<FlowLabels>, RequestResult);

/// All series of a worker.
#[derive(Debug, Default)]
pub struct Registry {
    requests: Mutex<BTreeMap<Key, Arc<RequestSeries>>>,
    tcp: Mutex<BTreeMap<Arc<FlowLabels>, Arc<TcpSeries>>>,
}

impl Registry {
    /// The series of a flow and result.
    pub fn request(&self, flow: &Arc<FlowLabels>, result: RequestResult) -> Arc<RequestSeries> {
        let mut all = self.requests.lock();
        let full = all.len() >= MOST && !all.contains_key(&(flow.clone(), result));
        let flow = if full { Arc::new(FlowLabels::rest(flow)) } else { flow.clone() };
        all.entry((flow, result)).or_default().clone()
    }

    /// The series of a flow.
    pub fn tcp(&self, flow: &Arc<FlowLabels>) -> Arc<TcpSeries> {
        let mut all = self.tcp.lock();
        let full = all.len() >= MOST && !all.contains_key(flow);
        let flow = if full { Arc::new(FlowLabels::rest(flow)) } else { flow.clone() };
        all.entry(flow).or_default().clone()
    }

    /// Reads all series of requests.
    pub(super) fn each_request(&self, mut f: impl FnMut(&Arc<FlowLabels>, RequestResult, &RequestSeries)) {
        self.requests.lock().iter().for_each(|((flow, result), series)| f(flow, *result, series));
    }

    /// Reads all series of connections.
    pub(super) fn each_tcp(&self, mut f: impl FnMut(&Arc<FlowLabels>, &TcpSeries)) {
        self.tcp.lock().iter().for_each(|(flow, series)| f(flow, series));
    }
}

impl FlowLabels {
    /// The flow of all that found no room.
    fn rest(of: &Self) -> Self {
        Self {
            reporter: of.reporter,
            source: Default::default(),
            destination: Default::default(),
            service: ("".into(), "".into(), "".into()),
            mutual_tls: of.mutual_tls,
        }
    }
}
