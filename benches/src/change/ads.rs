//! The agent's xDS socket, as a proxy knows it, served by the sessions that the agent itself uses.

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
pub(super) struct Resources {
    all: BTreeMap<(TypeUrl, Arc<str>), Resource>,
    closures: BTreeMap<Arc<str>, Vec<(TypeUrl, Arc<str>)>>,
}

impl Resources {
    pub(super) fn add(&mut self, ty: TypeUrl, name: &str, message: &impl prost::Message) {
        let body = message.encode_to_vec();
        let hash = body.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        let version = format!("{hash:016x}").as_str().into();
        self.all.insert((ty, name.into()), Resource { name: name.into(), version, body: body.into() });
    }

    /// What a listener brings.
    pub(super) fn brings(&mut self, listener: &str, needs: Vec<(TypeUrl, Arc<str>)>) {
        self.closures.insert(listener.into(), needs);
    }
}

impl Source for Resources {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource> {
        self.all.get(&(ty.clone(), name.into())).cloned()
    }

    fn names(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        self.all.keys().filter(|(t, _)| t == ty).map(|(_, n)| n.clone()).collect()
    }

    fn closure(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)> {
        if *ty == TypeUrl::LISTENER { self.closures.get(name).cloned().unwrap_or_default() } else { Vec::new() }
    }
}

/// Serves while the runtime lives.
pub(super) struct Ads(watch::Sender<Resources>);

impl Ads {
    pub(super) fn start(socket: &Path, resources: Resources) -> anyhow::Result<Self> {
        let (sender, seen) = watch::channel(resources);
        let listener = UnixListenerStream::new(UnixListener::bind(socket)?);
        let service = AggregatedDiscoveryServiceServer::new(Service(seen));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(listener));
        Ok(Self(sender))
    }

    pub(super) fn set(&self, resources: Resources) {
        self.0.send_replace(resources);
    }
}

struct Service(watch::Receiver<Resources>);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Sender = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

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
        let (sender, receiver) = mpsc::channel(64);
        let session = session(request.into_inner(), self.0.clone(), sender.clone());
        tokio::spawn(async move {
            if let Err(status) = session.await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn session(
    mut requests: Streaming<DeltaDiscoveryRequest>,
    mut resources: watch::Receiver<Resources>,
    sender: Sender,
) -> Result<(), Status> {
    let mut session = DeltaServer::new(Limits::default(), Closure::On);
    loop {
        let responses = tokio::select! {
            request = requests.message() => {
                let Some(request) = request? else { return Ok(()) };
                if let Some(error) = &request.error_detail {
                    return Err(Status::invalid_argument(format!("refused: {}", error.message)));
                }
                let now = resources.borrow().clone();
                session.on_request(request, &now, Instant::now()).map_err(|e| Status::internal(format!("{e:?}")))?
            }
            changed = resources.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let now = resources.borrow_and_update().clone();
                session.on_change(&Changes::all(), &now, Instant::now())
            }
        };
        for response in responses {
            if sender.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
    }
}
