//! Schemas of definitions: what an object may hold.
//!
//! In: an `openAPIV3Schema`. Out: fields that it does not have, defaults, faults in the words of the real server, and what
//! lists are made of. Rules in CEL (`x-kubernetes-validations`) are not carried out.

use serde_json::{Map, Value, json};

use crate::fields::{ListOf, Step};
use crate::refusal::Cause;

/// A structural schema.
#[derive(Debug)]
pub(crate) struct Schema {
    root: Value,
    /// It has rules in CEL: what else is wrong keeps them from being looked at, which is said.
    rules: bool,
}

impl Schema {
    pub(crate) fn new(root: Value) -> Self {
        let rules = root.to_string().contains("x-kubernetes-validations");
        Self { root, rules }
    }

    /// What the list at a path is made of.
    pub(crate) fn list(&self, path: &[Step]) -> ListOf {
        let Some(at) = self.at(path) else { return ListOf::Atomic };
        match at["x-kubernetes-list-type"].as_str() {
            Some("set") => ListOf::Set,
            Some("map") => {
                let keys = at["x-kubernetes-list-map-keys"].as_array();
                let default = |key: &str| at.pointer(&format!("/items/properties/{key}/default")).cloned();
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                ListOf::Map(keys.map(|k| (k.to_owned(), default(k))).collect())
            }
            _ => ListOf::Atomic,
        }
    }

    /// Whether the map at a path is one value.
    pub(crate) fn atomic_map(&self, path: &[Step]) -> bool {
        self.at(path).is_some_and(|at| at["x-kubernetes-map-type"] == "atomic")
    }

    fn at(&self, path: &[Step]) -> Option<&Value> {
        path.iter().try_fold(&self.root, |at, step| match step {
            Step::Field(name) => property(at, name),
            Step::Item(_) | Step::Value(_) => at.get("items"),
        })
    }

    /// Takes out of an object what the schema does not have, and names it.
    pub(crate) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        let Some(map) = object.as_object_mut() else { return unknown };
        map.retain(|key, value| {
            if matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                return true;
            }
            match property(&self.root, key) {
                Some(schema) => {
                    prune(schema, value, key, &mut unknown);
                    true
                }
                None if preserves(&self.root) => true,
                None => {
                    unknown.push(key.clone());
                    false
                }
            }
        });
        unknown
    }

    /// Fills in defaults.
    pub(crate) fn default(&self, object: &mut Value) {
        default(&self.root, object);
    }

    /// Whether it has rules in CEL.
    pub(crate) fn has_rules(&self) -> bool {
        self.rules
    }

    /// Faults of an object.
    pub(crate) fn faults(&self, object: &Value) -> Vec<Cause> {
        let mut found = Found::default();
        let required = self.root["required"].as_array();
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if object.get(name).is_none_or(Value::is_null) {
                found.hard(Cause::required(name, ""));
            }
        }
        let properties = self.root["properties"].as_object();
        for (name, schema) in properties.into_iter().flatten() {
            if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            if let Some(value) = object.get(name).filter(|v| !v.is_null()) {
                check(schema, value, name, &mut found);
            }
        }
        let mut all = found.causes;
        if found.incomplete && self.rules {
            all.push(Cause::not_all_checked());
        }
        all
    }
}

#[derive(Default)]
struct Found {
    causes: Vec<Cause>,
    incomplete: bool,
}

impl Found {
    fn hard(&mut self, cause: Cause) {
        self.causes.push(cause);
        self.incomplete = true;
    }

    fn soft(&mut self, cause: Cause) {
        self.causes.push(cause);
    }
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema
        .get("properties")
        .and_then(|p| p.get(name))
        .or_else(|| schema.get("additionalProperties").filter(|a| a.is_object()))
}

