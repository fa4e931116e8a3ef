//! Policies that can't be enforced as they are written: they are refused, never followed in part.

use crate::istio::authorization_policy::{Action, Key};
use crate::istio::{AuthorizationPolicy, Resource, Spec};

/// Annotation by which a policy is only tried.
const DRY_RUN: &str = "istio.io/dry-run";
const TARGETS: &str = "a policy that is attached to a gateway or waypoint is for neither hosts nor sidecars; \
                       choose workloads with selector";

const BEFORE_TOKENS: &str = "CUSTOM is asked before tokens are looked at, and the policy would be silently open; \
                             let the provider look at the token, or write a second policy of ALLOW or DENY";

/// Why a policy can't be enforced.
pub(super) fn unenforceable(resource: &Resource) -> Option<String> {
    match &resource.spec {
        Spec::AuthorizationPolicy(policy) => authorization(resource, policy),
        Spec::RequestAuthentication(policy) => {
            let attached = policy.target_ref.is_some() || !policy.target_refs.is_empty();
            attached.then(|| format!("spec.targetRefs: {TARGETS}"))
        }
        _ => None,
    }
}

fn authorization(resource: &Resource, policy: &AuthorizationPolicy) -> Option<String> {
    if policy.target_ref.is_some() || !policy.target_refs.is_empty() {
        return Some(format!("spec.targetRefs: {TARGETS}"));
    }
    if is_dry_run(resource) && matches!(policy.action, Action::Audit | Action::Custom) {
        return Some(format!("metadata.annotations[\"{DRY_RUN}\"]: it is for ALLOW and DENY only"));
    }
    if policy.action == Action::Custom {
        let sources = policy.rules.iter().enumerate().flat_map(|(rule, r)| r.from.iter().map(move |from| (rule, from)));
        for (rule, source) in sources.filter_map(|(rule, from)| Some((rule, from.source.as_ref()?))) {
            if !source.request_principals.is_empty() || !source.not_request_principals.is_empty() {
                return Some(format!("spec.rules[{rule}].from: requestPrincipals: {BEFORE_TOKENS}"));
            }
        }
    }
    for (rule, conditions) in policy.rules.iter().map(|rule| &rule.when).enumerate() {
        for (index, condition) in conditions.iter().enumerate() {
            let at = format!("spec.rules[{rule}].when[{index}].key");
            match Key::parse(&condition.key) {
                Some(Key::EnvoyFilter) => {
                    return Some(format!("{at}: {}: nothing here has a filter that says it", condition.key));
                }
                Some(Key::DestinationUser) => return Some(format!("{at}: destination.user: nobody knows it")),
                Some(key) if policy.action == Action::Custom && key.is_of_tokens() => {
                    return Some(format!("{at}: {}: {BEFORE_TOKENS}", condition.key));
                }
                _ => {}
            }
        }
    }
    None
}

/// Whether a policy is only tried: what it would do is written down, and not done.
pub fn is_dry_run(resource: &Resource) -> bool {
    let said = resource.metadata.annotations.get(DRY_RUN);
    said.is_some_and(|text| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}
