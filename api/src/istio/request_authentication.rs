//! RequestAuthentication: which JSON web tokens requests may carry.

use super::check::{Checker, text};
use super::duration::at_least_1ms;
use super::message::message;
use super::{Duration, LabelSelector, PolicyTargetReference};

message! {
    /// Which JSON web tokens requests may carry.
    pub struct RequestAuthentication [check_policy] {
        /// Workloads it is for; none is all.
        selector: Option<LabelSelector>,
        /// What it is attached to.
        target_ref: Option<PolicyTargetReference>,
        /// What it is attached to.
        target_refs: Vec<PolicyTargetReference>,
        /// Issuers; a token of any of them is good.
        jwt_rules: Vec<JwtRule>,
    }

    /// An issuer and its tokens.
    pub struct JwtRule [check_rule] {
        /// The issuer, as tokens name it.
        issuer: String,
        /// Audiences, any of which the token must name; none is any.
        audiences: Vec<String>,
        /// Where its keys are.
        #[serde(alias = "jwks_uri")]
        jwks_uri: Option<String>,
        /// Its keys.
        jwks: Option<String>,
        /// Headers the token may be in.
        from_headers: Vec<JwtHeader>,
        /// Parameters of the query the token may be in.
        from_params: Vec<String>,
        /// Cookies the token may be in.
        from_cookies: Vec<String>,
        /// Header that gets the token's payload.
        output_payload_to_header: String,
        /// The token goes on to the service.
        forward_original_token: bool,
        /// Headers that get claims.
        output_claim_to_headers: Vec<ClaimToHeader>,
        /// For fetching the keys.
        timeout: Option<Duration>,
        /// Claims that are lists with spaces between.
        space_delimited_claims: Vec<String>,
    }

    /// A header that holds a token.
    pub struct JwtHeader [check_header] {
        /// Name.
        name: String,
        /// What stands before the token.
        prefix: String,
    }

    /// A header that gets a claim.
    pub struct ClaimToHeader [check_claim] {
        /// The header.
        header: String,
        /// The claim; parts with dots between.
        claim: String,
    }
}

fn check_policy(policy: &RequestAuthentication, c: &mut Checker) {
    let RequestAuthentication { selector, target_ref, target_refs, .. } = policy;
    super::selector::check_either(c, selector.as_ref(), target_ref.as_ref(), target_refs);
    if policy.jwt_rules.len() > 4096 {
        c.wrong("jwt_rules", "Too many: it must have at most 4096 items");
    }
}

fn check_rule(rule: &JwtRule, c: &mut Checker) {
    c.required("issuer", !rule.issuer.is_empty());
    c.at_most_one(&[("jwksUri", rule.jwks_uri.is_some()), ("jwks", rule.jwks.is_some())]);
    if let Some(uri) = &rule.jwks_uri {
        let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
        if rest.is_none_or(str::is_empty) || uri.len() > 2048 || !uri.bytes().all(|b| b.is_ascii_graphic()) {
            c.wrong("jwks_uri", "url must have scheme http:// or https://");
        }
    }
    if let Some(jwks) = &rule.jwks {
        let keys = serde_json::from_str::<serde_json::Value>(jwks).ok();
        if !keys.is_some_and(|value| value.get("keys").is_some_and(serde_json::Value::is_array)) {
            c.wrong("jwks", "it is not a JSON web key set: a JSON object with a list \"keys\" is expected");
        }
    }
    for (field, items) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
        ("spaceDelimitedClaims", &rule.space_delimited_claims),
    ] {
        c.each(field, items, |c, item| {
            if item.is_empty() {
                c.problem("Invalid value: it is empty");
            }
        });
    }
    if !rule.output_payload_to_header.is_empty() {
        c.field("output_payload_to_header", |c| text::tell(c, text::header_name(&rule.output_payload_to_header)));
    }
    at_least_1ms(c, "timeout", rule.timeout);
}

fn check_header(header: &JwtHeader, c: &mut Checker) {
    if header.name.is_empty() {
        return c.required("name", false);
    }
    c.field("name", |c| text::tell(c, text::header_name(&header.name)));
    c.field("prefix", |c| text::tell(c, text::header_value(&header.prefix)));
}

fn check_claim(claim: &ClaimToHeader, c: &mut Checker) {
    c.required("claim", !claim.claim.is_empty());
    if claim.header.is_empty() {
        return c.required("header", false);
    }
    c.field("header", |c| text::tell(c, text::header_name(&claim.header)));
}
