//! What goes wrong with a cluster's watches, and what that means for the cluster. No I/O.
//!
//! Invariant: a refusal is never final, for servers that start refuse what they grant a moment later; what need not be
//! seen does not hold up the rest for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Failure, NODES, SECRETS, Said};
use crate::watch::Change;

/// A failure that is over sooner than this is none.
const GRACE: Duration = Duration::from_secs(3);
/// A refusal that lasts so long is meant.
const MEANT: Duration = Duration::from_secs(20);

/// By kind.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    failing: BTreeMap<String, (Instant, Failure)>,
    probe: Option<(Instant, Failure)>,
    /// Refusals that were told.
    denied: BTreeSet<String>,
    changed: bool,
    answered: bool,
}

impl Troubles {
    /// Keeps what is wrong with a kind, and hands on what became of its objects.
    pub(super) fn sort<T>(&mut self, kind: &str, said: Said<T>) -> Option<Change<T>> {
        match said {
            Said::Change(change) => {
                self.answered = true;
                self.over(kind);
                Some(change)
            }
            Said::Speaks => {
                self.answered = true;
                self.over(kind);
                None
            }
            Said::Fails(since, failure) => {
                self.changed = true;
                self.failing.insert(kind.to_owned(), (since, failure));
                None
            }
        }
    }

    fn over(&mut self, kind: &str) {
        self.changed |= self.failing.remove(kind).is_some();
        self.changed |= self.denied.remove(kind);
    }

    /// The server answered whether it is there.
    pub(super) fn probed(&mut self, answer: Result<(), Failure>, now: Instant) {
        match answer {
            Ok(()) => (self.probe, self.answered) = (None, true),
            Err(failure) => {
                let since = self.probe.take().map_or(now, |(since, _)| since);
                self.probe = Some((since, failure));
            }
        }
    }

    /// Whether anything is wrong.
    pub(super) fn any(&self) -> bool {
        !self.failing.is_empty() || self.probe.is_some()
    }

    /// Whether something changed since this was last asked.
    pub(super) fn changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether the server said anything since this was last asked.
    pub(super) fn answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    /// Kinds that we may not see for good, and need not: each once.
    pub(super) fn denied(&mut self, now: Instant) -> Vec<(String, Failure)> {
        let meant = |(kind, (since, failure)): &(&String, &(Instant, Failure))| {
            matches!(failure, Failure::Denied(_)) && is_optional(kind) && now - *since >= MEANT
        };
        let all = self.failing.iter().filter(meant).map(|(kind, (_, failure))| (kind.clone(), failure.clone()));
        all.filter(|(kind, _)| self.denied.insert(kind.clone())).collect()
    }

    /// Whether a kind is one of those.
    pub(super) fn is_denied(&self, kind: &str) -> bool {
        self.denied.contains(kind)
    }

    /// Kinds that can't be done without, and that we may not see, with the cure.
    pub(super) fn refused(&self, now: Instant) -> Vec<String> {
        let meant = |(kind, (since, failure)): &(&String, &(Instant, Failure))| {
            matches!(failure, Failure::Denied(_)) && !is_optional(kind) && now - *since >= GRACE
        };
        let all = self.failing.iter().filter(meant);
        all.map(|(kind, (_, failure))| format!("{kind}: {failure}{}", cure(failure))).collect()
    }

    /// Why the cluster is silent; `None` if it is not.
    pub(super) fn silence(&self, now: Instant) -> Option<String> {
        if let Some((_, failure)) = &self.probe {
            return Some(format!("{failure}; what it said last stays"));
        }
        let lasting = self.failing.iter().filter(|(kind, (since, failure))| {
            let refused = matches!(failure, Failure::Denied(_));
            now - *since >= GRACE && !(refused && is_optional(kind))
        });
        let (kind, (_, failure)) = lasting.min_by_key(|(_, (since, _))| *since)?;
        Some(format!("{kind}: {failure}{}; what it said last stays", cure(failure)))
    }
}

fn cure(failure: &Failure) -> &'static str {
    match failure {
        Failure::Denied(_) => "; give it list and watch: docs/kubernetes.md has the role",
        Failure::Unauthorized(_) => "; its credentials are read again when they change",
        Failure::TooMuch(_) => "; take away what nobody needs, or raise mostObjects of this registry",
        _ => "",
    }
}

/// Whether the cluster can be followed without this kind.
fn is_optional(kind: &str) -> bool {
    kind == NODES || kind == SECRETS || !matches!(kind, "namespaces" | "services" | "endpointslices" | "pods")
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn fails(troubles: &mut Troubles, kind: &str, since: Instant, failure: Failure) {
        assert!(troubles.sort::<()>(kind, Said::Fails(since, failure)).is_none());
    }

    fn denied() -> Failure {
        Failure::Denied("pods is forbidden".to_owned())
    }

    #[test]
    fn a_failure_of_a_moment_is_none() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        fails(&mut troubles, "pods", now, Failure::Unreachable("reset".to_owned()));
        assert_eq!(troubles.silence(now + S), None);
        let why = troubles.silence(now + S * 4).unwrap();
        assert_eq!(why, "pods: the API server does not answer: reset; what it said last stays");
        assert!(troubles.sort::<()>("pods", Said::Speaks).is_none() && troubles.answered());
        assert_eq!((troubles.silence(now + S * 4), troubles.any()), (None, false));
    }

    #[test]
    fn a_refusal_is_told_when_it_lasts_and_holds_up_only_what_can_not_be_done_without() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        for kind in ["pods", "nodes", "sidecars"] {
            fails(&mut troubles, kind, now, denied());
        }
        assert!(troubles.denied(now + S * 10).is_empty(), "a server that starts refuses too");
        let told: Vec<String> = troubles.denied(now + S * 30).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(told, ["nodes", "sidecars"]);
        assert!(troubles.denied(now + S * 40).is_empty(), "once");
        assert!(troubles.silence(now + S * 40).unwrap().contains("docs/kubernetes.md has the role"));
        assert!(troubles.refused(now + S).is_empty());
        let refused = troubles.refused(now + S * 4);
        assert!(
            refused.len() == 1 && refused[0].starts_with("pods: ") && refused[0].contains("the role"),
            "{refused:?}"
        );
        troubles.sort::<()>("pods", Said::Speaks);
        assert!(troubles.refused(now + S * 4).is_empty());
        assert_eq!(troubles.silence(now + S * 40), None);
        troubles.sort::<()>("nodes", Said::Change(Change::Whole(Vec::new())));
        assert!(!troubles.is_denied("nodes") && troubles.is_denied("sidecars") && troubles.changed());
    }

    #[test]
    fn a_door_that_is_shut_makes_the_cluster_silent_though_watches_go_on() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        troubles.probed(Err(Failure::Unreachable("connection refused".to_owned())), now);
        assert!(troubles.silence(now).unwrap().contains("connection refused"));
        troubles.probed(Ok(()), now);
        assert_eq!((troubles.silence(now), troubles.any()), (None, false));
    }
}
