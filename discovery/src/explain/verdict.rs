//! What the policies of a workload say to a call, from its compiled inbound side.
//!
//! In: the filter chain that takes the call, what is known of it. Out: a step for each filter that has a say, and whether the
//! call is refused. Nothing is known of tokens: a call is taken to bring none.

use std::net::IpAddr;

use hawser_api::proto::admin::{ObjectRef, WhyStep};
use hawser_api::proto::core::{grpc_service, http_uri};
use hawser_api::proto::envoy::config::rbac::v3 as rbac;
use hawser_api::proto::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, ext_authz::Services};
use hawser_api::proto::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use hawser_api::proto::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as TcpExtAuthz;
use hawser_api::proto::envoy::extensions::filters::network::rbac::v3::Rbac as TcpRbac;
use hawser_api::proto::http_connection_manager::{HttpConnectionManager, http_filter};
use hawser_api::proto::listener::{FilterChain, filter};
use hawser_routing::{ClaimMatch, HeaderMatch, Known, Rules, RulesAction};
use prost::{Message, Name};
use prost_types::Any;

use super::call::Request;

/// Before the names of what is asked of another service.
const ASKED: &str = "istio_ext_authz_";

/// What is known of a call when it arrives.
pub(super) struct Arriving<'a> {
    /// Where.
    pub(super) to: (IpAddr, u16),
    /// Whence.
    pub(super) from: IpAddr,
    /// Who calls, where mTLS proves it.
    pub(super) peer: Option<String>,
    /// The request; of connections, that are carried, nothing is known.
    pub(super) request: Option<&'a Request>,
}

impl Known<String> for Arriving<'_> {
    fn to(&self) -> (IpAddr, u16) {
        self.to
    }

    fn direct(&self) -> IpAddr {
        self.from
    }

    fn remote(&self) -> IpAddr {
        let told = self.request.and_then(|r| r.values("x-forwarded-for").last());
        told.and_then(|list| list.rsplit(',').next()?.trim().parse().ok()).unwrap_or(self.from)
    }

    fn server_name(&self) -> Option<&str> {
        None
    }

    fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    fn path(&self) -> Option<&str> {
        self.request.map(Request::path_alone)
    }

    fn header(&self, header: &HeaderMatch<String>) -> bool {
        use hawser_routing::Subject;
        let Some(request) = self.request else { return false };
        match (&header.subject, &header.value, header.invert) {
            (Subject::Field(name), Some(value), false) => request.values(name).any(|one| value.matches(one)),
            _ => header.matches(request),
        }
    }

    fn claim(&self, _: &[String], _: &ClaimMatch) -> bool {
        false
    }
}

/// What the filters say, in their order.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) steps: Vec<WhyStep>,
    pub(super) refused: bool,
}

/// Asks the filters of a chain; `name` is the workload's.
pub(super) fn ask(chain: &FilterChain, name: &str, arriving: &Arriving<'_>) -> Said {
    let mut asking = Asking { name, arriving, said: Said::default(), asked: None };
    for any in filters(chain) {
        if asking.said.refused {
            break;
        }
        asking.filter(&any);
    }
    asking.said
}

/// What stands before the filter that serves.
fn filters(chain: &FilterChain) -> Vec<Any> {
    let of_filter = |filter::ConfigType::TypedConfig(any): &_| any.clone();
    let all = chain.filters.iter().filter_map(|f| f.config_type.as_ref().map(of_filter));
    let mut out = Vec::new();
    for any in all {
        match read::<HttpConnectionManager>(&any) {
            Some(manager) => {
                let of_http = |http_filter::ConfigType::TypedConfig(any)| any;
                out.extend(manager.http_filters.into_iter().filter_map(|f| f.config_type.map(of_http)));
            }
            None => out.push(any),
        }
    }
    out
}

fn read<M: Message + Name + Default>(any: &Any) -> Option<M> {
    (any.type_url == M::type_url()).then(|| M::decode(&any.value[..]).ok()).flatten()
}

struct Asking<'a> {
    name: &'a str,
    arriving: &'a Arriving<'a>,
    said: Said,
    /// The policy of CUSTOM that matches.
    asked: Option<String>,
}

