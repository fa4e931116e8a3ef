//! Selectors of labels and of fields.
//!
//! In: the text of a query. Out: whether an object is chosen. What can't be read is refused as the real server does.

use std::collections::BTreeMap;

use serde_json::Value;

/// One demand on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Demand {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// A selector of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Demand>);

impl Labels {
    /// Reads `a=b,c!=d,e in (f,g),h,!i`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut demands = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (demand, left) = demand(rest)?;
            demands.push(demand);
            rest = left.trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more.trim_start(),
                None if rest.is_empty() => {}
                None => return Err(format!("found '{rest}', expected: ',' or 'end of string'")),
            }
        }
        Ok(Self(demands))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|demand| match demand {
            Demand::Exists(key) => labels.contains_key(key),
            Demand::Absent(key) => !labels.contains_key(key),
            Demand::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Demand::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
        })
    }
}

fn demand(text: &str) -> Result<(Demand, &str), String> {
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = word(rest.trim_start());
        return Ok((Demand::Absent(key.to_owned()), rest));
    }
    let (key, rest) = word(text);
    if key.is_empty() {
        return Err(format!("found '{}', expected: !, identifier, or 'end of string'", first(rest)));
    }
    let rest = rest.trim_start();
    for (sign, positive) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(rest) = rest.strip_prefix(sign) {
            let (value, rest) = word(rest.trim_start());
            let values = vec![value.to_owned()];
            let demand =
                if positive { Demand::In(key.to_owned(), values) } else { Demand::NotIn(key.to_owned(), values) };
            return Ok((demand, rest));
        }
    }
    for (operator, positive) in [("notin", false), ("in", true)] {
        let Some(rest) = rest.strip_prefix(operator).map(str::trim_start).filter(|r| r.starts_with('(')) else {
            continue;
        };
        let Some((inside, rest)) = rest.split_at(1).1.split_once(')') else {
            return Err("found '', expected: ',', ')' or identifier".to_owned());
        };
        let values = inside.split(',').map(|v| v.trim().to_owned()).collect();
        let demand = if positive { Demand::In(key.to_owned(), values) } else { Demand::NotIn(key.to_owned(), values) };
        return Ok((demand, rest));
    }
    if rest.is_empty() || rest.starts_with(',') {
        return Ok((Demand::Exists(key.to_owned()), rest));
    }
    Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", first(rest)))
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| matches!(c, ',' | '=' | '!' | '(' | ')') || c.is_whitespace()).unwrap_or(text.len());
    text.split_at(end)
}

fn first(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// A selector of fields: `(path, value, equal)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String, bool)>);

/// What fields may be asked for, beside name and namespace.
const INDEXED: [(&str, &[&str]); 4] = [
    (
        "Pod",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    ("Namespace", &["status.phase"]),
    ("Node", &["spec.unschedulable"]),
    (
        "Event",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
];

impl Fields {
    /// Reads `a.b=c,d!=e`, of fields that the kind has an index of.
    pub(crate) fn parse(text: &str, kind: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for term in text.split(',').filter(|t| !t.is_empty()) {
            let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
                (path, value, false)
            } else {
                let (path, value) = term
                    .split_once('=')
                    .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
                (path, value.trim_start_matches('='), true)
            };
            let indexed = INDEXED.iter().filter(|(k, _)| *k == kind).flat_map(|(_, paths)| paths.iter());
            if !["metadata.name", "metadata.namespace"].iter().chain(indexed).any(|known| *known == path) {
                return Err(format!("field label not supported: {path}"));
            }
            all.push((path.to_owned(), value.to_owned(), equal));
        }
        Ok(Self(all))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one name that is asked for.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.iter().find(|(path, _, equal)| *equal && path == "metadata.name").map(|(_, value, _)| value.as_str())
    }

    pub(crate) fn fits(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, value, equal)| {
            let pointer = format!("/{}", path.replace('.', "/"));
            let found = match object.pointer(&pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Bool(flag)) => flag.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                _ => String::new(),
            };
            (found == *value) == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooses(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Labels::parse(selector).unwrap().fits(&labels)
    }

    #[test]
    fn labels_are_chosen_by_every_operator() {
        assert!(chooses("", &[]));
        assert!(chooses("app=web,version!=v2", &[("app", "web")]));
        assert!(!chooses("app=web,version!=v2", &[("app", "web"), ("version", "v2")]));
        assert!(chooses("a in (x, y),!b,c", &[("a", "y"), ("c", "")]));
        assert!(!chooses("a notin (x)", &[("a", "x")]));
        assert!(chooses("a notin (x)", &[]));
        assert!(Labels::parse("a in (").is_err());
    }

    #[test]
    fn only_indexed_fields_are_taken() {
        let object = serde_json::json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}});
        assert!(Fields::parse("spec.nodeName=n", "Pod").unwrap().fits(&object));
        assert!(!Fields::parse("metadata.name!=a", "Pod").unwrap().fits(&object));
        assert!(Fields::parse("spec.nodeName=n", "Service").is_err());
    }
}
