//! What all requests share, and the way of a request: who asks, may they, what is it, do it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admit::Addresses;
use crate::ask::{Asked, Way};
use crate::auth::{self, Attributes, User};
use crate::faults::{Faults, Moment};
use crate::kinds::Kind;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::store::Store;
use crate::tokens::{self, Signer};
use crate::{delete, discovery, read, reviews, watching, write};

/// Requests that are remembered.
const SEEN: usize = 10_000;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between bookmarks of a quiet watch.
    pub bookmarks: Duration,
    /// From the change of a definition to the end of the watches of its kind.
    pub definitions: Duration,
    /// From the deletion of a namespace to that of what is in it.
    pub namespaces: Duration,
    /// How long a version that is not reached is waited for.
    pub future: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            bookmarks: Duration::from_secs(60),
            definitions: Duration::from_millis(200),
            namespaces: Duration::from_millis(200),
            future: Duration::from_secs(3),
        }
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// `get`, `list`, `watch`, `create`, ...; empty for what is no resource.
    pub verb: String,
    /// Plural of the resource with its group; the path of what is none.
    pub resource: String,
    /// Namespace, empty for all.
    pub namespace: String,
    /// Name, empty for all.
    pub name: String,
    /// Subresource.
    pub subresource: String,
    /// The query, as it was sent.
    pub query: String,
    /// Who asked.
    pub user: String,
    /// The status of the answer, 0 while there is none. A request is seen before anything it changes.
    pub code: u16,
    /// The name that the client gives itself.
    pub agent: String,
}

/// The last requests, in the order in which they came.
#[derive(Debug, Default)]
struct Requests {
    last: VecDeque<Seen>,
    forgotten: usize,
}

impl Requests {
    /// Takes a request down; its number.
    fn came(&mut self, seen: Seen) -> usize {
        if self.last.len() >= SEEN {
            self.last.pop_front();
            self.forgotten += 1;
        }
        self.last.push_back(seen);
        self.forgotten + self.last.len() - 1
    }

    fn answered(&mut self, number: usize, code: u16) {
        let place = number.checked_sub(self.forgotten);
        if let Some(seen) = place.and_then(|place| self.last.get_mut(place)) {
            seen.code = code;
        }
    }
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Server {
    store: Mutex<Store>,
    pub(crate) addresses: Mutex<Addresses>,
    pub(crate) faults: Faults,
    pub(crate) tokens: Mutex<BTreeMap<String, User>>,
    pub(crate) signer: Signer,
    pub(crate) timing: Timing,
    /// Where it says that it is.
    pub(crate) address: Mutex<String>,
    pub(crate) frozen: watch::Sender<bool>,
    /// Raised when it is restarted: everything that runs ends.
    pub(crate) run: watch::Sender<u64>,
    /// It starts until then: most are refused.
    starting: Mutex<Option<(Instant, Instant)>>,
    seen: Mutex<Requests>,
}

/// A kind that a path leads to, and what of it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) kind: Arc<Kind>,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) sub: Option<String>,
}

