//! Configuration: what discovery says, checked, as an immutable value that workers share.
//!
//! In: xDS resources by type and name. Out: [`Config`], swapped whole, or a sentence why a resource is refused; then
//! what was there stays. Invariant: what is in a [`Config`] needs no check on the way of a request.

mod access_log;
mod chain;
mod cluster;
mod endpoint;
mod filters;
mod foreign;
pub mod guard;
mod hash;
mod http;
mod listener;
mod model;
mod proto;
mod retry;
mod route;
mod secret;
mod store;
#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainMatch, Filter, Replaced, Seen, Transport as SeenTransport, candidates, choose};
pub use cluster::{
    Balance, Cluster, ClusterSpec, ClusterState, Discovery, HttpProtocol, Keepalive, Limits, Options, Outlier,
    ProxyHeader, Service, Tier, Transport, UpstreamTls, WarmUp,
};
pub use endpoint::{Endpoint, EndpointSet, EndpointSpec, EndpointState, Health, Workload};
pub use filters::{Abort, Cors, Fault, Filters};
pub use foreign::Foreign;
pub use guard::{Authz, Guard, Rbac, Rules, TcpGuard};
pub use hash::{HashCookie, HashPolicy};
pub use hawser_routing::{RulesAction, StringMatch, Subject};
pub use http::{Codec, Escapes, HttpSpec, RouteSource, Xfcc};
pub use listener::{DownstreamTls, Listener, Onward, TcpSpec};
pub use model::Config;
pub use proto::Refused;
pub use retry::{RetryOn, RetryPolicy};
pub use route::{
    Action, Forward, HeaderMatch, HeaderOp, HeaderOps, Mirror, PathMatch, QueryMatch, Redirect, Route, RouteTable,
    VirtualHost, WeightedCluster,
};
pub use secret::{Credentials, Roots};
pub use store::{Kind, Store, listener_name};
