//! Faults on demand: what goes wrong, where, and how often.
//!
//! In: [`Fault`]s, from a test or over the control endpoint. Out: for each request, whether and how it goes wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kinds::Place;
use crate::refusal::Refusal;
use crate::reply::{Part, Reply};
use crate::server::locked;
use crate::store::Entry;

/// Which requests a fault is for; what is not said fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct On {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: Option<String>,
    /// The plural with its group: `pods`, `endpointslices.discovery.k8s.io`.
    pub resource: Option<String>,
    /// The namespace of the path.
    pub namespace: Option<String>,
    /// Name of the user.
    pub user: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum What {
    /// 500, a Status without a reason.
    Internal,
    /// 429, as text.
    TooMany {
        /// Seconds in `retry-after`.
        retry_after: u64,
    },
    /// 503 with `retry-after`.
    Unavailable {
        /// Seconds in `retry-after`.
        retry_after: u64,
    },
    /// 403, as when permissions are not loaded.
    Forbidden,
    /// 409, as when somebody else wrote in between.
    Conflict,
    /// 401.
    Unauthorized,
    /// 404, as when the paths of a kind are not there.
    NoSuchPath,
    /// 410: HTTP status of a list, ERROR event of a watch.
    Expired,
    /// An ERROR event with this code after so many events.
    ErrorEvent {
        /// Events before it.
        after: usize,
        /// The code.
        code: u16,
    },
    /// The body breaks off in the middle: after so many events, or, of a list or of the answer to a write, half-way.
    Cut {
        /// Events before.
        after: usize,
    },
    /// The same, in the middle of a line.
    HalfLine {
        /// Events before.
        after: usize,
    },
    /// A whole line that is no JSON, after so many events; or a list that is none.
    Garbage {
        /// Events before.
        after: usize,
    },
    /// The watch ends in order, after so many events.
    End {
        /// Events before.
        after: usize,
    },
    /// A pause before each event.
    Slow {
        /// Its length.
        ms: u64,
    },
    /// The answer comes late.
    Late {
        /// By so much.
        ms: u64,
    },
    /// The watch is taken and says nothing any more, not even bookmarks, and never ends.
    Silent {
        /// Events before.
        after: usize,
    },
    /// No bookmark is sent, not even the one that ends initial events.
    NoBookmarks,
    /// A list leaves these objects out, or so many of the last ones.
    Lose {
        /// Names that are left out.
        #[serde(default)]
        names: Vec<String>,
        /// How many of the last ones are left out.
        #[serde(default)]
        last: usize,
    },
    /// Reads see what was there so many versions ago.
    Stale {
        /// How many versions ago.
        by: u64,
    },
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where.
    #[serde(default)]
    pub on: On,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// How often; without end if it is not said.
    #[serde(default)]
    pub times: Option<u64>,
}

impl Fault {
    /// Everywhere, without end.
    pub fn new(what: What) -> Self {
        Self { on: On::default(), what, times: None }
    }

    /// Only for this verb.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        self.on.verb = Some(verb.to_owned());
        self
    }

    /// Only for this resource.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.on.resource = Some(resource.to_owned());
        self
    }

    /// Only for this user.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.on.user = Some(user.to_owned());
        self
    }

    /// Only so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// A request, as faults look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) verb: String,
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) user: String,
}

impl On {
    fn fits(&self, moment: &Moment) -> bool {
        let fits = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
        fits(&self.verb, &moment.verb)
            && fits(&self.resource, &moment.resource)
            && fits(&self.namespace, &moment.namespace)
            && fits(&self.user, &moment.user)
    }
}

/// What goes wrong with a watch, from its start on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watching {
    /// After so many events, this.
    pub(crate) then: Option<(usize, What)>,
    pub(crate) slow: Option<Duration>,
    pub(crate) no_bookmarks: bool,
    pub(crate) expired: bool,
    pub(crate) lost: Vec<Arc<Active>>,
}

/// A fault, and how often it happened.
#[derive(Debug)]
pub(crate) struct Active {
    fault: Fault,
    used: AtomicU64,
}

/// The faults of a server.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Arc<Active>>>);

