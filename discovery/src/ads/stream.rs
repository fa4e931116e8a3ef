//! One stream: a task that passes requests and snapshots to a session, and what it says to the client.
//!
//! In: a peer's requests. Out: responses. Invariant: the task ends with its stream; a client that reads nothing holds
//! two responses and a snapshot, and not for longer than [`PATIENCE`].

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hawser_xds::{Changes, Source as _, TypeUrl};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::authorize::{authorize, refresh};
use super::clients::{Clients, Place, Question, enter};
use super::interest::Watched;
use super::session::Session;
use super::{Hosts, Metrics, Responses};
use crate::compiler::{Compiler, Sight};
use crate::identity::accounts::Accounts;
use crate::peer::Peer;
use crate::registry::{Snapshot, Snapshots};
use crate::view::Client;

/// How long a client may read nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a stream may say nothing at its start.
const FIRST: Duration = Duration::from_secs(30);

/// What all streams share.
pub(super) struct Shared {
    pub(super) snapshots: Snapshots,
    pub(super) hosts: Arc<dyn Hosts>,
    pub(super) compiler: Compiler,
    pub(super) clients: Clients,
    pub(super) metrics: Metrics,
    pub(super) watched: Watched,
    pub(super) accounts: OnceLock<Accounts>,
}

/// Serves a stream; `open` makes its session.
pub(super) fn serve<S: Session>(
    shared: Arc<Shared>,
    peer: Peer,
    requests: Streaming<S::Request>,
    open: impl FnOnce(&Client) -> S + Send + 'static,
) -> Responses<S::Response> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(status) = run(&shared, peer, requests, open, &sender).await {
            shared.metrics.refused();
            // Nobody to tell is as good.
            let _ = tokio::time::timeout(PATIENCE, sender.send(Err(status))).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

async fn run<S: Session>(
    shared: &Arc<Shared>,
    peer: Peer,
    mut requests: Streaming<S::Request>,
    open: impl FnOnce(&Client) -> S,
    sender: &mpsc::Sender<Result<S::Response, Status>>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(FIRST, requests.message()).await;
    let Some(first) = first.map_err(|_| Status::deadline_exceeded("the stream said nothing"))?? else { return Ok(()) };
    let Some(node) = S::node(&first) else {
        return Err(Status::invalid_argument("the first request of a stream names its node"));
    };
    let settings = shared.snapshots.borrow().settings.clone();
    let client = authorize(&peer, node, &*shared.hosts, &settings)?;
    let Some((place, questions)) = enter(shared, &client, &peer, S::MODE) else {
        return Err(Status::resource_exhausted("too many streams"));
    };
    tracing::info!(node = client.node_id, class = client.class.as_str(), peer = %peer.addr, "xds client connected");
    let mut snapshots = shared.snapshots.clone();
    let snapshot = tokio::select! {
        // Nobody is told that something is gone before every registry has spoken.
        ready = snapshots.wait_for(|snapshot| snapshot.ready()) => match ready {
            Ok(snapshot) => snapshot.clone(),
            Err(_) => return Err(Status::unavailable("discovery is shutting down")),
        },
        () = sender.closed() => return Ok(()),
    };
    let session = open(&client);
    let mut stream = Stream { shared, client, session, snapshot, place, sender, waiting: Vec::new() };
    let result = stream.drive(first, &mut requests, &mut snapshots, questions).await;
    tracing::info!(node = stream.client.node_id, "xds client gone");
    result
}

struct Stream<'a, S: Session> {
    shared: &'a Arc<Shared>,
    client: Client,
    session: S,
    snapshot: Arc<Snapshot>,
    place: Place,
    sender: &'a mpsc::Sender<Result<S::Response, Status>>,
    waiting: Vec<Question>,
}

