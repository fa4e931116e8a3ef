use hawser_api::proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use hawser_api::proto::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher, StringMatcher};
use hawser_api::proto::route as proto;
use http::Method;

use super::*;

fn prefix(path: &str) -> proto::RouteMatch {
    let path_specifier = Some(proto::route_match::PathSpecifier::Prefix(path.into()));
    proto::RouteMatch { path_specifier, ..Default::default() }
}

fn to(cluster: &str, m: proto::RouteMatch, change: impl FnOnce(&mut proto::RouteAction)) -> proto::Route {
    let cluster_specifier = Some(proto::route_action::ClusterSpecifier::Cluster(cluster.into()));
    let mut action = proto::RouteAction { cluster_specifier, ..Default::default() };
    change(&mut action);
    let action = Some(proto::route::Action::Route(action));
    proto::Route { name: cluster.into(), r#match: Some(m), action, ..Default::default() }
}

fn table(hosts: Vec<(&[&str], Vec<proto::Route>)>) -> RouteTable {
    let host = |(domains, routes): (&[&str], Vec<proto::Route>)| proto::VirtualHost {
        name: domains[0].into(),
        domains: domains.iter().map(|d| (*d).to_owned()).collect(),
        routes,
        ..Default::default()
    };
    let virtual_hosts = hosts.into_iter().map(host).collect();
    RouteTable::new(&proto::RouteConfiguration { virtual_hosts, ..Default::default() }).unwrap()
}

fn found<'t>(table: &'t RouteTable, host: &str, path: &str, headers: &Fields) -> Option<&'t str> {
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    let asked = Asked { host, path, query, method: &Method::GET, headers };
    find(table, &asked, || 0).map(|(_, route)| route.name.as_str())
}

#[test]
fn the_most_specific_host_wins() {
    let one = |name: &str| vec![to(name, prefix("/"), |_| {})];
    let table = table(vec![
        (&["*"], one("any")),
        (&["reviews", "reviews:9080"], one("exact")),
        (&["*.example.org"], one("short")),
        (&["*.b.example.org"], one("long")),
        (&["api.*"], one("start")),
    ]);
    let none = Fields::default();
    for (host, is) in [
        ("reviews", "exact"),
        ("REVIEWS:9080", "exact"),
        ("reviews:80", "any"),
        ("a.example.org", "short"),
        ("a.b.example.org", "long"),
        ("api.test", "start"),
        ("", "any"),
    ] {
        assert_eq!(found(&table, host, "/", &none), Some(is), "{host}");
    }
}

#[test]
fn the_first_route_that_matches_counts() {
    let mut by_header = prefix("/");
    let jason = StringMatcher { match_pattern: Some(MatchPattern::Exact("jason".into())), ignore_case: false };
    by_header.headers.push(proto::HeaderMatcher {
        name: "end-user".into(),
        header_match_specifier: Some(proto::header_matcher::HeaderMatchSpecifier::StringMatch(jason)),
        ..Default::default()
    });
    let mut by_query = prefix("/q");
    by_query.query_parameters.push(proto::QueryParameterMatcher { name: "debug".into(), ..Default::default() });
    let segments = proto::RouteMatch {
        path_specifier: Some(proto::route_match::PathSpecifier::PathSeparatedPrefix("/api".into())),
        ..Default::default()
    };
    let table = table(vec![(
        &["*"],
        vec![
            to("header", by_header, |_| {}),
            to("query", by_query, |_| {}),
            to("segments", segments, |_| {}),
            to("prefix", prefix("/ap"), |_| {}),
        ],
    )]);
    let none = Fields::default();
    let mut jason = Fields::default();
    jason.push(b"end-user", b"jason");
    assert_eq!(found(&table, "a", "/x", &jason), Some("header"));
    assert_eq!(found(&table, "a", "/q?a=b&debug", &none), Some("query"));
    assert_eq!(found(&table, "a", "/q?debugging=1", &none), None);
    assert_eq!(found(&table, "a", "/api/v1", &none), Some("segments"));
    assert_eq!(found(&table, "a", "/apiary", &none), Some("prefix"));
    assert_eq!(found(&table, "a", "/é", &none), None);
}

#[test]
fn weights_share_all_chances() {
    let table = table(vec![(
        &["*"],
        vec![to("x", prefix("/"), |action| {
            let weight = |name: &str, weight| proto::weighted_cluster::ClusterWeight {
                name: name.into(),
                weight: Some(weight),
                ..Default::default()
            };
            let clusters = vec![weight("v1", 90), weight("v2", 10)];
            let all = proto::WeightedCluster { clusters };
            action.cluster_specifier = Some(proto::route_action::ClusterSpecifier::WeightedClusters(all));
        })],
    )]);
    let crate::config::Action::Forward(forward) = &table.hosts[0].routes[0].action else { panic!() };
    let second = (0..1000).filter(|chance| &*cluster(forward, *chance).name == "v2").count();
    assert_eq!(second, 100);
}

#[test]
fn paths_are_rewritten_with_their_query() {
    let rewrite = |path: &str, change: fn(&mut proto::RouteAction)| {
        let table = table(vec![(&["*"], vec![to("x", prefix("/old"), change)])]);
        let route = &table.hosts[0].routes[0];
        let crate::config::Action::Forward(forward) = &route.action else { panic!() };
        rewritten(route, forward, path, Some("q=1"))
    };
    let by_prefix: fn(&mut proto::RouteAction) = |a| a.prefix_rewrite = "/new".into();
    assert_eq!(rewrite("/old/x", by_prefix).as_deref(), Some("/new/x?q=1"));
    assert_eq!(rewrite("/old/x", |a| a.prefix_rewrite = "/".into()).as_deref(), Some("/x?q=1"));
    assert_eq!(rewrite("/old", |_| {}), None);
    let by_regex: fn(&mut proto::RouteAction) = |a| {
        let pattern = Some(RegexMatcher { regex: "^/old/([0-9]+)$".into() });
        a.regex_rewrite = Some(RegexMatchAndSubstitute { pattern, substitution: "/item/\\1$".into() });
    };
    assert_eq!(rewrite("/old/7", by_regex).as_deref(), Some("/item/7$?q=1"));
}
