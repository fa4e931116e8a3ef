//! Join tokens for people who have rights in the cluster: JoinTokenRequests, answered.
//!
//! In: the objects of the cluster, somebody who makes tokens. Out: tokens in the objects' status, sealed so that only whoever
//! made the request reads them. Who may make a request in a namespace is the cluster's word (RBAC), and a request is for that
//! namespace alone. Invariants: a token that can't be handed over is taken back; every request is answered or goes; what was
//! answered is not answered again.

mod book;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hawser_api::join_request::{self, Condition, GROUP, Object, PLURAL, READY, Spec, Status, VERSION};
use http::Method;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use self::book::{Act, Book, MOST_EACH};
use crate::access::Access;
use crate::name::Name;
use crate::watch::{self as watching, Failure, Limits, Said, Waker, Watched, whole};
use crate::wire::{Item as _, Named, Page, Request};
use crate::world::Selectors;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// What waits to be answered: then the watch waits.
const QUEUE: usize = 64;
/// Time between two looks at what is over, and at what is to be tried again.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two attempts at a request that could not be answered.
const AGAIN: Duration = Duration::from_secs(2);
/// Requests that wait for another attempt.
const WAITING: usize = 1000;
/// Attempts to hand a token over.
const ATTEMPTS: u32 = 4;
/// Longest time for one question.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest sentence that is written, and most of them.
const LONGEST: usize = 1000;
const SAID: usize = 16;
/// Largest object.
const MOST: usize = 2 << 20;

/// Who makes join tokens.
pub trait Minter: Send + Sync + fmt::Debug {
    /// Makes one for a namespace.
    fn mint<'a>(&'a self, namespace: &'a str, spec: &'a Spec) -> BoxFuture<'a, Result<Minted, NoToken>>;

    /// Takes one back that nobody was given.
    fn revoke<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()>;
}

/// A token that was made. `Debug` hides it.
#[derive(Clone)]
pub struct Minted {
    /// Its id.
    pub id: String,
    /// The token.
    pub token: String,
    /// What is worth knowing of it.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// What is asked for can't be: one word, and a sentence with the cure.
    Refused(&'static str, String),
    /// Not now.
    Later(String),
}

/// Answers requests until it is dropped.
pub(crate) async fn run(access: Arc<Access>, minter: Arc<dyn Minter>, selectors: Option<Selectors>) {
    let (sender, mut messages) = mpsc::channel(QUEUE);
    // Its silence ends it; nobody else says when to ask anew.
    let waker = Waker { reconnect: watch::channel(0).1, arrived: Arc::new(watch::channel(0).0) };
    let watched = Watched::at(&format!("/apis/{GROUP}/{VERSION}/{PLURAL}"));
    let watching = watching::run(access.clone(), watched, Limits::new(1), waker, sender, |said: Said<Request>| said);
    let answering = async {
        let mut desk = Desk { access, minter, selectors, book: Book::default(), again: BTreeMap::new(), denied: false };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(said) = messages.recv() => desk.hear(said).await,
                _ = looks.tick() => desk.look().await,
            }
        }
    };
    tokio::select! {
        () = watching => {}
        () = answering => {}
    }
}

/// Where requests are answered, one after the other.
struct Desk {
    access: Arc<Access>,
    minter: Arc<dyn Minter>,
    /// Namespaces that are part of the mesh, where not all are.
    selectors: Option<Selectors>,
    book: Book,
    /// Requests that could not be answered, and when they are tried again.
    again: BTreeMap<Name, Instant>,
    denied: bool,
}

impl Desk {
    async fn hear(&mut self, said: Said<Request>) {
        match said {
            Said::Change(change) => {
                self.denied = false;
                let acts = self.book.take(change, Instant::now());
                self.act(acts).await;
            }
            Said::Fails(_, Failure::Denied(why)) if !std::mem::replace(&mut self.denied, true) => {
                tracing::warn!(why, "no requests for join tokens are seen; docs/kubernetes.md has the role");
            }
            Said::Fails(_, failure @ Failure::TooMuch(_)) => {
                tracing::warn!(%failure, "requests for join tokens are not answered; delete those that nobody waits for");
            }
            Said::Fails(..) | Said::Speaks => {}
        }
    }

