//! RequestAuthentication as Envoy's `jwt_authn` has it.
//!
//! In: issuers, and the keys that were fetched for them. Out: a filter that refuses a token that is not good, and lets pass
//! what has none. Invariant: an issuer whose keys are not there has no good token.

use std::collections::BTreeMap;

use hawser_api::any::pack;
use hawser_api::istio::Spec;
use hawser_api::istio::request_authentication::JwtRule;
use hawser_api::proto::core::{DataSource, data_source::Specifier};
use hawser_api::proto::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use hawser_api::proto::http_connection_manager::HttpFilter;

use super::source::PAYLOAD;
use crate::compiler::route::everything;
use crate::keys::{Fetched, Origin};
use crate::registry::Security;

/// Of an issuer whose keys we don't have: an Envoy takes no empty set, so here is a key whose other half nobody has. Its x is
/// SHA-256 of "nobody has the private half of this key 1".
const NO_KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"pkYHtCAVCWQk6cQHUDGrUDtgzNIb0nf7PeEh8WNq8S8","y":"mr0jjy_MmN4BrGthN3xJPBZwv_LlgtElXRGCbelUIcQ"}]}"#;
/// Claims that are lists of words, whatever a policy says (RFC 8693, 4.2; RFC 9068).
const SPACED: [&str; 2] = ["permission", "scope"];

/// The filter; none, if no policy has an issuer.
pub(super) fn filter(security: &Security, keys: &Fetched) -> Option<HttpFilter> {
    use proto::jwt_requirement::RequiresType;
    let rules = security.tokens.iter().filter_map(|(_, resource)| match &resource.spec {
        Spec::RequestAuthentication(policy) => Some(&policy.jwt_rules),
        _ => None,
    });
    let providers: BTreeMap<String, proto::JwtProvider> =
        rules.flatten().enumerate().map(|(i, rule)| (format!("origins-{i}"), provider(rule, keys))).collect();
    let one = |name: &String| requires(RequiresType::ProviderName(name.clone()));
    let missing = || requires(RequiresType::AllowMissing(()));
    let any = |requirements| requires(RequiresType::RequiresAny(proto::JwtRequirementOrList { requirements }));
    let requirement = match providers.len() {
        0 => return None,
        1 => any(providers.keys().map(one).chain([missing()]).collect()),
        _ => {
            // Either one of them all, or of each that has a token a good one.
            let each = providers.keys().map(|name| any(vec![one(name), missing()])).collect();
            let all = requires(RequiresType::RequiresAll(proto::JwtRequirementAndList { requirements: each }));
            any(providers.keys().map(one).chain([all]).collect())
        }
    };
    let rule = proto::RequirementRule {
        r#match: Some(everything()),
        requirement_type: Some(proto::requirement_rule::RequirementType::Requires(requirement)),
    };
    let config = proto::JwtAuthentication { providers, rules: vec![rule], bypass_cors_preflight: true };
    Some(super::http("envoy.filters.http.jwt_authn", pack(&config)))
}

fn requires(kind: proto::jwt_requirement::RequiresType) -> proto::JwtRequirement {
    proto::JwtRequirement { requires_type: Some(kind) }
}

/// Whether a set has a key that an Envoy knows what to do with: it refuses one that has none, with all that stands beside it.
fn has_a_key(jwks: &str) -> bool {
    let Ok(set) = serde_json::from_str::<serde_json::Value>(jwks) else { return false };
    let has = |key: &serde_json::Value| {
        let parts: &[&str] = match key["kty"].as_str() {
            Some("RSA") => &["n", "e"],
            Some("EC") => &["crv", "x", "y"],
            Some("OKP") => &["crv", "x"],
            Some("oct") => &["k"],
            _ => return false,
        };
        parts.iter().all(|part| key[*part].is_string())
    };
    set["keys"].as_array().is_some_and(|keys| keys.iter().any(has))
}

fn provider(rule: &JwtRule, keys: &Fetched) -> proto::JwtProvider {
    let jwks = match (&rule.jwks, Origin::of(rule)) {
        (Some(jwks), _) => jwks.clone(),
        (None, Some(origin)) => keys.get(&origin).map_or(NO_KEYS, |keys| &**keys).to_owned(),
        (None, None) => NO_KEYS.to_owned(),
    };
    let jwks = if has_a_key(&jwks) { jwks } else { NO_KEYS.to_owned() };
    let specifier = Some(Specifier::InlineString(jwks));
    let headers = rule.from_headers.iter();
    let claims = rule.output_claim_to_headers.iter();
    let mut spaced: Vec<String> = SPACED.map(str::to_owned).into();
    spaced.extend(rule.space_delimited_claims.iter().filter(|claim| !SPACED.contains(&claim.as_str())).cloned());
    proto::JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        jwks_source_specifier: Some(proto::jwt_provider::JwksSourceSpecifier::LocalJwks(DataSource { specifier })),
        forward: rule.forward_original_token,
        from_headers: headers
            .map(|header| proto::JwtHeader { name: header.name.clone(), value_prefix: header.prefix.clone() })
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_payload_header: rule.output_payload_to_header.clone(),
        payload_in_metadata: PAYLOAD.to_owned(),
        claim_to_headers: claims
            .map(|one| proto::JwtClaimToHeader { header_name: one.header.clone(), claim_name: one.claim.clone() })
            .collect(),
        normalize_payload_in_metadata: Some(proto::jwt_provider::NormalizePayload { space_delimited_claims: spaced }),
    }
}
