//! The relay: configuration for the local proxy, from discovery or from the disk.
//!
//! In: delta xDS of local clients on `proxy.sock`, one stream to discovery for each. Out: resources, unopened;
//! acknowledged upstream after the client did; kept on disk for when discovery is away. Secrets are answered here,
//! from memory, to the proxy's user only. Calls of other services are not passed on.

mod cache;
mod core;
mod node;
mod own;
mod secrets;
mod status;
mod stream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_api::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use hawser_api::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use node::complete;
pub(crate) use own::Captured;
pub(crate) use status::Clients;

use crate::discovery::Link;
use crate::dns::Names;
use crate::identity::Identity;
use cache::Cache;

/// File name of the socket in the run directory.
pub(crate) const SOCKET: &str = "proxy.sock";
const MOST_CLIENTS: usize = 8;
const LARGEST_REQUEST: usize = 16 << 20;
const FLUSH: Duration = Duration::from_millis(300);

/// What a stream needs. Clones share it.
#[derive(Clone)]
pub(crate) struct Relay {
    link: Link,
    identity: watch::Receiver<Arc<Identity>>,
    caches: Caches,
    clients: Clients,
}

/// A relay that runs; dropping it ends it.
pub(crate) struct Running {
    pub(crate) clients: Clients,
    pub(crate) captured: Captured,
    caches: Caches,
    _tasks: [AbortOnDropHandle<()>; 3],
}

/// The caches by kind of client. Clones share them.
#[derive(Clone)]
struct Caches {
    root: PathBuf,
    open: Arc<Mutex<BTreeMap<String, Arc<Cache>>>>,
}

/// Listens for the proxy and subscribes for the agent.
pub(crate) fn start(
    socket: &Path,
    cache: PathBuf,
    proxy_uid: u32,
    link: Link,
    identity: watch::Receiver<Arc<Identity>>,
    names: Names,
) -> anyhow::Result<Running> {
    let caches = Caches { root: cache, open: Arc::default() };
    let clients = Clients::default();
    let relay = Relay { link, identity, caches: caches.clone(), clients: clients.clone() };
    let (own, captured) = own::subscribe(relay.clone(), names);
    // Who may use it is decided by SO_PEERCRED.
    let listener = crate::api::listen(socket, 0o666)?;
    let service = Ads { relay, proxy_uid, places: Arc::new(Semaphore::new(MOST_CLIENTS)) };
    let service = AggregatedDiscoveryServiceServer::new(service).max_decoding_message_size(LARGEST_REQUEST);
    let server = Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the proxy's socket failed");
        }
    });
    let flusher = tokio::spawn(flush(caches.clone()));
    let tasks = [own, AbortOnDropHandle::new(server), AbortOnDropHandle::new(flusher)];
    Ok(Running { clients, captured, caches, _tasks: tasks })
}

impl Running {
    /// Writes what is not on disk yet.
    pub(crate) fn flush(&self) {
        self.caches.each(|cache| cache.flush(None));
    }
}

async fn flush(caches: Caches) {
    let mut tick = tokio::time::interval(FLUSH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    loop {
        tick.tick().await;
        ticks = ticks.wrapping_add(1);
        let caches = caches.clone();
        let expire = ticks.is_multiple_of(10_000);
        // Writing may take as long as the disk likes.
        let written = tokio::task::spawn_blocking(move || {
            let now = SystemTime::now();
            caches.each(|cache| {
                if expire {
                    cache.expire(now);
                }
                cache.flush(Some(now));
            });
        });
        let _ = written.await;
    }
}

impl Caches {
    fn get(&self, name: &str) -> Arc<Cache> {
        let open = || Arc::new(Cache::open(&self.root.join(name), SystemTime::now()));
        self.open.lock().entry(name.to_owned()).or_insert_with(open).clone()
    }

    fn each(&self, mut visit: impl FnMut(&Cache)) {
        let caches: Vec<Arc<Cache>> = self.open.lock().values().cloned().collect();
        caches.iter().for_each(|cache| visit(cache));
    }
}

struct Ads {
    relay: Relay,
    proxy_uid: u32,
    places: Arc<Semaphore>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the agent speaks delta xDS only: api_type: DELTA_GRPC"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        if peer.is_none_or(|peer| peer.uid() != self.proxy_uid) {
            return Err(Status::permission_denied("only the proxy's user is served here"));
        }
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many clients"))?;
        let (out, answers) = mpsc::channel(4);
        let relay = self.relay.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Err(status) = stream::serve(relay, request.into_inner(), out.clone(), false).await {
                let _ = out.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