impl Active {
    /// Uses it once, if it is not used up.
    fn take(&self) -> bool {
        let most = self.fault.times.unwrap_or(u64::MAX);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1)).is_ok()
    }
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) -> Arc<Active> {
        let active = Arc::new(Active { fault, used: AtomicU64::new(0) });
        locked(&self.0).push(Arc::clone(&active));
        active
    }

    pub(crate) fn clear(&self) {
        locked(&self.0).clear();
    }

    /// How often faults happened, one number each.
    pub(crate) fn used(&self) -> Vec<(Fault, u64)> {
        locked(&self.0).iter().map(|a| (a.fault.clone(), a.used.load(Ordering::Relaxed))).collect()
    }

    fn fitting(&self, moment: &Moment) -> Vec<Arc<Active>> {
        locked(&self.0).iter().filter(|a| a.fault.on.fits(moment)).cloned().collect()
    }

    pub(crate) fn late(&self, moment: &Moment) -> Option<Duration> {
        self.fitting(moment).into_iter().find_map(|active| match active.fault.what {
            What::Late { ms } if active.take() => Some(Duration::from_millis(ms)),
            _ => None,
        })
    }

    /// The refusal that a request meets.
    pub(crate) fn refusal(&self, moment: &Moment) -> Option<Refusal> {
        self.fitting(moment).into_iter().find_map(|active| {
            let refusal = match &active.fault.what {
                What::Internal => Refusal::internal("etcdserver: request timed out"),
                What::TooMany { retry_after } => Refusal::too_many(*retry_after),
                What::Unavailable { retry_after } => Refusal::unavailable(*retry_after),
                What::Unauthorized => Refusal::unauthorized(),
                What::Conflict => Refusal::modified(&place(&moment.resource), "x"),
                What::NoSuchPath => Refusal::no_such_path(),
                What::Forbidden => Refusal::forbidden_path(&moment.user, &moment.verb, &moment.resource),
                What::Expired if moment.verb == "list" => {
                    Refusal::expired("The provided continue parameter is too old to display a consistent list result.")
                }
                _ => return None,
            };
            active.take().then_some(refusal)
        })
    }

    /// The version that a read sees instead of the current one.
    pub(crate) fn stale(&self, moment: &Moment, now: u64) -> Option<u64> {
        self.fitting(moment).into_iter().find_map(|active| match active.fault.what {
            What::Stale { by } if active.take() => Some(now.saturating_sub(by)),
            _ => None,
        })
    }

    /// Takes objects out of a list.
    pub(crate) fn lose(&self, moment: &Moment, entries: &mut Vec<Arc<Entry>>) {
        for active in self.fitting(moment) {
            active.lose(entries);
        }
    }

    /// Breaks the body of a list.
    pub(crate) fn spoil(&self, moment: &Moment, reply: Reply) -> Reply {
        let broken = self.fitting(moment).into_iter().find_map(|active| match active.fault.what {
            What::Cut { .. } | What::HalfLine { .. } if active.take() => Some(true),
            What::Garbage { .. } if active.take() => Some(false),
            _ => None,
        });
        match broken {
            None => reply,
            Some(false) => Reply::json(200, b"<html>no JSON</html>".to_vec()),
            Some(true) => reply.cut(),
        }
    }

    pub(crate) fn watching(&self, moment: &Moment) -> Watching {
        let mut found = Watching::default();
        for active in self.fitting(moment) {
            let what = &active.fault.what;
            match what {
                What::ErrorEvent { after, .. }
                | What::Cut { after }
                | What::HalfLine { after }
                | What::Garbage { after }
                | What::End { after }
                | What::Silent { after }
                    if found.then.is_none() && active.take() =>
                {
                    found.then = Some((*after, what.clone()));
                }
                What::Slow { ms } if active.take() => found.slow = Some(Duration::from_millis(*ms)),
                What::NoBookmarks if active.take() => found.no_bookmarks = true,
                What::Expired if active.take() => found.expired = true,
                What::Lose { .. } => found.lost.push(active),
                _ => {}
            }
        }
        found
    }
}

impl Active {
    pub(crate) fn lose(&self, entries: &mut Vec<Arc<Entry>>) {
        let What::Lose { names, last } = &self.fault.what else { return };
        if self.take() {
            entries.retain(|e| !names.contains(&e.name));
            entries.truncate(entries.len().saturating_sub(*last));
        }
    }
}

fn place(qualified: &str) -> Place {
    let (plural, group) = qualified.split_once('.').unwrap_or((qualified, ""));
    Place::new(group, plural)
}

/// The end of a body that breaks off.
pub(crate) fn broken() -> Part {
    Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut on demand"))
}
