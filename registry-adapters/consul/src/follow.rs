//! Follows one part of a Consul: asks what the plan says, maps what is new, tells it.
//!
//! In: settings, a driver. Out: through the driver. One task; questions that are out are futures in it, so nothing here
//! is shared or locked.

mod peer;
mod reports;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hawser_registry_source::{Closed, Driver, Fingerprint, Interest};

use self::reports::Reports;
use crate::client::{Answer, Client, Failure, Question, Token};
use crate::map::{Claims, Scope, map};
use crate::plan::{Ask, Heard, Limits, Plan, What};
use crate::wire::{Checks, Defaults, Entries, Listed, Node, Nodes};

/// Time between two looks at what nobody tells of: files of the token and of certificates.
const LOOK: Duration = Duration::from_secs(1);
/// Answers that are taken in before new questions are asked.
const BATCH: usize = 64;

/// Follows until nobody listens any more.
pub(crate) async fn follow(
    scope: Scope,
    client: &Client,
    token: &Token,
    limits: Limits,
    room: usize,
    driver: &mut Driver,
) -> Closed {
    let mut follower = Follower {
        plan: Plan::new(limits, Instant::now()),
        interest: driver.interest().clone(),
        subscribed: BTreeSet::new(),
        interest_changed: true,
        claims: Claims::default(),
        reports: Reports::new(scope.place()),
        scope: Arc::new(scope),
        last: HashMap::new(),
        hasher: RandomState::new(),
        told: None,
        driver,
    };
    match follower.run(client, token, room).await {
        Ok(()) | Err(Closed) => Closed,
    }
}

struct Follower<'a> {
    plan: Plan,
    driver: &'a mut Driver,
    scope: Arc<Scope>,
    interest: Interest,
    /// Services with a host that some proxy is subscribed to.
    subscribed: BTreeSet<Arc<str>>,
    interest_changed: bool,
    claims: Claims,
    reports: Reports,
    /// What the last believed answers were, as numbers.
    last: HashMap<What, u64>,
    hasher: RandomState,
    /// The trouble that was told, and whether it was one of rights.
    told: Option<(String, bool)>,
}

type Answered = (Ask, Result<Answer, Failure>);

