//! Merge patches and JSON patches.

use serde_json::Value;

/// RFC 7396: null takes out, maps merge, all else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// RFC 6902. None if an operation can't be carried out.
pub(crate) fn operations(target: &Value, operations: &[Value]) -> Option<Value> {
    let mut value = target.clone();
    for operation in operations {
        let path = operation.get("path")?.as_str()?;
        match operation.get("op")?.as_str()? {
            "add" => add(&mut value, path, operation.get("value")?.clone())?,
            "remove" => drop(remove(&mut value, path)?),
            "replace" => *value.pointer_mut(path)? = operation.get("value")?.clone(),
            "test" => (value.pointer(path)? == operation.get("value")?).then_some(())?,
            "copy" => {
                let copied = value.pointer(operation.get("from")?.as_str()?)?.clone();
                add(&mut value, path, copied)?;
            }
            "move" => {
                let moved = remove(&mut value, operation.get("from")?.as_str()?)?;
                add(&mut value, path, moved)?;
            }
            _ => return None,
        }
    }
    Some(value)
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(value: &mut Value, path: &str, new: Value) -> Option<()> {
    if path.is_empty() {
        *value = new;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match value.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(last, new);
        }
        Value::Array(items) if last == "-" => items.push(new),
        Value::Array(items) => {
            let at: usize = last.parse().ok().filter(|at| *at <= items.len())?;
            items.insert(at, new);
        }
        _ => return None,
    }
    Some(())
}

fn remove(value: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match value.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(items) => {
            let at: usize = last.parse().ok().filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_takes_out_of_a_merge() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "l": [1]});
        merge(&mut value, &json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [2]}));
        assert_eq!(value, json!({"a": {"c": 2, "d": {"f": 1}}, "l": [2]}));
    }

    #[test]
    fn operations_are_all_carried_out_or_none() {
        let value = json!({"a": {"b/c": 1}, "l": [1, 2]});
        let done = operations(
            &value,
            &[
                json!({"op": "test", "path": "/a/b~1c", "value": 1}),
                json!({"op": "add", "path": "/l/-", "value": 3}),
                json!({"op": "move", "from": "/l/0", "path": "/a/x"}),
            ],
        );
        assert_eq!(done, Some(json!({"a": {"b/c": 1, "x": 1}, "l": [2, 3]})));
        assert_eq!(operations(&value, &[json!({"op": "remove", "path": "/nothing/here"})]), None);
        assert_eq!(operations(&value, &[json!({"op": "test", "path": "/l/0", "value": 5})]), None);
        assert_eq!(operations(&value, &[json!({"op": "replace", "path": "/spec", "value": 5})]), None);
    }
}
