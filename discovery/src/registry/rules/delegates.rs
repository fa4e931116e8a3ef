//! VirtualServices that leave some of their routes to others.
//!
//! In: a VirtualService, the ones without hosts. Out: the same with all routes in it, and what is to be said of those
//! that have none. The rules are Istio's: a delegate narrows its root's matches and keeps what it says itself; where both
//! match in ways that can't both hold the delegate's route is left out; a delegate does not delegate again.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::istio::virtual_service::{Delegate, Destination, HttpMatchRequest, HttpRoute};
use hawser_api::istio::{ObjectRef, Resource, Spec, StringMatch, VirtualService};

use super::super::model::visible;
use super::{Named, resolve};

/// VirtualServices without hosts, by namespace and name.
pub(super) type Delegates<'a> = BTreeMap<(&'a str, &'a str), &'a VirtualService>;

/// Of these resources.
pub(super) fn of<'a>(resources: impl Iterator<Item = (&'a ObjectRef, &'a Arc<Resource>)>) -> Delegates<'a> {
    let mut all = Delegates::new();
    for (object, resource) in resources {
        if let Spec::VirtualService(rule) = &resource.spec
            && rule.hosts.is_empty()
        {
            all.insert((&object.namespace, &object.name), rule);
        }
    }
    all
}

/// A VirtualService with the routes that it leaves to others.
pub(super) fn expanded(named: Named, delegates: &Delegates<'_>, domain: &str, told: &mut Vec<String>) -> Named {
    let (object, resource) = named;
    let Spec::VirtualService(root) = &resource.spec else { return (object, resource) };
    if root.http.iter().all(|route| route.delegate.is_none()) {
        return (object, resource);
    }
    let mut http = Vec::new();
    for route in &root.http {
        match &route.delegate {
            None => http.push(route.clone()),
            Some(delegate) => match found(delegate, &object.namespace, delegates) {
                Ok((namespace, rule)) => http.extend(merged(route, rule, namespace, domain, told)),
                Err(why) => told.push(why),
            },
        }
    }
    let mut resource = Resource::clone(&resource);
    if let Spec::VirtualService(rule) = &mut resource.spec {
        rule.http = http;
    }
    (object, Arc::new(resource))
}

fn found<'a>(
    delegate: &'a Delegate,
    own: &'a str,
    delegates: &Delegates<'a>,
) -> Result<(&'a str, &'a VirtualService), String> {
    let namespace = if delegate.namespace.is_empty() { own } else { delegate.namespace.as_str() };
    let name = &delegate.name;
    match delegates.get(&(namespace, name.as_str())) {
        None => Err(format!(
            "delegates to {namespace}/{name}, which is not there or has hosts of its own: its routes are left out"
        )),
        Some(rule) if !visible(&rule.export_to, namespace, own) => {
            Err(format!("delegates to {namespace}/{name}, whose exportTo leaves out {own}: its routes are left out"))
        }
        Some(rule) => Ok((namespace, rule)),
    }
}

