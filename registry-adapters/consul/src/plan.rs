//! What to ask a Consul next, and what to believe of the answers. No I/O; time is passed in.
//!
//! In: answers, failures, which services some proxy is subscribed to. Out: questions, and what is to be taken in.
//! Four queries wait for what tells that something changed: the list of services, checks that are critical or warn,
//! nodes. A service that is subscribed to has a query of its own that waits, as far as there are connections; the others
//! are read when one of the four says that they changed, and all of them, oldest first and spread over the sweep's time,
//! when something was registered that the list does not tell: in half of it those that some proxy is subscribed to. Invariants: never more questions at once than allowed;
//! an answer that a weak token or a server that is behind may have thinned out removes nothing.

mod index;
mod services;
mod signals;
mod slots;
mod sweep;
mod trouble;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::index::Verdict;
pub(crate) use self::services::Heard;
use self::services::Services;
use self::signals::Signals;
use self::trouble::{Kind, Troubles};
use self::watch::Watch;
use crate::client::{Failure, Meta};
use crate::wire::Check;

/// The service that servers register themselves as: whoever may see services sees it.
const CONSUL: &str = "consul";
/// Time between two looks at the token.
const TOKEN: Duration = Duration::from_secs(30);
/// Time between two questions while nothing is believed.
const PROBE: Duration = Duration::from_secs(2);

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    /// Names of all services with their tags.
    Services,
    /// Checks that are critical.
    Critical,
    /// Checks that warn.
    Warning,
    /// All nodes.
    Nodes,
    /// Configuration entries that say protocols.
    Defaults,
    /// The token itself.
    Token,
    /// Instances of a service.
    Health(Arc<str>),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Of this one.
    pub(crate) id: u64,
    /// About this.
    pub(crate) what: What,
    /// Wait until something is newer than this.
    pub(crate) index: Option<u64>,
    /// Only the leader's answer will do.
    pub(crate) leader: bool,
    /// Which of the services' own queries it is.
    pub(crate) slot: Option<usize>,
}

/// How much is asked.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Reads at once.
    pub(crate) parallel: usize,
    /// Time for all services that have no query of their own.
    pub(crate) sweep: Duration,
    /// Time after which a service is read again though nothing says that it changed.
    pub(crate) refresh: Duration,
    /// Longest a query waits at the server, with what the server adds.
    pub(crate) wait: Duration,
    /// The token is meant to see a part only.
    pub(crate) partial_view: bool,
    /// The list holds the servers themselves, unless something is hidden.
    pub(crate) lists_consul: bool,
    /// There is a token.
    pub(crate) token: bool,
    /// They are services of a peer: only their list is told, and it does not wait for a change.
    pub(crate) peer: bool,
}

/// What to ask next.
#[derive(Debug)]
pub(crate) struct Plan {
    limits: Limits,
    next_id: u64,
    watches: BTreeMap<What, Watch>,
    services: Services,
    signals: Signals,
    troubles: Troubles,
    protocols: BTreeMap<String, String>,
    /// What a request without a token may do: nothing.
    denies_by_default: Option<bool>,
    cancelled: Vec<u64>,
}

