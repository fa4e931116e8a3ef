//! What the proxy asks the control plane for, and what it does with the answers. Without I/O.
//!
//! In: responses, questions of workers, the time. Out: requests to send, answers to workers, a new configuration when
//! something changed. Invariant: names that nobody uses any more are given up; questions are bounded in number, and
//! a no is remembered only for a moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_api::names::{self, SECRET_DEFAULT, SECRET_ROOT, listeners, metadata};
use hawser_api::proto::core::{Node, node};
use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use hawser_xds::{ClientLimits, Closure, DeltaClient, Known, TypeUrl};
use prost_types::value::Kind as ValueKind;
use tokio::sync::oneshot;

use crate::config::{Config, Kind, Store, listener_name};
use crate::dns::Wish;

/// The most addresses that are asked for at a time, and the most that are remembered as absent.
const MOST: usize = 4096;
/// How long a no is remembered.
const ABSENT: Duration = Duration::from_secs(2);
/// Listeners that nobody used for so long are given up.
const UNUSED: Duration = Duration::from_secs(3600);

/// Subscriptions of the proxy.
#[derive(Debug)]
pub(super) struct Subscriptions {
    client: DeltaClient,
    store: Store,
    /// Names that we asked for because nothing brought them.
    explicit: BTreeSet<(Kind, Arc<str>)>,
    waiting: HashMap<SocketAddr, Vec<oneshot::Sender<bool>>>,
    absent: HashMap<SocketAddr, Instant>,
    changed: bool,
    outbox: Vec<DeltaDiscoveryRequest>,
}

/// What a response came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// Why.
    Rejected(String),
}

impl Subscriptions {
    pub(super) fn new() -> Self {
        let mut client = DeltaClient::new(node(false), Closure::On, ClientLimits::default());
        // Nothing is sent yet: there is no stream.
        let _ = client.subscribe(&TypeUrl::LISTENER, [listeners::VIRTUAL_INBOUND]);
        let _ = client.subscribe(&TypeUrl::SECRET, [SECRET_DEFAULT, SECRET_ROOT]);
        Self {
            client,
            store: Store::default(),
            explicit: BTreeSet::new(),
            waiting: HashMap::new(),
            absent: HashMap::new(),
            changed: false,
            outbox: Vec::new(),
        }
    }

    /// Another proxy serves in our place: the next stream says so.
    pub(super) fn retire(&mut self) {
        self.client.set_node(node(true));
    }

    /// A stream was opened.
    pub(super) fn connected(&mut self) {
        self.outbox = self.client.connect();
    }

    /// It is gone. What is held stays.
    pub(super) fn disconnected(&mut self) {
        self.client.disconnect();
        self.outbox.clear();
    }

    /// What to send now.
    pub(super) fn requests(&mut self) -> Vec<DeltaDiscoveryRequest> {
        std::mem::take(&mut self.outbox)
    }

    /// Takes a response. What of it is good is used; if something is not, all of it is refused with the reasons, and the
    /// good part comes again.
    pub(super) fn response(&mut self, response: DeltaDiscoveryResponse) -> Verdict {
        let update = match self.client.on_response(response) {
            Ok(update) => update,
            Err(refused) => {
                self.outbox.push(refused.nack);
                return Verdict::Rejected(refused.reason.to_string());
            }
        };
        let Some(kind) = Kind::of(update.ty.as_str()) else {
            let why = format!("{} is not for a proxy", update.ty);
            self.outbox.extend(self.client.reject(&update.ty, &update.nonce, &why));
            return Verdict::Rejected(why);
        };
        let mut refused = Vec::new();
        for resource in &update.upserts {
            match self.store.put(kind, &resource.name, &resource.body) {
                Ok(()) => self.changed = true,
                Err(e) => refused.push(e.to_string()),
            }
        }
        for name in &update.removed {
            self.changed |= self.store.remove(kind, name);
        }
        let (answer, verdict) = if refused.is_empty() {
            (self.client.accept(&update.ty, &update.nonce), Verdict::Accepted)
        } else {
            let why = refused.join("; ");
            (self.client.reject(&update.ty, &update.nonce, &why), Verdict::Rejected(why))
        };
        self.outbox.extend(answer);
        self.follow();
        verdict
    }

