//! Which name is looked up when, and what is believed of it. Without I/O.
//!
//! In: the names that are wanted, answers, the time. Out: names that are due, addresses that changed. Invariant: addresses of a
//! name are never taken away by a failure; and where servers say that there is no such name, only if they go on saying so.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::{Answers, Found};

/// The most names that are looked up; further ones have no addresses.
const MOST: usize = 4096;
/// An answer is good for so long at least, and at most.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);
/// After failures names are looked up again soon, then less often.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
const LAST_AGAIN: Duration = Duration::from_secs(60);
/// Servers must say for so long that there is no such name.
const GONE_AFTER: Duration = Duration::from_secs(300);

/// How a name is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Between two look-ups, where the answer does not say.
    pub refresh: Duration,
    /// Whether what it says counts.
    pub by_answer: bool,
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    names: HashMap<Arc<str>, State>,
}

#[derive(Debug)]
struct State {
    wish: Wish,
    /// When it is looked up next; absent while it is.
    due: Option<Instant>,
    families: [Vec<IpAddr>; 2],
    /// Whether anything was ever found out, were it that nothing can be.
    told: bool,
    failures: u32,
    /// Since when servers say that there is nothing.
    missing: Option<Instant>,
}

impl Schedule {
    /// These are the names that are wanted now. Further ones are forgotten.
    pub(super) fn want(&mut self, wanted: &BTreeMap<Arc<str>, Wish>, now: Instant) {
        self.names.retain(|name, _| wanted.contains_key(name));
        for (name, wish) in wanted {
            if let Some(state) = self.names.get_mut(name) {
                state.wish = *wish;
            } else if self.names.len() >= MOST {
                tracing::warn!(%name, "there are too many names, and this one is not looked up");
            } else {
                let state = State {
                    wish: *wish,
                    due: Some(now),
                    families: [Vec::new(), Vec::new()],
                    told: false,
                    failures: 0,
                    missing: None,
                };
                self.names.insert(name.clone(), state);
            }
        }
    }

