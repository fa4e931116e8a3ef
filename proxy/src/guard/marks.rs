//! What policies want written down of a request or connection: what was audited, what a trial would have done.

use std::sync::Arc;

use smallvec::SmallVec;

/// Something to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Policies of AUDIT were asked, and one matched or none did.
    Audit(bool),
    /// Policies were tried.
    Tried {
        /// Before the names under which it is found.
        prefix: Arc<str>,
        /// The one that matched.
        policy: Option<Arc<str>>,
        /// Whether it would pass.
        allowed: bool,
    },
}

/// All of it. Nothing is allocated where there is nothing.
#[derive(Clone, Debug, Default)]
pub struct Marks(SmallVec<[Mark; 1]>);

impl Marks {
    /// Adds one.
    pub fn add(&mut self, mark: Mark) {
        self.0.push(mark);
    }

    /// What an access log finds of it under the name of a filter and a key.
    pub fn find(&self, filter: &str, key: &str) -> Option<&str> {
        self.0.iter().find_map(|mark| match (mark, filter) {
            (Mark::Audit(found), "envoy.common") if key == "access_log_hint" => {
                Some(if *found { "true" } else { "false" })
            }
            (Mark::Tried { prefix, policy, allowed }, "envoy.filters.http.rbac" | "envoy.filters.network.rbac") => {
                match key.strip_prefix(&**prefix)? {
                    "shadow_effective_policy_id" => policy.as_deref(),
                    "shadow_engine_result" => Some(if *allowed { "allowed" } else { "denied" }),
                    _ => None,
                }
            }
            _ => None,
        })
    }
}
