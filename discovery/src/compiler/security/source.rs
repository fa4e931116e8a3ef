//! Who calls, as Envoy's RBAC asks for it.

use hawser_api::istio::authorization_policy::{Condition, Key, Source};
use hawser_api::proto::envoy::config::rbac::v3::{Principal, principal};
use hawser_api::proto::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, StringMatcher, ValueMatcher, list_matcher, metadata_matcher,
    string_matcher, value_matcher,
};

use hawser_mesh::TrustDomain;

use super::Written;
use super::logic::Logic as _;
use super::rbac::{All, NotThere, cidr, header, literal, matcher};
use crate::compiler::proto::regex;

/// Where verified claims are found.
pub(super) const TOKENS: &str = "envoy.filters.http.jwt_authn";
/// Under which name.
pub(super) const PAYLOAD: &str = "payload";
const SPIFFE: &str = "spiffe://";
/// Whatever the mesh's own trust domain is called, policies may call it so.
const LOCAL: &str = "cluster.local";

pub(super) fn source(tests: &mut All<Principal>, written: &Written<'_>, source: &Source) -> Result<(), NotThere> {
    let s = source;
    tests.field((&s.principals, &s.not_principals), false, |v| identity(written, v))?;
    tests.field((&s.namespaces, &s.not_namespaces), false, namespace)?;
    tests.field((&s.service_accounts, &s.not_service_accounts), false, |v| account(written, v))?;
    tests.field((&s.trust_domains, &s.not_trust_domains), false, |v| trust_domain(written, v))?;
    tests.field((&s.ip_blocks, &s.not_ip_blocks), false, direct)?;
    tests.field((&s.remote_ip_blocks, &s.not_remote_ip_blocks), false, remote)?;
    tests.field((&s.request_principals, &s.not_request_principals), true, request_principal)
}

pub(super) fn condition(
    tests: &mut All<Principal>,
    written: &Written<'_>,
    condition: &Condition,
) -> Result<(), NotThere> {
    let values = (condition.values.as_slice(), condition.not_values.as_slice());
    let Some(key) = Key::parse(&condition.key) else { return Ok(()) };
    let http_only = key.is_http_only();
    match key {
        Key::SourceIp => tests.field(values, false, direct),
        Key::RemoteIp => tests.field(values, false, remote),
        Key::SourceNamespace => tests.field(values, false, namespace),
        Key::SourcePrincipal => tests.field(values, false, |v| identity(written, v)),
        Key::SourceServiceAccount => tests.field(values, false, |v| account(written, v)),
        Key::SourceTrustDomain => tests.field(values, false, |v| trust_domain(written, v)),
        Key::RequestPrincipal => tests.field(values, http_only, request_principal),
        Key::Audiences => tests.field(values, http_only, |v| claim(&["aud"], matcher(v, "", false))),
        Key::Presenter => tests.field(values, http_only, |v| claim(&["azp"], matcher(v, "", false))),
        Key::Claim(path) => tests.field(values, http_only, |v| claim(&path, matcher(v, "", false))),
        Key::Header(name) => {
            let test = |v: &str| principal::Identifier::Header(header(&name.to_ascii_lowercase(), v, false));
            tests.field(values, http_only, |v| Principal { identifier: Some(test(v)) })
        }
        Key::DestinationIp | Key::DestinationPort | Key::ServerName | Key::EnvoyFilter | Key::DestinationUser => Ok(()),
    }
}

fn authenticated(name: StringMatcher) -> Principal {
    let authenticated = principal::Authenticated { principal_name: Some(name) };
    Principal { identifier: Some(principal::Identifier::Authenticated(authenticated)) }
}

fn whole(pattern: &str) -> Principal {
    let match_pattern = Some(string_matcher::MatchPattern::SafeRegex(regex(pattern)));
    authenticated(StringMatcher { ignore_case: false, match_pattern })
}

/// An identity without `spiffe://`.
fn identity(written: &Written<'_>, value: &str) -> Principal {
    either(identities(written.trust_domains, value).iter().map(|value| authenticated(matcher(value, SPIFFE, false))))
}

fn either(all: impl Iterator<Item = Principal>) -> Principal {
    let mut all: Vec<Principal> = all.collect();
    if all.len() == 1 { all.remove(0) } else { Principal::or(all) }
}

/// A value with its like of the other trust domains that count as one, as Istio has them: of whole identities alone, and of
/// trust domains that begin or end with `*` as far as these do not take them already.
fn identities(trust_domains: &[&TrustDomain], value: &str) -> Vec<String> {
    let own = trust_domains.first().map_or(LOCAL, |domain| domain.as_str());
    let named = value.split_once('/').filter(|(domain, rest)| *domain != "*" && rest.split('/').count() == 4);
    let Some((domain, rest)) = named else {
        let local = value.strip_prefix(LOCAL).filter(|rest| rest.starts_with('/'));
        return vec![local.map_or_else(|| value.to_owned(), |rest| format!("{own}{rest}"))];
    };
    let ends = |known: &str| domain.strip_prefix('*').is_some_and(|end| known.ends_with(end));
    let begins = |known: &str| domain.strip_suffix('*').is_some_and(|start| known.starts_with(start));
    let is_ours = |known: &&TrustDomain| {
        let known = known.as_str();
        known == domain || ends(known) || begins(known)
    };
    if domain != LOCAL && !trust_domains.iter().any(is_ours) {
        return vec![value.to_owned()];
    }
    let mut all = Vec::new();
    for known in trust_domains {
        let like = if ends(known.as_str()) { value.to_owned() } else { format!("{known}/{rest}") };
        if !all.contains(&like) {
            all.push(like);
        }
    }
    all
}

