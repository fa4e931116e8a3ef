//! One local client's stream, with the stream to discovery that belongs to it.
//!
//! In: the client's requests, discovery's responses, changes of the host's identity and of the link. Out: what the
//! [`Core`] and the [`Secrets`] decide, sent. The client's stream outlives any number of streams to discovery.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{Stream, StreamExt as _};
use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use hawser_daemon::backoff::Backoff;
use hawser_xds::TypeUrl;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::Relay;
use super::cache::Cache;
use super::core::{Act, Core};
use super::node;
use super::secrets::Secrets;
use super::status::Client;
use crate::discovery::{LinkState, Live, Reach};
use crate::identity::Identity;

/// How long a start may take to find discovery before what is not in the cache counts as absent.
const UNDECIDED: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(500);
/// How often what is in use is marked as such in the cache.
const TOUCH: Duration = Duration::from_secs(3600);
const QUEUE: usize = 64;
const LARGEST_RESPONSE: usize = 64 << 20;

/// Where responses for the client go.
pub(super) type Out = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

/// Serves a client until it goes.
pub(super) async fn serve<S>(relay: Relay, requests: S, out: Out, own_dialect: bool) -> Result<(), Status>
where
    S: Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Unpin,
{
    let mut requests = requests;
    let Some(first) = requests.next().await.transpose()? else { return Ok(()) };
    let mut identity = relay.identity.clone();
    let now = identity.borrow_and_update().clone();
    let named = first.node.clone().unwrap_or_default();
    let cache_name = if own_dialect { "agent".to_owned() } else { node::cache_name(&named, &now.record) };
    let mut secrets = Secrets::new(now.clone());
    secrets.set_workload(node::workload_of(&named, &now.record).map(|workload| workload.id.clone()));
    let client = relay.clients.enter(own_dialect, node::is_former(&named));
    let mut stream = ClientStream {
        core: Core::new(),
        secrets,
        cache: relay.caches.get(&cache_name),
        client,
        out,
        node: named,
        told: Node::default(),
        upstream: None,
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)),
        retry_at: None,
        away: false,
    };
    stream.tell_node(&now);
    let ended = stream.run(relay, first, requests, identity).await;
    stream.cache.touch(stream.core.in_use(), SystemTime::now());
    match ended {
        Ok(()) | Err(End::Gone) => Ok(()),
        Err(End::Refused(why)) => Err(Status::resource_exhausted(why)),
        Err(End::Failed(status)) => Err(status),
    }
}

struct ClientStream {
    core: Core,
    secrets: Secrets,
    cache: Arc<Cache>,
    client: Client,
    out: Out,
    /// As the client named itself.
    node: Node,
    /// As discovery is told.
    told: Node,
    upstream: Option<Upstream>,
    backoff: Backoff,
    retry_at: Option<tokio::time::Instant>,
    /// Whether the core knows that discovery is away.
    away: bool,
}

struct Upstream {
    say: mpsc::Sender<DeltaDiscoveryRequest>,
    hear: mpsc::Receiver<DeltaDiscoveryResponse>,
    _task: AbortOnDropHandle<()>,
}

enum End {
    /// Nobody listens any more.
    Gone,
    Refused(String),
    Failed(Status),
}

