//! The way from a request to its counter, short: a flow remembers the series that its requests ended in.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::labels::{FlowLabels, RequestResult};
use super::series::{Registry, RequestSeries, TcpSeries};

type Ended = (RequestResult, Arc<RequestSeries>);

/// Requests and connections between the same two parties.
#[derive(Debug)]
pub struct Flow {
    labels: Arc<FlowLabels>,
    registry: Arc<Registry>,
    series: RefCell<SmallVec<[Ended; 2]>>,
    tcp: OnceCell<Arc<TcpSeries>>,
}

impl Flow {
    /// A flow that counts in `registry`.
    pub fn new(labels: FlowLabels, registry: Arc<Registry>) -> Self {
        Self { labels: Arc::new(labels), registry, series: RefCell::default(), tcp: OnceCell::new() }
    }

    /// Counts a request.
    pub fn request(&self, result: RequestResult, micros: u64) {
        let mut series = self.series.borrow_mut();
        if let Some((_, found)) = series.iter().find(|(r, _)| *r == result) {
            return found.add(micros);
        }
        let found = self.registry.request(&self.labels, result);
        found.add(micros);
        if series.len() < 64 {
            series.push((result, found));
        }
    }

    /// Connections.
    pub fn tcp(&self) -> &TcpSeries {
        self.tcp.get_or_init(|| self.registry.tcp(&self.labels))
    }

    /// Labels.
    pub fn labels(&self) -> &FlowLabels {
        &self.labels
    }
}

/// Flows of one worker by what they go to.
#[derive(Debug, Default)]
pub struct Flows {
    made: HashMap<(u64, u64), Rc<Flow>>,
    /// With so many, those that nobody has now are given up: keys of endpoints and clusters that are gone are never asked
    /// for again.
    full: usize,
}

/// So many are always kept.
const FEW: usize = 64;

impl Flows {
    /// The flow of a key, made when it is new. Keys must change with what the labels are made from.
    pub fn get(&mut self, key: (u64, u64), make: impl FnOnce() -> Flow) -> Rc<Flow> {
        if let Some(flow) = self.made.get(&key) {
            return flow.clone();
        }
        if self.made.len() >= self.full {
            self.made.retain(|_, flow| Rc::strong_count(flow) > 1);
            self.full = FEW.max(2 * self.made.len());
        }
        self.made.entry(key).or_insert_with(|| Rc::new(make())).clone()
    }
}
