//! What the files say, and what changed by a look at them. No I/O.
//!
//! In: every file of the directory with its text. Out: events, the difference to what was said before. Rules: a file
//! with a bad document keeps all that it said before, or, if it never said anything, says its good documents; of two
//! documents of one name the one in the first file by name counts; a file that became empty is believed at the second
//! look, because writers truncate first.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::istio::{ObjectRef, ParseError, Resource, parse_documents};
use hawser_mesh::{Event, Object, ObjectKey, Origin};

/// Most problems of one file that are told one by one.
const MAX_PROBLEMS: usize = 50;

/// A look at the directory: each file by name, in order.
pub(crate) type Look = BTreeMap<Arc<str>, Text>;

/// What a look found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// The same as at the last look.
    Unchanged,
    /// This.
    Read(String),
    /// It could not be read, and why.
    Unreadable(String),
}

/// What a look changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// In order: what is gone, what is new, what is wrong.
    pub(crate) events: Vec<Event>,
    /// Look again soon: something may be half written.
    pub(crate) look_again: bool,
}

/// What the files say.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    files: BTreeMap<Arc<str>, File>,
    published: BTreeMap<ObjectRef, Said>,
    rejected: BTreeMap<Origin, String>,
}

/// A resource and where it stands.
type Said = (Arc<Resource>, Origin);

#[derive(Debug, Default)]
struct File {
    /// The text it was parsed from.
    text: Option<String>,
    /// What counts of it.
    said: Vec<Said>,
    /// What is wrong with it.
    problems: BTreeMap<Origin, String>,
    /// It became empty at the last look.
    emptied: bool,
}

impl Contents {
    /// Takes in a look at the whole directory.
    pub(crate) fn look(&mut self, look: Look) -> Changes {
        self.files.retain(|name, _| look.contains_key(name));
        let mut look_again = false;
        for (name, text) in look {
            let file = self.files.entry(name.clone()).or_default();
            look_again |= file.take(&name, text);
        }
        let (said, rejected) = self.merge();
        let mut events = self.difference(&said);
        events.extend(rejections(&self.rejected, &rejected));
        self.published = said;
        self.rejected = rejected;
        Changes { events, look_again }
    }

    /// The directory itself is wrong: told at `origin`; what was said stays.
    pub(crate) fn unavailable(&mut self, origin: Origin, message: String) -> Vec<Event> {
        let mut rejected = self.rejected.clone();
        rejected.insert(origin, message);
        let events = rejections(&self.rejected, &rejected);
        self.rejected = rejected;
        events
    }

    /// What counts of all files, and what is wrong in them.
    fn merge(&self) -> (BTreeMap<ObjectRef, Said>, BTreeMap<Origin, String>) {
        let mut all: BTreeMap<ObjectRef, Said> = BTreeMap::new();
        let mut rejected = BTreeMap::new();
        for file in self.files.values() {
            rejected.extend(file.problems.clone());
            for (resource, origin) in &file.said {
                let key = resource.object_ref();
                match all.get(&key) {
                    None => {
                        all.insert(key, (resource.clone(), origin.clone()));
                    }
                    Some((_, winner)) => {
                        let message =
                            format!("{origin}: {key} stands already at {winner}, which counts; take one of them out");
                        tell(&mut rejected, origin.clone(), message);
                    }
                }
            }
        }
        (all, rejected)
    }

    fn difference(&self, now: &BTreeMap<ObjectRef, Said>) -> Vec<Event> {
        let gone = self.published.keys().filter(|key| !now.contains_key(*key));
        let changed = now.iter().filter(|(key, said)| self.published.get(*key) != Some(*said));
        let deletes = gone.map(|key| Event::Delete(ObjectKey::Config(key.clone())));
        let upserts =
            changed.map(|(_, (resource, origin))| Event::Upsert(Object::Config(resource.clone(), origin.clone())));
        deletes.chain(upserts).collect()
    }
}

impl File {
    /// Takes in what a look found; `true` if it should be looked at again soon.
    fn take(&mut self, name: &Arc<str>, text: Text) -> bool {
        let emptied = std::mem::take(&mut self.emptied);
        let text = match text {
            Text::Unchanged if emptied => String::new(),
            Text::Unchanged => return false,
            Text::Unreadable(why) => {
                let origin = Origin { name: name.clone(), line: 0 };
                self.text = None;
                self.problems = BTreeMap::from([(origin, format!("{name}: {why}{}", self.consequence()))]);
                return false;
            }
            Text::Read(text) => text,
        };
        if self.text.as_ref() == Some(&text) {
            return false;
        }
        let results = parse_documents(name, &text);
        if results.is_empty() && !self.said.is_empty() && !emptied {
            self.emptied = true;
            return true;
        }
        let mut good = Vec::new();
        let mut bad = Vec::new();
        for result in results {
            match result {
                Ok(parsed) => {
                    good.push((Arc::new(parsed.resource), Origin { name: name.clone(), line: parsed.line }));
                }
                Err(error) => bad.push(error),
            }
        }
        self.problems = self.describe(name, &bad);
        if bad.is_empty() || self.said.is_empty() {
            self.said = good;
        }
        self.text = Some(text);
        false
    }

    fn describe(&self, name: &Arc<str>, bad: &[ParseError]) -> BTreeMap<Origin, String> {
        let mut problems = BTreeMap::new();
        for error in bad.iter().take(MAX_PROBLEMS) {
            let origin = Origin { name: name.clone(), line: error.line };
            tell(&mut problems, origin, format!("{error}{}", self.consequence()));
        }
        if let Some(more) = bad.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
            let origin = Origin { name: name.clone(), line: 0 };
            tell(&mut problems, origin, format!("{name}: {more} more of its documents are bad"));
        }
        problems
    }

    fn consequence(&self) -> &'static str {
        if self.said.is_empty() { "" } else { "\nwhat this file said before stays until it is right" }
    }
}

fn tell(problems: &mut BTreeMap<Origin, String>, origin: Origin, message: String) {
    let text = problems.entry(origin).or_default();
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&message);
}

fn rejections(before: &BTreeMap<Origin, String>, now: &BTreeMap<Origin, String>) -> Vec<Event> {
    let cleared = before.keys().filter(|origin| !now.contains_key(*origin)).cloned().map(Event::Cleared);
    let told = now.iter().filter(|(origin, message)| before.get(*origin) != Some(*message));
    let told = told.map(|(origin, message)| Event::Rejected { origin: origin.clone(), message: message.clone() });
    cleared.chain(told).collect()
}

#[cfg(test)]
mod tests;
