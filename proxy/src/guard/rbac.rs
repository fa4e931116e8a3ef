//! Policies held against facts.

use std::net::IpAddr;
use std::sync::Arc;

use hawser_routing::{ClaimMatch, Known};
use serde_json::Value as Json;

use super::{Facts, Mark, Marks};
use crate::config::{HeaderMatch, Rbac, RulesAction, Subject};
use crate::http::message::Name;
use crate::route::Asked;

/// What policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'r> {
    /// It may pass.
    Passes,
    /// It may not: the policy that says so; none, if no policy allows it.
    Denied(Option<&'r Arc<str>>),
}

/// What the policies of a filter say. What is only to be written down goes to `marks`.
pub(crate) fn decide<'r>(rbac: &'r Rbac, facts: &Facts<'_>, marks: &mut Marks) -> Verdict<'r> {
    if let Some(tried) = &rbac.tried {
        let found = tried.matched(facts);
        let allowed = match tried.action {
            RulesAction::Allow => found.is_some(),
            RulesAction::Deny => found.is_none(),
            RulesAction::Log => true,
        };
        let http = facts.request.is_some();
        marks.add(Mark::Tried { http, prefix: rbac.prefix.clone(), policy: found.cloned(), allowed });
    }
    let Some(rules) = &rbac.enforced else { return Verdict::Passes };
    let found = rules.matched(facts);
    match (rules.action, found) {
        (RulesAction::Allow, None) => Verdict::Denied(None),
        (RulesAction::Deny, Some(policy)) => Verdict::Denied(Some(policy)),
        (RulesAction::Log, found) => {
            marks.add(Mark::Audit(found.is_some()));
            Verdict::Passes
        }
        (RulesAction::Allow, Some(_)) | (RulesAction::Deny, None) => Verdict::Passes,
    }
}

impl Known<Name> for Facts<'_> {
    fn to(&self) -> (IpAddr, u16) {
        (self.to.ip(), self.to.port())
    }

    fn direct(&self) -> IpAddr {
        self.direct
    }

    fn remote(&self) -> IpAddr {
        self.remote
    }

    fn server_name(&self) -> Option<&str> {
        self.server_name
    }

    fn peer(&self) -> Option<&str> {
        self.peer
    }

    /// Without query and fragment; a tunnel has none.
    fn path(&self) -> Option<&str> {
        let (path, _) = self.request?.path_and_query();
        let path = path.split('#').next().unwrap_or_default();
        (!path.is_empty()).then_some(path)
    }

    fn header(&self, header: &HeaderMatch) -> bool {
        let Some(head) = self.request else { return false };
        if let (Subject::Field(name), Some(value), false) = (&header.subject, &header.value, header.invert) {
            // One by one: a value that is hidden behind another is found too.
            return head.fields.named(name).any(|line| value.matches(&String::from_utf8_lossy(line)));
        }
        let (path, query) = head.path_and_query();
        header.matches(&Asked { host: head.authority(), path, query, method: &head.method, headers: &head.fields })
    }

    fn claim(&self, path: &[String], value: &ClaimMatch) -> bool {
        let found = path.split_first().and_then(|(first, rest)| {
            rest.iter().try_fold(self.claims?.get(first)?, |found, step| found.get(step.as_str()))
        });
        found.is_some_and(|found| is(value, found))
    }
}

