//! Checking what the types alone can't say: a walk over every field that collects problems with their paths.

pub(crate) mod net;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::fmt::Display;

use super::path::api_name;
use super::{FieldPath, Segment};

/// Most problems that are told at once.
const MAX_PROBLEMS: usize = 20;

/// What can be wrong beyond its type.
pub(crate) trait Check {
    /// Tells `c` of everything that is wrong here and below.
    fn check(&self, _c: &mut Checker) {}
}

/// Where the walk is, and what it found.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    path: FieldPath,
    problems: Vec<(FieldPath, String)>,
}

impl Checker {
    /// A walk that starts at the field `base`.
    pub(crate) fn at(base: &str) -> Self {
        let mut checker = Self::default();
        checker.path.push_field(base);
        checker
    }

    /// What was found.
    pub(crate) fn into_problems(self) -> Vec<(FieldPath, String)> {
        self.problems
    }

    /// The current field is wrong.
    pub(crate) fn problem(&mut self, message: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((self.path.clone(), message.into()));
        }
    }

    /// A field of the current message is wrong.
    pub(crate) fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.field(field, |c| c.problem(message));
    }

    /// A field of the current message must hold something.
    pub(crate) fn required(&mut self, field: &str, present: bool) {
        if !present {
            self.wrong(field, "it is required");
        }
    }

    /// At most one of these fields may be set.
    pub(crate) fn at_most_one(&mut self, fields: &[(&str, bool)]) {
        let set: Vec<&str> = fields.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        if let [first, second, ..] = set[..] {
            let message = format!("only one of {first} and {second} can be set; take one of them out");
            self.wrong(second, message);
        }
    }

    /// Exactly one of these fields must be set.
    pub(crate) fn exactly_one(&mut self, fields: &[(&str, bool)]) {
        if fields.iter().all(|(_, set)| !set) {
            let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            self.problem(format!("one of {} is required", names.join(", ")));
        }
        self.at_most_one(fields);
    }

    /// Steps into a field, named as in Rust or as in the API.
    pub(crate) fn field(&mut self, field: &str, check: impl FnOnce(&mut Self)) {
        self.step(Segment::Name(api_name(field)), check);
    }

    /// Steps into a key of a map.
    pub(crate) fn key(&mut self, key: &dyn Display, check: impl FnOnce(&mut Self)) {
        self.step(Segment::Name(key.to_string()), check);
    }

    /// Steps into an element of a list.
    pub(crate) fn index(&mut self, index: usize, check: impl FnOnce(&mut Self)) {
        self.step(Segment::Index(index), check);
    }

    /// Checks each element of the list `field`.
    pub(crate) fn each<T>(&mut self, field: &str, items: &[T], mut check: impl FnMut(&mut Self, &T)) {
        self.field(field, |c| {
            for (index, item) in items.iter().enumerate() {
                c.index(index, |c| check(c, item));
            }
        });
    }

    fn step(&mut self, segment: Segment, check: impl FnOnce(&mut Self)) {
        self.path.0.push(segment);
        check(self);
        self.path.0.pop();
    }
}

macro_rules! no_rules {
    ($($type:ty),*) => { $( impl Check for $type {} )* };
}

no_rules!(bool, u32, u64, i32, i64, f64, String, serde_json::Value, serde_json::Map<String, serde_json::Value>);

impl<T: Check> Check for Option<T> {
    fn check(&self, c: &mut Checker) {
        if let Some(value) = self {
            value.check(c);
        }
    }
}

impl<T: Check> Check for Box<T> {
    fn check(&self, c: &mut Checker) {
        T::check(self, c);
    }
}

impl<T: Check> Check for Vec<T> {
    fn check(&self, c: &mut Checker) {
        for (index, item) in self.iter().enumerate() {
            c.index(index, |c| item.check(c));
        }
    }
}

impl<K: Display, T: Check> Check for BTreeMap<K, T> {
    fn check(&self, c: &mut Checker) {
        for (key, value) in self {
            c.key(key, |c| value.check(c));
        }
    }
}