impl Found {
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn api_version(&self) -> String {
        self.kind.api_version(&self.version)
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub(crate) fn new(store: Store, tokens: BTreeMap<String, User>, timing: Timing) -> Self {
        Self {
            store: Mutex::new(store),
            addresses: Mutex::default(),
            faults: Faults::default(),
            tokens: Mutex::new(tokens),
            signer: Signer::default(),
            timing,
            address: Mutex::default(),
            frozen: watch::Sender::new(false),
            run: watch::Sender::new(0),
            starting: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    /// From now on it starts: refused with 403 for a while, then unavailable.
    pub(crate) fn begin_start(&self, forbidden: Duration, unavailable: Duration) {
        let now = Instant::now();
        *locked(&self.starting) = Some((now + forbidden, now + forbidden + unavailable));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        locked(&self.seen).last.iter().cloned().collect()
    }

    pub(crate) fn forget_seen(&self) {
        let mut seen = locked(&self.seen);
        seen.forgotten += seen.last.len();
        seen.last.clear();
    }

    /// Answers a request.
    pub(crate) async fn answer(self: &Arc<Self>, mut asked: Asked, query: &str) -> Reply {
        let way = Way::parse(&asked.path);
        let verb = way.as_ref().map_or_else(|| asked.method.as_str().to_lowercase(), |w| w.verb(&asked).to_owned());
        let user = self.user(&asked);
        let name = user.as_ref().map(|u| u.name.clone()).unwrap_or_default();
        let moment = Moment {
            verb: verb.clone(),
            resource: way.as_ref().map_or_else(|| asked.path.clone(), |w| w.place.qualified()),
            namespace: way.as_ref().and_then(|w| w.namespace.clone()).unwrap_or_default(),
            user: name.clone(),
        };
        let number = locked(&self.seen).came(Seen {
            verb: verb.clone(),
            resource: moment.resource.clone(),
            namespace: moment.namespace.clone(),
            name: way.as_ref().and_then(|w| w.name.clone()).unwrap_or_default(),
            subresource: way.as_ref().and_then(|w| w.sub.clone()).unwrap_or_default(),
            query: query.to_owned(),
            user: name,
            code: 0,
            agent: asked.header("user-agent").to_owned(),
        });
        let reply = match user {
            Err(refusal) => Reply::refused(refusal),
            Ok(user) => {
                asked.user = user;
                let reply = self.serve(&asked, way.as_ref(), &verb, &moment).await;
                reply.unwrap_or_else(Reply::refused)
            }
        };
        locked(&self.seen).answered(number, reply.code);
        reply
    }

    async fn serve(
        self: &Arc<Self>,
        asked: &Asked,
        way: Option<&Way>,
        verb: &str,
        moment: &Moment,
    ) -> Result<Reply, Refusal> {
        self.started(asked, way, verb)?;
        if let Some(late) = self.faults.late(moment) {
            tokio::time::sleep(late).await;
        }
        if let Some(refusal) = self.faults.refusal(moment) {
            return Err(refusal);
        }
        let Some(way) = way else {
            let attributes = Attributes {
                verb: verb.to_owned(),
                path: Some(asked.path.trim_end_matches('/').to_owned()),
                ..Attributes::default()
            };
            self.permit(&asked.user, &attributes)?;
            return discovery::answer(self, asked);
        };
        self.permit(&asked.user, &way.attributes(verb))?;
        let found = self.find(way)?;
        match verb {
            "watch" => watching::answer(self, &found, asked, moment),
            "list" => read::list_waiting(self, &found, asked, moment).await,
            "get" => read::get(self, &found, asked, moment),
            "create" if found.kind.asked_only => reviews::answer(self, &found, asked),
            // An answer that is spoilt does not undo what was written.
            "create" => write::create(self, &found, asked).map(|reply| self.faults.spoil(moment, reply)),
            "update" => write::update(self, &found, asked).map(|reply| self.faults.spoil(moment, reply)),
            "patch" => write::patch(self, &found, asked).map(|reply| self.faults.spoil(moment, reply)),
            "delete" => delete::one(self, &found, asked).map(|reply| self.faults.spoil(moment, reply)),
            "deletecollection" => delete::all(self, &found, asked),
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    /// While a server starts, its permissions are not loaded, then its paths are not all there.
    fn started(&self, asked: &Asked, way: Option<&Way>, verb: &str) -> Result<(), Refusal> {
        let Some((forbidden, unavailable)) = *locked(&self.starting) else { return Ok(()) };
        let now = Instant::now();
        if now < forbidden && !asked.user.is_master() {
            return Err(match way {
                Some(way) => auth::refuse(&asked.user, &way.attributes(verb)),
                None => Refusal::forbidden_path(&asked.user.name, verb, &asked.path),
            });
        }
        if now < unavailable && way.is_some_and(|w| w.place.group.contains('.')) {
            return Err(Refusal::unavailable(5));
        }
        Ok(())
    }

    fn permit(&self, user: &User, attributes: &Attributes) -> Result<(), Refusal> {
        auth::allowed(&self.store(), user, attributes).map(drop).ok_or_else(|| auth::refuse(user, attributes))
    }

    fn user(&self, asked: &Asked) -> Result<User, Refusal> {
        let Some(token) = asked.header("authorization").strip_prefix("Bearer ") else { return Ok(User::anonymous()) };
        if let Some(user) = locked(&self.tokens).get(token) {
            return Ok(user.clone());
        }
        let own = [tokens::ISSUER.to_owned()];
        let reviewed = tokens::review(&self.signer, &self.store(), token, &own);
        reviewed.map(|(user, _)| user).map_err(|_| Refusal::unauthorized())
    }

    /// The kind that a path leads to.
    fn find(&self, way: &Way) -> Result<Found, Refusal> {
        let missing = || {
            if way.place.group.is_empty() { Refusal::no_such_resource() } else { Refusal::no_such_path() }
        };
        let kind = self.store().kind(&way.place).ok_or_else(missing)?;
        kind.version(&way.version).ok_or_else(missing)?;
        if way.sub.as_deref().is_some_and(|sub| !kind.has(sub)) {
            return Err(missing());
        }
        if kind.namespaced && way.namespace.is_none() && way.name.is_some() {
            return Err(missing());
        }
        let namespace = way.namespace.clone().filter(|_| kind.namespaced);
        Ok(Found { kind, version: way.version.clone(), namespace, name: way.name.clone(), sub: way.sub.clone() })
    }
}

/// The methods that carry a body.
pub(crate) fn has_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}