impl<S: Session> Stream<'_, S> {
    async fn drive(
        &mut self,
        first: S::Request,
        requests: &mut Streaming<S::Request>,
        snapshots: &mut Snapshots,
        mut questions: mpsc::Receiver<Question>,
    ) -> Result<(), Status> {
        if !self.request(first).await? {
            return Ok(());
        }
        loop {
            let open = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    Ok(None) => false,
                    // A client that goes without a word is no error of ours.
                    Err(_) => false,
                },
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("discovery is shutting down"));
                    }
                    let snapshot = snapshots.borrow_and_update().clone();
                    self.change(snapshot).await?
                }
                Some(question) = questions.recv() => {
                    if self.waiting.len() < 64 {
                        self.waiting.push(question);
                    }
                    true
                }
                () = self.sender.closed() => false,
            };
            if !open {
                return Ok(());
            }
            self.answer();
        }
    }

    async fn request(&mut self, request: S::Request) -> Result<bool, Status> {
        let url = S::url(&request).to_owned();
        if let Some(reason) = S::refusal(&request) {
            self.shared.metrics.nack(&url);
            let reason: String = reason.chars().take(2000).collect();
            tracing::warn!(node = self.client.node_id, r#type = url, reason, "xds client refuses a response");
        }
        let responses = {
            let sight = Sight::new(&self.shared.compiler, &self.client, &self.snapshot);
            let claims = S::claims(&request);
            if !claims.is_empty() {
                let ty = TypeUrl::from(url.as_str());
                let same = |claim: &&(String, hawser_xds::Version)| {
                    sight.get(&ty, &claim.0).is_some_and(|resource| resource.version == claim.1)
                };
                self.shared.metrics.resumed(&url, claims.iter().filter(same).count());
            }
            let result = self.session.on_request(request, &sight, Instant::now());
            result.map_err(|refused| Status::invalid_argument(refused.to_string()))?
        };
        self.send(responses).await
    }

    async fn change(&mut self, snapshot: Arc<Snapshot>) -> Result<bool, Status> {
        let Some(client) = refresh(&self.client, &*self.shared.hosts) else {
            return Err(Status::permission_denied("the host is revoked"));
        };
        let responses = {
            let compiler = &self.shared.compiler;
            let before = Sight::new(compiler, &self.client, &self.snapshot);
            let sight = Sight::new(compiler, &client, &snapshot);
            let changes = match before.same_view(&sight) {
                true => sight.touched(&self.snapshot),
                false => Changes::all(),
            };
            self.session.on_change(&changes, &sight, Instant::now())
        };
        self.client = client;
        self.snapshot = snapshot;
        let any = !responses.is_empty();
        let open = self.send(responses).await?;
        if any {
            self.shared.metrics.pushed_after(self.snapshot.since.elapsed());
        }
        Ok(open)
    }

    /// `false` if nobody reads any more.
    async fn send(&mut self, responses: Vec<S::Response>) -> Result<bool, Status> {
        let status = self.session.status();
        let held = status.iter().find(|s| s.ty == TypeUrl::ENDPOINTS).map_or(0, |s| s.held);
        self.place.watches(held, |with| self.session.each_held(&TypeUrl::ENDPOINTS, with));
        self.place.note(status);
        for response in responses {
            let (url, resources, removed) = S::size(&response);
            self.shared.metrics.sent(url, resources, removed);
            match tokio::time::timeout(PATIENCE, self.sender.send(Ok(response))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(false),
                Err(_) => return Err(Status::deadline_exceeded("the client reads nothing")),
            }
        }
        Ok(true)
    }

    /// Answers the questions that can be.
    fn answer(&mut self) {
        for question in std::mem::take(&mut self.waiting) {
            match question {
                Question::Names(reply) => {
                    let types = self.session.status().into_iter().map(|status| status.ty);
                    let names = types.map(|ty| (ty.clone(), self.session.subscribed(&ty))).collect();
                    let _ = reply.send(names);
                }
                Question::Taken { ty, names, revision, reply } => {
                    if reply.is_closed() {
                        continue;
                    }
                    let shown = self.snapshot.revision >= revision;
                    let held = |name: &&Arc<str>| self.session.held(&ty, name).is_some();
                    let settled = |name: &Arc<str>| self.session.settled(&ty, name);
                    if shown && names.iter().all(settled) {
                        let any = names.iter().any(|name| held(&name));
                        let taken = names.iter().all(|name| self.session.took(&ty, name));
                        let _ = reply.send(any.then_some(taken));
                    } else {
                        self.waiting.push(Question::Taken { ty, names, revision, reply });
                    }
                }
            }
        }
    }
}
