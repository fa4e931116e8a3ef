//! What is counted: requests and connections with Istio's names and labels, and the proxy's own life.
//!
//! In: ends of requests, bytes of connections. Out: the text that Prometheus reads. Each worker counts for itself; a
//! scrape adds up. Invariant: the number of series is bounded, whatever strangers send.

mod counters;
mod flow;
mod labels;
mod render;
mod series;

pub use counters::{Consent, Counters, LookedUp, Refusal};
pub use flow::{Flow, Flows};
pub use labels::{FlowLabels, Party, Reporter, RequestResult};
pub use render::render;
pub use series::{Registry, RequestSeries, TcpSeries};
