//! Who is connected, what they hold, and whether they have taken it.
//!
//! In: streams that open and end, what their sessions say. Out: lists for people, answers for draining. Invariant: a
//! stream answers questions between two messages and never waits for who asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hawser_xds::{State, TypeStatus, TypeUrl};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::interest::Watching;
use super::{Acknowledged, Asked};
use crate::peer::Peer;
use crate::view::{Class, Client};

/// Streams of all clients together.
const MOST: usize = 50_000;
/// Streams of one joined host: its agent's, and one for each workload.
const MOST_OF_ONE: usize = 80;
/// How long a stream may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that wait for one stream.
const QUESTIONS: usize = 16;

/// How a client is kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What changed.
    Delta,
    /// All of a type.
    Sotw,
}

impl Mode {
    /// As listings say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Sotw => "sotw",
        }
    }
}

/// A connected client, for listings.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Its node id.
    pub node_id: String,
    /// Dialect.
    pub class: Class,
    /// How it is kept up to date.
    pub mode: Mode,
    /// Who it proved to be; empty if it came without TLS.
    pub identity: String,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// Since when.
    pub connected: SystemTime,
    /// By type.
    pub types: Vec<TypeInfo>,
}

/// One type of a client.
#[derive(Clone, Debug)]
pub struct TypeInfo {
    /// The type.
    pub type_url: String,
    /// Resources that it holds.
    pub resources: usize,
    /// `synced`, `pending` or `rejected`.
    pub state: &'static str,
    /// The last refusal's reason; empty if there was none.
    pub last_nack: String,
    /// When it last took something.
    pub last_ack: Option<SystemTime>,
}

/// A question to a stream.
pub(super) enum Question {
    /// Reply when no name of these waits any more to be sent or taken: whether any is held, and whether all were taken.
    Taken { ty: TypeUrl, names: Arc<[Arc<str>]>, revision: u64, reply: oneshot::Sender<Option<bool>> },
    /// Names that it asked for, by type.
    Names(oneshot::Sender<Vec<(TypeUrl, Vec<Arc<str>>)>>),
}

/// All of them.
#[derive(Default)]
pub(super) struct Clients {
    next: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Entry>>>,
}

/// One of them.
pub(super) struct Entry {
    client: Client,
    peer: Peer,
    mode: Mode,
    connected: SystemTime,
    status: Mutex<Vec<TypeStatus>>,
    questions: mpsc::Sender<Question>,
}

/// A place in the list; given up when dropped.
pub(super) struct Place {
    id: u64,
    entry: Arc<Entry>,
    watching: Watching,
    shared: Arc<super::Shared>,
}

impl Place {
    /// Notes whose endpoints the client holds: `held` names of clusters, which `each` goes through.
    pub(super) fn watches(&mut self, held: usize, each: impl Fn(&mut dyn FnMut(&Arc<str>))) {
        self.shared.watched.update(&mut self.watching, held, each);
    }

    /// Notes where the session stands.
    pub(super) fn note(&self, status: Vec<TypeStatus>) {
        *self.entry.status.lock() = status;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.clients.all.lock().remove(&self.id);
        self.shared.watched.update(&mut self.watching, 0, |_| {});
        self.shared.metrics.connected(self.entry.client.class, -1);
    }
}

/// A place for a stream that was authorised; `None` if there are too many.
pub(super) fn enter(
    shared: &Arc<super::Shared>,
    client: &Client,
    peer: &Peer,
    mode: Mode,
) -> Option<(Place, mpsc::Receiver<Question>)> {
    let (questions, receiver) = mpsc::channel(QUESTIONS);
    let entry = Arc::new(Entry {
        client: client.clone(),
        peer: peer.clone(),
        mode,
        connected: SystemTime::now(),
        status: Mutex::default(),
        questions,
    });
    let id = shared.clients.next.fetch_add(1, Ordering::Relaxed);
    let mut all = shared.clients.all.lock();
    let host = client.instance.as_ref().map(|i| &i.instance_id);
    let same = |e: &&Arc<Entry>| host.is_some() && e.client.instance.as_ref().map(|i| &i.instance_id) == host;
    if all.len() >= MOST || all.values().filter(same).count() >= MOST_OF_ONE {
        return None;
    }
    all.insert(id, entry.clone());
    shared.metrics.connected(client.class, 1);
    Some((Place { id, entry, watching: Watching::default(), shared: shared.clone() }, receiver))
}

