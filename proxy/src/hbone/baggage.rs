//! What the two ends of a tunnel say of the workload that calls, in the words of ambient meshes.
//!
//! Out: `baggage` and `forwarded` of our own workload. In: `baggage` of a caller whose identity is proved: names for
//! counters, never for a decision. Invariant: what it says of its namespace counts for nothing, its certificate says that.

use std::fmt::Write as _;
use std::net::SocketAddr;

use hawser_api::identity::SpiffeId;

use crate::config::{Config, Workload};
use crate::http::message::Fields;

/// More than that is no name.
const LONGEST: usize = 253;
/// Members that are looked at.
const MOST: usize = 32;

/// What we say of a connection that we tunnel: whose it is, and where it came from.
pub fn said(config: &Config, peer: Option<SocketAddr>) -> Fields {
    let mut fields = Fields::default();
    if let Some(own) = config.workload() {
        let baggage = baggage(own);
        if !baggage.is_empty() {
            fields.push(b"baggage", baggage.as_bytes());
        }
    }
    if let Some(peer) = peer {
        fields.push(b"forwarded", format!("for=\"{peer}\"").as_bytes());
    }
    fields
}

/// The workload that a caller says it is; `None` if it says nothing.
pub(super) fn workload(baggage: &str, identity: &str) -> Option<Workload> {
    let mut found = Workload::default();
    for member in baggage.split(',').take(MOST) {
        // Properties follow a semicolon.
        let Some((key, value)) = member.split(';').next().and_then(|m| m.split_once('=')) else { continue };
        let value = value.trim();
        if !is_plain(value) || value.len() > LONGEST {
            continue;
        }
        let place = match key.trim() {
            "k8s.cluster.name" => &mut found.cluster,
            "k8s.deployment.name"
            | "k8s.statefulset.name"
            | "k8s.daemonset.name"
            | "k8s.job.name"
            | "k8s.cronjob.name"
            | "k8s.pod.name" => &mut found.name,
            "service.name" => &mut found.service,
            "service.version" => &mut found.revision,
            _ => continue,
        };
        // The first one counts.
        if place.is_empty() {
            value.clone_into(place);
        }
    }
    if found == Workload::default() {
        return None;
    }
    let id = identity.parse::<SpiffeId>().ok();
    found.namespace = id.as_ref().and_then(|id| id.workload()).map(|(ns, _)| ns.to_owned()).unwrap_or_default();
    Some(found)
}

/// A workload as ambient meshes name it; what is not a plain name is left out.
fn baggage(own: &Workload) -> String {
    let mut all = String::new();
    for (key, value) in [
        ("k8s.cluster.name", &own.cluster),
        ("k8s.namespace.name", &own.namespace),
        ("k8s.deployment.name", &own.name),
        ("service.name", &own.service),
        ("service.version", &own.revision),
    ] {
        if is_plain(value) {
            let comma = if all.is_empty() { "" } else { "," };
            let _ = write!(all, "{comma}{key}={value}");
        }
    }
    all
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "spiffe://cluster.local/ns/shop/sa/caller";

    #[test]
    fn a_workload_says_who_it_is_in_words_of_ambient_meshes() {
        let own = Workload::parse("reviews;default;reviews, or not;v1;");
        assert_eq!(baggage(&own), "k8s.namespace.name=default,k8s.deployment.name=reviews,service.version=v1");
        let fields = said(&Config::default(), Some("10.0.0.1:4711".parse().unwrap()));
        assert_eq!(fields.get("forwarded"), Some(&b"for=\"10.0.0.1:4711\""[..]));
        assert!(fields.get("baggage").is_none());
    }

    #[test]
    fn what_a_caller_says_of_itself_is_read_and_its_certificate_says_where_it_belongs() {
        let said = "k8s.cluster.name=one,k8s.namespace.name=other, k8s.deployment.name = web-1;p=1,service.name=web,\
                    service.version=v2,k8s.pod.name=late";
        let is = workload(said, CALLER).unwrap();
        let text = [&is.name, &is.namespace, &is.service, &is.revision, &is.cluster].map(String::as_str);
        assert_eq!(text, ["web-1", "shop", "web", "v2", "one"]);
        let own = Workload::parse("reviews-1;shop;reviews;v1;c");
        assert_eq!(workload(&baggage(&own), CALLER), Some(own), "our own words");
    }

    #[test]
    fn what_is_no_name_is_not_taken() {
        let long = format!("service.name={}", "a".repeat(254));
        for said in ["", "x", "service.name=", "service.name=a b", long.as_str()] {
            assert_eq!(workload(said, CALLER), None, "{said:?}");
        }
        let many = format!("{}service.name=late", "a=b,".repeat(32));
        assert_eq!(workload(&many, CALLER), None);
        assert!(workload("service.name=\"}\n", CALLER).is_none());
        assert_eq!(workload("service.name=a", "nobody").unwrap().namespace, "");
    }
}
