//! Who owns which field: sets of paths as managedFields has them, and what lists are made of.
//!
//! In: objects. Out: [`Paths`], read from and written as `fieldsV1`, and the differences of two objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::schema::Schema;

/// One step from an object to a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A field.
    Field(String),
    /// The item with these keys, as JSON.
    Item(String),
    /// A value of a set, as JSON.
    Value(String),
}

pub(crate) type Path = Vec<Step>;
pub(crate) type Paths = BTreeSet<Path>;

/// What a list is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListOf {
    /// One value.
    Atomic,
    /// Values that count once.
    Set,
    /// Items with keys, some of which have a value when none is given.
    Map(Vec<(String, Option<Value>)>),
}

/// Knows what the lists of a kind are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) schema: Option<&'a Schema>,
}

impl Shape<'_> {
    pub(crate) fn list(&self, path: &[Step]) -> ListOf {
        let fields: Vec<&str> = path
            .iter()
            .filter_map(|s| match s {
                Step::Field(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        match fields.as_slice() {
            ["metadata", "finalizers"] => return ListOf::Set,
            ["metadata", "ownerReferences"] => return keyed(&["uid"]),
            _ => {}
        }
        if let Some(schema) = self.schema {
            return schema.list(path);
        }
        built_in(&self.kind.name, &fields)
    }

    /// A map that is one value.
    pub(crate) fn atomic_map(&self, path: &[Step]) -> bool {
        if let [Step::Field(metadata), Step::Field(owners), Step::Item(_)] = path
            && metadata == "metadata"
            && owners == "ownerReferences"
        {
            return true;
        }
        if let Some(schema) = self.schema {
            return schema.atomic_map(path);
        }
        matches!(path.last(), Some(Step::Field(name)) if name == "selector" && self.kind.name == "Service")
    }
}

fn keyed(keys: &[&str]) -> ListOf {
    ListOf::Map(keys.iter().map(|k| ((*k).to_owned(), None)).collect())
}

fn built_in(kind: &str, fields: &[&str]) -> ListOf {
    let pod: &[&str] = match (kind, fields) {
        ("Pod", rest) => rest,
        (_, ["spec", "template", rest @ ..]) => rest,
        _ => &[],
    };
    match pod {
        ["spec", "containers" | "initContainers" | "volumes"] | ["spec", .., "env"] => return keyed(&["name"]),
        ["spec", "imagePullSecrets"] => return keyed(&["name"]),
        ["spec", .., "volumeMounts"] => return keyed(&["mountPath"]),
        ["spec", .., "ports"] => {
            return ListOf::Map(vec![("containerPort".to_owned(), None), ("protocol".to_owned(), Some(json!("TCP")))]);
        }
        _ => {}
    }
    match (kind, fields) {
        ("Service", ["spec", "ports"]) => {
            ListOf::Map(vec![("port".to_owned(), None), ("protocol".to_owned(), Some(json!("TCP")))])
        }
        ("Pod" | "Node" | "Namespace" | "Deployment" | "Service", ["status", "conditions"]) => keyed(&["type"]),
        ("Pod", ["status", "podIPs" | "hostIPs"]) => keyed(&["ip"]),
        ("Namespace", ["spec", "finalizers"]) => ListOf::Atomic,
        ("ServiceAccount", ["secrets"]) => keyed(&["name"]),
        _ => ListOf::Atomic,
    }
}

/// The step to an item of a list.
pub(crate) fn step(of: &ListOf, item: &Value) -> Option<Step> {
    match of {
        ListOf::Atomic => None,
        ListOf::Set => Some(Step::Value(item.to_string())),
        ListOf::Map(keys) => {
            let mut named = Map::new();
            for (key, default) in keys {
                if let Some(value) = item.get(key).or(default.as_ref()) {
                    named.insert(key.clone(), value.clone());
                }
            }
            Some(Step::Item(Value::Object(named).to_string()))
        }
    }
}

/// The paths of what an applied object says: its leaves, and its items.
pub(crate) fn said(shape: &Shape<'_>, object: &Value) -> Paths {
    let mut out = Paths::new();
    walk_said(shape, object, &mut Vec::new(), &mut out);
    out.retain(counts);
    out
}

fn walk_said(shape: &Shape<'_>, value: &Value, path: &mut Path, out: &mut Paths) {
    match value {
        Value::Object(map) if !map.is_empty() && !shape.atomic_map(path) => {
            for (key, inner) in map {
                path.push(Step::Field(key.clone()));
                walk_said(shape, inner, path, out);
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() && shape.list(path) != ListOf::Atomic => {
            let of = shape.list(path);
            for item in items {
                let Some(step) = step(&of, item) else { continue };
                path.push(step);
                out.insert(path.clone());
                walk_said(shape, item, path, out);
                path.pop();
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.insert(path.clone());
        }
    }
}

/// What differs: paths that came or changed, and paths that went.
pub(crate) fn differences(shape: &Shape<'_>, before: &Value, now: &Value) -> (Paths, Paths) {
    let (mut came, mut went) = (Paths::new(), Paths::new());
    compare(shape, Some(before), Some(now), &mut Vec::new(), &mut came, &mut went);
    came.retain(counts);
    went.retain(counts);
    (came, went)
}

fn compare(
    shape: &Shape<'_>,
    before: Option<&Value>,
    now: Option<&Value>,
    path: &mut Path,
    came: &mut Paths,
    went: &mut Paths,
) {
    if before == now {
        return;
    }
    let sample = now.or(before).unwrap_or(&Value::Null);
    let parts = |value: Option<&Value>| -> Option<BTreeMap<Step, Value>> {
        match value {
            None | Some(Value::Null) => Some(BTreeMap::new()),
            Some(Value::Object(map)) if !shape.atomic_map(path) => {
                Some(map.iter().map(|(k, v)| (Step::Field(k.clone()), v.clone())).collect())
            }
            Some(Value::Array(items)) => {
                let of = shape.list(path);
                (of != ListOf::Atomic).then(|| items.iter().filter_map(|i| Some((step(&of, i)?, i.clone()))).collect())
            }
            Some(_) => None,
        }
    };
    let inner = matches!(sample, Value::Object(_) | Value::Array(_)).then(|| (parts(before), parts(now)));
    if let Some((Some(old), Some(new))) = inner {
        if now.is_some() && before.is_none() && !path.is_empty() {
            came.insert(path.clone());
        }
        if now.is_none() {
            went.insert(path.clone());
        }
        let steps: BTreeSet<Step> = old.keys().chain(new.keys()).cloned().collect();
        for step in steps {
            path.push(step.clone());
            compare(shape, old.get(&step), new.get(&step), path, came, went);
            path.pop();
        }
        return;
    }
    if now.is_some() {
        came.insert(path.clone())
    } else {
        went.insert(path.clone())
    };
}

/// What nobody owns: what the server fills in, and what tells which object it is.
fn counts(path: &Path) -> bool {
    let field = |at: usize| match path.get(at) {
        Some(Step::Field(name)) => Some(name.as_str()),
        _ => None,
    };
    match (field(0), field(1)) {
        (None | Some("apiVersion" | "kind"), _) => false,
        (Some("metadata"), None) => false,
        (Some("metadata"), Some(what)) => !matches!(
            what,
            "name"
                | "namespace"
                | "uid"
                | "creationTimestamp"
                | "selfLink"
                | "resourceVersion"
                | "generation"
                | "managedFields"
                | "deletionTimestamp"
                | "deletionGracePeriodSeconds"
        ),
        _ => true,
    }
}

/// Writes paths as `fieldsV1`.
pub(crate) fn write(paths: &Paths) -> Value {
    let mut root = Map::new();
    for path in paths {
        let mut at = &mut root;
        for (depth, step) in path.iter().enumerate() {
            let key = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Item(keys) => format!("k:{keys}"),
                Step::Value(value) => format!("v:{value}"),
            };
            let last = depth + 1 == path.len();
            let next = at.entry(key).or_insert_with(|| json!({}));
            let Some(map) = next.as_object_mut() else { break };
            if last && has_children(paths, path) {
                map.insert(".".to_owned(), json!({}));
            }
            at = map;
        }
    }
    Value::Object(root)
}

fn has_children(paths: &Paths, path: &Path) -> bool {
    let next = paths.range(path.clone()..).nth(1);
    next.is_some_and(|n| n.len() > path.len() && n.starts_with(path))
}

/// Reads `fieldsV1`.
pub(crate) fn read(value: &Value) -> Paths {
    let mut out = Paths::new();
    if let Some(map) = value.as_object() {
        read_into(map, &mut Vec::new(), &mut out);
    }
    out
}

fn read_into(map: &Map<String, Value>, path: &mut Path, out: &mut Paths) {
    for (key, inner) in map {
        if key == "." {
            out.insert(path.clone());
            continue;
        }
        let step = match key.split_at_checked(2) {
            Some(("f:", name)) => Step::Field(name.to_owned()),
            Some(("k:", keys)) => Step::Item(keys.to_owned()),
            Some(("v:", value)) => Step::Value(value.to_owned()),
            _ => continue,
        };
        path.push(step);
        match inner.as_object() {
            Some(children) if !children.is_empty() => read_into(children, path, out),
            _ => {
                out.insert(path.clone());
            }
        }
        path.pop();
    }
}

/// A path as conflicts name it: `.spec.ports[name="http"].port`.
pub(crate) fn shown(path: &Path) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Item(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let each: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("[{}]", each.join(","))
            }
            Step::Value(value) => format!("[={value}]"),
        })
        .collect()
}

/// The part of an object at a path.
pub(crate) fn at<'v>(shape: &Shape<'_>, object: &'v Value, path: &Path) -> Option<&'v Value> {
    let mut value = object;
    for (depth, next) in path.iter().enumerate() {
        value = match next {
            Step::Field(name) => value.get(name)?,
            Step::Item(_) | Step::Value(_) => {
                let of = shape.list(path.get(..depth)?);
                value.as_array()?.iter().find(|item| step(&of, item).as_ref() == Some(next))?
            }
        };
    }
    Some(value)
}

/// Takes the part at a path out of an object; what was a container of nothing else goes with it only if it was asked for.
pub(crate) fn take_out(shape: &Shape<'_>, object: &mut Value, path: &Path) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut value = object;
    for (depth, next) in parents.iter().enumerate() {
        let found = match next {
            Step::Field(name) => value.get_mut(name),
            Step::Item(_) | Step::Value(_) => {
                let of = shape.list(path.get(..depth).unwrap_or_default());
                value.as_array_mut().and_then(|a| a.iter_mut().find(|item| step(&of, item).as_ref() == Some(next)))
            }
        };
        let Some(found) = found else { return };
        value = found;
    }
    match last {
        Step::Field(name) => {
            if let Some(map) = value.as_object_mut() {
                map.remove(name);
            }
        }
        Step::Item(_) | Step::Value(_) => {
            let of = shape.list(parents);
            if let Some(items) = value.as_array_mut() {
                items.retain(|item| step(&of, item).as_ref() != Some(last));
            }
        }
    }
}