impl Follower<'_> {
    async fn run(&mut self, client: &Client, token: &Token, room: usize) -> Result<(), Closed> {
        let mut out = FuturesUnordered::new();
        let mut handles: HashMap<u64, AbortHandle> = HashMap::new();
        let mut token_changes = token.changes();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut interest = self.interest.clone();
        let (mut interest_ended, mut known_capacity) = (false, 0);
        self.take_interest();
        loop {
            let now = Instant::now();
            let capacity = client.capacity(room);
            if std::mem::take(&mut self.interest_changed) || capacity != known_capacity {
                known_capacity = capacity;
                self.plan.set_interest(&self.subscribed, capacity, now);
            }
            for id in self.plan.cancelled() {
                if let Some(handle) = handles.remove(&id) {
                    handle.abort();
                }
            }
            for ask in self.plan.next(now) {
                let (handle, registration) = AbortHandle::new_pair();
                handles.insert(ask.id, handle);
                let (scope, question) = (self.scope.clone(), question(&ask, &self.scope));
                let asking = async move {
                    let answer = client.ask(Some(&scope), &question).await;
                    (ask, answer)
                };
                out.push(Abortable::new(asking, registration));
            }
            self.tell_trouble().await?;
            let wake = self.plan.wake_at(now);
            let due = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                closed = self.driver.idle() => return Err(closed),
                Some(answered) = out.next(), if !out.is_empty() => {
                    let mut answered: Option<Result<Answered, _>> = Some(answered);
                    let mut left = BATCH;
                    while let Some(one) = answered {
                        // What was cancelled is waited for by nobody.
                        if let Ok((ask, answer)) = one {
                            handles.remove(&ask.id);
                            self.take(ask, answer).await?;
                        }
                        left -= 1;
                        answered = if left == 0 { None } else { ready(&mut out).await };
                    }
                }
                changed = interest.changed(), if !interest_ended => match changed {
                    Ok(()) => self.take_interest(),
                    Err(_) => interest_ended = true,
                },
                () = due => {}
                _ = looks.tick() => {
                    client.renew();
                    let changes = token.changes();
                    if changes != token_changes {
                        token_changes = changes;
                        tracing::info!(datacenter = %self.scope.place(), "the consul token is another one");
                        self.last.clear();
                        self.plan.token_changed(Instant::now());
                    }
                }
            }
        }
    }

    fn take_interest(&mut self) {
        let hosts = self.interest.borrow_and_update().clone();
        self.interest_changed = true;
        let owners = &self.claims.owners;
        self.subscribed = if hosts.len() < owners.len() {
            hosts.iter().filter_map(|host| owners.get(host)).cloned().collect()
        } else {
            owners.iter().filter(|(host, _)| hosts.contains(*host)).map(|(_, service)| service.clone()).collect()
        };
    }

    async fn take(&mut self, ask: Ask, answer: Result<Answer, Failure>) -> Result<(), Closed> {
        let now = Instant::now();
        match (answer, &ask.what) {
            (Err(failure), what) => {
                if !matches!(what, What::Health(_)) {
                    tracing::debug!(?what, %failure, "no answer from consul");
                }
                self.failed(&ask, &failure, now).await
            }
            (Ok(_), What::Token) => {
                self.plan.token_is_good(&ask, now);
                Ok(())
            }
            (Ok(answer), What::Health(service)) => self.health(&ask, service, &answer, now).await,
            (Ok(answer), _) => match self.lists(&ask, &answer, now).await? {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.last.remove(&ask.what);
                    let failure = Failure::Unreadable(error.to_string());
                    tracing::warn!(what = ?ask.what, %failure, "an answer of consul can't be read");
                    self.plan.unreadable(&ask.what, &failure, now);
                    Ok(())
                }
            },
        }
    }

    async fn failed(&mut self, ask: &Ask, failure: &Failure, now: Instant) -> Result<(), Closed> {
        let give_up = self.plan.failed(ask, failure, now);
        if let (true, What::Health(service)) = (give_up, &ask.what) {
            self.driver.pass(service).await?;
            let why = format!("{failure}; what was known of it stays");
            self.reports.say(self.driver, service, reports::Topic::Answer, Some(why)).await?;
        }
        Ok(())
    }

    /// Takes in an answer about more than one service.
    async fn lists(&mut self, ask: &Ask, answer: &Answer, now: Instant) -> Result<serde_json::Result<()>, Closed> {
        let Some(moved) = self.plan.hear(ask, &answer.meta, now) else { return Ok(Ok(())) };
        let number = self.hasher.hash_one(&answer.body[..]);
        if self.last.get(&ask.what) == Some(&number) && !self.plan.is_blind() {
            self.plan.same(ask, moved, now);
            if ask.what == What::Services && self.plan.trouble().is_none() {
                self.driver.spoke().await?;
            }
            return Ok(Ok(()));
        }
        self.last.insert(ask.what.clone(), number);
        let body = &answer.body[..];
        let read = match &ask.what {
            What::Services => {
                let list = match self.scope.peer.is_some() {
                    true => peer::imported(body),
                    false => serde_json::from_slice::<Listed>(body).map(|list| list.0),
                };
                let list = match list {
                    Ok(list) => list,
                    Err(error) => return Ok(Err(error)),
                };
                let list = list.into_iter().map(|(name, tags)| (name, self.hasher.hash_one(tags))).collect();
                match self.plan.services(&answer.meta, list, moved, now) {
                    Some((names, changed)) => self.listed(&names, changed, now).await?,
                    None => {
                        self.last.remove(&What::Services);
                    }
                }
                Ok(())
            }
            What::Critical | What::Warning => serde_json::from_slice::<Checks>(body)
                .map(|checks| self.plan.checks(ask.what == What::Warning, &answer.meta, checks.list, now)),
            What::Nodes => serde_json::from_slice::<Nodes>(body).map(|nodes| {
                let number = |node: &Node| {
                    self.hasher.hash_one((&node.address, &node.tagged_addresses, &node.meta, &node.locality))
                };
                let nodes = nodes.list.iter().map(|node| (Arc::from(node.node.as_str()), number(node))).collect();
                self.plan.nodes(&answer.meta, nodes, now);
            }),
            What::Defaults => serde_json::from_slice::<Defaults>(body).map(|all| {
                let said = all.list.into_iter().filter(|d| !d.protocol.is_empty()).map(|d| (d.name, d.protocol));
                self.plan.defaults(said.collect(), now);
            }),
            What::Token | What::Health(_) => Ok(()),
        };
        Ok(read)
    }

    /// Takes in which services there are.
    async fn listed(&mut self, names: &[Arc<str>], changed: bool, now: Instant) -> Result<(), Closed> {
        if changed {
            let claims = Claims::of(&self.scope, names);
            let before = std::mem::replace(&mut self.claims, claims);
            for (service, names) in &self.claims.names {
                if before.names.get(service).is_some_and(|old| old != names) {
                    self.plan.reread(service, now);
                }
            }
            self.reports
                .retain(self.driver, |service| {
                    self.claims.names.contains_key(service) || self.claims.problems.contains_key(service)
                })
                .await?;
            for service in names {
                let why = self.claims.problems.get(service).cloned();
                self.reports.say(self.driver, service, reports::Topic::Name, why).await?;
            }
            self.take_interest();
        }
        self.driver.parts(names.iter().map(|name| &**name)).await
    }

    /// Takes in an answer about one service.
    async fn health(&mut self, ask: &Ask, service: &Arc<str>, answer: &Answer, now: Instant) -> Result<(), Closed> {
        let empty = matches!(answer.body.trim_ascii(), b"[]" | b"null" | b"");
        match self.plan.health(ask, &answer.meta, empty, now) {
            Heard::Ignore => return Ok(()),
            Heard::Hidden => {
                self.driver.pass(service).await?;
                let why = "Consul hides instances of it; the ACL token needs read for the service and its nodes; what was \
                           known of it stays";
                return self.reports.say(self.driver, service, reports::Topic::Answer, Some(why.to_owned())).await;
            }
            Heard::Use => {}
        }
        let protocol = self.plan.protocol(service);
        let Some(names) = self.claims.names.get(service).cloned() else { return self.driver.pass(service).await };
        let fingerprint = Fingerprint::of(&(&answer.body[..], &names, protocol));
        if self.driver.unchanged(service, fingerprint).await? {
            self.plan.told_nothing(service, now);
            return Ok(());
        }
        let entries: Entries = match serde_json::from_slice(&answer.body) {
            Ok(entries) => entries,
            Err(error) => {
                self.driver.pass(service).await?;
                let why = format!("{}; what was known of it stays", Failure::Unreadable(error.to_string()));
                return self.reports.say(self.driver, service, reports::Topic::Answer, Some(why)).await;
            }
        };
        let mapped = map(&self.scope, &names, protocol, &entries);
        self.plan.taken(service, entries.list.iter().map(|entry| Arc::from(entry.node.node.as_str())));
        self.reports.say(self.driver, service, reports::Topic::Answer, None).await?;
        self.reports.say_all(self.driver, service, mapped.problems).await?;
        self.driver.observe(service, Some(fingerprint), || mapped.objects).await
    }

    /// Says what is wrong, and when it no longer is.
    async fn tell_trouble(&mut self) -> Result<(), Closed> {
        let now = self.plan.trouble().map(|why| (why.to_owned(), self.plan.is_blind()));
        if now == self.told {
            return Ok(());
        }
        let datacenter = self.scope.place();
        match (&now, &self.told) {
            (Some((why, blind)), before) => {
                tracing::warn!(%datacenter, why, "trouble with consul");
                if *blind {
                    self.driver.doubt(why.clone()).await?;
                } else if before.as_ref().is_some_and(|(_, blind)| *blind) {
                    self.driver.trust().await?;
                }
                self.driver.failed(why.clone()).await?;
            }
            (None, Some((_, blind))) => {
                tracing::info!(%datacenter, "the trouble with consul is over");
                if *blind {
                    self.driver.trust().await?;
                }
                self.driver.spoke().await?;
            }
            (None, None) => {}
        }
        self.told = now;
        Ok(())
    }
}

/// The next answer, if it is there already.
async fn ready<F: Future>(out: &mut FuturesUnordered<F>) -> Option<F::Output> {
    let mut next = out.next();
    std::future::poll_fn(|context| match futures_util::FutureExt::poll_unpin(&mut next, context) {
        std::task::Poll::Ready(answered) => std::task::Poll::Ready(answered),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

fn question(ask: &Ask, scope: &Scope) -> Question {
    let path: Vec<Arc<str>> = match &ask.what {
        What::Services if scope.peer.is_some() => vec!["peering".into(), scope.peer.clone().unwrap_or_default()],
        What::Services => vec!["catalog".into(), "services".into()],
        What::Critical => vec!["health".into(), "state".into(), "critical".into()],
        What::Warning => vec!["health".into(), "state".into(), "warning".into()],
        What::Nodes => vec!["catalog".into(), "nodes".into()],
        What::Defaults => vec!["config".into(), "service-defaults".into()],
        What::Token => vec!["acl".into(), "token".into(), "self".into()],
        What::Health(service) => vec!["health".into(), "service".into(), service.clone()],
    };
    let about_token = ask.what == What::Token;
    Question { path, index: ask.index, stale: !ask.leader && !about_token, scoped: !about_token, slot: ask.slot }
}
