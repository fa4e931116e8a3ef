//! Metadata, which every object has.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Item;
use crate::name::Name;

/// What is said of every object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    #[serde(deserialize_with = "labels")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    /// Its deletion was asked for. When it is over, nobody knows: the time may be in the future, and is moved.
    #[serde(rename = "deletionTimestamp", deserialize_with = "presence")]
    pub(crate) deleting: bool,
}

/// Who wrote fields of an object; which, is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manager {
    manager: String,
    subresource: String,
    #[serde(rename = "fieldsV1")]
    fields: Fields,
}

/// Whether the address of a WorkloadEntry is among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:spec")]
    spec: SpecFields,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct SpecFields {
    #[serde(rename = "f:address", deserialize_with = "presence")]
    address: bool,
}

/// Who wrote an object. Whoever writes a status on another's object does not make it his own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writers {
    /// We did.
    pub(crate) we: bool,
    /// The address in it is somebody else's word.
    pub(crate) others: bool,
}

impl Meta {
    /// An annotation that is used somewhere; of long ones only the beginning.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Namespace and name.
    pub(crate) fn full_name(&self) -> Name {
        Name::new(&self.namespace, &self.name)
    }

    /// Whether an object with these is our own word: written by us, or marked as ours.
    pub(super) fn ours(annotations: &BTreeMap<String, String>, writers: Writers) -> bool {
        writers.we || annotations.keys().any(|key| key.starts_with(OURS))
    }
}

/// An object of which only the metadata is used: a namespace, a node.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) metadata: Meta,
}

impl Item for Named {
    const METADATA_ONLY: bool = true;

    fn name(&self) -> Name {
        self.metadata.full_name()
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Annotations that we alone write.
const OURS: &str = "hawser.io/";
/// The name that we write fields under.
pub(crate) const MANAGER: &str = "hawser-discovery";
/// Longest part of an annotation that is kept.
const LONGEST: usize = 512;

/// Whether an annotation is used somewhere.
fn is_used(key: &str) -> bool {
    matches!(
        key,
        super::INITIAL_EVENTS_END
            | "networking.istio.io/exportTo"
            | "networking.istio.io/traffic-distribution"
            | "service.kubernetes.io/topology-mode"
            | "service.kubernetes.io/topology-aware-hints"
            | "sidecar.istio.io/status"
            | "ambient.istio.io/redirection"
    ) || key.starts_with(OURS)
}

fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    some(deserializer, is_used, LONGEST)
}

/// Reads what is used of annotations, of each so many bytes at most; the rest is never copied.
pub(super) fn some<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_used: fn(&str) -> bool,
    longest: usize,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Used(fn(&str) -> bool, usize);

    impl<'de> Visitor<'de> for Used {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("annotations")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let Self(is_used, longest) = self;
            let mut used = BTreeMap::new();
            while let Some(key) = map.next_key::<Text<'_>>()? {
                if is_used(&key.0) {
                    let value = map.next_value::<Text<'_>>()?.0;
                    let end = value.floor_char_boundary(longest);
                    used.insert(key.0.into_owned(), value[..end].to_owned());
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(used)
        }
    }

    deserializer.deserialize_any(Used(is_used, longest))
}

/// Text that is borrowed where that can be.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrows;

        impl<'de> Visitor<'de> for Borrows {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_str(Borrows).map(Text)
    }
}

/// Labels, or `null`.
fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn writers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Writers, D::Error> {
    let all: Option<Vec<Manager>> = Option::deserialize(deserializer)?;
    let all = all.unwrap_or_default();
    let mut whole = all.iter().filter(|m| m.subresource.is_empty());
    Ok(Writers {
        we: whole.clone().any(|m| m.manager == MANAGER),
        others: whole.any(|m| m.manager != MANAGER && m.fields.spec.address),
    })
}

/// Whether a field is there and says something.
pub(super) fn presence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}
