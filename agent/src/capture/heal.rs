//! Redirection that others took away, put back: somebody's `nft flush ruleset`, `ip route flush`, a hand in our table.
//!
//! In: what the kernel tells of changes. Out: the table and the routes as they were last asked for. It never fights: who
//! takes them away again and again finds them put back less and less often, and `hawser status` says so.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

use super::{Capture, chain, note};
use crate::redirect::{Event, MISSING, RedirectError, Watch};

/// Changes come in pieces; a table that is gone is not waited for.
const SETTLE: Duration = Duration::from_millis(50);
/// Between two looks at elements, which we change ourselves all the time.
const ELEMENTS: Duration = Duration::from_secs(5);
/// Between two looks where the kernel tells us nothing.
const BLIND: Duration = Duration::from_secs(10);
/// How long it is worth a warning.
const RECENT: Duration = Duration::from_secs(600);

/// What was put back since the agent started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Healing {
    /// How often.
    pub(crate) restored: u64,
    last: Option<Last>,
    /// Until when nothing is put back, because it was too often.
    waits_until: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Last {
    at: SystemTime,
    by: Option<String>,
    what: String,
}

impl Healing {
    /// What an operator must know of it; nothing when it is long ago.
    pub(crate) fn warning(&self, now: SystemTime, instant: Instant) -> Option<String> {
        let last = self.last.as_ref()?;
        let by = last.by.as_ref().map(|by| format!(" by `{by}`")).unwrap_or_default();
        let cure = "whoever reloads the firewall must leave table inet hawser and routes of protocol 157 alone";
        if let Some(until) = self.waits_until.filter(|until| *until > instant) {
            let seconds = until.duration_since(instant).as_secs() + 1;
            return Some(format!(
                "redirection is taken away{by} again and again ({}): it is put back in {seconds} s, and nothing is \
                 captured or closed until then; {cure}",
                last.what
            ));
        }
        let ago = now.duration_since(last.at).unwrap_or_default();
        (ago < RECENT).then(|| {
            let (times, seconds) = (self.restored, ago.as_secs());
            format!(
                "redirection was changed{by} {seconds} s ago ({}), and put back, {times} times so far; {cure}",
                last.what
            )
        })
    }
}

impl Capture {
    /// Puts back what others take away, until it is dropped.
    pub(crate) async fn heal(self) {
        let mut watch = Watch::start().inspect_err(blind).ok();
        let mut pace = Pace::default();
        let (mut due, mut held, mut looked) = (None::<Instant>, None::<Instant>, Instant::now());
        let mut seen = Event::default();
        loop {
            tokio::select! {
                biased;
                event = next(&mut watch) => {
                    let now = Instant::now();
                    let at = if event.gone {
                        now
                    } else if event.rules || event.routes {
                        now + SETTLE
                    } else {
                        now.max(looked + ELEMENTS)
                    };
                    let at = due.map_or(at, |due| at.min(due));
                    due = Some(held.map_or(at, |held| at.max(held)));
                    seen = std::mem::take(&mut seen).and(event);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    held = self.look(std::mem::take(&mut seen), &mut pace).await;
                    due = held;
                    looked = Instant::now();
                }
            }
        }
    }

    /// Puts back what differs; until when to wait, where that is not to be done now.
    async fn look(&self, seen: Event, pace: &mut Pace) -> Option<Instant> {
        let began = Instant::now();
        let mut redirection = self.0.redirection.lock().await;
        let wait = pace.wait(began);
        let differences = if !redirection.is_wanted() {
            Ok(Vec::new())
        } else if seen.gone && wait.is_zero() {
            // There is no time to lose with questions.
            Ok(vec![MISSING.to_owned()])
        } else {
            redirection.check().await
        };
        let what = match differences {
            Ok(differences) if differences.is_empty() => {
                self.0.healing.lock().waits_until = None;
                return None;
            }
            Ok(differences) => summary(&differences),
            Err(error) => chain(&error),
        };
        let last = Last { at: SystemTime::now(), by: seen.by, what };
        if !wait.is_zero() {
            self.hold_back(last, began + wait);
            return Some(began + wait);
        }
        let result = redirection.restore_now().await;
        drop(redirection);
        pace.restored(Instant::now());
        self.tell(last, result, began.elapsed())
    }

    /// Says that it was too often; once for each time that it is put off.
    fn hold_back(&self, last: Last, until: Instant) {
        let mut healing = self.0.healing.lock();
        let news = healing.waits_until.is_none();
        // Who looked first saw who it was.
        let by = last.by.clone().or_else(|| healing.last.as_ref()?.by.clone());
        healing.last = Some(Last { by, ..last });
        healing.waits_until = Some(until);
        if let Some(warning) = healing.warning(SystemTime::now(), Instant::now()).filter(|_| news) {
            tracing::error!("{warning}");
        }
    }

