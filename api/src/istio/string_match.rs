//! Matching of text: exactly, by prefix, by regular expression, or by being there at all.

use std::fmt;

use serde::de::{Error as _, MapAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::{Check, Checker, text};

/// A match of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StringMatch {
    /// `{}`: it is there, whatever it is. Headers and query parameters only.
    #[default]
    Present,
    /// It is this.
    Exact(String),
    /// It starts with this.
    Prefix(String),
    /// All of it matches this (RE2 syntax).
    Regex(String),
}

const FIELDS: &[&str] = &["exact", "prefix", "regex"];

impl Serialize for StringMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = match self {
            Self::Present => None,
            Self::Exact(text) => Some(("exact", text)),
            Self::Prefix(text) => Some(("prefix", text)),
            Self::Regex(text) => Some(("regex", text)),
        };
        let mut map = serializer.serialize_map(Some(entry.iter().len()))?;
        if let Some((key, text)) = entry {
            map.serialize_entry(key, text)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = StringMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of one of exact, prefix and regex")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMatch, A::Error> {
                let mut found = StringMatch::Present;
                while let Some(key) = map.next_key::<String>()? {
                    if found != StringMatch::Present {
                        return Err(A::Error::custom("only one of exact, prefix and regex can be set"));
                    }
                    found = match key.as_str() {
                        "exact" => StringMatch::Exact(map.next_value()?),
                        "prefix" => StringMatch::Prefix(map.next_value()?),
                        "regex" => StringMatch::Regex(map.next_value()?),
                        _ => return Err(A::Error::unknown_field(&key, FIELDS)),
                    };
                }
                Ok(found)
            }
        }
        deserializer.deserialize_struct("StringMatch", FIELDS, Visitor)
    }
}

impl Check for StringMatch {
    fn check(&self, c: &mut Checker) {
        if let Self::Regex(regex) = self {
            c.field("regex", |c| text::tell(c, text::regex(regex)));
        }
    }
}

/// A match that must say what it matches.
pub(crate) fn not_empty(c: &mut Checker, field: &str, value: Option<&StringMatch>) {
    if value == Some(&StringMatch::Present) {
        c.wrong(field, "one of exact, prefix, regex is required");
    }
}
