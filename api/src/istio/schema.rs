//! Schemas of Istio's kinds, read off our own types: what a Kubernetes API server is to take.
//!
//! In: a [`Kind`]. Out: its `openAPIV3Schema`, and its whole CustomResourceDefinition. A type is asked again and again what
//! it wants to read at a path, by the way in which it reads anything, so a schema never says other than what is read.
//! Invariant: what the types read, the schema takes. It is wider than they are: what is required, and which values make
//! sense, is said when a resource is read, in better words than a schema has.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, json};

use super::*;

/// Deepest nesting of a type; none of ours is deeper, or holds itself.
const DEEPEST: usize = 24;

/// The definition of a kind, for a Kubernetes API server that has none.
pub fn definition(kind: Kind) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": schema(kind),
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}});
    let columns: Vec<Value> = columns(kind)
        .iter()
        .map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path}))
        .chain([json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})])
        .collect();
    let versions: Vec<Value> = kind
        .versions()
        .iter()
        .enumerate()
        .map(|(at, version)| {
            json!({"name": version, "served": true, "storage": at == 0, "schema": schema,
                "subresources": {"status": {}}, "additionalPrinterColumns": columns})
        })
        .collect();
    let short: Vec<&str> = kind.short().into_iter().collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", kind.plural(), kind.group()), "labels": {"app.kubernetes.io/managed-by": "hawser"}},
        "spec": {"group": kind.group(), "scope": "Namespaced", "versions": versions, "names": {
            "kind": kind.as_str(), "listKind": format!("{}List", kind.as_str()), "plural": kind.plural(),
            "singular": kind.as_str().to_lowercase(), "shortNames": short,
            "categories": ["istio-io", kind.group().replace('.', "-")]}},
    })
}

/// What a listing shows beside name and age.
fn columns(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::VirtualService => &[("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts")],
        Kind::DestinationRule => &[("Host", ".spec.host")],
        Kind::ServiceEntry => {
            &[("Hosts", ".spec.hosts"), ("Location", ".spec.location"), ("Resolution", ".spec.resolution")]
        }
        Kind::WorkloadEntry => &[("Address", ".spec.address")],
        Kind::PeerAuthentication => &[("Mode", ".spec.mtls.mode")],
        Kind::AuthorizationPolicy => &[("Action", ".spec.action")],
        _ => &[],
    }
}

/// The schema of what a resource of a kind says.
pub fn schema(kind: Kind) -> Value {
    match kind {
        Kind::VirtualService => of::<VirtualService>(),
        Kind::DestinationRule => of::<DestinationRule>(),
        Kind::ServiceEntry => of::<ServiceEntry>(),
        Kind::WorkloadEntry => of::<WorkloadEntry>(),
        Kind::WorkloadGroup => of::<WorkloadGroup>(),
        Kind::Sidecar => of::<Sidecar>(),
        Kind::Gateway => of::<Gateway>(),
        Kind::PeerAuthentication => of::<PeerAuthentication>(),
        Kind::RequestAuthentication => of::<RequestAuthentication>(),
        Kind::AuthorizationPolicy => of::<AuthorizationPolicy>(),
        Kind::Telemetry => of::<Telemetry>(),
    }
}

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(&'static str),
    Item,
    Entry,
}

/// What a type wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Fields(&'static [&'static str]),
    Words(&'static [&'static str]),
    List,
    Map,
    Text,
    Flag,
    Number,
    Whole { from: i64, to: Option<i64> },
    Anything,
}

fn of<T: DeserializeOwned>() -> Value {
    part::<T>(&mut Vec::new())
}

fn part<T: DeserializeOwned>(path: &mut Vec<Step>) -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    if path.len() > DEEPEST {
        return anything;
    }
    let wanted = ask::<T>(path);
    let mut below = |step: Step| {
        path.push(step);
        let schema = part::<T>(path);
        path.pop();
        schema
    };
    match wanted {
        Wanted::Fields(names) => {
            let properties: Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), below(Step::Field(name)))).collect();
            json!({"type": "object", "properties": properties})
        }
        Wanted::Words(words) => json!({"type": "string", "enum": words}),
        Wanted::List => json!({"type": "array", "items": below(Step::Item)}),
        Wanted::Map => json!({"type": "object", "additionalProperties": below(Step::Entry)}),
        Wanted::Text => json!({"type": "string"}),
        Wanted::Flag => json!({"type": "boolean"}),
        Wanted::Number => json!({"type": "number"}),
        Wanted::Whole { from, to } => {
            let mut schema = json!({"type": "integer", "format": "int64", "minimum": from});
            if let Some(to) = to {
                schema["maximum"] = to.into();
            }
            schema
        }
        Wanted::Anything => json!({"x-kubernetes-preserve-unknown-fields": true}),
    }
}

/// What a type wants to read at a path.
fn ask<T: DeserializeOwned>(path: &[Step]) -> Wanted {
    let found = RefCell::new(None);
    // It always ends with an error: nothing is there to be read.
    let _ = T::deserialize(Probe { path, found: &found });
    found.into_inner().unwrap_or(Wanted::Anything)
}