impl Plan {
    /// A plan that knows nothing yet.
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let lists = [What::Services, What::Critical, What::Warning, What::Nodes, What::Defaults];
        let lists = lists.into_iter().take(if limits.peer { 1 } else { 5 });
        let mut watches: BTreeMap<What, Watch> = lists.map(|what| (what, Watch::new(now))).collect();
        if limits.token {
            watches.insert(What::Token, Watch::new(now));
        }
        Self {
            services: Services::new(&limits, now),
            limits,
            next_id: 0,
            watches,
            signals: Signals::default(),
            troubles: Troubles::default(),
            protocols: BTreeMap::new(),
            denies_by_default: None,
            cancelled: Vec::new(),
        }
    }

    /// Questions to ask now.
    pub(crate) fn next(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        let believing = !self.troubles.is_blind();
        let warm = self.is_warm();
        let id = &mut self.next_id;
        for (what, watch) in &mut self.watches {
            if (believing || tells_of_rights(what)) && watch.is_due(now) {
                *id += 1;
                watch.ask(*id);
                // While nothing is believed, the question must not wait for a change: rights change without one.
                let waits = believing && *what != What::Token && !self.limits.peer;
                let index = if waits { watch.index() } else { None };
                asks.push(Ask { id: *id, what: what.clone(), index, leader: watch.leader, slot: None });
            }
        }
        if believing && warm {
            self.services.next(now, id, &mut asks);
        } else if self.troubles.has(Kind::HiddenNodes) {
            self.services.probe(now, PROBE, id, &mut asks);
        }
        asks
    }

    /// Questions whose answers nobody waits for any more.
    pub(crate) fn cancelled(&mut self) -> Vec<u64> {
        self.services.take_cancelled(&mut self.cancelled);
        std::mem::take(&mut self.cancelled)
    }

    /// When [`Plan::next`] has something to ask, if nothing comes before.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let believing = !self.troubles.is_blind();
        let needed = self.watches.iter().filter(|(what, _)| believing || tells_of_rights(what));
        let watches = needed.filter_map(|(_, watch)| watch.due_at()).min();
        let services = if self.troubles.has(Kind::HiddenNodes) {
            Some(self.services.probe_at(PROBE))
        } else if self.is_warm() && believing {
            self.services.wake_at(now)
        } else {
            None
        };
        watches.into_iter().chain(services).min()
    }

    /// What is wrong, with cause and cure.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.troubles.worst()
    }

    /// Rights are missing: nothing that is said can be believed.
    pub(crate) fn is_blind(&self) -> bool {
        self.troubles.is_blind()
    }

    /// The protocol of a service by `service-defaults`.
    pub(crate) fn protocol(&self, service: &str) -> Option<&str> {
        self.protocols.get(service).or_else(|| self.protocols.get("*")).map(String::as_str)
    }

    /// Services that some proxy is subscribed to, and how many queries may wait for services.
    pub(crate) fn set_interest(&mut self, wanted: &BTreeSet<Arc<str>>, capacity: usize, now: Instant) {
        self.services.set_interest(wanted, capacity, now);
    }

    /// The token is another one: everything is asked anew, and at once.
    pub(crate) fn token_changed(&mut self, now: Instant) {
        for (what, watch) in &mut self.watches {
            self.cancelled.extend(watch.restart(now));
            if *what == What::Token {
                watch.off = false;
            }
        }
        self.services.restart(now);
    }

    /// An answer to one of the questions about more than a service. `None` if it is not to be believed; else whether it
    /// is of another state than the one before.
    pub(crate) fn hear(&mut self, ask: &Ask, meta: &Meta, now: Instant) -> Option<bool> {
        self.denies_by_default = meta.denies_by_default.or(self.denies_by_default);
        let watch = self.watches.get_mut(&ask.what).filter(|watch| watch.asked(ask.id))?;
        let verdict = watch.answered(meta, ask.leader, now);
        self.troubles.clear(Kind::Token);
        if ask.what == What::Services {
            self.troubles.clear(Kind::Unreachable);
        }
        match verdict {
            Verdict::AskLeader => None,
            Verdict::Believe { moved } => {
                if self.limits.peer {
                    watch.delay(now + self.limits.sweep);
                }
                Some(moved || self.limits.peer)
            }
        }
    }

    /// What was heard is the same as before, though perhaps of another state.
    pub(crate) fn same(&mut self, ask: &Ask, moved: bool, now: Instant) {
        if ask.what == What::Services && moved {
            self.services.something_changed(now);
        }
    }

    /// The list of services, heard and of another state if `moved`. `None` if it is not to be believed; else the names,
    /// and whether they are others than before.
    pub(crate) fn services(
        &mut self,
        meta: &Meta,
        list: BTreeMap<Arc<str>, u64>,
        moved: bool,
        now: Instant,
    ) -> Option<(Vec<Arc<str>>, bool)> {
        let no_consul = self.limits.lists_consul && !list.contains_key(CONSUL);
        if !self.limits.partial_view && (meta.filtered || no_consul) {
            self.troubles.set(Kind::HiddenServices, trouble::hidden(self.limits.token, self.denies_by_default));
            self.forget_list(now);
            return None;
        }
        let was_hidden = self.troubles.clear(Kind::HiddenServices) | self.troubles.clear(Kind::Denied);
        if self.troubles.is_blind() {
            self.forget_list(now);
            return None;
        }
        if was_hidden {
            self.restart(now);
        }
        let names: Vec<Arc<str>> = list.keys().filter(|name| &***name != CONSUL).cloned().collect();
        self.signals.forget(|service| names.binary_search_by(|name| (**name).cmp(service)).is_err());
        let changed = self.services.list(list, moved, now);
        Some((names, changed))
    }

    /// Checks of one status, heard.
    pub(crate) fn checks(&mut self, warning: bool, meta: &Meta, checks: Vec<Check>, now: Instant) {
        if !meta.filtered || self.limits.partial_view {
            for service in self.signals.checks(warning, checks) {
                self.services.touch(&service, now);
            }
        }
    }

    /// Nodes, heard, each with a number that tells whether it changed.
    pub(crate) fn nodes(&mut self, meta: &Meta, nodes: BTreeMap<Arc<str>, u64>, now: Instant) {
        if !meta.filtered || self.limits.partial_view {
            for service in self.signals.nodes(nodes) {
                self.services.touch(&service, now);
            }
        }
    }

    /// Protocols by service, heard.
    pub(crate) fn defaults(&mut self, protocols: BTreeMap<String, String>, now: Instant) {
        let before = std::mem::replace(&mut self.protocols, protocols);
        let of = |all: &BTreeMap<String, String>, name: &str| all.get(name).or_else(|| all.get("*")).cloned();
        let changed: Vec<Arc<str>> =
            self.services.names().filter(|name| of(&before, name) != of(&self.protocols, name)).cloned().collect();
        changed.iter().for_each(|service| self.services.reread(service, now));
    }

    /// A service is read anew, because what is made of it depends on something else that changed.
    pub(crate) fn reread(&mut self, service: &Arc<str>, now: Instant) {
        self.services.reread(service, now);
    }

    /// The token is good.
    pub(crate) fn token_is_good(&mut self, ask: &Ask, now: Instant) {
        if let Some(watch) = self.watches.get_mut(&What::Token).filter(|watch| watch.asked(ask.id)) {
            watch.answered(&Meta::default(), true, now);
            watch.delay(now + TOKEN);
            if self.troubles.clear(Kind::BadToken) {
                self.restart(now);
            }
        }
    }

    /// Instances of a service: whether the answer is to be taken in.
    pub(crate) fn health(&mut self, ask: &Ask, meta: &Meta, empty: bool, now: Instant) -> Heard {
        let hidden = meta.filtered && !self.limits.partial_view;
        let blind = self.troubles.is_blind();
        let heard = self.services.answered(ask, meta, empty && !self.limits.partial_view, hidden, now);
        let (hiding, read) = self.services.hidden();
        if hiding * 2 > read {
            self.troubles.set(Kind::HiddenNodes, trouble::hidden_nodes());
        } else if self.troubles.clear(Kind::HiddenNodes) {
            self.restart(now);
        }
        if blind || self.troubles.is_blind() { Heard::Ignore } else { heard }
    }

    /// The answer was taken in: it is about instances on these nodes.
    pub(crate) fn taken(&mut self, service: &Arc<str>, nodes: impl IntoIterator<Item = Arc<str>>) {
        self.signals.learn(service, nodes);
        self.services.told(service);
    }

    /// The answer told nothing new.
    pub(crate) fn told_nothing(&mut self, service: &str, now: Instant) {
        self.services.told_nothing(service, now);
    }

    /// The answer can't be used. `true` if that is so of this service and will stay so: it is passed over.
    pub(crate) fn failed(&mut self, ask: &Ask, failure: &Failure, now: Instant) -> bool {
        if let Failure::Token(why) = failure {
            self.troubles.set(Kind::Token, why.clone());
        }
        let What::Health(_) = &ask.what else {
            self.watch_failed(ask, failure, now);
            return false;
        };
        if matches!(failure, Failure::Denied(_)) {
            // The list will tell what that means.
            self.look_at_rights(now);
        }
        self.services.failed(ask, failure, now)
    }

    /// A list was heard and can't be read.
    pub(crate) fn unreadable(&mut self, what: &What, failure: &Failure, now: Instant) {
        if let Some(watch) = self.watches.get_mut(what) {
            watch.forget(now);
            watch.delay(now + PROBE * 2);
        }
        if *what == What::Services {
            self.troubles.set(Kind::Unreachable, trouble::unreachable(failure));
        }
    }

    fn watch_failed(&mut self, ask: &Ask, failure: &Failure, now: Instant) {
        let Some(watch) = self.watches.get_mut(&ask.what).filter(|watch| watch.asked(ask.id)) else { return };
        watch.failed(now);
        let failures = watch.failures();
        match (&ask.what, failure) {
            (What::Token, Failure::NoAcls | Failure::NotFound(_)) => {
                watch.off = true;
                if self.troubles.clear(Kind::BadToken) {
                    self.restart(now);
                }
            }
            (What::Token, Failure::Denied(_)) => {
                watch.delay(now + PROBE * 2);
                self.troubles.set(Kind::BadToken, trouble::denied(failure, self.limits.token));
            }
            (What::Token, _) => watch.delay(now + TOKEN),
            // What an older server, or one for whom this is secret, does not tell is not needed.
            (What::Defaults, Failure::NotFound(_) | Failure::Denied(_) | Failure::Refused(_)) => {
                watch.delay(now + TOKEN * 10);
            }
            (What::Services, Failure::Denied(_)) => {
                self.troubles.set(Kind::Denied, trouble::denied(failure, self.limits.token));
                self.look_at_rights(now);
            }
            (What::Services, Failure::Token(_)) => {}
            (What::Services, _) if failures > 1 || !self.services.is_listed() => {
                self.troubles.set(Kind::Unreachable, trouble::unreachable(failure));
            }
            _ => {}
        }
    }

    /// Asks at once what became of the token.
    fn look_at_rights(&mut self, now: Instant) {
        if let Some(watch) = self.watches.get_mut(&What::Token) {
            watch.hasten(now);
        }
    }

    /// The list was not believed: it is asked again soon, and as a whole.
    fn forget_list(&mut self, now: Instant) {
        if let Some(watch) = self.watches.get_mut(&What::Services) {
            watch.forget(now);
            watch.delay(now + PROBE);
        }
    }

    /// What was not believed is asked again at once, and everything is read anew.
    fn restart(&mut self, now: Instant) {
        for (what, watch) in &mut self.watches {
            if *what != What::Token {
                watch.forget(now);
            }
        }
        self.services.restart(now);
    }

    /// The four that tell of changes have answered once, or can't: before that a change could be missed.
    fn is_warm(&self) -> bool {
        let signals = [What::Critical, What::Warning, What::Nodes];
        self.services.is_listed() && signals.iter().all(|what| self.watches.get(what).is_none_or(Watch::tried))
    }
}

/// Whether a question is asked though nothing that is said is believed.
fn tells_of_rights(what: &What) -> bool {
    matches!(what, What::Services | What::Token)
}

#[cfg(test)]
mod tests;
