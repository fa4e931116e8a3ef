//! Which requests there are, and what is to be done about each. No I/O; time is passed in.
//!
//! Invariant: every request that is there is kept in mind, or was asked to go; so each is answered once, and none stays.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::name::Name;
use crate::watch::Change;
use crate::wire::{Item as _, Request};

/// Requests that are there at a time, and those of one namespace.
const MOST: usize = 5000;
pub(super) const MOST_EACH: usize = 100;
/// How long one may be there: long enough to be read by whoever made it.
pub(super) const LIFE: Duration = Duration::from_secs(600);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Act {
    /// Answer it.
    Answer(Box<Request>),
    /// Say that there are too many.
    Refuse(Box<Request>),
    /// Take it away: name and unique id.
    Remove(Name, Arc<str>),
}

#[derive(Debug)]
struct Seen {
    uid: Arc<str>,
    until: Instant,
}

/// Requests by name.
#[derive(Debug, Default)]
pub(super) struct Book {
    seen: BTreeMap<Name, Seen>,
}

impl Book {
    /// What a change of the objects means.
    pub(super) fn take(&mut self, change: Change<Request>, now: Instant) -> Vec<Act> {
        match change {
            Change::Whole(all) => {
                let names: HashSet<Name> = all.iter().map(Request::name).collect();
                self.seen.retain(|name, _| names.contains(name));
                all.into_iter().filter_map(|request| self.look(request, now)).collect()
            }
            Change::Set(request) => self.look(request, now).into_iter().collect(),
            Change::Gone(name) => {
                self.seen.remove(&name);
                Vec::new()
            }
        }
    }

    fn look(&mut self, request: Request, now: Instant) -> Option<Act> {
        let name = request.name();
        let known = self.seen.get(&name).is_some_and(|seen| *seen.uid == *request.uid());
        let uid: Arc<str> = request.uid().into();
        if request.is_deleting() {
            return None;
        }
        if !known {
            if self.seen.len() >= MOST {
                return Some(Act::Remove(name, uid));
            }
            self.seen.insert(name.clone(), Seen { uid, until: now + LIFE });
        }
        if request.is_answered() {
            return None;
        }
        let others = self.seen.keys().filter(|other| other.namespace == name.namespace).count();
        let many = others > MOST_EACH;
        Some(if many { Act::Refuse(Box::new(request)) } else { Act::Answer(Box::new(request)) })
    }

    /// Those whose time is over.
    pub(super) fn over(&mut self, now: Instant) -> Vec<Act> {
        let over = self.seen.iter_mut().filter(|(_, seen)| seen.until <= now);
        over.map(|(name, seen)| {
            // Asked again if it is still there then.
            seen.until = now + LIFE;
            Act::Remove(name.clone(), seen.uid.clone())
        })
        .collect()
    }

    /// Whether it is there, as far as is known.
    pub(super) fn has(&self, name: &Name) -> bool {
        self.seen.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(name: &str, uid: &str, status: serde_json::Value) -> Request {
        let metadata = json!({"name": name, "namespace": "shop", "uid": uid, "resourceVersion": "1"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"group": "web"}, "status": status})).unwrap()
    }

    fn answered() -> serde_json::Value {
        json!({"conditions": [{"type": "Ready", "status": "False"}]})
    }

    #[test]
    fn what_is_answered_is_left_alone_and_goes_when_its_time_is_over() {
        let (mut book, now) = (Book::default(), Instant::now());
        let acts = book.take(Change::Whole(vec![request("a", "1", json!(null)), request("b", "2", answered())]), now);
        assert!(matches!(acts.as_slice(), [Act::Answer(a)] if a.plain_name() == "a"), "{acts:?}");
        assert!(book.over(now + LIFE - Duration::from_secs(1)).is_empty());
        let over = book.over(now + LIFE);
        assert_eq!(over.len(), 2);
        assert!(book.over(now + LIFE).is_empty(), "each is asked to go once in a while");
        assert_eq!(book.over(now + LIFE * 2).len(), 2, "and again if it stays");
        book.take(Change::Gone(Name::new("shop", "a")), now);
        assert!(!book.has(&Name::new("shop", "a")) && book.has(&Name::new("shop", "b")));
        assert!(book.take(Change::Whole(Vec::new()), now).is_empty());
        assert!(book.over(now + LIFE * 4).is_empty());
    }

    #[test]
    fn too_many_of_a_namespace_are_refused_and_too_many_of_all_are_taken_away() {
        let (mut book, now) = (Book::default(), Instant::now());
        for n in 0..MOST_EACH {
            let acts = book.take(Change::Set(request(&n.to_string(), "1", json!(null))), now);
            assert!(matches!(acts.as_slice(), [Act::Answer(_)]));
        }
        let acts = book.take(Change::Set(request("more", "1", json!(null))), now);
        assert!(matches!(acts.as_slice(), [Act::Refuse(_)]), "{acts:?}");
        for n in MOST_EACH + 1..MOST {
            book.take(Change::Set(request(&n.to_string(), "1", answered())), now);
        }
        let acts = book.take(Change::Set(request("beyond", "9", json!(null))), now);
        assert!(matches!(acts.as_slice(), [Act::Remove(_, uid)] if **uid == *"9"), "{acts:?}");
    }

    #[test]
    fn another_object_of_the_same_name_is_another_request() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.take(Change::Set(request("a", "1", answered())), now);
        let later = now + LIFE / 2;
        assert_eq!(book.take(Change::Set(request("a", "2", json!(null))), later).len(), 1);
        assert!(book.over(now + LIFE).is_empty());
        assert!(matches!(book.over(later + LIFE).as_slice(), [Act::Remove(_, uid)] if **uid == *"2"));
    }
}
