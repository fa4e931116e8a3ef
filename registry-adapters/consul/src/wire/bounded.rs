//! Lists of which only so much is kept: a few bytes of an answer could be a large value each.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most services of a list.
const MAX_SERVICES: usize = 100_000;

/// The first `MOST` of a list, and how many there were.
#[derive(Clone, Debug)]
pub(crate) struct First<T, const MOST: usize> {
    pub(crate) list: Vec<T>,
    pub(crate) all: usize,
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for First<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(List::<T, MOST>(PhantomData))
    }
}

struct List<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
    type Value = First<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(First { list: Vec::new(), all: 0 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < MOST {
            match from.next_element()? {
                Some(one) => list.push(one),
                None => return Ok(First { all: list.len(), list }),
            }
        }
        let mut all = list.len();
        while from.next_element::<IgnoredAny>()?.is_some() {
            all += 1;
        }
        Ok(First { list, all })
    }
}

/// Names of all services, each with its tags; too many are an error, for a part of a list is no list.
#[derive(Clone, Debug)]
pub(crate) struct Listed(pub(crate) BTreeMap<Arc<str>, Option<Vec<String>>>);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Services).map(Self)
    }
}

struct Services;

impl<'de> Visitor<'de> for Services {
    type Value = BTreeMap<Arc<str>, Option<Vec<String>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("services by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut all = BTreeMap::new();
        while let Some((name, tags)) = from.next_entry::<String, _>()? {
            if all.len() >= MAX_SERVICES {
                return Err(A::Error::custom(format!("it lists more than {MAX_SERVICES} services")));
            }
            all.insert(name.into(), tags);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_list_the_first_are_kept_and_all_are_counted() {
        let of = |text: &str| serde_json::from_str::<First<u8, 3>>(text).map(|first| (first.list, first.all)).ok();
        assert_eq!(of("[]"), Some((vec![], 0)));
        assert_eq!(of("null"), Some((vec![], 0)));
        assert_eq!(of("[1,2,3]"), Some((vec![1, 2, 3], 3)));
        // What is not kept is of any form, but it must be JSON.
        assert_eq!(of(r#"[1,2,3,{"a":[]},"b"]"#), Some((vec![1, 2, 3], 5)));
        assert_eq!(of("[1,2,3,]"), None);
        assert_eq!(of("{}"), None);
    }

    #[test]
    fn a_list_of_too_many_services_is_none() {
        let list = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("\"s{n}\":[]")).collect();
            serde_json::from_str::<Listed>(&format!("{{{}}}", names.join(",")))
        };
        assert_eq!(list(MAX_SERVICES).map(|all| all.0.len()).ok(), Some(MAX_SERVICES));
        assert!(list(MAX_SERVICES + 1).unwrap_err().to_string().contains("more than 100000 services"));
    }
}
