//! A YAML or JSON document as a tree that knows its lines.
//!
//! In: text or a JSON value. Out: [`Node`], which [`super::decode`] turns into typed resources. Invariant: a tree is
//! bounded in depth and size, its maps have no duplicate keys and no aliases are left in it.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Segment;
use super::error::shown;

/// Deepest nesting of maps and lists. The deepest that the API needs is about 12.
pub(crate) const MAX_DEPTH: usize = 48;
/// Most nodes of one document.
pub(crate) const MAX_NODES: usize = 100_000;

/// A value and the line it stands on; 0 where there are no lines.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: Value,
}

/// A key of a map and its line.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) line: u32,
    pub(crate) name: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// Why a text is no document.
pub(crate) struct Unreadable {
    pub(crate) line: u32,
    pub(crate) message: String,
}

impl Node {
    /// Reads one YAML document.
    pub(crate) fn from_yaml(text: &str) -> Result<Self, Unreadable> {
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
            let line = error.location().map_or(0, |l| u32::try_from(l.line()).unwrap_or(0));
            Unreadable { line, message: reason(error.without_snippet()) }
        })
    }

    /// The same tree from a JSON value, without lines.
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self, Unreadable> {
        let mut left = MAX_NODES;
        json(value, MAX_DEPTH, &mut left).map_err(|message| Unreadable { line: 0, message: message.to_owned() })
    }

    /// The node of that key, if this is a map that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text under that key, if it is one.
    pub(crate) fn get_text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Takes an entry out of a map.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let Value::Map(entries) = &mut self.value else { return None };
        let position = entries.iter().position(|(key, _)| key.name == name)?;
        Some(entries.remove(position).1)
    }

    /// The line of a field, or of the nearest field around it that is written down.
    pub(crate) fn line_of(&self, path: &[Segment]) -> u32 {
        let mut line = self.line;
        let mut node = self;
        for segment in path {
            let next = match (segment, &node.value) {
                (Segment::Index(index), Value::List(items)) => items.get(*index).map(|n| (n.line, n)),
                (Segment::Name(name), Value::Map(entries)) => {
                    entries.iter().find(|(key, _)| key.name == *name).map(|(key, n)| (key.line, n))
                }
                _ => None,
            };
            let Some((next_line, next_node)) = next else { break };
            line = next_line;
            node = next_node;
        }
        line
    }

    /// `[2001:db8::]` is by YAML's letter a list of one map, `{"2001:db8:": null}`. Every other reader of these files
    /// takes it for the address that it is.
    fn rejoin(&mut self) {
        if let Value::Map(entries) = &mut self.value
            && let [(key, Node { value: Value::Null, .. })] = &mut entries[..]
            && key.name.ends_with(':')
        {
            self.value = Value::Text(std::mem::take(&mut key.name) + ":");
        }
    }

    /// Moves the whole tree down by `lines`.
    pub(crate) fn shift(&mut self, lines: u32) {
        if lines == 0 {
            return;
        }
        self.line += lines;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|n| n.shift(lines)),
            Value::Map(entries) => entries.iter_mut().for_each(|(key, n)| {
                key.line += lines;
                n.shift(lines);
            }),
            _ => {}
        }
    }
}

/// The parser's error in our words, where it has its own.
fn reason(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::AliasError { error, .. } => reason(error),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key \"{}\" stands twice in one map; take one of them out", shown(key))
        }
        Error::DuplicateMappingKey { .. } => "a key stands twice in one map; take one of them out".to_owned(),
        Error::UnknownAnchor { .. } => "an alias (*name) without its anchor (&name)".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias within its own anchor".to_owned(),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => TOO_MANY_ALIASES.to_owned(),
        Error::Budget { breach, .. } => budget(breach).to_owned(),
        Error::MultipleDocuments { .. } => "another document begins here without a line --- before it".to_owned(),
        Error::UnsupportedTag { tag, .. } => format!("tag {} is not allowed; leave it out", shown(tag)),
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or_default();
            let text = first.rfind(" at line ").map_or(first, |end| &first[..end]);
            match text {
                "recursion limit exceeded" => TOO_DEEP.to_owned(),
                "" => "it is not YAML".to_owned(),
                _ => format!("it is not YAML: {}", plain(text)),
            }
        }
    }
}

const TOO_MANY_ALIASES: &str = "its aliases would make it too large; write them out";
const TOO_DEEP: &str = "it is nested too deeply";

fn budget(breach: &serde_saphyr::budget::BudgetBreach) -> &'static str {
    use serde_saphyr::budget::BudgetBreach;
    match breach {
        BudgetBreach::Depth { .. } => TOO_DEEP,
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. }
        | BudgetBreach::MergeKeys { .. } => TOO_MANY_ALIASES,
        BudgetBreach::Documents { .. } => "it holds several documents; put a line --- between them",
        _ => "it has too many values; split it",
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(160).collect()
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_aliases: 1_000,
            max_anchors: 200,
            max_recorded_anchor_events: 20_000,
            max_recorded_anchor_bytes: 1 << 20,
            max_merge_keys: 100,
            max_total_scalar_bytes: 2 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 500,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: line(&spanned.referenced), value: spanned.value })
    }
}

fn line(location: &serde_saphyr::Location) -> u32 {
    u32::try_from(location.line()).unwrap_or(0)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(mut item) = access.next_element::<Node>()? {
            item.rejoin();
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            if key.value.contains('\0') {
                return Err(A::Error::custom("a key holds a NUL character"));
            }
            let key = Key { line: line(&key.referenced), name: key.value };
            entries.push((key, access.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}

fn json(value: &serde_json::Value, depth: usize, left: &mut usize) -> Result<Node, &'static str> {
    use serde_json::Value as Json;
    if depth == 0 {
        return Err("it is nested too deeply");
    }
    *left = left.checked_sub(1).ok_or("it has too many values")?;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => Value::Unsigned(value),
            (_, Some(value), _) => Value::Signed(value),
            (_, _, Some(value)) => Value::Float(value),
            _ => return Err("it holds a number that is out of range"),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => {
            Value::List(items.iter().map(|item| json(item, depth - 1, left)).collect::<Result<_, _>>()?)
        }
        Json::Object(entries) => {
            let entry = |(name, value): (&String, &Json), left: &mut usize| {
                Ok((Key { line: 0, name: name.clone() }, json(value, depth - 1, left)?))
            };
            Value::Map(entries.iter().map(|e| entry(e, left)).collect::<Result<_, &'static str>>()?)
        }
    };
    Ok(Node { line: 0, value })
}