fn is(value: &ClaimMatch, found: &Json) -> bool {
    match value {
        ClaimMatch::Text(text) => found.as_str().is_some_and(|found| text.matches(found)),
        ClaimMatch::Present(present) => *present,
        ClaimMatch::OneOf(one) => found.as_array().is_some_and(|all| all.iter().any(|found| is(one, found))),
        ClaimMatch::Any(any) => any.iter().any(|value| is(value, found)),
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::any::pack;
    use hawser_api::proto::envoy::config::rbac::v3 as proto;
    use hawser_api::proto::envoy::extensions::filters::network::rbac::v3::Rbac as Filter;
    use hawser_api::proto::listener::{self, FilterChain};
    use hawser_api::proto::tcp_proxy::{TcpProxy, tcp_proxy::ClusterSpecifier};
    use prost::Message as _;
    use proto::permission::Rule;
    use proto::principal::Identifier;

    use super::*;
    use crate::config::{Filter as Made, Kind, Store, TcpGuard};
    use crate::listen::Arrival;

    fn policy(rule: Rule, identifier: Identifier) -> proto::Policy {
        proto::Policy {
            permissions: vec![proto::Permission { rule: Some(rule) }],
            principals: vec![proto::Principal { identifier: Some(identifier) }],
        }
    }

    /// The guards of a listener whose chain has this filter before the one that carries bytes.
    fn listener(action: proto::rbac::Action, policies: &[(&str, proto::Policy)], tried: bool) -> Result<Store, String> {
        let policies = policies.iter().map(|(name, policy)| ((*name).to_owned(), policy.clone())).collect();
        let rules = Some(proto::Rbac { action: action as i32, policies });
        let config = Filter {
            rules: rules.clone().filter(|_| !tried),
            shadow_rules: rules.filter(|_| tried),
            shadow_rules_stat_prefix: "p_".into(),
            ..Filter::default()
        };
        let to = TcpProxy { cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())), ..TcpProxy::default() };
        let filters = [pack(&config), pack(&to)].map(|any| listener::Filter {
            name: "f".into(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(any)),
        });
        let chain = FilterChain { filters: filters.into(), ..FilterChain::default() };
        let made = listener::Listener { filter_chains: vec![chain], ..Default::default() };
        let mut store = Store::default();
        let put = store.put(Kind::Listener, "virtualInbound", &made.encode_to_vec());
        put.map(|()| store).map_err(|e| e.to_string())
    }

    fn said(mut store: Store, peer: Option<&str>) -> (Option<String>, Marks) {
        let config = store.snapshot();
        let Made::Tcp(spec) = &config.inbound.as_ref().unwrap().chains[0].filter else { panic!("it carries") };
        let (to, from) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        let mut marks = Marks::default();
        let facts = Facts::of(Arrival { to, peer: Some(from), bound: false }, None, peer);
        let TcpGuard::Rbac(rbac) = &spec.guards[0] else { panic!("it is of policies") };
        match decide(rbac, &facts, &mut marks) {
            Verdict::Passes => (None, marks),
            Verdict::Denied(policy) => (Some(policy.map(ToString::to_string).unwrap_or_default()), marks),
        }
    }

    #[test]
    fn the_first_policy_by_name_decides_and_none_allows_nothing() {
        use proto::rbac::Action::{Allow, Deny, Log};
        let any = || policy(Rule::Any(true), Identifier::Any(true));
        let port = |port| policy(Rule::DestinationPort(port), Identifier::Any(true));
        let mutual = || {
            let who = proto::principal::Authenticated { principal_name: None };
            policy(Rule::Any(true), Identifier::Authenticated(who))
        };
        for (action, policies, peer, is) in [
            (Allow, vec![], None, Some("")),
            (Allow, vec![("a", any())], None, None),
            (Allow, vec![("a", port(81))], None, Some("")),
            (Allow, vec![("a", mutual())], None, Some("")),
            (Allow, vec![("a", mutual())], Some("spiffe://a"), None),
            (Deny, vec![], None, None),
            (Deny, vec![("b", any()), ("a", port(80))], None, Some("a")),
            (Deny, vec![("b", any()), ("a", port(81))], None, Some("b")),
            (Log, vec![("a", any())], None, None),
        ] {
            let (denied, _) = said(listener(action, &policies, false).unwrap(), peer);
            assert_eq!(denied.as_deref(), is, "{action:?} {policies:?}");
        }
    }

    #[test]
    fn a_trial_refuses_nothing_and_is_written_down() {
        let any = policy(Rule::Any(true), Identifier::Any(true));
        let (denied, marks) = said(listener(proto::rbac::Action::Deny, &[("a", any)], true).unwrap(), None);
        let filter = "envoy.filters.network.rbac";
        assert_eq!(denied, None);
        assert_eq!(marks.find(filter, "p_shadow_engine_result"), Some("denied"));
        assert_eq!(marks.find(filter, "p_shadow_effective_policy_id"), Some("a"));
        assert_eq!(marks.find(filter, "q_shadow_engine_result"), None);
    }

    #[test]
    fn what_a_connection_does_not_have_is_no_test_for_it() {
        let header = hawser_api::proto::route::HeaderMatcher { name: "a".into(), ..Default::default() };
        let wrong = policy(Rule::Header(header), Identifier::Any(true));
        let why = listener(proto::rbac::Action::Deny, &[("a", wrong)], false).unwrap_err();
        assert!(why.contains("filters[0]") && why.contains("header: a connection has none"), "{why}");
        let empty = proto::Policy { permissions: vec![proto::Permission { rule: None }], ..Default::default() };
        assert!(listener(proto::rbac::Action::Deny, &[("a", empty)], false).is_err());
    }
}
