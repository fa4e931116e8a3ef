//! A control plane of a few resources, on a Unix socket as the agent has it.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use hawser_api::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use hawser_api::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use hawser_xds::{Changes, Closure, DeltaServer, Limits, Resource, Source, TypeUrl};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Resources by type and name, and what each brings.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    resources: BTreeMap<(TypeUrl, Arc<str>), Resource>,
    closures: BTreeMap<Arc<str>, Vec<(TypeUrl, Arc<str>)>>,
}

impl World {
    pub(crate) fn add(&mut self, ty: TypeUrl, name: &str, message: &impl prost::Message) {
        let body = message.encode_to_vec();
        let version = format!("{:x}", body.iter().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b))));
        let resource = Resource { name: name.into(), version: version.as_str().into(), body: body.into() };
        self.resources.insert((ty, name.into()), resource);
    }

    /// What a listener brings.
    pub(crate) fn brings(&mut self, listener: &str, needs: &[(TypeUrl, &str)]) {
        self.closures.insert(listener.into(), needs.iter().map(|(ty, n)| (ty.clone(), Arc::from(*n))).collect());
    }
}

impl Source for World {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource> {
        self.resources.get(&(ty.clone(), name.into())).cloned()
    }

    fn names(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        self.resources.keys().filter(|(t, _)| t == ty).map(|(_, n)| n.clone()).collect()
    }

    fn closure(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)> {
        if *ty == TypeUrl::LISTENER { self.closures.get(name).cloned().unwrap_or_default() } else { Vec::new() }
    }
}

/// Serves until it is dropped.
pub(crate) struct Ads {
    world: watch::Sender<World>,
    task: tokio::task::JoinHandle<()>,
}

impl Ads {
    pub(crate) fn start(run_dir: &Path, world: World) -> Self {
        let (world, seen) = watch::channel(world);
        let listener = UnixListener::bind(run_dir.join("proxy.sock")).unwrap();
        let service = AggregatedDiscoveryServiceServer::new(Service(seen));
        let server = tonic::transport::Server::builder().add_service(service);
        let task = tokio::spawn(async move {
            server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
        });
        Self { world, task }
    }

    pub(crate) fn set(&self, world: World) {
        self.world.send_replace(world);
    }
}

impl Drop for Ads {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service(watch::Receiver<World>);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        let mut world = self.0.clone();
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut session = DeltaServer::new(Limits::default(), Closure::On);
            loop {
                let responses = tokio::select! {
                    request = requests.message() => {
                        let Ok(Some(request)) = request else { return };
                        if let Some(error) = &request.error_detail {
                            panic!("refused: {}", error.message);
                        }
                        let world = world.borrow().clone();
                        session.on_request(request, &world, Instant::now()).unwrap()
                    }
                    changed = world.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let world = world.borrow_and_update().clone();
                        session.on_change(&Changes::all(), &world, Instant::now())
                    }
                };
                for response in responses {
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
