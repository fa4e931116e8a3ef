//! Whether the source speaks.
//!
//! Invariant: `Stale` is said once for a cause, `Fresh` once after it; a state that was loaded is stale until the
//! source has said everything.

use std::time::{Duration, Instant};

use hawser_mesh::Event;

/// What is known of a source's silence.
#[derive(Debug, Default)]
pub(super) struct Silence {
    loaded: Option<(Duration, Instant)>,
    failing: Option<(String, Instant)>,
    told: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Loaded,
    Failing,
}

impl Silence {
    pub(super) fn loaded(&mut self, age: Duration, now: Instant, events: &mut Vec<Event>) {
        self.loaded = Some((age, now));
        self.tell(events);
    }

    pub(super) fn failed(&mut self, why: String, now: Instant, events: &mut Vec<Event>) {
        let since = self.failing.take().map_or(now, |(_, since)| since);
        self.failing = Some((why, since));
        self.tell(events);
    }

    pub(super) fn spoke(&mut self, events: &mut Vec<Event>) {
        self.failing = None;
        self.tell(events);
    }

    /// Everything was heard.
    pub(super) fn complete(&mut self, events: &mut Vec<Event>) {
        self.loaded = None;
        self.tell(events);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Since when, and why; `None` if it speaks.
    pub(super) fn stale(&self) -> Option<(Instant, String)> {
        let loaded = self.loaded.as_ref().map(|(_, since)| *since);
        let since = self.failing.as_ref().map(|(_, since)| *since).into_iter().chain(loaded).min()?;
        Some((since, self.why()?))
    }

    fn why(&self) -> Option<String> {
        let age = self.loaded.map(|(age, _)| humantime::format_duration(Duration::from_secs(age.as_secs())));
        match (&self.failing, age) {
            (Some((why, _)), None) => Some(why.clone()),
            (Some((why, _)), Some(age)) => {
                Some(format!("{why}; what it said before discovery's start, {age} ago, stays"))
            }
            (None, Some(age)) => {
                Some(format!("not everything was heard since discovery's start; what it said {age} before stays"))
            }
            (None, None) => None,
        }
    }

    fn tell(&mut self, events: &mut Vec<Event>) {
        let cause = match (&self.failing, self.loaded) {
            (Some(_), _) => Some(Cause::Failing),
            (None, Some(_)) => Some(Cause::Loaded),
            (None, None) => None,
        };
        if cause == self.told {
            return;
        }
        self.told = cause;
        events.push(self.why().map_or(Event::Fresh, Event::Stale));
    }
}