/// `*` within a part of an identity.
fn part(value: &str) -> String {
    value.split('*').map(literal).collect::<Vec<_>>().join("[^/]*")
}

fn namespace(value: &str) -> Principal {
    whole(&format!("{SPIFFE}[^/]+/ns/{}/.*", part(value)))
}

fn account(written: &Written<'_>, value: &str) -> Principal {
    let (namespace, account) = value.split_once('/').unwrap_or((&written.object.namespace, value));
    whole(&format!("{SPIFFE}[^/]+/ns/{}/sa/{}", literal(namespace), literal(account)))
}

fn trust_domain(written: &Written<'_>, value: &str) -> Principal {
    let is_ours = value == LOCAL || written.trust_domains.iter().any(|domain| domain.as_str() == value);
    let of = |value: &str| whole(&format!("{SPIFFE}{}/.*", part(value)));
    if is_ours { either(written.trust_domains.iter().map(|domain| of(domain.as_str()))) } else { of(value) }
}

fn direct(value: &str) -> Principal {
    Principal { identifier: Some(principal::Identifier::DirectRemoteIp(cidr(value))) }
}

fn remote(value: &str) -> Principal {
    Principal { identifier: Some(principal::Identifier::RemoteIp(cidr(value))) }
}

/// `issuer/subject`: either may have slashes of its own, so that each of them may be the one between.
fn request_principal(value: &str) -> Principal {
    let both = |issuer: StringMatcher, subject: StringMatcher| {
        Principal::and(vec![claim(&["iss"], issuer), claim(&["sub"], subject)])
    };
    let any = || matcher("*", "", false);
    if value == "*" {
        return both(any(), any());
    }
    let mut ways = Vec::new();
    if let Some(end) = value.strip_prefix('*') {
        if !end.is_empty() {
            ways.push(both(any(), matcher(value, "", false)));
        }
    } else if value.ends_with('*') {
        ways.push(both(matcher(value, "", false), any()));
    }
    for (at, _) in value.match_indices('/') {
        let (issuer, subject) = (&value[..at], &value[at + 1..]);
        if !issuer.is_empty() && !subject.is_empty() {
            ways.push(both(matcher(issuer, "", false), matcher(subject, "", false)));
        }
    }
    // Without a slash it is nobody's, as in Istio.
    if ways.is_empty() { Principal::not(Principal::any()) } else { Principal::or(ways) }
}

/// A claim, by its path; of a list, one of its texts.
fn claim(path: &[&str], text: StringMatcher) -> Principal {
    let value = |pattern| ValueMatcher { match_pattern: Some(pattern) };
    let is = || value(value_matcher::MatchPattern::StringMatch(text.clone()));
    let one_of = ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(is()))) };
    let has = value(value_matcher::MatchPattern::ListMatch(Box::new(one_of)));
    let either = value(value_matcher::MatchPattern::OrMatch(OrMatcher { value_matchers: vec![is(), has] }));
    let step = |key: &str| metadata_matcher::PathSegment {
        segment: Some(metadata_matcher::path_segment::Segment::Key(key.to_owned())),
    };
    let matcher = MetadataMatcher {
        filter: TOKENS.to_owned(),
        path: std::iter::once(PAYLOAD).chain(path.iter().copied()).map(step).collect(),
        value: Some(either),
        invert: false,
    };
    Principal { identifier: Some(principal::Identifier::Metadata(matcher)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_that_of_all_trust_domains_that_count_as_one() {
        let domains: Vec<TrustDomain> = ["new.test", "old.test"].map(|domain| domain.parse().unwrap()).into();
        let domains: Vec<&TrustDomain> = domains.iter().collect();
        let of = |value: &str| identities(&domains, value);
        let both = ["new.test/ns/a/sa/b", "old.test/ns/a/sa/b"];
        for named in ["new.test/ns/a/sa/b", "old.test/ns/a/sa/b", "cluster.local/ns/a/sa/b"] {
            assert_eq!(of(named), both, "{named}");
        }
        for alone in ["other.test/ns/a/sa/b", "*/ns/a/sa/b", "*", "old.test/*", "*/sa/b"] {
            assert_eq!(of(alone), [alone], "it names none of them");
        }
        assert_eq!(of("*.test/ns/a/sa/b"), ["*.test/ns/a/sa/b"], "it has both already");
        assert_eq!(of("*d.test/ns/a/sa/b"), ["new.test/ns/a/sa/b", "*d.test/ns/a/sa/b"]);
        assert_eq!(identities(&domains[..1], "cluster.local/ns/a/sa/b"), ["new.test/ns/a/sa/b"]);
        assert_eq!(identities(&domains[..1], "cluster.local/*"), ["new.test/*"]);
    }
}
