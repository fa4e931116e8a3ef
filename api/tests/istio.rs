//! Reading, writing and checking resources as people write them.

#![allow(clippy::unwrap_used)]

use hawser_api::istio::virtual_service::MESH_GATEWAY;
use hawser_api::istio::*;

mod istio {
    mod hostile;
    mod kinds;
}

fn read(text: &str) -> Vec<Result<Parsed, ParseError>> {
    parse_documents("a.yaml", text)
}

fn message(text: &str) -> String {
    let messages: Vec<String> = read(text).into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    messages.join("\n")
}

const REVIEWS: &str = "\
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts:
  - reviews
  http:
  - match:
    - headers:
        end-user:
          exact: jason
        x-there: {}
    route:
    - destination:
        host: reviews
        subset: v2
  - route:
    - destination:
        host: reviews
        subset: v1
      weight: 90
    - destination:
        host: reviews
        subset: v3
      weight: 10
    timeout: 1.5s
";

#[test]
fn a_virtual_service_is_read() {
    let parsed = read(REVIEWS).remove(0).unwrap();
    assert_eq!((parsed.line, parsed.resource.object_ref().to_string().as_str()), (1, "VirtualService default/reviews"));
    let Spec::VirtualService(service) = &parsed.resource.spec else { panic!() };
    assert_eq!(service.http[0].r#match[0].headers["end-user"], StringMatch::Exact("jason".into()));
    assert_eq!(service.http[0].r#match[0].headers["x-there"], StringMatch::Present);
    assert_eq!(service.http[1].route.iter().map(|r| r.weight).collect::<Vec<_>>(), [90, 10]);
    assert_eq!(service.http[1].timeout.unwrap().get().as_millis(), 1500);
    assert!(service.is_for_mesh());
    assert_eq!(MESH_GATEWAY, "mesh");
}

#[test]
fn what_is_written_reads_back_and_is_canonical() {
    let resource = read(REVIEWS).remove(0).unwrap().resource;
    let text = resource.to_yaml();
    let again = read(&text).remove(0).unwrap().resource;
    assert_eq!(again, resource);
    assert_eq!(again.to_yaml(), text);
    assert!(
        text.starts_with(
            "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata:\n  name: reviews\n"
        ),
        "{text}"
    );
    assert!(text.contains("timeout: 1500ms"), "{text}");
}

#[test]
fn strings_that_look_like_something_else_stay_strings() {
    let text = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: a\n  labels: {version: \"1\", on: \"yes\", b: \"true\", c: \"~\", d: \"0x10\"}\nspec: {address: 10.0.0.1}\n";
    let text = text.replace("c: \"~\", ", "");
    let resource = read(&text).remove(0).unwrap().resource;
    assert_eq!(read(&resource.to_yaml()).remove(0).unwrap().resource, resource);
}

#[test]
fn every_version_is_read_and_no_other() {
    for kind in Kind::ALL {
        for version in kind.versions() {
            let text =
                format!("apiVersion: {}/{version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n", kind.group());
            assert!(!message(&text).contains("apiVersion"), "{text}");
        }
        let text = format!("apiVersion: {}/v2\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n", kind.group());
        assert!(message(&text).contains("a.yaml:1: apiVersion: \""), "{}", message(&text));
    }
}

#[test]
fn errors_name_file_line_field_and_cure() {
    let cases = [
        (
            "        subset: v2",
            "        sub_set: v2",
            "a.yaml:17: spec.http[0].route[0].destination.sub_set: unknown field; did you mean subset?",
        ),
        (
            "      weight: 90",
            "      weight: heavy",
            "a.yaml:22: spec.http[1].route[0].weight: expected a whole number from -2147483648 to 2147483647, found the string \"heavy\"",
        ),
        (
            "      weight: 90",
            "      weight: \"90\"",
            "a.yaml:22: spec.http[1].route[0].weight: expected a whole number from -2147483648 to 2147483647, found the string \"90\"; write it without quotes",
        ),
        (
            "          exact: jason",
            "          exact: 5",
            "a.yaml:12: spec.http[0].match[0].headers.end-user.exact: expected a string, found the number 5; put it in quotes",
        ),
        (
            "          exact: jason",
            "          regex: \"(\"",
            "a.yaml:12: spec.http[0].match[0].headers.end-user.regex: it is not a regular expression (RE2 syntax): unclosed group",
        ),
        (
            "    timeout: 1.5s",
            "    timeout: soon",
            "a.yaml:27: spec.http[1].timeout: \"soon\" is not a duration; write it as 5s, 1m30s or 100ms",
        ),
        (
            "    timeout: 1.5s",
            "    timeout: 0s",
            "a.yaml:27: spec.http[1].timeout: Invalid value: must be at least 1ms",
        ),
        (
            "  hosts:\n  - reviews",
            "  hosts: reviews",
            "a.yaml:6: spec.hosts: expected a list, found the string \"reviews\"",
        ),
        ("  - reviews", "  - rev iews", "a.yaml:7: spec.hosts[0]: \"rev iews\" is not a host name"),
        ("  name: reviews", "  name: Reviews", "a.yaml:4: metadata.name: \"Reviews\" is not a name"),
        ("  name: reviews", "  title: reviews", "a.yaml:4: metadata.title: unknown field; known here: name, namespace"),
        (
            "kind: VirtualService",
            "kind: virtualservice",
            "a.yaml:2: kind: \"virtualservice\" is not a kind that is known here",
        ),
        ("spec:", "specs:", "a.yaml:5: specs: unknown field; did you mean spec?"),
    ];
    for (from, to, expected) in cases {
        let text = REVIEWS.replacen(from, to, 1);
        assert_ne!(text, REVIEWS);
        let message = message(&text);
        assert!(message.starts_with(expected), "\n{message}\n{expected}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = REVIEWS.replace("weight: 90", "weight: -1").replace("1.5s", "0s").replace("- reviews\n", "- '*'\n");
    let lines: Vec<u32> = read(&text).remove(0).unwrap_err().problems.iter().map(|p| p.line).collect();
    assert_eq!(lines, [7, 22, 27]);
}

#[test]
fn one_bad_document_takes_no_other_down() {
    let text =
        format!("# nothing\n---\n{REVIEWS}---\nfoo: [\n---\n{}", REVIEWS.replace("name: reviews", "name: other"));
    let results = read(&text);
    let lines: Vec<_> = results.iter().map(|r| r.as_ref().map_or_else(|e| e.line, |p| p.line)).collect();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((lines[0], lines[2]), (3, 33));
}

#[test]
fn a_list_gives_its_items() {
    let item = REVIEWS.replace('\n', "\n    ");
    let text = format!("apiVersion: v1\nkind: List\nitems:\n  - {item}\n  - kind: X\n");
    let results = read(&text);
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].as_ref().unwrap().line, 4);
    assert!(results[1].is_err());
}

#[test]
fn a_kubernetes_object_is_read_with_what_the_server_adds() {
    let mut object = read(REVIEWS).remove(0).unwrap().resource.to_json();
    object["metadata"]["managedFields"] = serde_json::json!([{"manager": "x", "fieldsV1": {"f:spec": {}}}]);
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    object["status"] = serde_json::json!({"conditions": [{"type": "x"}]});
    let resource = Resource::from_json(&object).unwrap();
    assert_eq!(resource.metadata.creation_timestamp, "2026-01-01T00:00:00Z");
    object["spec"]["http"][1]["route"][0]["weight"] = "x".into();
    let error = Resource::from_json(&object).unwrap_err();
    assert!(error.to_string().starts_with("spec.http[1].route[0].weight: expected"), "{error}");
}

#[test]
fn null_is_not_written() {
    let text = REVIEWS.replace("    timeout: 1.5s", "    timeout:\n    retries: null\n    rewrit: null");
    assert_eq!(message(&text), "a.yaml:29: spec.http[1].rewrit: unknown field; did you mean rewrite?");
    assert_eq!(message(&REVIEWS.replace("    timeout: 1.5s", "    timeout:\n    retries: null")), "");
}

#[test]
fn the_meshs_settings_are_read() {
    let text = "\
trustDomain: example.org
enableAutoMtls: true
meshMTLS: {minProtocolVersion: TLSV1_3}
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  concurrency: 2
  proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}
  tracing: {sampling: 10, zipkin: {address: zipkin:9411}}
extensionProviders:
- name: otel
  opentelemetry: {service: otel.svc, port: 4317}
";
    let mesh = parse_mesh_config("mesh.yaml", text).unwrap();
    assert_eq!(mesh.trust_domain, "example.org");
    let out: serde_json::Value = serde_json::to_value(&mesh).unwrap();
    assert_eq!(out["meshMTLS"]["minProtocolVersion"], "TLSV1_3");
    let again: MeshConfig = serde_json::from_value(out).unwrap();
    assert_eq!(again, mesh);
    for (from, to, expected) in [
        (
            "trustDomain: example.org",
            "trustDomain: Example",
            "mesh.yaml:1: trustDomain: \"Example\" is not a trust domain",
        ),
        (
            "concurrency: 2",
            "concurency: 2",
            "mesh.yaml:7: defaultConfig.concurency: unknown field; did you mean concurrency?",
        ),
        (
            "TLSV1_3",
            "TLSV1_1",
            "mesh.yaml:3: meshMTLS.minProtocolVersion: \"TLSV1_1\" is not known here; expected TLS_AUTO, TLSV1_2 or TLSV1_3",
        ),
        ("- name: otel", "- nam: otel", "mesh.yaml:11: extensionProviders[0].nam: unknown field; did you mean name?"),
    ] {
        let error = parse_mesh_config("mesh.yaml", &text.replace(from, to)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "\n{error}\n{expected}");
    }
    assert_eq!(parse_mesh_config("mesh.yaml", "# nothing\n").unwrap(), MeshConfig::default());
}

#[test]
fn what_is_not_honoured_is_told_by_field() {
    let text = REVIEWS.replace(
        "    timeout: 1.5s",
        "    match: [{statPrefix: a}]\n    retries: {attempts: 2, retryOn: '5xx,aborted'}\n    corsPolicy: {allowMethods: [GET]}",
    );
    let report =
        honoured(&read(&text.replace("  hosts:", "  gateways: [mesh, edge]\n  hosts:")).remove(0).unwrap().resource);
    let paths: Vec<String> = report.unhonoured.iter().map(|u| u.path.to_string()).collect();
    assert_eq!(paths, ["spec.gateways[1]", "spec.http[1].match[0].statPrefix", "spec.http[1].retries.retryOn"]);
    assert_eq!(report.refuse, None);
    assert_eq!(honoured(&read(REVIEWS).remove(0).unwrap().resource), Report::default());
}

#[test]
fn a_policy_that_cannot_be_enforced_is_refused() {
    let policy = |kind, spec| {
        let text = format!("apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n");
        honoured(&read(&text).remove(0).unwrap().resource)
    };
    for (kind, spec, at) in [
        ("AuthorizationPolicy", "{targetRefs: [{kind: Gateway, name: a}]}", "spec.targetRefs: "),
        ("RequestAuthentication", "{targetRef: {kind: Gateway, name: a}}", "spec.targetRefs: "),
        (
            "AuthorizationPolicy",
            "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {requestPrincipals: [a]}}]}]}",
            "spec.rules[0].from: requestPrincipals: CUSTOM is asked before tokens",
        ),
        (
            "AuthorizationPolicy",
            "{action: CUSTOM, provider: {name: a}, rules: [{when: [{key: 'request.auth.claims[a]', values: [b]}]}]}",
            "spec.rules[0].when[0].key: request.auth.claims[a]: CUSTOM is asked before tokens",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{}, {when: [{key: 'experimental.envoy.filters.a[b]', values: [c]}]}]}",
            "spec.rules[1].when[0].key: ",
        ),
    ] {
        let why = policy(kind, spec).refuse.unwrap_or_default();
        assert!(why.starts_with(at), "{spec}: {why:?}");
    }
    let rules = "{selector: {matchLabels: {a: b}}, action: DENY, rules: [{from: [{source: {namespaces: [a]}}], \
                 to: [{operation: {paths: ['/{*}/a'], notMethods: [GET]}}], when: [{key: 'request.headers[x]', values: ['*']}]}]}";
    assert_eq!(policy("AuthorizationPolicy", rules), Report::default());
    let custom = "{action: CUSTOM, provider: {name: a}, rules: [{to: [{operation: {paths: [/a]}}]}]}";
    assert_eq!(policy("AuthorizationPolicy", custom), Report::default());
    let issuer = "{jwtRules: [{issuer: a, jwksUri: 'https://a/b', fromCookies: [c], spaceDelimitedClaims: [d]}]}";
    assert_eq!(policy("RequestAuthentication", issuer), Report::default());
    let peer = "{selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}";
    assert_eq!(policy("PeerAuthentication", peer), Report::default());
    let rule = |policy: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec: {{host: a, {policy}}}\n"
        );
        honoured(&read(&text).remove(0).unwrap().resource)
    };
    assert!(
        rule("trafficPolicy: {tls: {mode: SIMPLE}}")
            .refuse
            .unwrap()
            .starts_with("spec.trafficPolicy.tls.caCertificates: name the file of the roots")
    );
    assert!(rule("subsets: [{name: v1, trafficPolicy: {tls: {mode: SIMPLE}}}]").refuse.is_some());
    assert!(rule("trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}").refuse.is_some());
    let files = "mode: MUTUAL, caCertificates: /ca.pem, clientCertificate: /c.pem, privateKey: /k.pem";
    assert_eq!(rule(&format!("trafficPolicy: {{tls: {{{files}}}}}")), Report::default());
    let refused = |tls: &str| rule(&format!("trafficPolicy: {{tls: {{{tls}}}}}")).refuse.unwrap_or_default();
    assert!(refused("mode: SIMPLE, credentialName: c").contains("secrets by name are not honoured"));
    assert!(refused("mode: SIMPLE, insecureSkipVerify: true, caCrl: /crl.pem").contains("revoked"));
    assert_eq!(refused("mode: SIMPLE, insecureSkipVerify: true"), "");
    assert_eq!(rule("trafficPolicy: {tls: {mode: DISABLE}}"), Report::default());
    let port = rule("trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}");
    assert_eq!(port, Report::default(), "a port's settings are as good as all ports'");
    let both = rule(
        "trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {zoneAwareLbSetting: {enabled: true}}}]}, \
         subsets: [{name: v1, trafficPolicy: {retryBudget: {percent: 20, budgetInterval: 1s}}}]",
    );
    let mut paths: Vec<_> = both.unhonoured.iter().map(|u| u.path.to_string()).collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "spec.subsets[0].trafficPolicy.retryBudget.budgetInterval",
            "spec.trafficPolicy.portLevelSettings[0].loadBalancer.zoneAwareLbSetting",
        ]
    );
    let deep = "subsets: [{name: v1, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}]";
    assert!(rule(deep).refuse.is_some());
}
