//! What stands before a workload: filters that refuse requests and connections.
//!
//! In: the policies that a workload is held to. Out: filters of HTTP and of TCP, in the order in which they act. Invariant:
//! a policy that can't be enforced as it is written refuses everything; none is left out.

mod custom;
mod logic;
mod rbac;
mod source;
mod tokens;

use std::collections::BTreeMap;

use hawser_api::any::pack;
use hawser_api::istio::authorization_policy::Action;
use hawser_api::istio::{AuthorizationPolicy, ObjectRef, Spec, is_dry_run};
use hawser_api::proto::envoy::config::rbac::v3 as proto;
use hawser_api::proto::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use hawser_api::proto::envoy::extensions::filters::network::rbac::v3::Rbac as TcpRbac;
use hawser_api::proto::http_connection_manager::{HttpFilter, http_filter};
use hawser_api::proto::listener::{Filter, filter};
use hawser_mesh::TrustDomain;

use self::rbac::Layer;
use super::Need;
use super::context::Context;
use crate::registry::Security;

const HTTP_RBAC: &str = "envoy.filters.http.rbac";
const NETWORK_RBAC: &str = "envoy.filters.network.rbac";
const STAT_PREFIX: &str = "tcp.";

/// Filters before the one that serves.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// Of requests.
    pub(super) http: Vec<HttpFilter>,
    /// Of connections whose bytes are carried.
    pub(super) tcp: Vec<Filter>,
    /// Clusters of whom they ask.
    pub(super) needs: Vec<Need>,
}

/// The filters of a workload.
pub(super) fn guard(context: &Context<'_>, security: &Security) -> Guard {
    let mut guard = Guard::default();
    let trust_domains = context.settings().trust_domains();
    let mut all = Vec::new();
    for (object, resource) in &security.authorization {
        if let Spec::AuthorizationPolicy(policy) = &resource.spec {
            let enforceable = !security.unenforceable.contains(object);
            all.push(Written {
                object,
                policy,
                dry_run: is_dry_run(resource),
                enforceable,
                trust_domains: &trust_domains,
            });
        }
    }
    custom::add(context, &all, &mut guard);
    guard.http.extend(tokens::filter(security, &context.snapshot.keys));
    for action in [Action::Audit, Action::Deny, Action::Allow] {
        if let Some(Rules { enforced, tried }) = rules(&all, action, Layer::Http) {
            let shadow_rules_stat_prefix = if tried.is_some() { prefix(action) } else { String::new() };
            let config = HttpRbac { rules: enforced, shadow_rules: tried, shadow_rules_stat_prefix };
            guard.http.push(http(HTTP_RBAC, pack(&config)));
        }
        if let Some(Rules { enforced, tried }) = rules(&all, action, Layer::Tcp) {
            let config = TcpRbac {
                shadow_rules_stat_prefix: if tried.is_some() { prefix(action) } else { String::new() },
                rules: enforced,
                shadow_rules: tried,
                stat_prefix: STAT_PREFIX.to_owned(),
            };
            guard.tcp.push(tcp(NETWORK_RBAC, pack(&config)));
        }
    }
    guard
}

/// A policy as somebody wrote it.
pub(super) struct Written<'p> {
    object: &'p ObjectRef,
    policy: &'p AuthorizationPolicy,
    dry_run: bool,
    enforceable: bool,
    /// The mesh's own, then those that count as it.
    trust_domains: &'p [&'p TrustDomain],
}

impl Written<'_> {
    /// The name of one of its rules, as Istio has it.
    fn rule_name(&self, index: usize) -> String {
        let asks = match self.provider() {
            Some(provider) => custom::marks(provider),
            None => String::new(),
        };
        format!("{asks}ns[{}]-policy[{}]-rule[{index}]", self.object.namespace, self.object.name)
    }

    /// Who is asked, if somebody is.
    fn provider(&self) -> Option<&str> {
        self.policy.provider.as_ref().filter(|_| self.action() == Action::Custom).map(|p| p.name.as_str())
    }

    /// What it does: what can't be enforced denies, whatever it asked for.
    fn action(&self) -> Action {
        if self.enforceable { self.policy.action } else { Action::Deny }
    }
}

/// Policies of one action.
struct Rules {
    enforced: Option<proto::Rbac>,
    tried: Option<proto::Rbac>,
}

fn rules(all: &[Written<'_>], action: Action, layer: Layer) -> Option<Rules> {
    let number = match action {
        Action::Allow => proto::rbac::Action::Allow,
        Action::Audit => proto::rbac::Action::Log,
        Action::Deny | Action::Custom => proto::rbac::Action::Deny,
    };
    let made = |dry_run: bool| {
        let mut chosen = all.iter().filter(|w| w.action() == action && w.dry_run == dry_run).peekable();
        chosen.peek()?;
        let mut policies = BTreeMap::new();
        for written in chosen {
            policies.extend(rbac::policies(written, layer));
        }
        Some(proto::Rbac { action: number as i32, policies })
    };
    let (enforced, tried) = (made(false), made(true));
    (enforced.is_some() || tried.is_some()).then_some(Rules { enforced, tried })
}

/// Before the names of what a trial comes to.
fn prefix(action: Action) -> String {
    let word = if action == Action::Allow { "allow" } else { "deny" };
    format!("istio_dry_run_{word}_")
}

fn tcp(name: &str, config: prost_types::Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

pub(super) fn http(name: &str, config: prost_types::Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        is_optional: false,
    }
}