    async fn look(&mut self) {
        let now = Instant::now();
        let over = self.book.over(now);
        self.act(over).await;
        let due: Vec<Name> = self.again.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.again.remove(&name);
            if !self.book.has(&name) {
                continue;
            }
            // As it is now; what can't be read is tried again, and gone is gone.
            match self.read(&name).await {
                Ok(request) if request.is_answered() || request.is_deleting() => {}
                Ok(request) => self.answer(&request).await,
                Err(Failure::NotFound(_)) => {}
                Err(failure) => self.later(name, &failure.to_string()),
            }
        }
    }

    async fn act(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Answer(request) => self.answer(&request).await,
                Act::Refuse(request) => {
                    let why =
                        format!("namespace {} has {MOST_EACH} requests already; delete some", request.namespace());
                    self.refuse(&request, "TooMany", why).await;
                }
                Act::Remove(name, uid) => self.remove(&name, &uid).await,
            }
        }
    }

    async fn answer(&mut self, request: &Request) {
        match self.mint(request).await {
            Ok((minted, status)) => {
                let id = minted.id.clone();
                if self.hand_over(request, &status).await {
                    let (namespace, name) = (request.namespace(), request.plain_name());
                    tracing::info!(id, namespace, name, "join token made for a request of the cluster");
                } else {
                    tracing::warn!(id, "a join token could not be handed over, and is taken back");
                    self.minter.revoke(&id).await;
                }
            }
            Err(NoToken::Refused(reason, why)) => self.refuse(request, reason, why).await,
            Err(NoToken::Later(why)) => self.later(request.name(), &why),
        }
    }

    async fn mint(&self, request: &Request) -> Result<(Minted, Status), NoToken> {
        let invalid = |why: String| NoToken::Refused("Invalid", why);
        let spec = request.spec().map_err(invalid)?;
        let (namespace, name, uid) = (request.namespace(), request.plain_name(), request.uid());
        let object = Object { namespace, name, uid };
        // Before a token is made for nobody.
        join_request::seal("", &spec.public_key, object).map_err(|error| invalid(error.to_string()))?;
        if !self.counts(namespace).await? {
            let why = format!("namespace {namespace} is no part of the mesh: its discoverySelectors leave it out");
            return Err(NoToken::Refused("NotInMesh", why));
        }
        let minted = self.minter.mint(namespace, &spec).await?;
        let sealed = join_request::seal(&minted.token, &spec.public_key, object);
        let sealed = sealed.map_err(|error| invalid(error.to_string()))?;
        let status = Status {
            conditions: vec![condition(
                request,
                "True",
                "Made",
                format!("token {} is sealed for its maker", minted.id),
            )],
            token_id: minted.id.clone(),
            encapsulated_key: sealed.encapsulated_key,
            sealed_token: sealed.sealed_token,
            warnings: minted.warnings.iter().take(SAID).map(|warning| shorten(warning)).collect(),
        };
        Ok((minted, status))
    }

    /// Whether a namespace is part of the mesh.
    async fn counts(&self, namespace: &str) -> Result<bool, NoToken> {
        let Some(selectors) = &self.selectors else { return Ok(true) };
        let path = format!("/api/v1/namespaces?fieldSelector=metadata.name%3D{namespace}");
        let read = async {
            let body = self.access.get(&path, Some("PartialObjectMetadataList")).await?;
            let page: Result<Page<Named>, _> = serde_json::from_slice(&whole(body, MOST).await?);
            page.map_err(|error| Failure::Unreadable(error.to_string()))
        };
        let page = within(read).await.map_err(|failure| NoToken::Later(failure.to_string()))?;
        Ok(page.items.first().is_some_and(|found| selectors.take(Some(&found.metadata.labels), namespace)))
    }

    async fn refuse(&mut self, request: &Request, reason: &str, why: String) {
        let (namespace, name) = (request.namespace(), request.plain_name());
        tracing::info!(namespace, name, reason, why, "request for a join token refused");
        let status = Status { conditions: vec![condition(request, "False", reason, why)], ..Status::default() };
        self.hand_over(request, &status).await;
    }

    /// Writes what became of a request into it; false if nobody can read it.
    async fn hand_over(&mut self, request: &Request, status: &Status) -> bool {
        let patch = json!({
            // What was answered is this object as it was read, and no later one.
            "metadata": {"uid": request.uid(), "resourceVersion": request.version()},
            "status": status,
        });
        let patch = patch.to_string().into_bytes();
        let path = format!("{}/status", path(request.namespace(), request.plain_name()));
        for attempt in 1..=ATTEMPTS {
            let failure = match within(self.access.write(Method::PATCH, &path, MERGE, patch.clone())).await {
                Ok(_) => return true,
                Err(failure) => failure,
            };
            self.access.failed(&failure);
            match failure {
                Failure::NotFound(_) => return false,
                // Somebody changed it: it is looked at anew, if only because the watch says so.
                Failure::Conflict(_) if matches!(self.was_written(request, status).await, Some(true)) => return true,
                Failure::Conflict(why) => {
                    self.later(request.name(), &why);
                    return false;
                }
                Failure::Refused(why) => {
                    tracing::warn!(name = %request.name(), why, "an answer to a request for a join token is not taken");
                    return false;
                }
                other if attempt == ATTEMPTS => {
                    if matches!(self.was_written(request, status).await, Some(true)) {
                        return true;
                    }
                    self.later(request.name(), &other.to_string());
                }
                other => tokio::time::sleep(other.wait().max(AGAIN / 4)).await,
            }
        }
        false
    }

    /// Whether what an answer was lost of has been written all the same.
    async fn was_written(&self, request: &Request, status: &Status) -> Option<bool> {
        let object = within(self.raw(&request.name())).await.ok()?;
        let (uid, token) = (&object["metadata"]["uid"], &object["status"]["tokenId"]);
        Some(*uid == request.uid() && *token == status.token_id.as_str() && !status.token_id.is_empty())
    }

    fn later(&mut self, name: Name, why: &str) {
        tracing::debug!(%name, why, "a request for a join token waits");
        if self.again.len() < WAITING {
            self.again.insert(name, Instant::now() + AGAIN);
        }
    }

    async fn remove(&self, name: &Name, uid: &str) {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}});
        let (path, options) = (path(&name.namespace, &name.name), options.to_string().into_bytes());
        match within(self.access.write(Method::DELETE, &path, JSON, options)).await {
            Ok(_) => tracing::info!(%name, "a request for a join token was there too long, and is gone"),
            Err(Failure::NotFound(_)) => {}
            Err(failure) => {
                tracing::warn!(%name, %failure, "a request for a join token stays, though its time is over")
            }
        }
    }

    async fn read(&self, name: &Name) -> Result<Request, Failure> {
        let object = within(self.raw(name)).await?;
        serde_json::from_value(object).map_err(|error| Failure::Unreadable(error.to_string()))
    }

    /// One object. By a list of one: the right to list is there anyway.
    async fn raw(&self, name: &Name) -> Result<Value, Failure> {
        let (namespace, plain) = (&name.namespace, &name.name);
        let path =
            format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}?fieldSelector=metadata.name%3D{plain}");
        let body = self.access.get(&path, None).await?;
        let page: Value = serde_json::from_slice(&whole(body, MOST).await?)
            .map_err(|error| Failure::Unreadable(error.to_string()))?;
        page["items"].get(0).cloned().ok_or_else(|| Failure::NotFound(name.to_string()))
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}")
}

fn condition(request: &Request, status: &str, reason: &str, message: String) -> Condition {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Condition {
        kind: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: shorten(&message),
        last_transition_time: now,
        observed_generation: request.generation(),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

async fn within<T>(question: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let answer = tokio::time::timeout(PATIENCE, question).await;
    answer.unwrap_or_else(|_| Err(Failure::Unreachable("no answer in time".to_owned())))
}