fn prune(schema: &Value, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.retain(|key, inner| {
            let below = format!("{path}.{key}");
            match property(schema, key) {
                Some(schema) => {
                    prune(schema, inner, &below, unknown);
                    true
                }
                None if preserves(schema) || schema["additionalProperties"] == true => true,
                None => {
                    unknown.push(below);
                    false
                }
            }
        }),
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (at, item) in items.iter_mut().enumerate() {
                    prune(schema, item, &format!("{path}[{at}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            let properties = schema["properties"].as_object();
            for (name, inner) in properties.into_iter().flatten() {
                if let Some(given) = inner.get("default").filter(|_| !map.contains_key(name)) {
                    map.insert(name.clone(), given.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    default(inner, value);
                }
            }
            if let Some(schema) = schema.get("additionalProperties").filter(|a| a.is_object()) {
                map.values_mut().for_each(|value| default(schema, value));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default(schema, item));
            }
        }
        _ => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is(wanted: &str, schema: &Value, value: &Value) -> bool {
    let found = type_of(value);
    if schema["x-kubernetes-int-or-string"] == true {
        return matches!(found, "integer" | "string");
    }
    wanted == found || (wanted == "number" && found == "integer")
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Found) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if let Some(wanted) = schema["type"].as_str().filter(|wanted| !is(wanted, schema, value)) {
        let kind = type_of(value);
        let text = format!("Invalid value: \"{kind}\": {path} in body must be of type {wanted}: \"{kind}\"");
        found.hard(Cause::new("FieldValueTypeInvalid", path, text));
        return;
    }
    one_of(schema, value, path, found);
    match value {
        Value::Object(map) => check_map(schema, map, path, found),
        Value::Array(items) => check_items(schema, items, path, found),
        Value::String(text) => check_text(schema, text, path, found),
        Value::Number(_) => check_number(schema, value, path, found),
        Value::Null | Value::Bool(_) => {}
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let each: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let text = format!("Unsupported value: {value}: supported values: {}", each.join(", "));
        found.hard(Cause::new("FieldValueNotSupported", path, text));
    }
}

fn check_map(schema: &Value, map: &Map<String, Value>, path: &str, found: &mut Found) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if map.get(name).is_none_or(Value::is_null) {
            found.hard(Cause::required(&format!("{path}.{name}"), ""));
        }
    }
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| map.len() as u64 > *most) {
        let text = format!("Too many: {}: must have at most {most} items", map.len());
        found.hard(Cause::new("FieldValueTooMany", path, text));
    }
    for (name, value) in map {
        let Some(schema) = property(schema, name) else { continue };
        if !value.is_null() {
            check(schema, value, &format!("{path}.{name}"), found);
        }
    }
}

fn check_items(schema: &Value, items: &[Value], path: &str, found: &mut Found) {
    let count = items.len() as u64;
    if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
        let text = format!("Invalid value: {count}: {path} in body should have at least {least} items");
        found.soft(Cause::new("FieldValueInvalid", path, text));
    }
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
        found.hard(Cause::new("FieldValueTooMany", path, format!("Too many: {count}: must have at most {most} items")));
    }
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut seen: Vec<Value> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let below = format!("{path}[{at}]");
        if let Some(schema) = schema.get("items") {
            check(schema, item, &below, found);
        }
        let key = match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => {
                Value::Object(keys.iter().filter_map(|k| Some(((*k).to_owned(), item.get(*k)?.clone()))).collect())
            }
            Some("set") => item.clone(),
            _ => continue,
        };
        if seen.contains(&key) {
            found.soft(Cause::new("FieldValueDuplicate", &below, format!("Duplicate value: {key}")));
        }
        seen.push(key);
    }
}

fn check_text(schema: &Value, text: &str, path: &str, found: &mut Found) {
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| text.chars().count() as u64 > *most) {
        found.hard(Cause::too_long(path, usize::try_from(most).unwrap_or(usize::MAX)));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| (text.chars().count() as u64) < *least) {
        let why = format!("{path} in body should be at least {least} chars long");
        found.soft(Cause::invalid(path, &json!(text), &why));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_ok_and(|wanted| !wanted.is_match(text))
    {
        let why = format!("{path} in body should match '{pattern}'");
        found.soft(Cause::invalid(path, &json!(text), &why));
    }
    if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
        let why = format!("{path} in body must be of type date-time: \"{text}\"");
        found.soft(Cause::invalid(path, &json!(text), &why));
    }
}

fn check_number(schema: &Value, value: &Value, path: &str, found: &mut Found) {
    let number = value.as_f64().unwrap_or_default();
    if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
        let why = format!("{path} in body should be greater than or equal to {least}");
        found.soft(Cause::invalid(path, value, &why));
    }
    if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
        let why = format!("{path} in body should be less than or equal to {most}");
        found.soft(Cause::invalid(path, value, &why));
    }
}

