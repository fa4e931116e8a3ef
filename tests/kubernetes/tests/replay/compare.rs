//! Comparing answers, but for what must differ: ids, versions, times, random names.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

/// Differences of two answers, each a line; none if they are the same.
pub(crate) fn differences(expected: &Value, actual: &Value) -> Vec<String> {
    let mut out = Vec::new();
    walk(&normal(expected), &normal(actual), "", &mut out);
    out
}

/// The same without leaving anything out.
pub(crate) fn exact(expected: &Value, actual: &Value) -> Vec<String> {
    let mut out = Vec::new();
    walk(expected, actual, "", &mut out);
    out
}

fn walk(expected: &Value, actual: &Value, path: &str, out: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let below = format!("{path}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => walk(a, b, &below, out),
                    (Some(a), None) => out.push(format!("{below}: missing, should be {a}")),
                    (None, Some(b)) => out.push(format!("{below}: should not be there, is {b}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                walk(a, b, &format!("{path}/{at}"), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: should be {a}\n      is {b}")),
    }
}

/// A value in which all that must differ is replaced.
pub(crate) fn normal(value: &Value) -> Value {
    let ids = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    normalised(value, "", &ids)
}

fn normalised(value: &Value, key: &str, ids: &Regex) -> Value {
    match value {
        Value::String(text) => match key {
            "resourceVersion" => "<version>".into(),
            "creationTimestamp" | "deletionTimestamp" | "time" | "expirationTimestamp" => "<time>".into(),
            "storageVersionHash" => "<hash>".into(),
            "continue" if !text.is_empty() => "<token>".into(),
            _ => {
                let text = ids.replace_all(text, "<id>").into_owned();
                match text.split_once("in record (") {
                    Some((start, rest)) => {
                        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                        format!("{start}in record (<version>{rest}").into()
                    }
                    None => text.into(),
                }
            }
        },
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|i| normalised(i, "", ids)).collect();
            if key == "managedFields" {
                items.sort_by_key(Value::to_string);
            }
            items.into()
        }
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                let name = ids.replace_all(key, "<id>").into_owned();
                out.insert(name, normalised(value, key, ids));
            }
            if let (Some(start), Some(name)) = (out.get("generateName").cloned(), out.get_mut("name")) {
                *name = format!("{}<random>", start.as_str().unwrap_or_default()).into();
            }
            out.into()
        }
        other => other.clone(),
    }
}

/// What stands in recordings, and what stands for it here.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// Learns from an answer what its ids and versions are here.
    pub(crate) fn learn(&mut self, expected: &Value, actual: &Value) {
        match (expected, actual) {
            (Value::Object(a), Value::Object(b)) => {
                let random = a.contains_key("generateName");
                for (key, value) in a {
                    let Some(other) = b.get(key) else { continue };
                    match (key.as_str(), value.as_str(), other.as_str()) {
                        ("name", Some(_), Some(_)) if !random => {}
                        ("resourceVersion" | "uid" | "name" | "token", Some(a), Some(b)) if a != b => {
                            self.0.insert(a.to_owned(), b.to_owned());
                        }
                        _ => self.learn(value, other),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) => a.iter().zip(b).for_each(|(a, b)| self.learn(a, b)),
            _ => {}
        }
    }

    /// A request with them.
    pub(crate) fn put_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.0.get(text).cloned().unwrap_or_else(|| text.clone()).into(),
            Value::Array(items) => items.iter().map(|i| self.put_in(i)).collect(),
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), self.put_in(v))).collect::<Map<_, _>>().into(),
            other => other.clone(),
        }
    }

    pub(crate) fn insert(&mut self, expected: &str, actual: &str) {
        self.0.insert(expected.to_owned(), actual.to_owned());
    }
}

/// Collects what differs in many exchanges, and fails once, with all of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    seen: usize,
    wrong: Vec<String>,
}

impl Verdict {
    pub(crate) fn add(&mut self, name: &str, differences: Vec<String>) {
        self.seen += 1;
        if !differences.is_empty() {
            self.wrong.push(format!("{name}:\n    {}", differences.join("\n    ")));
        }
    }

    /// # Panics
    /// If anything differed, or too little was looked at.
    pub(crate) fn hold(self, at_least: usize) {
        assert!(self.wrong.is_empty(), "{} of {} differ:\n{}", self.wrong.len(), self.seen, self.wrong.join("\n"));
        assert!(self.seen >= at_least, "only {} exchanges were looked at", self.seen);
    }
}