    /// A name whose time has come, the one that waits longest; it is under way now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Arc<str>> {
        let due = self.names.iter_mut().filter(|(_, state)| state.due.is_some_and(|at| at <= now));
        let (name, state) = due.min_by(|a, b| (a.1.due, a.0).cmp(&(b.1.due, b.0)))?;
        state.due = None;
        Some(name.clone())
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.names.values().filter_map(|state| state.due).min()
    }

    /// What came of a look-up. The addresses, if there is anything new to say of them; `chance` is from 0 to 1.
    pub(super) fn answered(&mut self, name: &str, answers: Answers, now: Instant, chance: f64) -> Option<Vec<IpAddr>> {
        let state = self.names.get_mut(name)?;
        let failed = answers.contains(&Found::Nothing);
        let nothing = answers.iter().all(|found| matches!(found, Found::Addresses(all, _) if all.is_empty()));
        let lives = answers.iter().filter_map(|found| match found {
            Found::Addresses(all, ttl) if !all.is_empty() && *ttl > 0 => Some(*ttl),
            _ => None,
        });
        let life = lives.min().map(|ttl| Duration::from_secs(ttl.into())).filter(|_| state.wish.by_answer);
        state.missing = if nothing { state.missing.or(Some(now)) } else { None };
        let had = state.families.iter().any(|all| !all.is_empty());
        let is_gone = state.missing.is_some_and(|since| now.duration_since(since) >= GONE_AFTER);
        let before = state.families.clone();
        if !nothing || !had || is_gone {
            for (known, found) in state.families.iter_mut().zip(answers) {
                if let Found::Addresses(all, _) = found {
                    *known = all;
                }
            }
        }
        let wait = if failed || nothing {
            state.failures = state.failures.saturating_add(1);
            let again = FIRST_AGAIN.saturating_mul(1 << state.failures.min(10).saturating_sub(1)).min(LAST_AGAIN);
            again.mul_f64(0.5 + chance / 2.0)
        } else {
            state.failures = 0;
            // Hosts that asked at one time must not all ask again at one time.
            life.unwrap_or(state.wish.refresh).clamp(SHORTEST, LONGEST).mul_f64(1.0 + chance / 20.0)
        };
        state.due = Some(now + wait);
        let news = !state.told || before != state.families;
        state.told = true;
        news.then(|| state.families.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str]) -> BTreeMap<Arc<str>, Wish> {
        let wish = Wish { refresh: Duration::from_secs(60), by_answer: true };
        names.iter().map(|name| (Arc::from(*name), wish)).collect()
    }

    fn found(v4: &[&str], ttl: u32) -> Answers {
        let all = v4.iter().map(|a| a.parse().unwrap()).collect();
        [Found::Addresses(all, ttl), Found::Addresses(Vec::new(), 0)]
    }

    const NOTHING: fn() -> Answers = || [Found::Nothing, Found::Nothing];

    /// A schedule of one name that has been asked for, and now.
    fn asked() -> (Schedule, Instant) {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.want(&wanted(&["a"]), now);
        assert_eq!(schedule.take_due(now).as_deref(), Some("a"));
        assert!(schedule.take_due(now).is_none() && schedule.next().is_none(), "it is under way");
        (schedule, now)
    }

    fn text(addresses: Option<Vec<IpAddr>>) -> Option<String> {
        addresses.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_failure_leaves_the_last_good_answer_and_is_soon_tried_again() {
        let (mut schedule, now) = asked();
        assert_eq!(text(schedule.answered("a", found(&["192.0.2.1"], 30), now, 0.0)).as_deref(), Some("192.0.2.1"));
        assert_eq!(schedule.next(), Some(now + Duration::from_secs(30)));
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(schedule.answered("a", NOTHING(), now, 1.0), None);
            waits.push(schedule.next().unwrap().duration_since(now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(text(schedule.answered("a", found(&["192.0.2.2"], 30), now, 0.0)).as_deref(), Some("192.0.2.2"));
    }

    #[test]
    fn of_a_family_that_failed_the_last_good_answer_stays_too() {
        let (mut schedule, now) = asked();
        let six = |a: &str| Found::Addresses(vec![a.parse().unwrap()], 10);
        let both = [found(&["192.0.2.1"], 10)[0].clone(), six("2001:db8::1")];
        assert_eq!(text(schedule.answered("a", both, now, 0.0)).as_deref(), Some("192.0.2.1 2001:db8::1"));
        let one = [Found::Nothing, six("2001:db8::2")];
        assert_eq!(text(schedule.answered("a", one, now, 0.0)).as_deref(), Some("192.0.2.1 2001:db8::2"));
    }

    #[test]
    fn a_name_is_gone_when_servers_go_on_saying_so() {
        let (mut schedule, now) = asked();
        schedule.answered("a", found(&["192.0.2.1"], 30), now, 0.0);
        assert_eq!(schedule.answered("a", found(&[], 0), now, 0.0), None);
        let later = now + GONE_AFTER - Duration::from_secs(1);
        assert_eq!(schedule.answered("a", found(&[], 0), later, 0.0), None);
        assert_eq!(text(schedule.answered("a", found(&[], 0), now + GONE_AFTER, 0.0)).as_deref(), Some(""));
    }

    #[test]
    fn a_name_that_was_never_there_is_told_at_once() {
        let (mut schedule, now) = asked();
        assert_eq!(text(schedule.answered("a", NOTHING(), now, 0.0)).as_deref(), Some(""));
        assert_eq!(schedule.answered("a", found(&[], 0), now, 0.0), None, "there is nothing new to say");
    }

    #[test]
    fn answers_are_good_for_as_long_as_they_say_within_bounds() {
        let (mut schedule, now) = asked();
        for (ttl, seconds) in [(0, 60), (1, 5), (300, 300), (1_000_000, 3600)] {
            schedule.answered("a", found(&["192.0.2.1"], ttl), now, 0.0);
            assert_eq!(schedule.next(), Some(now + Duration::from_secs(seconds)), "{ttl}");
        }
        let mut fixed = wanted(&["a"]);
        fixed.values_mut().for_each(|wish| wish.by_answer = false);
        schedule.want(&fixed, now);
        schedule.answered("a", found(&["192.0.2.1"], 300), now, 0.0);
        assert_eq!(schedule.next(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn names_that_nobody_wants_are_forgotten_and_there_are_never_too_many() {
        let (mut schedule, now) = asked();
        schedule.want(&wanted(&["b"]), now);
        assert_eq!(schedule.answered("a", found(&["192.0.2.1"], 30), now, 0.0), None);
        let many: Vec<String> = (0..MOST + 10).map(|i| format!("n{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        schedule.want(&wanted(&many), now);
        assert_eq!(schedule.names.len(), MOST);
    }
}
