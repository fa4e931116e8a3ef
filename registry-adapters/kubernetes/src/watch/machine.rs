//! What to ask next about one kind, and what an answer means. No I/O; time is passed in.
//!
//! A list comes as a stream where the server has that (`sendInitialEvents`), else in pages; then a watch goes on from
//! its version. Invariant: [`Change::Whole`] is said only when a list is complete, and then it is all there is; a
//! failure, an end or silence says nothing.

use std::time::{Duration, Instant};

use hawser_daemon::backoff::Backoff;

use super::Failure;
use super::measure::{self, Measure};
use crate::name::Name;
use crate::wire::{Item, Line, Page};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// A page of the list: the first one, or the one that begins at `token`. `cached`: what the server has in memory is
    /// enough, for its store does not answer.
    List { place: usize, token: Option<String>, cached: bool },
    /// A watch that begins with everything there is.
    Stream { place: usize, cached: bool },
    /// A watch of what comes after `version`.
    Watch { place: usize, version: String },
    /// Whether the server itself says that it has no such kind: whoever stands before it may know none at all.
    Confirm,
    /// Nothing before this time.
    Wait(Instant),
}

/// What became of the kind's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// This is all that there is.
    Whole(Vec<T>),
    /// New or changed.
    Set(T),
    /// Gone, by the server's own word.
    Gone(Name),
}

/// How patient a machine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Places where the kind may be: versions of its group, the best first.
    pub(crate) places: usize,
    /// A server need not have the kind.
    pub(crate) optional: bool,
    /// Lists are asked for as streams until the server refuses one.
    pub(crate) streaming: bool,
    /// Silence of a watch after which it is not believed any more: servers send a bookmark each minute.
    pub(crate) idle: Duration,
    /// Silence within a list that comes as a stream.
    pub(crate) filling: Duration,
    /// First and longest wait after failures.
    pub(crate) backoff: (Duration, Duration),
    /// Time for which the kind must be unknown to the server before its objects count as gone.
    pub(crate) absent_after: Duration,
    /// Time between two looks whether a kind that is absent has come.
    pub(crate) absent_poll: Duration,
    /// Most objects.
    pub(crate) most: usize,
}

impl Limits {
    /// Of a kind that every server has.
    pub(crate) fn builtin() -> Self {
        Self { optional: false, ..Self::new(1) }
    }

    /// Of a kind that may be at so many places, or at none.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places,
            optional: true,
            streaming: true,
            idle: Duration::from_secs(150),
            filling: Duration::from_secs(60),
            backoff: (Duration::from_millis(250), Duration::from_secs(15)),
            absent_after: Duration::from_secs(3),
            absent_poll: Duration::from_secs(20),
            most: measure::OBJECTS,
        }
    }

    /// With so many objects at most.
    pub(crate) fn with_most(self, most: usize) -> Self {
        Self { most, ..self }
    }
}

/// Looks in a row that must say that a kind is absent.
const ABSENT_ROUNDS: u32 = 3;
/// Failures in a row after which a watch is given up for a list.
const STUBBORN: u32 = 4;
/// A store that did not answer so often is not asked: what the server remembers is better than nothing.
const STORELESS: u32 = 2;
/// A watch that ends sooner than this, and said nothing, counts as a failure.
const SHORT: Duration = Duration::from_secs(1);

/// One kind.
#[derive(Debug)]
pub(crate) struct Machine<T> {
    limits: Limits,
    place: usize,
    phase: Phase<T>,
    not_before: Option<Instant>,
    backoff: Backoff,
    streaming: bool,
    /// A whole list was said in this run.
    known: bool,
    /// Places in a row that do not exist.
    missing: usize,
    absent: Option<Absent>,
    confirm: bool,
    trouble: Option<(Instant, Failure)>,
    /// Answers that failed in a row; of them, those in which the store did not answer.
    failures: u32,
    storeless: u32,
    /// When the watch began, and whether it said anything.
    began: Option<Instant>,
    heard: bool,
    /// How much there is of it.
    measure: Measure,
}

#[derive(Debug)]
enum Phase<T> {
    /// Nothing is known, or what is known is too old to go on from.
    Begin,
    /// Some pages were read.
    Paging { token: String, items: Vec<T> },
    /// The beginning of a stream was read.
    Filling(Vec<T>),
    /// Everything up to this version was said.
    Following(String),
}

/// The kind does not exist.
#[derive(Clone, Copy, Debug)]
struct Absent {
    since: Instant,
    rounds: u32,
    /// That was said: there is nothing.
    settled: bool,
}