impl Asking<'_> {
    fn filter(&mut self, any: &Any) {
        if let Some(config) = read::<HttpRbac>(any) {
            self.policies(config.rules, config.shadow_rules, &config.shadow_rules_stat_prefix);
        } else if let Some(config) = read::<TcpRbac>(any) {
            self.policies(config.rules, config.shadow_rules, &config.shadow_rules_stat_prefix);
        } else if let Some(config) = read::<ExtAuthz>(any) {
            let cluster = match &config.services {
                Some(Services::GrpcService(service)) => grpc(service.target_specifier.as_ref()),
                Some(Services::HttpService(service)) => {
                    let of_uri = |http_uri::HttpUpstreamType::Cluster(cluster): &_| cluster.clone();
                    service.server_uri.as_ref().and_then(|uri| uri.http_upstream_type.as_ref().map(of_uri))
                }
                None => None,
            };
            self.another(&cluster.unwrap_or_default(), config.failure_mode_allow);
        } else if let Some(config) = read::<TcpExtAuthz>(any) {
            let cluster = config.grpc_service.as_ref().and_then(|service| grpc(service.target_specifier.as_ref()));
            self.another(&cluster.unwrap_or_default(), config.failure_mode_allow);
        }
    }

    fn policies(&mut self, rules: Option<rbac::Rbac>, tried: Option<rbac::Rbac>, prefix: &str) {
        if let Some(found) = tried.and_then(|tried| self.matched(&tried)) {
            if prefix == ASKED {
                self.asked = found.1;
            } else {
                let (action, policy) = found;
                let refuses = matches!((action, &policy), (RulesAction::Allow, None) | (RulesAction::Deny, Some(_)));
                let would = if refuses { "would be refused" } else { "would pass" };
                let says = format!("it {would} if the policies that are only tried counted");
                self.step(says, policy.as_deref());
            }
        }
        let Some((action, policy)) = rules.and_then(|rules| self.matched(&rules)) else { return };
        let says = match (action, &policy) {
            (RulesAction::Deny, Some(policy)) => format!("{policy} denies it"),
            (RulesAction::Deny, None) => "no policy denies it".to_owned(),
            (RulesAction::Allow, Some(policy)) => format!("{policy} allows it"),
            (RulesAction::Allow, None) => "there are policies that allow, and none of them allows it".to_owned(),
            (RulesAction::Log, Some(policy)) => format!("{policy} writes it down"),
            (RulesAction::Log, None) => return,
        };
        self.said.refused |= matches!((action, &policy), (RulesAction::Allow, None) | (RulesAction::Deny, Some(_)));
        self.step(says, policy.as_deref());
    }

    /// What another service is asked about is that service's to say.
    fn another(&mut self, cluster: &str, open: bool) {
        let Some(policy) = self.asked.take() else { return };
        let without = if open { "passes" } else { "is refused" };
        let says = format!("{policy} has it asked of {cluster}, which decides; without an answer it {without}");
        self.step(says, Some(&policy));
    }

    fn matched(&self, rules: &rbac::Rbac) -> Option<(RulesAction, Option<String>)> {
        let rules = Rules::new(rules, self.arriving.request.is_some(), str::to_owned).ok()?;
        Some((rules.action, rules.matched(self.arriving).map(|name| name.to_string())))
    }

    fn step(&mut self, says: String, policy: Option<&str>) {
        let decided_by = policy.and_then(written).into_iter().collect();
        self.said.steps.push(WhyStep { what: "policy".to_owned(), name: self.name.to_owned(), says, decided_by });
    }
}

fn grpc(to: Option<&grpc_service::TargetSpecifier>) -> Option<String> {
    let grpc_service::TargetSpecifier::EnvoyGrpc(to) = to?;
    Some(to.cluster_name.clone())
}

/// The policy that a rule is from: `...ns[default]-policy[name]-rule[0]...`.
fn written(rule: &str) -> Option<ObjectRef> {
    let (_, rest) = rule.split_once("ns[")?;
    let (namespace, rest) = rest.split_once("]-policy[")?;
    let (name, _) = rest.split_once("]-rule[")?;
    let kind = hawser_api::istio::Kind::AuthorizationPolicy.to_string();
    Some(ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

#[test]
fn the_policy_of_a_rule_is_read_from_its_name() {
    for (rule, is) in [
        ("ns[a]-policy[b]-rule[0]", Some(("a", "b"))),
        ("istio-ext-authz-opa-ns[a]-policy[b]-rule[1]-deny-due-to-bad-CUSTOM-action", Some(("a", "b"))),
        ("none", None),
    ] {
        let found = written(rule).map(|o| (o.namespace, o.name));
        assert_eq!(found, is.map(|(a, b)| (a.to_owned(), b.to_owned())), "{rule}");
    }
}
