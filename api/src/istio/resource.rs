//! A resource of any kind: reading it from a tree, checking it, writing it.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::check::{Check, Checker};
use super::decode::{decode, unknown_field};
use super::error::shown;
use super::node::{Node, Unreadable, Value};
use super::{
    AuthorizationPolicy, DestinationRule, FieldPath, Gateway, Kind, ObjectMeta, ParseError, PeerAuthentication,
    Problem, RequestAuthentication, ServiceEntry, Sidecar, Telemetry, VirtualService, WorkloadEntry, WorkloadGroup,
};

/// The name of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// `VirtualService` and so on.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The namespace of a document that names none, unless its reader knows another.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A resource of any kind that was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// As it was written: group and version.
    pub api_version: String,
    /// Name, namespace, labels and so on.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: Spec,
    /// What others wrote down about it; never read.
    pub status: Option<serde_json::Value>,
}

macro_rules! specs {
    ($($kind:ident),*) => {
        /// What a resource says, by kind.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Spec {
            $( $kind(Box<$kind>), )*
        }

        impl Spec {
            /// The kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $( Self::$kind(_) => Kind::$kind, )*
                }
            }

            fn read(kind: Kind, node: &Node) -> Result<Self, Problem> {
                Ok(match kind {
                    $( Kind::$kind => Self::$kind(decode(node, &["spec"])?), )*
                })
            }

            fn empty(kind: Kind) -> Self {
                match kind {
                    $( Kind::$kind => Self::$kind(Box::default()), )*
                }
            }

            fn check(&self, checker: &mut Checker) {
                match self {
                    $( Self::$kind(spec) => spec.check(checker), )*
                }
            }
        }

        impl Serialize for Spec {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$kind(spec) => spec.serialize(serializer), )*
                }
            }
        }

        $(
            impl From<$kind> for Spec {
                fn from(spec: $kind) -> Self {
                    Self::$kind(Box::new(spec))
                }
            }
        )*
    };
}

specs!(
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    WorkloadGroup,
    Sidecar,
    Gateway,
    PeerAuthentication,
    RequestAuthentication,
    AuthorizationPolicy,
    Telemetry
);

impl Resource {
    /// A resource that a program makes. It is not checked; see [`Resource::check`].
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, spec: impl Into<Spec>) -> Self {
        let spec = spec.into();
        let metadata = ObjectMeta { name: name.into(), namespace: namespace.into(), ..ObjectMeta::default() };
        let kind = spec.kind();
        Self { api_version: format!("{}/{}", kind.group(), kind.versions()[0]), metadata, spec, status: None }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// Its name, complete.
    pub fn object_ref(&self) -> ObjectRef {
        let namespace = match self.metadata.namespace.as_str() {
            "" => DEFAULT_NAMESPACE,
            namespace => namespace,
        };
        ObjectRef { kind: self.kind(), namespace: namespace.to_owned(), name: self.metadata.name.clone() }
    }

    /// Reads a Kubernetes object.
    ///
    /// # Errors
    /// If it is not a resource of a kind that is known here, or says something it can't.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, ParseError> {
        let failed = |problems| ParseError { file: String::new(), line: 0, object: None, problems };
        let node = Node::from_json(value).map_err(|Unreadable { line, message }| {
            failed(vec![Problem { line, path: FieldPath::default(), message }])
        })?;
        from_node(node, "", DEFAULT_NAMESPACE)
    }

    /// As a Kubernetes object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// As one YAML document: fields in the API's order, those that have their default left out.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_default()
    }

    /// All that is wrong with it beyond its types, by field.
    pub fn check(&self) -> Vec<Problem> {
        let mut checker = Checker::at("metadata");
        self.metadata.check(&mut checker);
        let mut problems = checker.into_problems();
        let mut checker = Checker::at("spec");
        self.spec.check(&mut checker);
        problems.extend(checker.into_problems());
        problems.into_iter().map(|(path, message)| Problem { line: 0, path, message }).collect()
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", &self.api_version)?;
        map.serialize_entry("kind", self.kind().as_str())?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("spec", &self.spec)?;
        if let Some(status) = &self.status {
            map.serialize_entry("status", status)?;
        }
        map.end()
    }
}

