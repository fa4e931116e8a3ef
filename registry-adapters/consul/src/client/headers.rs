//! What the headers of an answer say.

use std::time::Duration;

use http::HeaderMap;

/// What the headers of an answer say, as far as they say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The state that the answer is of.
    pub(crate) index: Option<u64>,
    /// The server knows a leader. Absent where the answer comes from a stream of events.
    pub(crate) known_leader: Option<bool>,
    /// How long ago the server heard from its leader.
    pub(crate) last_contact: Option<Duration>,
    /// The token may not see all of it.
    pub(crate) filtered: bool,
    /// What a request without a token may do: nothing.
    pub(crate) denies_by_default: Option<bool>,
}

impl Meta {
    /// Of an answer's headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        // Answers from a stream of events are current, whatever these two say.
        let streamed = text("x-consul-query-backend") == Some("streaming");
        let unless_streamed = |name: &str| text(name).filter(|_| !streamed);
        Self {
            index: text("x-consul-index").and_then(|t| t.parse().ok()),
            known_leader: unless_streamed("x-consul-knownleader").map(|t| t == "true"),
            last_contact: unless_streamed("x-consul-lastcontact")
                .and_then(|t| t.parse().ok())
                .map(Duration::from_millis),
            filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
            denies_by_default: text("x-consul-default-acl-policy").map(|t| t == "deny"),
        }
    }

    /// Whether the server may have missed what happened for longer than `limit`.
    pub(crate) fn is_older_than(&self, limit: Duration) -> bool {
        self.known_leader == Some(false) || self.last_contact.is_some_and(|age| age > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Meta {
        let pairs =
            headers.iter().map(|(k, v)| (k.parse::<http::HeaderName>().unwrap(), http::HeaderValue::from_static(v)));
        Meta::of(&pairs.collect())
    }

    #[test]
    fn a_server_that_lost_its_leader_or_lags_is_old() {
        let limit = Duration::from_secs(30);
        let leader = ("X-Consul-KnownLeader", "true");
        assert!(!of(&[leader, ("X-Consul-LastContact", "30000")]).is_older_than(limit));
        assert!(of(&[leader, ("X-Consul-LastContact", "30001")]).is_older_than(limit));
        assert!(of(&[("X-Consul-KnownLeader", "false"), ("X-Consul-LastContact", "0")]).is_older_than(limit));
        assert!(!of(&[]).is_older_than(limit));
    }

    #[test]
    fn an_answer_from_a_stream_is_current_without_saying_so() {
        let streamed =
            of(&[("X-Consul-Query-Backend", "streaming"), ("X-Consul-KnownLeader", "false"), ("X-Consul-Index", "7")]);
        assert!(!streamed.is_older_than(Duration::ZERO));
        assert_eq!(streamed.index, Some(7));
    }

    #[test]
    fn nonsense_in_headers_is_as_if_it_was_not_there() {
        let meta = of(&[
            ("X-Consul-Index", "-1"),
            ("X-Consul-LastContact", "soon"),
            ("X-Consul-Results-Filtered-By-ACLs", "yes"),
        ]);
        assert_eq!(meta, Meta::default());
    }
}