impl Clients {
    /// All but those in whose place others serve.
    fn serving(&self) -> Vec<Arc<Entry>> {
        self.all.lock().values().filter(|entry| !entry.client.former).cloned().collect()
    }

    pub(super) fn list(&self) -> Vec<ClientInfo> {
        let entries = self.serving();
        let mut all: Vec<ClientInfo> = entries.iter().map(|entry| entry.info()).collect();
        all.sort_by(|a, b| (&a.node_id, a.connected).cmp(&(&b.node_id, b.connected)));
        all
    }

    pub(super) async fn acknowledged(
        &self,
        ty: TypeUrl,
        names: Arc<[Arc<str>]>,
        revision: u64,
        deadline: Duration,
    ) -> Acknowledged {
        let deadline = tokio::time::Instant::now() + deadline;
        let entries = self.serving();
        let mut answers: FuturesUnordered<_> = entries
            .into_iter()
            .map(|entry| {
                let (ty, names) = (ty.clone(), names.clone());
                async move {
                    let (reply, answer) = oneshot::channel();
                    let question = Question::Taken { ty, names, revision, reply };
                    // A stream that has ended holds nothing any more; one that does not answer may.
                    if tokio::time::timeout_at(deadline, entry.questions.send(question)).await.is_err() {
                        return Some(false);
                    }
                    match tokio::time::timeout_at(deadline, answer).await {
                        Ok(answer) => answer.unwrap_or_default(),
                        Err(_) => Some(false),
                    }
                }
            })
            .collect();
        let mut sum = Acknowledged::default();
        while let Some(answer) = answers.next().await {
            if let Some(taken) = answer {
                sum.holders += 1;
                sum.acknowledged += usize::from(taken);
            }
        }
        sum
    }

    /// The clients whose node id fits, one for each node, with all that they asked for.
    pub(super) async fn asked_by(&self, fits: impl Fn(&str) -> bool) -> Vec<(Client, Asked)> {
        let found: Vec<_> = self
            .all
            .lock()
            .values()
            .filter(|entry| !entry.client.former && fits(&entry.client.node_id))
            .cloned()
            .collect();
        let mut all: BTreeMap<String, (Client, Asked)> = BTreeMap::new();
        for entry in found {
            let (reply, answer) = oneshot::channel();
            if entry.questions.send(Question::Names(reply)).await.is_err() {
                continue;
            }
            let Ok(Ok(names)) = tokio::time::timeout(PATIENCE, answer).await else { continue };
            // A host's agent asks under the name of its proxy, for what only an agent uses.
            if names.iter().any(|(ty, _)| [TypeUrl::NAME, TypeUrl::CAPTURE].contains(ty)) {
                continue;
            }
            let client = &entry.client;
            let (_, asked) =
                all.entry(client.node_id.clone()).or_insert_with(|| (Client::clone(client), Asked::default()));
            for (ty, names) in names {
                asked.entry(ty).or_default().extend(names);
            }
        }
        all.into_values().collect()
    }

    pub(super) async fn names_of(&self, node_id: &str) -> Option<(Client, Vec<(TypeUrl, Vec<Arc<str>>)>)> {
        let found =
            self.all.lock().values().find(|entry| !entry.client.former && entry.client.node_id == node_id).cloned();
        let entry = found?;
        let (reply, answer) = oneshot::channel();
        entry.questions.send(Question::Names(reply)).await.ok()?;
        let names = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
        Some((entry.client.clone(), names))
    }
}

impl Entry {
    fn info(&self) -> ClientInfo {
        let now = (Instant::now(), SystemTime::now());
        let wall = |at: Instant| now.1.checked_sub(now.0.saturating_duration_since(at)).unwrap_or(now.1);
        let describe = |status: &TypeStatus| TypeInfo {
            type_url: status.ty.as_str().to_owned(),
            resources: status.held,
            state: match status.state() {
                State::Synced => "synced",
                State::Rejected => "rejected",
                _ => "pending",
            },
            last_nack: status.last_nack.as_ref().map(|nack| nack.message.clone()).unwrap_or_default(),
            last_ack: status.last_ack.map(wall),
        };
        ClientInfo {
            node_id: self.client.node_id.clone(),
            class: self.client.class,
            mode: self.mode,
            identity: self.peer.identity.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
            peer: self.peer.addr,
            connected: self.connected,
            types: self.status.lock().iter().map(describe).collect(),
        }
    }
}