/// Fields of an object.
const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Reads and checks one object.
pub(crate) fn from_node(node: Node, file: &str, namespace: &str) -> Result<Resource, ParseError> {
    let mut problems = Vec::new();
    let object = match read(&node, namespace, &mut problems) {
        Ok(resource) if problems.is_empty() => {
            problems = resource.check();
            for problem in &mut problems {
                problem.line = node.line_of(problem.path.segments());
            }
            if problems.is_empty() {
                return Ok(resource);
            }
            Some(resource.object_ref())
        }
        Ok(resource) => Some(resource.object_ref()),
        Err(object) => object,
    };
    problems.sort_by_key(|problem| problem.line);
    Err(ParseError { file: file.to_owned(), line: node.line, object, problems })
}

/// Reads one object; what can't be read is told in `problems`.
fn read(node: &Node, namespace: &str, problems: &mut Vec<Problem>) -> Result<Resource, Option<ObjectRef>> {
    let Value::Map(entries) = &node.value else {
        problems.push(problem(node.line, &[], "expected a resource: a map with apiVersion, kind, metadata and spec"));
        return Err(None);
    };
    for (key, _) in entries.iter().filter(|(key, _)| !FIELDS.contains(&key.name.as_str())) {
        problems.push(problem(key.line, &[&key.name], unknown_field(&key.name, &FIELDS)));
    }
    let kind = read_kind(node, problems);
    let mut metadata = match node.get("metadata").map(|n| decode::<ObjectMeta>(n, &["metadata"])) {
        Some(Ok(metadata)) => metadata,
        Some(Err(error)) => {
            problems.push(error);
            ObjectMeta::default()
        }
        None => ObjectMeta::default(),
    };
    if metadata.namespace.is_empty() {
        namespace.clone_into(&mut metadata.namespace);
    }
    let Some((kind, api_version)) = kind else { return Err(None) };
    let object = ObjectRef { kind, namespace: metadata.namespace.clone(), name: metadata.name.clone() };
    let object = || Some(object.clone()).filter(|o| !o.name.is_empty());
    let spec = read_spec(node, kind, problems).ok_or_else(object)?;
    let status = node.get("status").map(to_json);
    Ok(Resource { api_version, metadata, spec, status })
}

fn read_spec(node: &Node, kind: Kind, problems: &mut Vec<Problem>) -> Option<Spec> {
    let required = matches!(kind, Kind::ServiceEntry | Kind::WorkloadEntry | Kind::WorkloadGroup);
    match node.get("spec").filter(|n| !matches!(n.value, Value::Null)) {
        Some(spec) => Spec::read(kind, spec).map_err(|error| problems.push(error)).ok(),
        None if required => {
            problems.push(problem(node.line, &["spec"], "Required value: it is required"));
            None
        }
        None => Some(Spec::empty(kind)),
    }
}

fn read_kind(node: &Node, problems: &mut Vec<Problem>) -> Option<(Kind, String)> {
    let line = |name: &str| node.get(name).map_or(node.line, |n| n.line);
    let version = node.get_text("apiVersion");
    if version.is_none() {
        problems.push(problem(line("apiVersion"), &["apiVersion"], "it is required, such as networking.istio.io/v1"));
    }
    let Some(text) = node.get_text("kind") else {
        problems.push(problem(line("kind"), &["kind"], "it is required, such as VirtualService"));
        return None;
    };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == text) else {
        let near = text.parse::<Kind>().map(|kind| format!("; did you mean {kind}?")).unwrap_or_default();
        let known = Kind::ALL.map(Kind::as_str).join(", ");
        let message = format!("\"{}\" is not a kind that is known here: {known}{near}", shown(text));
        problems.push(problem(line("kind"), &["kind"], message));
        return None;
    };
    let version = version?;
    let known = version.split_once('/').is_some_and(|(g, v)| g == kind.group() && kind.versions().contains(&v));
    if !known {
        let versions: Vec<String> = kind.versions().iter().map(|v| format!("{}/{v}", kind.group())).collect();
        let message = format!("\"{}\" is not a version of {kind}: {}", shown(version), versions.join(", "));
        problems.push(problem(line("apiVersion"), &["apiVersion"], message));
    }
    Some((kind, version.to_owned()))
}

pub(crate) fn problem(line: u32, path: &[&str], message: impl Into<String>) -> Problem {
    let mut field = FieldPath::default();
    path.iter().for_each(|name| field.push_field(name));
    Problem { line, path: field, message: message.into() }
}

/// A tree as JSON.
fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Unsigned(value) => (*value).into(),
        Value::Signed(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(text) => text.clone().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, value)| (key.name.clone(), to_json(value))).collect(),
    }
}
