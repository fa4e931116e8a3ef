//! Conditions of a status: ours beside those of others. Pure.
//!
//! The list of conditions is one field, which whoever writes it owns whole. So it is written as it was last seen, with
//! ours in its place, on the condition that nobody wrote meanwhile: an istiod beside us loses nothing.

use serde_json::{Value, json};

/// A condition of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Its type, which nobody else writes on that object.
    pub(super) kind: &'static str,
    /// `True`, `False`, `Unknown`.
    pub(super) status: &'static str,
    pub(super) reason: String,
    pub(super) message: String,
    /// The version that it is about.
    pub(super) generation: Option<u64>,
    /// It was looked at, at that time.
    pub(super) probed: bool,
}

/// Longest message.
const LONGEST: usize = 1024;

impl Condition {
    /// All conditions of an object, with this one; `None` if it stands there already.
    pub(super) fn among(&self, seen: &[Value], now: &str) -> Option<Vec<Value>> {
        let old = seen.iter().find(|one| one["type"] == self.kind);
        let text = |of: &str| old.and_then(|old| old[of].as_str()).unwrap_or_default();
        let message = shorten(&self.message);
        // Definitions of some versions know of no generation here, and drop it.
        let generation = old.and_then(|old| number(&old["observedGeneration"]));
        let same = text("status") == self.status && text("reason") == self.reason && text("message") == message;
        if same && generation.is_none_or(|seen| self.generation.is_none_or(|now| now == seen)) {
            return None;
        }
        let since = if text("status") == self.status { text("lastTransitionTime") } else { "" };
        let since = if since.is_empty() { now } else { since };
        let mut condition = json!({"type": self.kind, "status": self.status, "lastTransitionTime": since});
        if self.probed {
            condition["lastProbeTime"] = now.into();
        }
        for (field, said) in [("reason", &self.reason), ("message", &message)] {
            if !said.is_empty() {
                condition[field] = said.as_str().into();
            }
        }
        if let Some(generation) = self.generation {
            condition["observedGeneration"] = generation.into();
        }
        let others = seen.iter().filter(|one| one["type"] != self.kind).cloned();
        Some(others.chain([condition]).collect())
    }
}

/// A number, also as text: protobuf's JSON writes long ones so.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// At most as long as a server takes.
pub(super) fn shorten(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(LONGEST - 3)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn ours(status: &'static str, message: &str, generation: u64) -> Condition {
        let (reason, message) = ("R".to_owned(), message.to_owned());
        Condition { kind: "hawser.io/Honoured", status, reason, message, generation: Some(generation), probed: false }
    }

    #[test]
    fn conditions_of_others_stay_and_ours_is_written_once() {
        let others = json!({"type": "Reconciled", "status": "True"});
        let first = ours("False", "why", 1).among(std::slice::from_ref(&others), NOW).unwrap();
        assert_eq!(first[0], others);
        assert_eq!(
            first[1],
            json!({"type": "hawser.io/Honoured", "status": "False", "reason": "R", "message": "why",
                "lastTransitionTime": NOW, "observedGeneration": 1})
        );
        assert_eq!(ours("False", "why", 1).among(&first, "later"), None);
        let again = ours("False", "another", 2).among(&first, "later").unwrap();
        assert_eq!((&again[1]["lastTransitionTime"], &again[1]["message"]), (&json!(NOW), &json!("another")));
        let turned = ours("True", "", 2).among(&again, "later").unwrap();
        assert_eq!(turned[1]["lastTransitionTime"], "later");
    }

    #[test]
    fn a_server_that_drops_the_generation_is_not_written_to_for_ever() {
        let dropped = json!({"type": "hawser.io/Honoured", "status": "True", "reason": "R", "message": "m"});
        assert_eq!(ours("True", "m", 7).among(&[dropped], NOW), None);
        let as_text = json!({"type": "hawser.io/Honoured", "status": "True", "reason": "R", "message": "m",
            "observedGeneration": "7"});
        assert_eq!(ours("True", "m", 7).among(std::slice::from_ref(&as_text), NOW), None);
        assert!(ours("True", "m", 8).among(&[as_text], NOW).is_some());
    }

    #[test]
    fn a_long_message_is_cut_and_equal_to_what_was_cut() {
        let long = "ä".repeat(2000);
        let written = ours("True", &long, 1).among(&[], NOW).unwrap();
        assert!(written[0]["message"].as_str().unwrap().len() <= LONGEST);
        assert_eq!(ours("True", &long, 1).among(&written, NOW), None);
    }
}
