//! What policies want written down of a request or connection: what was audited, what a trial would have done, what somebody
//! who was asked said beside yes or no.

use std::sync::Arc;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use smallvec::SmallVec;

/// The most that is kept of what somebody says, and how deep it is looked into.
const MOST: usize = 16 * 1024;
const DEEPEST: usize = 4;

/// Under whose name it is found what somebody said who was asked.
const SAID: &str = "envoy.filters.http.ext_authz";

/// Something to be written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// Policies of AUDIT were asked, and one matched or none did.
    Audit(bool),
    /// Policies were tried.
    Tried {
        /// On a request, not on a connection.
        http: bool,
        /// Before the names under which it is found.
        prefix: Arc<str>,
        /// The one that matched.
        policy: Option<Arc<str>>,
        /// Whether it would pass.
        allowed: bool,
    },
    /// What somebody who was asked about a request said: texts by their paths of keys, with colons between.
    Said(Box<[(String, String)]>),
}

/// All of it. Nothing is allocated where there is nothing.
#[derive(Clone, Debug, Default)]
pub struct Marks(SmallVec<[Mark; 1]>);

impl Marks {
    /// Adds one.
    pub fn add(&mut self, mark: Mark) {
        self.0.push(mark);
    }

    /// Adds what somebody said, if it is not too much.
    pub fn said(&mut self, said: &Struct) {
        if !said.fields.is_empty() && prost::Message::encoded_len(said) <= MOST {
            let mut all = Vec::new();
            flatten(said, "", DEEPEST, &mut all);
            self.add(Mark::Said(all.into()));
        }
    }

    /// What an access log finds of it under the name of a filter and a key.
    pub fn find(&self, filter: &str, key: &str) -> Option<&str> {
        self.0.iter().find_map(|mark| match (mark, filter) {
            (Mark::Audit(found), "envoy.common") if key == "access_log_hint" => {
                Some(if *found { "true" } else { "false" })
            }
            (Mark::Tried { http, prefix, policy, allowed }, _) if filter == rbac(*http) => {
                match key.strip_prefix(&**prefix)? {
                    "shadow_effective_policy_id" => policy.as_deref(),
                    "shadow_engine_result" => Some(if *allowed { "allowed" } else { "denied" }),
                    _ => None,
                }
            }
            (Mark::Said(all), SAID) => all.iter().find(|(path, _)| path == key).map(|(_, text)| text.as_str()),
            _ => None,
        })
    }
}

/// The name of the filter that tries policies.
fn rbac(http: bool) -> &'static str {
    if http { "envoy.filters.http.rbac" } else { "envoy.filters.network.rbac" }
}

/// A text is as it is, anything else JSON.
fn flatten(said: &Struct, before: &str, deep: usize, all: &mut Vec<(String, String)>) {
    for (key, value) in &said.fields {
        let path = format!("{before}{key}");
        if let (Some(Kind::StructValue(inner)), Some(deep)) = (&value.kind, deep.checked_sub(1)) {
            flatten(inner, &format!("{path}:"), deep, all);
        }
        let text = match &value.kind {
            Some(Kind::StringValue(text)) => text.clone(),
            _ => json(value).to_string(),
        };
        all.push((path, text));
    }
}

fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(yes)) => (*yes).into(),
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && n.abs() < 9e15 => (*n as i64).into(),
        Some(Kind::NumberValue(n)) => (*n).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::StructValue(said)) => said.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_found_by_its_path() {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
        let number = Value { kind: Some(Kind::NumberValue(3.0)) };
        let deep = Struct { fields: [("b".to_owned(), text("c")), ("n".to_owned(), number)].into() };
        let deep = Value { kind: Some(Kind::StructValue(deep)) };
        let mut marks = Marks::default();
        marks.said(&Struct { fields: [("a".to_owned(), deep), ("t".to_owned(), text("x \" y"))].into() });
        let found = |key: &str| marks.find(SAID, key);
        for (key, is) in [
            ("t", Some("x \" y")),
            ("a:b", Some("c")),
            ("a:n", Some("3")),
            ("a", Some(r#"{"b":"c","n":3}"#)),
            ("a:x", None),
            ("t:x", None),
        ] {
            assert_eq!(found(key), is, "{key}");
        }
        assert_eq!(marks.find("envoy.filters.http.rbac", "t"), None);
        let much = Struct { fields: [("t".to_owned(), text(&"x".repeat(MOST)))].into() };
        let mut none = Marks::default();
        none.said(&much);
        assert_eq!(none.find(SAID, "t"), None);
    }
}
