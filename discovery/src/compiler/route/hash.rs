//! What is hashed of requests and connections for clusters that balance by hash.
//!
//! In: the clusters that something leads to. Out: policies, in the order of the clusters; each stands once. Envoy keeps
//! them with routes and connections, for it hashes before it knows where to.

use hawser_api::istio::destination_rule::ConsistentHash;
use hawser_api::names::OutboundCluster;
use hawser_api::proto::envoy::r#type::v3::{HashPolicy as OfConnection, hash_policy};
use hawser_api::proto::route::route_action::HashPolicy;
use hawser_api::proto::route::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};

use crate::compiler::context::Context;
use crate::compiler::proto::duration;
use crate::view::Class;

/// What is hashed of requests that go to these clusters.
pub(in crate::compiler) fn of_requests<'n>(
    context: &Context<'_>,
    clusters: impl Iterator<Item = &'n str>,
) -> Vec<HashPolicy> {
    if context.view.class == Class::Grpc {
        return Vec::new();
    }
    let mut all: Vec<HashPolicy> = Vec::new();
    for cluster in clusters {
        let Some(policy_specifier) = said(context, cluster).and_then(specifier) else { continue };
        let policy = HashPolicy { policy_specifier: Some(policy_specifier), terminal: false };
        if !all.contains(&policy) {
            all.push(policy);
        }
    }
    all
}

/// What is hashed of connections that go to these clusters: of all that can be said only the caller's address is known.
pub(in crate::compiler) fn of_connections<'n>(
    context: &Context<'_>,
    mut clusters: impl Iterator<Item = &'n str>,
) -> Vec<OfConnection> {
    let by_source = clusters.any(|cluster| said(context, cluster).is_some_and(|hash| hash.use_source_ip == Some(true)));
    let specifier = hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {});
    by_source.then_some(OfConnection { policy_specifier: Some(specifier) }).into_iter().collect()
}

fn said<'a>(context: &Context<'a>, cluster: &str) -> Option<&'a ConsistentHash> {
    let cluster = OutboundCluster::parse(cluster)?;
    let state = context.service(&cluster.host)?;
    let (policy, _) = context.policy(state, cluster.port, &cluster.subset)?;
    policy.load_balancer?.consistent_hash.as_ref()
}

fn specifier(hash: &ConsistentHash) -> Option<PolicySpecifier> {
    if let Some(name) = &hash.http_header_name {
        return Some(PolicySpecifier::Header(Header { header_name: name.clone() }));
    }
    if let Some(cookie) = &hash.http_cookie {
        let attribute = |a: &hawser_api::istio::destination_rule::HttpCookieAttribute| CookieAttribute {
            name: a.name.clone(),
            value: a.value.clone(),
        };
        return Some(PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(|ttl| duration(ttl.get())),
            path: cookie.path.clone(),
            attributes: cookie.attributes.iter().map(attribute).collect(),
        }));
    }
    if let Some(name) = &hash.http_query_parameter_name {
        return Some(PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() }));
    }
    let source_ip = hash.use_source_ip == Some(true);
    source_ip.then_some(PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip }))
}