/// Gives a type what leads it along a path, and notes what it wants at its end.
#[derive(Clone, Copy)]
struct Probe<'p> {
    path: &'p [Step],
    found: &'p RefCell<Option<Wanted>>,
}

/// The end of the question.
#[derive(Debug)]
struct Asked;

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("asked")
    }
}

impl std::error::Error for Asked {}

impl de::Error for Asked {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'p> Probe<'p> {
    fn note<V>(self, wanted: Wanted) -> Result<V, Asked> {
        if self.path.is_empty() {
            *self.found.borrow_mut() = Some(wanted);
        }
        Err(Asked)
    }

    /// The probe of what is one step further.
    fn inside(self) -> Option<(&'p Step, Self)> {
        let (first, path) = self.path.split_first()?;
        Some((first, Self { path, ..self }))
    }
}

macro_rules! wanted {
    ($($method:ident => $wanted:expr,)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
            self.note($wanted)
        }
    )*};
}

const fn whole(from: i64, to: i64) -> Wanted {
    Wanted::Whole { from, to: Some(to) }
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Asked;

    wanted! {
        deserialize_any => Wanted::Anything,
        deserialize_ignored_any => Wanted::Anything,
        deserialize_bool => Wanted::Flag,
        deserialize_i8 => whole(i8::MIN.into(), i8::MAX.into()),
        deserialize_i16 => whole(i16::MIN.into(), i16::MAX.into()),
        deserialize_i32 => whole(i32::MIN.into(), i32::MAX.into()),
        deserialize_i64 => Wanted::Whole { from: i64::MIN, to: None },
        deserialize_u8 => whole(0, u8::MAX.into()),
        deserialize_u16 => whole(0, u16::MAX.into()),
        deserialize_u32 => whole(0, u32::MAX.into()),
        deserialize_u64 => Wanted::Whole { from: 0, to: None },
        deserialize_f32 => Wanted::Number,
        deserialize_f64 => Wanted::Number,
        deserialize_char => Wanted::Text,
        deserialize_str => Wanted::Text,
        deserialize_string => Wanted::Text,
        deserialize_bytes => Wanted::Text,
        deserialize_byte_buf => Wanted::Text,
        deserialize_identifier => Wanted::Text,
        deserialize_unit => Wanted::Anything,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Asked> {
        self.note(Wanted::Anything)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        match self.inside() {
            Some((_, inside)) => visitor.visit_seq(One { key: "", inside: Some(inside) }),
            None => self.note(Wanted::List),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Asked> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Asked> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        match self.inside() {
            Some((_, inside)) => visitor.visit_map(One { key: "1", inside: Some(inside) }),
            None => self.note(Wanted::Map),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Asked> {
        match self.inside() {
            Some((Step::Field(key), inside)) => visitor.visit_map(One { key, inside: Some(inside) }),
            Some(_) => Err(Asked),
            None => self.note(Wanted::Fields(fields)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Asked> {
        self.note(Wanted::Words(words))
    }
}

/// A list or a map of one.
struct One<'p> {
    key: &'p str,
    inside: Option<Probe<'p>>,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Asked;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Asked> {
        self.inside.take().map(|inside| seed.deserialize(inside)).transpose()
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Asked;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Asked> {
        self.inside.map(|_| seed.deserialize(Key(self.key))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Asked> {
        self.inside.take().map_or(Err(Asked), |inside| seed.deserialize(inside))
    }
}

/// A key: text, or a number for who wants one.
struct Key<'p>(&'p str);

impl<'de> de::Deserializer<'de> for Key<'_> {
    type Error = Asked;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_str(self.0)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_u64(1)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_the_fields_that_are_read() {
        let entry = schema(Kind::WorkloadEntry);
        assert_eq!(entry["properties"]["address"], json!({"type": "string"}));
        assert_eq!(entry["properties"]["serviceAccount"], json!({"type": "string"}));
        let ports = &entry["properties"]["ports"];
        assert_eq!(ports["additionalProperties"], json!({"type": "integer", "format": "int64", "minimum": 0}));
        let rule = schema(Kind::DestinationRule);
        let simple = rule.pointer("/properties/trafficPolicy/properties/loadBalancer/properties/simple").unwrap();
        assert_eq!(simple["enum"][5], "LEAST_REQUEST");
        let exact = schema(Kind::VirtualService);
        let exact = exact.pointer("/properties/http/items/properties/match/items/properties/uri/properties/exact");
        assert_eq!(exact, Some(&json!({"type": "string"})));
    }

    #[test]
    fn old_names_of_fields_are_in_schemas_too() {
        let rules = schema(Kind::RequestAuthentication);
        for name in ["jwksUri", "jwks_uri"] {
            assert!(rules.pointer(&format!("/properties/jwtRules/items/properties/{name}")).is_some(), "{name}");
        }
        let routes = schema(Kind::VirtualService);
        for name in ["mirrorPercent", "mirror_percent"] {
            assert!(routes.pointer(&format!("/properties/http/items/properties/{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn nothing_is_left_open_by_mistake() {
        for kind in Kind::ALL {
            let text = schema(kind).to_string();
            assert!(!text.contains("preserve-unknown"), "{kind:?} has a place without a schema: {text}");
            assert!(text.len() < 100_000, "{kind:?}: {} bytes", text.len());
        }
    }
}