fn merged(
    root: &HttpRoute,
    rule: &VirtualService,
    namespace: &str,
    domain: &str,
    told: &mut Vec<String>,
) -> Vec<HttpRoute> {
    let mut all = Vec::new();
    for route in &rule.http {
        let shown = if route.name.is_empty() { "a route" } else { route.name.as_str() };
        if route.delegate.is_some() {
            told.push(format!("{shown} of a delegate in {namespace} delegates again, which is left out"));
            continue;
        }
        match matches(&root.r#match, &route.r#match) {
            Some(r#match) => all.push(one(root, route, r#match, namespace, domain)),
            None => told.push(format!("{shown} of a delegate in {namespace} matches what its root does not: left out")),
        }
    }
    all
}

fn one(
    root: &HttpRoute,
    route: &HttpRoute,
    r#match: Vec<HttpMatchRequest>,
    namespace: &str,
    domain: &str,
) -> HttpRoute {
    let mut made = route.clone();
    made.r#match = r#match;
    made.name = joined(&root.name, &route.name);
    // Names are the delegate's, as its namespace has them.
    let full = |to: &mut Destination| {
        if let Some(host) = resolve(&to.host, namespace, domain) {
            to.host = host.to_string();
        }
    };
    made.route.iter_mut().for_each(|to| full(&mut to.destination));
    made.mirror.iter_mut().for_each(full);
    made.mirrors.iter_mut().for_each(|mirror| full(&mut mirror.destination));
    if made.mirror.is_none() && made.mirrors.is_empty() {
        made.mirror.clone_from(&root.mirror);
        made.mirrors.clone_from(&root.mirrors);
    }
    if made.mirror_percentage.is_none() && made.mirror_percent.is_none() {
        made.mirror_percentage.clone_from(&root.mirror_percentage);
        made.mirror_percent = root.mirror_percent;
    }
    made.rewrite = made.rewrite.or_else(|| root.rewrite.clone());
    made.timeout = made.timeout.or(root.timeout);
    made.retries = made.retries.or_else(|| root.retries.clone());
    made.fault = made.fault.or_else(|| root.fault.clone());
    made.cors_policy = made.cors_policy.or_else(|| root.cors_policy.clone());
    made.headers = made.headers.or_else(|| root.headers.clone());
    made
}

fn joined(root: &str, own: &str) -> String {
    match (root, own) {
        ("", own) => own.to_owned(),
        (root, "") => root.to_owned(),
        (root, own) => format!("{root}-{own}"),
    }
}

/// Each of a delegate's matches within one of its root's; `None` if one of them is within none.
fn matches(root: &[HttpMatchRequest], own: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || own.is_empty() {
        return Some(if root.is_empty() { own } else { root }.to_vec());
    }
    let mut all = Vec::new();
    for own in own {
        let before = all.len();
        all.extend(root.iter().filter(|root| fits(root, own)).map(|root| both(root, own)));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

/// Whether what a delegate's match takes is a part of what its root's does.
fn fits(root: &HttpMatchRequest, own: &HttpMatchRequest) -> bool {
    let texts = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let maps = [
        (&root.headers, &own.headers),
        (&root.without_headers, &own.without_headers),
        (&root.query_params, &own.query_params),
    ];
    let within = |root: Option<&StringMatch>, own: Option<&StringMatch>| match (root, own) {
        (Some(root), Some(own)) => part_of(root, own),
        _ => true,
    };
    let number = |m: &HttpMatchRequest| m.port.number();
    texts.iter().all(|(root, own)| within(root.as_ref(), own.as_ref()))
        && maps.iter().all(|(root, own)| own.iter().all(|(key, value)| within(root.get(key), Some(value))))
        && root.ignore_uri_case == own.ignore_uri_case
        && (number(root).is_none() || number(own).is_none() || number(root) == number(own))
        && (root.source_namespace.is_empty()
            || own.source_namespace.is_empty()
            || root.source_namespace == own.source_namespace)
        && own.source_labels.iter().all(|(key, value)| root.source_labels.get(key).is_none_or(|r| r == value))
}

fn part_of(root: &StringMatch, own: &StringMatch) -> bool {
    use StringMatch::{Exact, Prefix, Present, Regex};
    match (root, own) {
        (Present, _) | (_, Present) => true,
        (Regex(_), _) | (_, Regex(_)) | (Exact(_), Prefix(_)) => false,
        (Exact(root), Exact(own)) => root == own,
        (Prefix(root), Prefix(own) | Exact(own)) => own.starts_with(root.as_str()),
    }
}

fn both(root: &HttpMatchRequest, own: &HttpMatchRequest) -> HttpMatchRequest {
    let mut made = own.clone();
    made.name = joined(&root.name, &own.name);
    for (to, from) in [
        (&mut made.uri, &root.uri),
        (&mut made.scheme, &root.scheme),
        (&mut made.method, &root.method),
        (&mut made.authority, &root.authority),
    ] {
        if to.is_none() {
            to.clone_from(from);
        }
    }
    for (to, from) in [
        (&mut made.headers, &root.headers),
        (&mut made.without_headers, &root.without_headers),
        (&mut made.query_params, &root.query_params),
    ] {
        for (key, value) in from {
            to.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    for (key, value) in &root.source_labels {
        made.source_labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if made.port.number().is_none() {
        made.port = root.port;
    }
    if made.source_namespace.is_empty() {
        made.source_namespace.clone_from(&root.source_namespace);
    }
    if made.gateways.is_empty() {
        made.gateways.clone_from(&root.gateways);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_api::istio::parse_documents;

    fn service(namespace: &str, name: &str, spec: &str) -> (ObjectRef, Arc<Resource>) {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
        );
        let resource = parse_documents("a.yaml", &text).remove(0).unwrap().resource;
        (resource.object_ref(), Arc::new(resource))
    }

    /// The merged routes as `name uri -> host`, and what was told.
    fn expand(root: &str, delegate: &str) -> (Vec<String>, Vec<String>) {
        let all = [service("a", "root", root), service("b", "part", delegate)];
        let delegates = of(all.iter().map(|(object, resource)| (object, resource)));
        let mut told = Vec::new();
        let (_, made) = expanded(all[0].clone(), &delegates, "cluster.local", &mut told);
        let Spec::VirtualService(rule) = &made.spec else { panic!("another kind") };
        let line = |r: &HttpRoute| {
            let uris: Vec<_> = r.r#match.iter().map(|m| format!("{:?}", m.uri)).collect();
            format!("{} {} -> {}", r.name, uris.join(" "), r.route.first().map_or("", |to| &to.destination.host))
        };
        (rule.http.iter().map(line).collect(), told)
    }

    const ROOT: &str = "  hosts: [x]\n  http:\n  - {name: r, match: [{uri: {prefix: /a}}], delegate: {name: part, namespace: b}}\n  - {route: [{destination: {host: y}}]}\n";

    #[test]
    fn a_delegate_narrows_and_its_names_are_its_namespaces() {
        let (made, told) = expand(
            ROOT,
            "  http:\n  - {name: d, match: [{uri: {exact: /a/b}}], route: [{destination: {host: z}}]}\n  - {route: [{destination: {host: z}}]}\n",
        );
        assert_eq!(
            made,
            [
                "r-d Some(Exact(\"/a/b\")) -> z.b.svc.cluster.local",
                "r Some(Prefix(\"/a\")) -> z.b.svc.cluster.local",
                "  -> y"
            ]
        );
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn what_is_outside_of_the_root_is_left_out_and_told() {
        let (made, told) =
            expand(ROOT, "  http:\n  - {name: d, match: [{uri: {prefix: /b}}], route: [{destination: {host: z}}]}\n");
        assert_eq!(made, ["  -> y"]);
        assert_eq!(told.len(), 1);
        let (_, told) = expand(ROOT, "  exportTo: [.]\n  http:\n  - {name: d, route: [{destination: {host: z}}]}\n");
        assert!(told[0].contains("exportTo"), "{told:?}");
    }
}