impl ClientStream {
    async fn run<S>(
        &mut self,
        relay: Relay,
        first: DeltaDiscoveryRequest,
        mut requests: S,
        mut identity: watch::Receiver<Arc<Identity>>,
    ) -> Result<(), End>
    where
        S: Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Unpin,
    {
        let mut link = relay.link.watch();
        let decided = tokio::time::sleep(UNDECIDED);
        tokio::pin!(decided);
        let mut undecided = true;
        let mut tick = tokio::time::interval(TICK);
        let mut touch = tokio::time::interval(TOUCH);
        let out = self.out.clone();
        let state = link.borrow_and_update().clone();
        self.follow(&state).await?;
        self.on_request(first).await?;
        loop {
            let retry_at = self.retry_at;
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => self.on_request(request).await?,
                    Some(Err(status)) => return Err(End::Failed(status)),
                    None => return Ok(()),
                },
                response = hear(&mut self.upstream) => match response {
                    Some(response) => {
                        self.backoff.reset();
                        let acts = self.core.on_response(response).map_err(|error| End::Refused(error.to_string()))?;
                        self.act(acts).await?;
                    }
                    None => self.lost().await?,
                },
                changed = link.changed() => {
                    changed.map_err(|_| End::Gone)?;
                    let state = link.borrow_and_update().clone();
                    self.follow(&state).await?;
                }
                () = async { tokio::time::sleep_until(retry_at.unwrap_or_else(tokio::time::Instant::now)).await }, if retry_at.is_some() => {
                    self.retry_at = None;
                    let state = link.borrow_and_update().clone();
                    self.follow(&state).await?;
                }
                changed = identity.changed() => {
                    changed.map_err(|_| End::Gone)?;
                    let now = identity.borrow_and_update().clone();
                    self.on_identity(now).await?;
                    let state = link.borrow().clone();
                    self.follow(&state).await?;
                }
                () = &mut decided, if undecided => {
                    undecided = false;
                    if self.upstream.is_none() {
                        self.be_away().await?;
                    }
                }
                _ = tick.tick(), if self.core.waits() => {
                    let acts = self.core.on_tick(&*self.cache, Instant::now());
                    self.act(acts).await?;
                }
                _ = touch.tick() => self.cache.touch(self.core.in_use(), SystemTime::now()),
                () = out.closed() => return Ok(()),
            }
            self.client.update(self.core.held(), self.core.last_nack());
        }
    }

    async fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), End> {
        if TypeUrl::from(request.type_url.as_str()) == TypeUrl::SECRET {
            let answers = self.secrets.on_request(request, Instant::now());
            return self.down(answers.map_err(|error| End::Refused(error.to_string()))?).await;
        }
        let acts = self.core.on_request(request, &*self.cache, Instant::now());
        self.act(acts.map_err(|error| End::Refused(error.to_string()))?).await
    }

    async fn on_identity(&mut self, identity: Arc<Identity>) -> Result<(), End> {
        if self.tell_node(&identity) {
            // Discovery serves by what the node says: it must hear it again.
            self.upstream = None;
        }
        let answers = self.secrets.on_identity(identity, Instant::now());
        self.down(answers).await
    }

    /// Opens a stream to discovery, or notes that there is none to open.
    async fn follow(&mut self, link: &LinkState) -> Result<(), End> {
        match &link.reach {
            Reach::Up(live) if self.upstream.is_none() && self.retry_at.is_none() => {
                self.upstream = Some(open(live));
                self.away = false;
                let acts = self.core.on_up(Instant::now());
                self.act(acts).await
            }
            Reach::Up(_) | Reach::Connecting => Ok(()),
            Reach::Down => {
                self.retry_at = None;
                self.be_away().await
            }
        }
    }

    /// The stream ended by itself, on a connection that may still be good.
    async fn lost(&mut self) -> Result<(), End> {
        self.retry_at = Some(tokio::time::Instant::now() + self.backoff.next_wait());
        self.be_away().await
    }

    async fn be_away(&mut self) -> Result<(), End> {
        self.upstream = None;
        if std::mem::replace(&mut self.away, true) {
            return Ok(());
        }
        let acts = self.core.on_away(&*self.cache, Instant::now());
        self.act(acts).await
    }

    fn tell_node(&mut self, identity: &Identity) -> bool {
        let node = node::complete(&self.node, &identity.record);
        let news = node != self.told;
        self.told = node.clone();
        self.core.set_node(node);
        news
    }

    async fn act(&mut self, acts: Vec<Act>) -> Result<(), End> {
        for act in acts {
            match act {
                Act::Down(response) => self.down(vec![response]).await?,
                Act::Up(request) => {
                    if let Some(upstream) = &self.upstream {
                        // A stream that has ended is noticed where it is heard.
                        let _ = upstream.say.send(request).await;
                    }
                }
                Act::Keep(ty, resource) => self.cache.put(&ty, resource, SystemTime::now()),
                Act::Forget(ty, name) => self.cache.remove(&ty, &name),
            }
        }
        Ok(())
    }

    async fn down(&mut self, responses: Vec<DeltaDiscoveryResponse>) -> Result<(), End> {
        for response in responses {
            self.out.send(Ok(response)).await.map_err(|_| End::Gone)?;
        }
        Ok(())
    }
}

async fn hear(upstream: &mut Option<Upstream>) -> Option<DeltaDiscoveryResponse> {
    match upstream {
        Some(upstream) => upstream.hear.recv().await,
        None => std::future::pending().await,
    }
}

fn open(live: &Arc<Live>) -> Upstream {
    let (say, said) = mpsc::channel(QUEUE);
    let (told, hear) = mpsc::channel(4);
    let live = live.clone();
    let task = tokio::spawn(async move {
        let mut client = AggregatedDiscoveryServiceClient::new(live.channel.clone())
            .max_decoding_message_size(LARGEST_RESPONSE)
            .max_encoding_message_size(LARGEST_RESPONSE);
        let talk = async {
            let mut responses = client.delta_aggregated_resources(ReceiverStream::new(said)).await?.into_inner();
            while let Some(response) = responses.message().await? {
                if told.send(response).await.is_err() {
                    break;
                }
            }
            Ok::<(), Status>(())
        };
        tokio::select! {
            ended = talk => {
                if let Err(status) = ended {
                    tracing::info!(code = ?status.code(), why = status.message(), "configuration stream lost");
                }
            }
            () = live.dead.cancelled() => {}
        }
    });
    Upstream { say, hear, _task: AbortOnDropHandle::new(task) }
}
