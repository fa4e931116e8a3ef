//! The table of fields in docs/configuration.md, held against the types and the cases.
//!
//! In: the types of the API, the page, the tables. Out: what is wrong. Every field of the types stands in the page once,
//! as honoured, with a case that there is, or as refused, as discovery has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hawser_api::istio::{
    DestinationRule, Kind, ServiceEntry, Sidecar, VirtualService, WorkloadEntry, WorkloadGroup, honours,
};
use hawser_tests::programs;
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};

use crate::tables;

/// Every field of a type by its path, `[]` for the elements of a list, `*` for those of a map.
fn fields<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let walk = Walk { path: String::new(), found: &mut found };
    T::deserialize(walk).unwrap();
    found
}

/// Reads a type from nothing, and notes what it asks for.
struct Walk<'f> {
    path: String,
    found: &'f mut BTreeSet<String>,
}

impl Walk<'_> {
    fn below(&mut self, name: &str) -> Walk<'_> {
        let path = if self.path.is_empty() || name == "[]" {
            format!("{}{name}", self.path)
        } else {
            format!("{}.{name}", self.path)
        };
        Walk { path, found: self.found }
    }
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == "StringMatch" {
            return visitor.visit_map(Fields { walk: self, names: VecDeque::new(), last: None });
        }
        // What has an underscore is another name of the same.
        let names: VecDeque<&str> = fields.iter().copied().filter(|name| !name.contains('_')).collect();
        for field in &names {
            let below = if self.path.is_empty() { (*field).to_owned() } else { format!("{}.{field}", self.path) };
            self.found.insert(below);
        }
        visitor.visit_map(Fields { walk: self, names, last: None })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(Some(self)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { walk: self, names: ["*"].into(), last: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let first: StrDeserializer<'_, Error> = variants[0].into_deserializer();
        visitor.visit_enum(first)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("1s")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("1s")
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct One<'f>(Option<Walk<'f>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|mut walk| seed.deserialize(walk.below("[]"))).transpose()
    }
}

struct Fields<'f> {
    walk: Walk<'f>,
    names: VecDeque<&'static str>,
    last: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.last = self.names.pop_front();
        let Some(first) = self.last else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = first.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.walk.below(self.last.unwrap_or_default()))
    }
}

/// Fields that hold no others, but for the names of maps: what a table says of.
fn leaves(all: &BTreeSet<String>) -> BTreeSet<String> {
    let is_leaf = |field: &&String| {
        let below =
            |other: &String| other.strip_prefix(field.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']));
        !all.iter().any(below)
    };
    all.iter().filter(is_leaf).cloned().collect()
}

/// The rows of the page's table of a kind: field, and what is said of it.
fn rows(page: &str, kind: &str) -> BTreeMap<String, String> {
    let part = page.split(&format!("### {kind}\n")).nth(1).unwrap_or_else(|| panic!("the page has no part {kind}"));
    let part = part.split("\n#").next().unwrap_or_default();
    let mut all = BTreeMap::new();
    for line in part.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let (Some(fields), Some(said)) = (cells.next(), cells.next()) else { panic!("{line}") };
        for field in fields.split(", ") {
            let field = field.trim_matches('`').to_owned();
            assert!(all.insert(field.clone(), said.to_owned()).is_none(), "{field} stands twice");
        }
    }
    all
}

fn hold(page: &str, kind: Kind, types: &BTreeSet<String>) {
    let rows = rows(page, &kind.to_string());
    let leaves = leaves(types);
    let wanted: BTreeSet<&String> = leaves.iter().collect();
    let told: BTreeSet<&String> = rows.keys().collect();
    assert!(told == wanted, "{kind}: missing {:?}, too many {:?}", &wanted - &told, &told - &wanted);
    let of_sets = tables::sets().flat_map(|set| set.tries).map(|case| case.name);
    let names: BTreeSet<&str> = tables::all().map(|case| case.name).chain(of_sets).collect();
    for (field, said) in &rows {
        let no = said.starts_with("no:") || said.starts_with("refused:");
        assert_eq!(!no, honours(kind, field), "{kind}: {field}: {said}, but discovery has it otherwise");
        if !no {
            let elsewhere = said.strip_prefix("see ");
            for case in said.split("; ").filter(|_| elsewhere.is_none()) {
                assert!(names.contains(case), "{kind}: {field}: there is no case {case:?}");
            }
        }
    }
}

#[test]
fn every_field_of_routes_and_destinations_is_in_the_page() {
    let page = std::fs::read_to_string(programs::source_root().join("docs/configuration.md")).unwrap();
    let routes: BTreeSet<String> = fields::<VirtualService>();
    if std::env::var_os("HAWSER_SHOW").is_some() {
        for (kind, all) in [("VirtualService", &routes), ("DestinationRule", &fields::<DestinationRule>())] {
            eprintln!("{kind}\n{}", leaves(all).into_iter().collect::<Vec<_>>().join("\n"));
        }
    }
    hold(&page, Kind::VirtualService, &routes);
    // What subsets and ports say is what the rule says.
    let same = |field: &String| {
        let of_port = field.starts_with("trafficPolicy.portLevelSettings[].") && !field.ends_with("].port.number");
        of_port || field.starts_with("subsets[].trafficPolicy")
    };
    let all = fields::<DestinationRule>().into_iter().filter(|field| !same(field)).collect();
    hold(&page, Kind::DestinationRule, &all);
}

#[test]
fn every_field_of_entries_and_sidecars_is_in_the_page() {
    let page = std::fs::read_to_string(programs::source_root().join("docs/configuration.md")).unwrap();
    hold(&page, Kind::ServiceEntry, &fields::<ServiceEntry>());
    hold(&page, Kind::WorkloadEntry, &fields::<WorkloadEntry>());
    hold(&page, Kind::WorkloadGroup, &fields::<WorkloadGroup>());
    // Said of as a whole.
    let whole = ["inboundConnectionPool.", "ingress[].connectionPool.", "ingress[].tls."];
    let parts = whole.map(|part| part.trim_end_matches('.'));
    let apart = |field: &String| whole.iter().any(|w| field.starts_with(w)) || parts.contains(&field.as_str());
    let rest = fields::<Sidecar>().into_iter().filter(|field| !apart(field)).collect();
    hold(&page, Kind::Sidecar, &rest);
}
