//! Health of targets by asking them.
//!
//! In: addresses, and what to ask. Out: for each whether it takes requests, once that is decided. Invariants: unknown
//! is not down; each address is asked once an interval, spread over it; no more at once than [`AT_ONCE`].

mod judge;
mod probe;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_mesh::Health;
use hawser_registry_source::Sweep;
use hawser_registry_source::settings::duration;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::judge::Judge;

/// Most questions at once.
const AT_ONCE: usize = 64;
/// Verdicts that come within this are told together.
const TOGETHER: Duration = Duration::from_millis(50);

/// How health is found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HealthCheck {
    /// `tcp`: a connection is taken; `http`: a request is answered as expected.
    pub kind: CheckKind,
    /// Where, for `http`.
    #[serde(default = "path")]
    pub path: String,
    /// `Host` of the request, for `http`; the address, if absent.
    #[serde(default)]
    pub host: String,
    /// Statuses that are good, for `http`: `200-399`, `200,204`.
    #[serde(default)]
    pub status: Statuses,
    /// The port to ask; the target's own, if absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// Time between two questions.
    #[serde(default = "interval", deserialize_with = "duration")]
    pub interval: Duration,
    /// Longest time for an answer.
    #[serde(default = "timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// Bad answers in a row after which a target is down.
    #[serde(default = "unhealthy_after")]
    pub unhealthy_after: u32,
    /// Good answers in a row after which it is up again.
    #[serde(default = "healthy_after")]
    pub healthy_after: u32,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A connection.
    Tcp,
    /// A GET without TLS.
    Http,
}

/// Ranges of statuses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl Statuses {
    fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl TryFrom<String> for Statuses {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || format!("{text:?} are no statuses; write them as 200-399 or 200,204");
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self).ok_or_else(wrong)
    }
}

fn path() -> String {
    "/".to_owned()
}

fn interval() -> Duration {
    Duration::from_secs(10)
}

fn timeout() -> Duration {
    Duration::from_secs(2)
}

fn unhealthy_after() -> u32 {
    3
}

fn healthy_after() -> u32 {
    2
}

impl HealthCheck {
    /// What no type says: field, reason and cure.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
        if !(least..=most).contains(&self.interval) {
            return Err("interval: it is 100ms to 1h".to_owned());
        }
        if self.timeout < Duration::from_millis(10) || self.timeout > Duration::from_secs(60) {
            return Err("timeout: it is 10ms to 1m".to_owned());
        }
        if self.unhealthy_after == 0 || self.healthy_after == 0 {
            return Err("unhealthyAfter, healthyAfter: they are 1 or more".to_owned());
        }
        if !self.path.starts_with('/') || self.path.parse::<http::Uri>().is_err() {
            return Err("path: it begins with / and is a path of a URL".to_owned());
        }
        if self.port == Some(0) {
            return Err("port: it is 1 to 65535".to_owned());
        }
        Ok(())
    }
}

/// What is known of all that were asked, when something of it changed.
pub(crate) type Verdicts = Arc<HashMap<SocketAddr, Health>>;

/// Checks that run; they stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Checks {
    targets: watch::Sender<BTreeSet<SocketAddr>>,
    verdicts: watch::Receiver<Verdicts>,
    task: JoinHandle<()>,
}

impl Checks {
    pub(crate) fn start(check: HealthCheck) -> Self {
        let (targets, wanted) = watch::channel(BTreeSet::new());
        let (sender, verdicts) = watch::channel(Verdicts::default());
        Self { targets, verdicts, task: tokio::spawn(run(Arc::new(check), wanted, sender)) }
    }

    /// Whom to ask from now on.
    pub(crate) fn set(&self, targets: BTreeSet<SocketAddr>) {
        self.targets.send_if_modified(|old| {
            let changed = *old != targets;
            *old = targets;
            changed
        });
    }

    /// Waits for verdicts that differ from those before.
    pub(crate) async fn changed(&mut self) {
        if self.verdicts.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What is known now.
    pub(crate) fn verdicts(&self) -> Verdicts {
        self.verdicts.borrow().clone()
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    check: Arc<HealthCheck>,
    mut wanted: watch::Receiver<BTreeSet<SocketAddr>>,
    verdicts: watch::Sender<Verdicts>,
) {
    let mut sweep = Sweep::new(check.interval, Instant::now());
    let mut judges: HashMap<SocketAddr, Judge> = HashMap::new();
    let mut asked: JoinSet<(SocketAddr, bool)> = JoinSet::new();
    // When verdicts that changed are told.
    let mut tell: Option<Instant> = None;
    loop {
        while asked.len() < AT_ONCE
            && let Some(name) = sweep.next(Instant::now())
        {
            let Ok(address) = name.parse::<SocketAddr>() else { continue };
            let check = check.clone();
            asked.spawn(async move { (address, probe::ask(&check, address).await) });
        }
        let due = if asked.len() < AT_ONCE { sweep.wake_at() } else { None };
        let wake = due.into_iter().chain(tell).min();
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Instant::now();
                let targets = wanted.borrow_and_update().clone();
                let gone: Vec<SocketAddr> = judges.keys().filter(|known| !targets.contains(known)).copied().collect();
                for address in gone {
                    judges.remove(&address);
                    sweep.remove(&address.to_string());
                }
                for address in targets {
                    if let std::collections::hash_map::Entry::Vacant(new) = judges.entry(address) {
                        new.insert(Judge::new(check.unhealthy_after, check.healthy_after));
                        sweep.insert(&address.to_string().into(), now);
                    }
                }
            }
            Some(answer) = asked.join_next() => {
                if let Ok((address, good)) = answer
                    && judges.get_mut(&address).is_some_and(|judge| judge.hear(good))
                {
                    tell.get_or_insert_with(|| Instant::now() + TOGETHER);
                }
            }
            () = sleep => {
                if tell.is_some_and(|at| at <= Instant::now()) {
                    tell = None;
                    let known = judges.iter().map(|(address, judge)| (*address, judge.health()));
                    verdicts.send_replace(Arc::new(known.collect()));
                }
            }
        }
    }
}