    /// Asks for what is referred to and was not brought, gives up what we asked for and nothing refers to.
    fn follow(&mut self) {
        let wanted = self.store.wanted();
        for (kind, name) in &wanted {
            let ty = TypeUrl::from(kind.type_url());
            let known = self.store.has(*kind, name) || self.client.is_subscribed(&ty, name);
            if !known && self.explicit.len() < MOST {
                self.explicit.insert((*kind, name.clone()));
                if let Ok(request) = self.client.subscribe(&ty, [name]) {
                    self.outbox.extend(request);
                }
            }
        }
        let over: Vec<_> = self.explicit.iter().filter(|e| !wanted.contains(*e)).cloned().collect();
        for (kind, name) in over {
            self.explicit.remove(&(kind, name.clone()));
            if kind == Kind::Listener {
                // Nobody says that it is gone to who does not want it.
                self.changed |= self.store.remove(kind, &name);
            }
            self.outbox.extend(self.client.unsubscribe(&TypeUrl::from(kind.type_url()), [name]));
        }
    }

    /// The new configuration, if something changed.
    pub(super) fn snapshot(&mut self) -> Option<Arc<Config>> {
        std::mem::take(&mut self.changed).then(|| self.store.snapshot())
    }

    /// Names of endpoints that are to be looked up.
    pub(super) fn names_wanted(&mut self) -> BTreeMap<Arc<str>, Wish> {
        self.store.names_wanted()
    }

    /// One of them was.
    pub(super) fn looked_up(&mut self, name: Arc<str>, addresses: Vec<IpAddr>) {
        self.store.looked_up(name, addresses);
        self.changed = true;
    }

    /// A worker asks for the listener of an address.
    pub(super) fn ask(&mut self, address: SocketAddr, answer: oneshot::Sender<bool>, config: &Config, now: Instant) {
        let known = config.outbound.contains_key(&address);
        let gone = self.absent.get(&address).is_some_and(|since| now.duration_since(*since) < ABSENT);
        if known || gone || self.waiting.len() >= MOST {
            let _ = answer.send(known);
            return;
        }
        let waiting = self.waiting.entry(address).or_default();
        waiting.push(answer);
        if waiting.len() == 1 {
            match self.client.subscribe(&TypeUrl::LISTENER, [listener_name(address)]) {
                Ok(request) => self.outbox.extend(request),
                Err(_) => drop(self.waiting.remove(&address)),
            }
        }
    }

    /// Answers workers whose listener came, or will not.
    pub(super) fn settle(&mut self, config: &Config, now: Instant) {
        let mut gone = Vec::new();
        let client = &self.client;
        self.waiting.retain(|address, answers| {
            let name = listener_name(*address);
            let found = config.outbound.contains_key(address);
            let absent = !found && client.known(&TypeUrl::LISTENER, &name) == Known::Absent;
            if found || absent {
                for answer in answers.drain(..) {
                    let _ = answer.send(found);
                }
            }
            answers.retain(|answer| !answer.is_closed());
            if !answers.is_empty() {
                return true;
            }
            if !found {
                gone.push((*address, name, absent));
            }
            false
        });
        for (address, name, absent) in gone {
            if absent {
                if self.absent.len() >= MOST {
                    self.absent.clear();
                }
                self.absent.insert(address, now);
            }
            // Held, but not complete: it stays, what it lacks is on its way.
            if !self.store.has(Kind::Listener, &name) {
                self.outbox.extend(self.client.unsubscribe(&TypeUrl::LISTENER, [name]));
            }
        }
    }

    /// Gives up what nobody uses; to be called now and then.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.absent.retain(|_, since| now.duration_since(*since) < ABSENT);
        let before = crate::clock::now_ms().saturating_sub(u64::try_from(UNUSED.as_millis()).unwrap_or(u64::MAX));
        // Ports that are captured at every address bring listeners without end.
        for name in self.store.unused_since(before).into_iter().chain(self.store.least_used(MOST)) {
            self.store.remove(Kind::Listener, &name);
            self.changed = true;
            self.outbox.extend(self.client.unsubscribe(&TypeUrl::LISTENER, [name]));
        }
        self.follow();
    }

    /// Whether the control plane has said what comes in: a listener, or that there is none.
    pub(super) fn knows_inbound(&self) -> bool {
        self.client.known(&TypeUrl::LISTENER, listeners::VIRTUAL_INBOUND) != Known::Unknown
    }

    /// How many resources are held.
    pub(super) fn held(&self) -> usize {
        Kind::ALL.iter().map(|kind| self.store.names(*kind).len()).sum()
    }
}

/// What we know of ourselves; the agent's relay says the rest.
fn node(former: bool) -> Node {
    let text = |text: String| prost_types::Value { kind: Some(ValueKind::StringValue(text)) };
    let mut fields = BTreeMap::from([(metadata::HAWSER_XDS.to_owned(), text(names::HAWSER_XDS.to_string()))]);
    if former {
        fields.insert(metadata::FORMER.to_owned(), text("true".to_owned()));
    }
    Node {
        metadata: Some(prost_types::Struct { fields }),
        user_agent_name: "hawser-proxy".to_owned(),
        user_agent_version_type: Some(node::UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").into())),
        ..Node::default()
    }
}
