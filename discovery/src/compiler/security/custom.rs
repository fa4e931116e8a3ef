//! CUSTOM: what a policy matches is asked of another service.
//!
//! In: policies of CUSTOM, and the providers of the mesh configuration. Out: in this order a filter that writes down whether one of
//! them matches and refuses nothing, and one that then asks, as Istio has them. Invariant: what nobody can be asked about
//! is refused: a provider that is unknown, or not seen from here, several of them, one that knows requests only for a connection.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::any::pack;
use hawser_api::istio::authorization_policy::Action;
use hawser_api::istio::mesh_config::ExtAuthzHttp;
use hawser_api::names::OutboundCluster;
use hawser_api::proto::core::{self, GrpcService, HeaderValue, HttpUri, grpc_service, http_uri};
use hawser_api::proto::envoy::config::rbac::v3 as rbac_proto;
use hawser_api::proto::envoy::extensions::filters::http::ext_authz::v3 as authz;
use hawser_api::proto::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use hawser_api::proto::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as TcpExtAuthz;
use hawser_api::proto::envoy::extensions::filters::network::rbac::v3::Rbac as TcpRbac;
use hawser_api::proto::envoy::r#type::matcher::v3::{
    ListStringMatcher, MetadataMatcher, StringMatcher, ValueMatcher, metadata_matcher, string_matcher, value_matcher,
};
use hawser_api::proto::envoy::r#type::v3::HttpStatus;
use hawser_mesh::Protocol;
use hawser_xds::TypeUrl;

use super::rbac::{self, Layer};
use super::{Guard, HTTP_RBAC, NETWORK_RBAC, STAT_PREFIX, Written, http, tcp};
use crate::compiler::context::Context;
use crate::compiler::proto::{duration, prefix};
use crate::registry::{Asks, AuthzProvider};

/// Before the names of what matched.
const MARK: &str = "istio_ext_authz_";
/// Behind the names of policies that refuse because nobody can be asked.
const BAD: &str = "-deny-due-to-bad-CUSTOM-action";

/// Before the names of the rules whose matches a provider is asked about.
pub(super) fn marks(provider: &str) -> String {
    format!("istio-ext-authz-{provider}-")
}

/// Adds the filters of CUSTOM, if there is such a policy.
pub(super) fn add(context: &Context<'_>, all: &[Written<'_>], guard: &mut Guard) {
    let policies: Vec<_> = all.iter().filter(|written| written.action() == Action::Custom).collect();
    let names: BTreeSet<&str> = policies.iter().filter_map(|written| written.provider()).collect();
    // Of several none is asked: each would only know its own part.
    let provider = match Vec::from_iter(names).as_slice() {
        [] => return,
        [only] => Provider::find(context, only),
        _ => None,
    };
    let rules = |layer| -> BTreeMap<String, rbac_proto::Policy> {
        policies.iter().flat_map(|written| rbac::policies(written, layer)).collect()
    };
    guard.http.extend(match &provider {
        Some(provider) => {
            let marks = HttpRbac {
                shadow_rules: Some(denies(rules(Layer::Http))),
                shadow_rules_stat_prefix: MARK.to_owned(),
                ..HttpRbac::default()
            };
            vec![http(HTTP_RBAC, pack(&marks)), http("envoy.filters.http.ext_authz", pack(&provider.http()))]
        }
        None => {
            let refuses = HttpRbac { rules: Some(bad(rules(Layer::Http))), ..HttpRbac::default() };
            vec![http(HTTP_RBAC, pack(&refuses))]
        }
    });
    guard.tcp.extend(match provider.as_ref().and_then(Provider::tcp) {
        Some(asks) => {
            let marks = TcpRbac {
                shadow_rules: Some(denies(rules(Layer::Tcp))),
                shadow_rules_stat_prefix: MARK.to_owned(),
                stat_prefix: STAT_PREFIX.to_owned(),
                ..TcpRbac::default()
            };
            vec![tcp(NETWORK_RBAC, pack(&marks)), tcp("envoy.filters.network.ext_authz", pack(&asks))]
        }
        None => {
            let rules = Some(bad(rules(Layer::Tcp)));
            let refuses = TcpRbac { rules, stat_prefix: STAT_PREFIX.to_owned(), ..TcpRbac::default() };
            vec![tcp(NETWORK_RBAC, pack(&refuses))]
        }
    });
    guard.needs.extend(provider.map(|provider| (TypeUrl::CLUSTER, provider.cluster.as_str().into())));
}

fn denies(policies: BTreeMap<String, rbac_proto::Policy>) -> rbac_proto::Rbac {
    rbac_proto::Rbac { action: rbac_proto::rbac::Action::Deny as i32, policies }
}

fn bad(policies: BTreeMap<String, rbac_proto::Policy>) -> rbac_proto::Rbac {
    denies(policies.into_iter().map(|(name, policy)| (format!("{name}{BAD}"), policy)).collect())
}

