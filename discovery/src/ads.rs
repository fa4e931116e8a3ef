//! The aggregated discovery service: xDS sessions on gRPC streams.
//!
//! In: requests of proxies, agents and gRPC programs, snapshots. Out: resources, and who holds what. Invariant: what
//! a client may make us hold is bounded; nobody gets the configuration of a workload that is not theirs; nobody is
//! told that something is gone before every registry has spoken.

mod authorize;
mod clients;
mod interest;
mod metrics;
mod session;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::Stream;
use hawser_api::names::OutboundCluster;
use hawser_api::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use hawser_api::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use hawser_mesh::{InstanceRef, Locality};
use hawser_registry_source::Interest;
use hawser_xds::{Closure, DeltaServer, Limits, SotwServer, TypeUrl};
use tonic::{Request, Response, Status, Streaming};

use self::clients::Clients;
pub use self::clients::{ClientInfo, Mode, TypeInfo};
use self::interest::Watched;
pub use self::metrics::Metrics;
use self::stream::Shared;
use crate::compiler::Compiler;
use crate::identity::accounts::Accounts;
use crate::peer::Peer;
use crate::registry::{Snapshot, Snapshots};
use crate::view::Client;

/// Names that a client asked for, by type.
pub(crate) type Asked = BTreeMap<TypeUrl, BTreeSet<Arc<str>>>;

/// What discovery knows of joined hosts.
pub trait Hosts: Send + Sync + 'static {
    /// A workload of a host's record; `None` if the host is revoked or unknown, or has no such workload. Without a
    /// workload's id, the host's first.
    fn workload(&self, instance_id: &str, workload_id: Option<&str>) -> Option<HostWorkload>;
}

/// A workload as a record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostWorkload {
    /// Where its ports are declared.
    pub instance: InstanceRef,
    /// Namespace.
    pub namespace: String,
    /// Name of its WorkloadEntry.
    pub name: String,
    /// Service account.
    pub service_account: String,
    /// Where its host is.
    pub locality: Locality,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The service; clones share it.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// How many clients held something and how many of them took its new version in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Clients that held it.
    pub holders: usize,
    /// Of these, clients that took it.
    pub acknowledged: usize,
}

impl Server {
    /// A service of what snapshots say.
    pub fn new(snapshots: Snapshots, hosts: Arc<dyn Hosts>) -> Self {
        let (compiler, metrics) = (Compiler::default(), Metrics::default());
        Self {
            shared: Arc::new(Shared {
                snapshots,
                hosts,
                compiler,
                clients: Clients::default(),
                metrics,
                watched: Watched::default(),
                accounts: OnceLock::new(),
            }),
        }
    }

    /// Clients without a certificate may show the token of one of these service accounts.
    pub fn trust(&self, accounts: Accounts) {
        _ = self.shared.accounts.set(accounts);
    }

    /// Who asks. One that shows no certificate, over TLS, may show a token.
    async fn peer<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let mut peer = peer.ok_or_else(|| Status::unauthenticated("the connection has no peer"))?;
        if peer.identity.is_none()
            && !peer.plaintext
            && let Some(accounts) = self.shared.accounts.get()
        {
            let domain = self.shared.snapshots.borrow().settings.trust_domain.clone();
            peer.identity = accounts.caller(request.metadata(), &domain).await?;
        }
        Ok(peer)
    }

    /// As a gRPC service. Each request must carry its [`Peer`].
    pub fn service(&self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(16 << 20)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Hosts whose endpoints some client holds: what registries do well to watch closely.
    pub fn interest(&self) -> Interest {
        self.shared.watched.interest()
    }

    /// Clients that are connected, by node id.
    pub fn clients(&self) -> Vec<ClientInfo> {
        self.shared.clients.list()
    }

    /// Waits until the proxies that hold endpoints of this workload have taken what the newest snapshot says of them,
    /// at most `deadline`. Publish the change and wait for its snapshot first.
    pub async fn acknowledged(&self, instance: &InstanceRef, deadline: Duration) -> Acknowledged {
        let snapshot = self.shared.snapshots.borrow().clone();
        let mut names: Vec<Arc<str>> = Vec::new();
        if let Some(member) = snapshot.of_instance(instance) {
            for state in snapshot.services_of(&member.id) {
                for port in &state.service.ports {
                    let subsets = std::iter::once("").chain(state.rules.subsets());
                    let host = &state.service.host;
                    let name = |subset| OutboundCluster::with_subset(host.clone(), port.port, subset).to_string();
                    names.extend(subsets.map(|subset| name(subset).into()));
                }
            }
        }
        self.shared.clients.acknowledged(TypeUrl::ENDPOINTS, names.into(), snapshot.revision, deadline).await
    }

    /// Names that a connected client asked for, by type; `None` if there is no such client.
    pub(crate) async fn names_of(&self, node_id: &str) -> Option<(Client, Vec<(TypeUrl, Vec<Arc<str>>)>)> {
        self.shared.clients.names_of(node_id).await
    }

    pub(crate) async fn asked_by(&self, fits: impl Fn(&str) -> bool) -> Vec<(Client, Asked)> {
        self.shared.clients.asked_by(fits).await
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.shared.compiler
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshots.borrow().clone()
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Server {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let peer = self.peer(&request).await?;
        let open = |_: &Client| SotwServer::new(Limits::default());
        Ok(Response::new(stream::serve(self.shared.clone(), peer, request.into_inner(), open)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = self.peer(&request).await?;
        let open = |client: &Client| {
            let closure = match client.class {
                crate::view::Class::Hawser(_) => Closure::On,
                _ => Closure::Off,
            };
            DeltaServer::new(Limits::default(), closure)
        };
        Ok(Response::new(stream::serve(self.shared.clone(), peer, request.into_inner(), open)))
    }
}