impl<T: Item> Machine<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            place: 0,
            phase: Phase::Begin,
            not_before: None,
            backoff: Backoff::new(limits.backoff.0, limits.backoff.1),
            streaming: limits.streaming,
            known: false,
            missing: 0,
            absent: None,
            confirm: false,
            trouble: None,
            failures: 0,
            storeless: 0,
            began: None,
            heard: false,
            measure: Measure::new(limits.most),
            limits,
        }
    }

    /// What to ask now.
    pub(crate) fn next(&mut self, now: Instant) -> Do {
        if let Some(at) = self.not_before {
            if at > now {
                return Do::Wait(at);
            }
            self.not_before = None;
        }
        if self.confirm {
            return Do::Confirm;
        }
        (self.began, self.heard) = (Some(now), false);
        let place = self.place;
        let cached = !self.known && self.storeless >= STORELESS;
        if let Phase::Begin | Phase::Filling(_) = self.phase {
            self.measure.begin();
        }
        match &self.phase {
            Phase::Following(version) => Do::Watch { place, version: version.clone() },
            Phase::Paging { token, .. } => Do::List { place, token: Some(token.clone()), cached: false },
            Phase::Begin | Phase::Filling(_) if self.streaming => {
                self.phase = Phase::Filling(Vec::new());
                Do::Stream { place, cached }
            }
            Phase::Begin | Phase::Filling(_) => {
                self.phase = Phase::Begin;
                Do::List { place, token: None, cached }
            }
        }
    }

    /// How long a watch may say nothing.
    pub(crate) fn patience(&self) -> Duration {
        match self.phase {
            Phase::Filling(_) => self.limits.filling,
            _ => self.limits.idle,
        }
    }

    /// Since when something is wrong, and what.
    pub(crate) fn trouble(&self) -> Option<&(Instant, Failure)> {
        self.trouble.as_ref()
    }

    /// The server does not know the kind, and that was said.
    pub(crate) fn is_absent(&self) -> bool {
        self.absent.is_some_and(|absent| absent.settled)
    }

    /// Something says that it is worth looking at once.
    pub(crate) fn hurry(&mut self) {
        self.not_before = None;
    }

    /// So many bytes came, of which the next page or lines are made.
    pub(crate) fn weigh(&mut self, bytes: usize) {
        if !matches!(self.phase, Phase::Following(_)) {
            self.measure.weigh(bytes);
        }
    }

    /// Nothing is to be read on: what comes is not wanted.
    pub(crate) fn gave_up(&self) -> bool {
        self.not_before.is_some()
    }

    /// A page came.
    pub(crate) fn page(&mut self, page: Page<T>, now: Instant) -> Option<Change<T>> {
        let (asked, mut items) = match std::mem::replace(&mut self.phase, Phase::Begin) {
            Phase::Paging { token, items } => (token, items),
            _ => (String::new(), Vec::new()),
        };
        items.extend(page.items);
        self.measure.page();
        self.measure.hold(items.len());
        if self.is_too_much(now) {
            return None;
        }
        if !asked.is_empty() && page.metadata.token == asked {
            self.failed(Failure::Unreadable("a page of a list leads to itself".to_owned()), now);
            return None;
        }
        self.answered();
        if !page.metadata.token.is_empty() {
            self.phase = Phase::Paging { token: page.metadata.token, items };
            return None;
        }
        if page.metadata.resource_version.is_empty() {
            self.failed(Failure::Unreadable("a list without a version".to_owned()), now);
            return None;
        }
        Some(self.complete(items, page.metadata.resource_version))
    }

    /// A watch was answered, if only with its head.
    pub(crate) fn started(&mut self) {
        if let Phase::Following(_) = self.phase {
            self.trouble = None;
        }
    }

    /// A line of a watch came.
    pub(crate) fn line(&mut self, line: Line<T>, now: Instant) -> Option<Change<T>> {
        if let Line::Error(status) = &line {
            self.failed(Failure::of_status(status), now);
            return None;
        }
        self.heard = true;
        match (&self.phase, &line) {
            (_, Line::New(_)) => self.measure.add(),
            (_, Line::Gone(_)) => self.measure.take(),
            // Nobody said that it is not yet another one.
            (Phase::Filling(_), Line::Set(_)) => self.measure.add(),
            _ => {}
        }
        if self.is_too_much(now) {
            return None;
        }
        self.answered();
        match (&mut self.phase, line) {
            (Phase::Filling(items), Line::New(item) | Line::Set(item)) => {
                items.push(item);
                None
            }
            (Phase::Filling(items), Line::Gone(item)) => {
                let name = item.name();
                items.retain(|other| other.name() != name);
                None
            }
            (Phase::Filling(items), Line::Bookmark(version, true)) => {
                let items = std::mem::take(items);
                Some(self.complete(items, version))
            }
            (Phase::Following(version), Line::Bookmark(newer, _)) => {
                *version = newer;
                None
            }
            (Phase::Following(version), Line::New(item) | Line::Set(item)) => {
                item.version().clone_into(version);
                Some(Change::Set(item))
            }
            (Phase::Following(version), Line::Gone(item)) => {
                item.version().clone_into(version);
                Some(Change::Gone(item.name()))
            }
            _ => None,
        }
    }

    /// The answer ended, in order or not: after lines of a watch that means nothing.
    pub(crate) fn ended(&mut self, now: Instant) {
        match self.phase {
            Phase::Following(_) if self.heard || self.began.is_some_and(|began| now - began >= SHORT) => {}
            Phase::Following(_) | Phase::Begin => self.pause(Duration::ZERO, now),
            Phase::Filling(_) => {
                self.phase = Phase::Begin;
                self.pause(Duration::ZERO, now);
            }
            Phase::Paging { .. } => self.pause(Duration::ZERO, now),
        }
    }

    /// A watch said nothing for longer than [`Machine::patience`]: the server is frozen, or has forgotten all that we
    /// know of and counts from anew. Only a list tells.
    pub(crate) fn silent(&mut self) {
        if let Phase::Filling(_) = self.phase {
            // A server that does not know of streams never ends the list.
            self.streaming = false;
        }
        self.phase = Phase::Begin;
    }

    /// There was no answer, or the watch broke off with a reason.
    pub(crate) fn failed(&mut self, failure: Failure, now: Instant) {
        self.failures += 1;
        self.confirm = false;
        match &failure {
            Failure::NotFound(_) if self.limits.optional => return self.not_found(now),
            Failure::Gone(_) => {
                self.phase = Phase::Begin;
                // Once is how servers say it; again and again is not.
                if self.failures > 1 {
                    self.pause(Duration::ZERO, now);
                }
                return;
            }
            Failure::Refused(_) if matches!(self.phase, Phase::Filling(_)) => {
                self.streaming = false;
                self.phase = Phase::Begin;
                return;
            }
            Failure::Refused(_)
            | Failure::Conflict(_)
            | Failure::Unreadable(_)
            | Failure::NotFound(_)
            | Failure::TooMuch(_) => self.phase = Phase::Begin,
            Failure::Busy(..) => self.storeless += 1,
            Failure::Failed(_) if self.failures >= STUBBORN => self.phase = Phase::Begin,
            Failure::Denied(_) | Failure::Unauthorized(_) | Failure::Failed(_) | Failure::Unreachable(_) => {}
        }
        if let Phase::Filling(_) = self.phase {
            self.phase = Phase::Begin;
        }
        self.pause(failure.wait(), now);
        let since = self.trouble.take().map_or(now, |(since, _)| since);
        self.trouble = Some((since, failure));
    }

    /// The server itself says that it has no such kind.
    pub(crate) fn confirmed(&mut self, now: Instant) -> Option<Change<T>> {
        self.confirm = false;
        let absent = self.absent.as_mut()?;
        absent.settled = true;
        self.look_again(now);
        Some(Change::Whole(Vec::new()))
    }

    /// The kind does not exist at this place, nor at the others?
    fn not_found(&mut self, now: Instant) {
        self.phase = Phase::Begin;
        self.missing += 1;
        self.place = (self.place + 1) % self.limits.places.max(1);
        if self.missing < self.limits.places {
            return;
        }
        (self.missing, self.failures, self.trouble) = (0, 0, None);
        let absent = self.absent.get_or_insert(Absent { since: now, rounds: 0, settled: false });
        absent.rounds += 1;
        if absent.settled {
            self.look_again(now);
        } else if absent.rounds >= ABSENT_ROUNDS && now - absent.since >= self.limits.absent_after {
            self.confirm = true;
        } else {
            // A server that starts may not know of the kind yet.
            self.not_before = Some(now + self.limits.absent_after / (ABSENT_ROUNDS - 1));
        }
    }

    fn look_again(&mut self, now: Instant) {
        self.not_before = Some(now + self.limits.absent_poll.mul_f64(rand::random_range(0.8..1.2)));
    }

    /// Lets go of what is more than may be; what was said before stays.
    fn is_too_much(&mut self, now: Instant) -> bool {
        let excess = self.measure.excess();
        let found = excess.is_some();
        excess.into_iter().for_each(|what| self.failed(Failure::TooMuch(what), now));
        found
    }

    fn complete(&mut self, items: Vec<T>, version: String) -> Change<T> {
        self.measure.hold(items.len());
        self.phase = Phase::Following(version);
        (self.known, self.missing, self.absent, self.trouble) = (true, 0, None, None);
        Change::Whole(items)
    }

    fn answered(&mut self) {
        (self.failures, self.storeless) = (0, 0);
        self.backoff.reset();
        if let Phase::Following(_) = self.phase {
            self.trouble = None;
        }
    }

    fn pause(&mut self, least: Duration, now: Instant) {
        self.not_before = Some(now + self.backoff.next_wait().max(least));
    }
}

#[cfg(test)]
mod tests;