/// A provider that can be asked.
struct Provider<'p> {
    name: &'p str,
    said: &'p AuthzProvider,
    cluster: String,
}

impl<'p> Provider<'p> {
    fn find(context: &Context<'p>, name: &'p str) -> Option<Self> {
        let said = context.settings().authorization.get(name)?;
        let state = context.service(&said.host)?;
        let service = &state.service;
        if said.namespace.as_ref().is_some_and(|namespace| **namespace != *service.namespace) {
            return None;
        }
        service.port(said.port).filter(|port| port.protocol != Protocol::Udp)?;
        let cluster = OutboundCluster::new(said.host.clone(), said.port).to_string();
        Some(Self { name, said, cluster })
    }

    /// Matches what the filter before has written down.
    fn enabled(&self, filter: &str) -> MetadataMatcher {
        use metadata_matcher::{PathSegment, path_segment::Segment};
        let key = format!("{MARK}shadow_effective_policy_id");
        let starts = value_matcher::MatchPattern::StringMatch(prefix(&marks(self.name)));
        MetadataMatcher {
            filter: filter.to_owned(),
            path: vec![PathSegment { segment: Some(Segment::Key(key)) }],
            value: Some(ValueMatcher { match_pattern: Some(starts) }),
            invert: false,
        }
    }

    fn grpc(&self) -> GrpcService {
        let to = grpc_service::EnvoyGrpc { cluster_name: self.cluster.clone(), authority: self.said.host.to_string() };
        GrpcService {
            target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(to)),
            timeout: Some(duration(self.said.timeout)),
        }
    }

    fn http(&self) -> authz::ExtAuthz {
        let services = match &self.said.asks {
            Asks::Grpc => authz::ext_authz::Services::GrpcService(self.grpc()),
            Asks::Http(said) => authz::ext_authz::Services::HttpService(self.over_http(said)),
        };
        let allowed_headers = match &self.said.asks {
            Asks::Grpc => None,
            Asks::Http(said) => {
                names(&said.include_request_headers_in_check).or_else(|| names(&said.include_headers_in_check))
            }
        };
        authz::ExtAuthz {
            services: Some(services),
            failure_mode_allow: self.said.fail_open,
            with_request_body: self.said.body.as_ref().map(|body| authz::BufferSettings {
                max_request_bytes: body.max_request_bytes,
                allow_partial_message: body.allow_partial_message,
                pack_as_bytes: body.pack_as_bytes,
            }),
            clear_route_cache: self.said.clear_route_cache,
            status_on_error: self.said.status_on_error.map(|code| HttpStatus { code: code.into() }),
            transport_api_version: core::ApiVersion::V3 as i32,
            filter_enabled_metadata: Some(self.enabled(HTTP_RBAC)),
            allowed_headers,
        }
    }

    fn over_http(&self, said: &ExtAuthzHttp) -> authz::HttpService {
        let uri = HttpUri {
            uri: format!("http://{}", self.said.host),
            http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster(self.cluster.clone())),
            timeout: Some(duration(self.said.timeout)),
        };
        let added = said.include_additional_headers_in_check.iter();
        let added = added.map(|(key, value)| HeaderValue { key: key.clone(), value: value.clone() });
        let request = authz::AuthorizationRequest { headers_to_add: added.collect() };
        let response = authz::AuthorizationResponse {
            allowed_upstream_headers: names(&said.headers_to_upstream_on_allow),
            allowed_client_headers: names(&said.headers_to_downstream_on_deny),
            allowed_client_headers_on_success: names(&said.headers_to_downstream_on_allow),
        };
        authz::HttpService {
            server_uri: Some(uri),
            path_prefix: said.path_prefix.clone(),
            authorization_request: Some(request).filter(|r| !r.headers_to_add.is_empty()),
            authorization_response: Some(response).filter(|r| *r != authz::AuthorizationResponse::default()),
        }
    }

    /// Over HTTP nobody can be asked about a connection.
    fn tcp(&self) -> Option<TcpExtAuthz> {
        (self.said.asks == Asks::Grpc).then(|| TcpExtAuthz {
            stat_prefix: STAT_PREFIX.to_owned(),
            grpc_service: Some(self.grpc()),
            failure_mode_allow: self.said.fail_open,
            transport_api_version: core::ApiVersion::V3 as i32,
            filter_enabled_metadata: Some(self.enabled(NETWORK_RBAC)),
        })
    }
}

/// Names of headers, of which one `*` stands for a beginning or an end.
fn names(all: &[String]) -> Option<ListStringMatcher> {
    use string_matcher::MatchPattern;
    let one = |name: &String| {
        let pattern = match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (Some(end), _) => MatchPattern::Suffix(end.to_owned()),
            (None, Some(start)) => MatchPattern::Prefix(start.to_owned()),
            (None, None) => MatchPattern::Exact(name.clone()),
        };
        StringMatcher { ignore_case: true, match_pattern: Some(pattern) }
    };
    (!all.is_empty()).then(|| ListStringMatcher { patterns: all.iter().map(one).collect() })
}