fn one_of(schema: &Value, value: &Value, path: &str, found: &mut Found) {
    let Some(alternatives) = schema["oneOf"].as_array() else { return };
    let fitting = alternatives.iter().filter(|alternative| fits(alternative, value)).count();
    if fitting != 1 {
        let text = format!(
            "Invalid value: \"\": \"{path}\" must validate one and only one schema (oneOf). Found {fitting} valid alternatives"
        );
        let text = if fitting == 0 { text.replace("Found 0 valid", "Found none valid") } else { text };
        found.soft(Cause::new("FieldValueInvalid", "<nil>", text));
    }
}

/// Whether a value fits a schema of a condition: `required`, `not`, `anyOf`, `allOf`, `oneOf`.
fn fits(schema: &Value, value: &Value) -> bool {
    let all = |key: &str| schema[key].as_array();
    let required = all("required").is_none_or(|names| {
        names.iter().filter_map(Value::as_str).all(|name| value.get(name).is_some_and(|v| !v.is_null()))
    });
    let properties = schema["properties"].as_object().is_none_or(|properties| {
        properties.iter().all(|(name, schema)| value.get(name).is_none_or(|value| fits(schema, value)))
    });
    required
        && properties
        && schema.get("not").is_none_or(|inner| !fits(inner, value))
        && schema["enum"].as_array().is_none_or(|allowed| allowed.contains(value))
        && all("anyOf").is_none_or(|any| any.iter().any(|s| fits(s, value)))
        && all("allOf").is_none_or(|each| each.iter().all(|s| fits(s, value)))
        && all("oneOf").is_none_or(|one| one.iter().filter(|s| fits(s, value)).count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(json!({"type": "object", "required": ["spec"], "properties": {"spec": {
            "type": "object", "required": ["host"],
            "properties": {
                "host": {"type": "string", "maxLength": 5},
                "weight": {"type": "integer", "minimum": 0, "default": 1},
                "mode": {"type": "string", "enum": ["A", "B"]},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            },
        }}}))
    }

    #[test]
    fn faults_are_told_as_the_real_server_tells_them() {
        let faults = |spec: Value| -> Vec<String> {
            let found = schema().faults(&json!({"spec": spec}));
            found
                .into_iter()
                .filter(|c| c.field != "<nil>" || c.message.contains("oneOf"))
                .map(|c| format!("{}: {}", c.field, c.message))
                .collect()
        };
        assert_eq!(faults(json!({})), ["spec.host: Required value"]);
        assert_eq!(
            faults(json!({"host": "a", "weight": -1})),
            ["spec.weight: Invalid value: -1: spec.weight in body should be greater than or equal to 0"]
        );
        assert_eq!(
            faults(json!({"host": 1})),
            ["spec.host: Invalid value: \"integer\": spec.host in body must be of type string: \"integer\""]
        );
        assert_eq!(faults(json!({"host": "abcdef"})), ["spec.host: Too long: may not be more than 5 bytes"]);
        assert_eq!(
            faults(json!({"host": "a", "mode": "C"})),
            ["spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\""]
        );
        assert_eq!(
            faults(json!({"host": "a", "ports": [{"name": "x"}, {"name": "x"}]})),
            ["spec.ports[1]: Duplicate value: {\"name\":\"x\"}"]
        );
        assert!(faults(json!({"host": "a", "one": {"a": "", "b": ""}}))[0].contains("Found 2 valid alternatives"));
    }

    #[test]
    fn what_a_schema_does_not_have_is_taken_out_and_named() {
        let mut object =
            json!({"metadata": {"x": 1}, "spec": {"host": "a", "hots": 1, "ports": [{"nam": "b"}]}, "more": 1});
        let mut unknown = schema().prune(&mut object);
        unknown.sort();
        assert_eq!(unknown, ["more", "spec.hots", "spec.ports[0].nam"]);
        schema().default(&mut object);
        assert_eq!(object, json!({"metadata": {"x": 1}, "spec": {"host": "a", "weight": 1, "ports": [{}]}}));
    }
}
