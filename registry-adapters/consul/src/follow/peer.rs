//! What a peer exports, as the peering itself tells it.
//!
//! In: `/v1/peering/:name`. Out: names, in the form of the list of a Consul's own services. Invariant: a peering that
//! does not work now, or does not say what comes by it, is an answer that can't be used, never an empty list.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;

use crate::wire::Peering;

/// Names of services, none with tags.
pub(super) fn imported(body: &[u8]) -> serde_json::Result<BTreeMap<Arc<str>, Option<Vec<String>>>> {
    let Peering { state, stream_status } = serde_json::from_slice(body)?;
    if state != "ACTIVE" {
        let state: String = state.chars().take(40).collect();
        return Err(serde_json::Error::custom(format!("the peering is {state:?}, not ACTIVE")));
    }
    let imported = stream_status.and_then(|status| status.imported_services);
    let imported = imported.ok_or_else(|| {
        serde_json::Error::custom("it does not say which services come by the peering; Consul 1.14 and later do")
    })?;
    if imported.all > imported.list.len() {
        return Err(serde_json::Error::custom(format!("{} services come by the peering", imported.all)));
    }
    let name = |text: &String| Arc::from(text.rsplit('/').next().unwrap_or_default());
    Ok(imported.list.iter().map(|text| (name(text), None)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_without_their_namespace_and_a_peering_that_does_not_work_is_no_list() {
        let of = |text: &str| imported(text.as_bytes()).map(|all| all.into_keys().collect::<Vec<_>>());
        let names =
            of(r#"{"State":"ACTIVE","StreamStatus":{"ImportedServices":["web","default/default/db"]}}"#).unwrap();
        assert_eq!(names, [Arc::from("db"), Arc::from("web")]);
        for none in ["[]", "null"] {
            let text = format!(r#"{{"State":"ACTIVE","StreamStatus":{{"ImportedServices":{none}}}}}"#);
            assert!(of(&text).unwrap().is_empty());
        }
        for (text, why) in [
            (r#"{"State":"FAILING","StreamStatus":{"ImportedServices":["web"]}}"#, "not ACTIVE"),
            (r#"{"State":"ACTIVE"}"#, "1.14"),
            (r#"{"State":"ACTIVE","StreamStatus":{"ImportedServiceCount":1}}"#, "1.14"),
            ("1", "invalid"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