    fn tell(&self, last: Last, result: Result<Vec<String>, RedirectError>, took: Duration) -> Option<Instant> {
        let mut healing = self.0.healing.lock();
        healing.waits_until = None;
        match result {
            Ok(notes) => {
                let by = last.by.as_deref().unwrap_or("unknown");
                tracing::warn!(
                    by,
                    what = last.what,
                    took_ms = took.as_millis(),
                    "redirection was changed by others, and put back"
                );
                note(notes);
                healing.restored += 1;
                healing.last = Some(last);
                None
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    what = last.what,
                    "redirection was changed by others and can't be put back"
                );
                healing.last = Some(last);
                Some(Instant::now() + Duration::from_secs(1))
            }
        }
    }
}

/// The next event; where the kernel tells nothing, one now and then.
async fn next(watch: &mut Option<Watch>) -> Event {
    if let Some(hears) = watch {
        match hears.next().await {
            Ok(event) => return event,
            Err(error) => {
                blind(&error);
                *watch = None;
            }
        }
    } else {
        tokio::time::sleep(BLIND).await;
        *watch = Watch::start().ok();
    }
    Event::anything()
}

fn blind(error: &io::Error) {
    let every = BLIND.as_secs();
    tracing::warn!(%error, every, "the kernel does not tell of changes of the firewall: they are looked for now and then");
}

/// The first of them, and how many more.
fn summary(differences: &[String]) -> String {
    match differences {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    }
}

/// How often it may be put back: a few times at once, then slower and slower while it goes on. Pure.
#[derive(Debug, Default)]
struct Pace {
    recent: VecDeque<Instant>,
    slower: u32,
}

impl Pace {
    /// How many times in [`Self::SPAN`] are nothing special: a reload of everything in the morning, twice.
    const AT_ONCE: usize = 5;
    const SPAN: Duration = Duration::from_secs(60);
    const SLOWEST: Duration = Duration::from_secs(30);

    /// How long to wait from now.
    fn wait(&self, now: Instant) -> Duration {
        let Some(last) = self.recent.back().filter(|_| !self.is_peace(now)) else { return Duration::ZERO };
        if self.slower == 0 && !self.is_often(now) {
            return Duration::ZERO;
        }
        let pause = Duration::from_secs(1 << self.slower.min(5)).min(Self::SLOWEST);
        (*last + pause).saturating_duration_since(now)
    }

    /// It was put back.
    fn restored(&mut self, now: Instant) {
        if self.is_peace(now) {
            *self = Self::default();
        } else if self.slower > 0 || self.is_often(now) {
            self.slower += 1;
        }
        self.recent.push_back(now);
        if self.recent.len() > Self::AT_ONCE {
            self.recent.pop_front();
        }
    }

    fn is_peace(&self, now: Instant) -> bool {
        self.recent.back().is_none_or(|last| now.duration_since(*last) >= Self::SPAN)
    }

    fn is_often(&self, now: Instant) -> bool {
        self.recent.iter().filter(|at| now.duration_since(**at) < Self::SPAN).count() >= Self::AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_few_times_it_is_put_back_at_once_then_slower_and_slower() {
        let start = Instant::now();
        let (mut pace, mut now, mut waits) = (Pace::default(), start, Vec::new());
        for _ in 0..12 {
            let wait = pace.wait(now);
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(pace.wait(now), Duration::ZERO, "what was waited for comes");
            pace.restored(now);
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
        // A minute of peace, and it begins anew.
        now += Pace::SPAN;
        assert_eq!(pace.wait(now), Duration::ZERO);
        pace.restored(now);
        assert_eq!(pace.wait(now + SECOND), Duration::ZERO);
    }

    #[test]
    fn now_and_then_is_never_too_often() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.restored(now);
            now += 15 * SECOND;
        }
    }

    #[test]
    fn the_warning_says_who_and_what_and_ends() {
        let (now, instant) = (SystemTime::now(), Instant::now());
        let last = Last { at: now, by: Some("nft".into()), what: MISSING.into() };
        let mut healing = Healing { restored: 2, last: Some(last), waits_until: None };
        let said = healing.warning(now, instant).unwrap();
        assert!(said.contains("by `nft`") && said.contains(MISSING) && said.contains("2 times"), "{said}");
        healing.waits_until = Some(instant + 3 * SECOND);
        assert!(healing.warning(now, instant).unwrap().contains("again and again"));
        healing.waits_until = None;
        assert_eq!(healing.warning(now + RECENT, instant), None);
        assert_eq!(Healing::default().warning(now, instant), None);
    }
}
