//! Texts of many YAML documents: each is read for itself, so that one bad document takes no other down.

use super::node::{Key, Node, Unreadable, Value};
use super::resource::{from_node, problem};
use super::{Check, Checker, DEFAULT_NAMESPACE, MeshConfig, ParseError, Problem, Resource, decode};

/// Largest document, in bytes.
pub const MAX_DOCUMENT: usize = 1 << 20;
/// Largest text, in bytes.
pub const MAX_TEXT: usize = 16 << 20;
/// Most resources of a text.
pub const MAX_DOCUMENTS: usize = 10_000;

/// A resource and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The resource.
    pub resource: Resource,
    /// Line of the document's start, from 1.
    pub line: u32,
}

/// Reads every document of a text; empty ones are passed over, a `List` gives each of its items.
pub fn parse_documents(file_name: &str, text: &str) -> Vec<Result<Parsed, ParseError>> {
    parse_documents_in(DEFAULT_NAMESPACE, file_name, text)
}

/// The same, where documents that name no namespace belong to `namespace`.
pub fn parse_documents_in(namespace: &str, file_name: &str, text: &str) -> Vec<Result<Parsed, ParseError>> {
    let refuse = |line, message: String| {
        let problems = vec![problem(line, &[], message)];
        Err(ParseError { file: file_name.to_owned(), line, object: None, problems })
    };
    let mut results = Vec::new();
    if text.len() > MAX_TEXT {
        results.push(refuse(0, format!("it is larger than {} MiB; split it", MAX_TEXT >> 20)));
        return results;
    }
    for document in split(text) {
        if results.len() >= MAX_DOCUMENTS {
            results.push(refuse(document.line, format!("it has more than {MAX_DOCUMENTS} documents; split it")));
            break;
        }
        match read(&document) {
            Err(Unreadable { line, message }) => results.push(refuse(line, message)),
            Ok(Node { value: Value::Null, .. }) => {}
            Ok(node) => {
                let room = MAX_DOCUMENTS - results.len();
                for node in items(node).into_iter().take(room) {
                    let line = node.line;
                    let parsed = from_node(node, file_name, namespace);
                    results.push(parsed.map(|resource| Parsed { resource, line }));
                }
            }
        }
    }
    results
}

/// Reads the mesh's settings: one document, without kind or metadata.
///
/// # Errors
/// If it is not one document of such settings.
pub fn parse_mesh_config(file_name: &str, text: &str) -> Result<MeshConfig, ParseError> {
    let failed = |line, problems: Vec<Problem>| ParseError { file: file_name.to_owned(), line, object: None, problems };
    let mut documents = split(text).into_iter();
    let Some(document) = documents.next() else { return Ok(MeshConfig::default()) };
    if let Some(second) = documents.next() {
        return Err(failed(second.line, vec![problem(second.line, &[], "the mesh's settings are one document only")]));
    }
    let node = read(&document).map_err(|error| failed(error.line, vec![problem(error.line, &[], error.message)]))?;
    if matches!(node.value, Value::Null) {
        return Ok(MeshConfig::default());
    }
    let mesh: MeshConfig = decode::decode(&node, &[]).map_err(|error| failed(node.line, vec![error]))?;
    let mut checker = Checker::default();
    mesh.check(&mut checker);
    let problems: Vec<Problem> = checker
        .into_problems()
        .into_iter()
        .map(|(path, message)| Problem { line: node.line_of(path.segments()), path, message })
        .collect();
    if problems.is_empty() { Ok(mesh) } else { Err(failed(node.line, problems)) }
}

struct Document {
    /// Line of its first character, from 1.
    line: u32,
    text: String,
}

/// Cuts a text at its `---` lines. Within a document these can't occur, not even in block scalars.
fn split(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut current = Document { line: 1, text: String::new() };
    let mut line = 0u32;
    for row in text.split_inclusive('\n') {
        line = line.saturating_add(1);
        let rest = row.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']));
        if let Some(rest) = rest {
            documents.push(std::mem::replace(&mut current, Document { line, text: format!("   {rest}") }));
        } else {
            current.text.push_str(row);
        }
    }
    documents.push(current);
    let said = |row: &str| !(row.trim().is_empty() || row.trim_start().starts_with('#') || row.starts_with('%'));
    documents.retain(|document| document.text.lines().any(said));
    documents
}

fn read(document: &Document) -> Result<Node, Unreadable> {
    if document.text.len() > MAX_DOCUMENT {
        let message = format!("this document is larger than {} MiB", MAX_DOCUMENT >> 20);
        return Err(Unreadable { line: document.line, message });
    }
    let before = document.line - 1;
    match Node::from_yaml(&document.text) {
        Ok(mut node) => {
            node.shift(before);
            Ok(node)
        }
        Err(error) => Err(Unreadable { line: error.line.max(1) + before, ..error }),
    }
}

/// The items of a `List`, as `kubectl get -o yaml` prints it; anything else as it is.
fn items(mut node: Node) -> Vec<Node> {
    let list = node.get_text("kind").is_some_and(|kind| kind == "List" || kind.ends_with("List"));
    if !list || !matches!(node.get("items").map(|n| &n.value), Some(Value::List(_))) {
        return vec![node];
    }
    let kind = node.get_text("kind").and_then(|k| k.strip_suffix("List")).unwrap_or_default().to_owned();
    let version = node.get_text("apiVersion").unwrap_or_default().to_owned();
    let Some(Node { value: Value::List(mut items), .. }) = node.take("items") else { return vec![node] };
    // Items of a typed list need not repeat kind and version.
    for item in items.iter_mut().filter(|_| !kind.is_empty()) {
        let line = item.line;
        for (name, text) in [("kind", &kind), ("apiVersion", &version)] {
            let missing = item.get(name).is_none();
            if let Value::Map(entries) = &mut item.value
                && missing
            {
                let value = Node { line, value: Value::Text(text.clone()) };
                entries.push((Key { line, name: name.to_owned() }, value));
            }
        }
    }
    items
}
