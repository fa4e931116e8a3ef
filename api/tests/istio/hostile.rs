//! Documents that mean harm, or are merely broken: never a panic, never slow, always a sentence.

use std::time::{Duration, Instant};

use hawser_api::istio::*;

const HEAD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: a\n";

/// Each must be refused with a message, or be empty, within a second.
fn documents() -> Vec<String> {
    let mut documents: Vec<String> = [
        "",
        "---",
        "---\n---\n---",
        "...",
        "null",
        "~",
        "42",
        "-1",
        "1e999",
        ".nan",
        ".inf",
        "true",
        "text",
        "\"quoted\"",
        "[]",
        "{}",
        "[{}]",
        "- - - -",
        "{",
        "[",
        "}",
        "]",
        "\"",
        "'",
        "|",
        ">",
        "&a",
        "*a",
        "!!binary",
        "!tag x",
        "? ",
        ": ",
        "- ",
        "@",
        "`",
        "%",
        "%YAML 9.9",
        "%TAG ! !",
        "\t",
        "\ta: b",
        "a: b: c",
        "a:\n\t- b",
        "a: [1, 2",
        "a: {b: c",
        "a: \"\\x\"",
        "a: &x [*x]",
        "&x {a: *x}",
        "a: *unknown",
        "<<: {a: b}",
        "<<: [a]",
        "a: b\na: c",
        "{a: b, a: c}",
        "? {a: b}\n: c",
        "? [a]\n: c",
        "null: a",
        "1: a",
        "true: a",
        "\u{0}",
        "a: \u{0}",
        "a: \"\\0\"",
        "\"\\0\": a",
        "a: \"\\ud800\"",
        "\u{feff}a: b",
        "a: \u{7f}",
        "a: \u{1b}[31m",
        "\u{2028}",
        "a\u{85}b: c",
        "!!python/object:os.system ls",
        "!include /etc/passwd",
        "a: !!int x",
        "a: !!float x",
        "a: !!null x",
        "--- >\n x",
        "--- |\n x\n---\n",
        "a: 'b",
        "- a\nb: c",
        "a:\n  b\n c: d",
        "kind: List\nitems: []",
        "kind: List\nitems: [null, 1, [], {}, x]",
        "kind: List\nitems: {a: b}",
        "kind: List",
        "kind: VirtualServiceList\napiVersion: networking.istio.io/v1\nitems: [{}, {kind: List, items: [{}]}]",
        "kind: EnvoyFilter\napiVersion: networking.istio.io/v1alpha3\nmetadata: {name: a}\nspec: {}",
        "kind: ConfigMap\napiVersion: v1",
        "kind: 1\napiVersion: 2\nmetadata: 3\nspec: 4\nstatus: 5",
        "kind: [VirtualService]",
        "kind: ''",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ''}",
    ]
    .map(str::to_owned)
    .to_vec();
    let specs = [
        "5",
        "[]",
        "text",
        "null",
        "{hosts: null}",
        "{hosts: {}}",
        "{hosts: [[[[]]]]}",
        "{hosts: [null]}",
        "{hosts: [1]}",
        "{hosts: ['']}",
        "{http: 5}",
        "{http: [5]}",
        "{http: [null]}",
        "{http: [[]]}",
        "{http: [{route: x}]}",
        "{hosts: [a], http: [{timeout: 5}]}",
        "{hosts: [a], http: [{timeout: 99999999999999999999s}]}",
        "{hosts: [a], http: [{timeout: -1s}]}",
        "{hosts: [a], http: [{route: [{weight: 99999999999}]}]}",
        "{hosts: [a], http: [{route: [{weight: 1.5}]}]}",
        "{hosts: [a], http: [{route: [{weight: 1e3}]}]}",
        "{hosts: [a], http: [{match: [{port: -1}]}]}",
        "{hosts: [a], http: [{match: [{port: 0}]}]}",
        "{hosts: [a], http: [{match: [{port: 18446744073709551616}]}]}",
        "{hosts: [a], http: [{match: [{uri: {regex: '((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((a))))'}}]}]}",
        "{hosts: [a], http: [{match: [{uri: {regex: '(a{1000}){1000}'}}]}]}",
        "{hosts: [a], http: [{match: [{uri: {regex: '(?=a)'}}]}]}",
        "{hosts: [a], http: [{match: [{uri: {regex: ''}}]}]}",
        "{hosts: [a], http: [{match: [{uri: {exact: a, regex: b}}]}]}",
        "{hosts: [a], http: [{match: [{uri: {exact: [a]}}]}]}",
        "{\"hosts\\u0000\": [a]}",
        "{hosts: [\"a\\0b\"]}",
        "{hosts: [\"a\\nb\"]}",
        "{hosts: [пример.рф]}",
    ];
    documents.extend(specs.map(|spec| format!("{HEAD}spec: {spec}\n")));
    documents.push("[".repeat(100_000));
    documents.push("{a: ".repeat(10_000));
    documents.push("- ".repeat(50_000));
    documents.push("a:\n".to_owned() + &(1..300).map(|n| format!("{}b:\n", " ".repeat(n))).collect::<String>());
    documents.push(format!("{HEAD}spec:\n  hosts: [{}]\n", "a,".repeat(101_000)));
    documents.push(format!("{HEAD}spec: {{hosts: [\"{}\"]}}\n", "a".repeat(900_000)));
    documents.push(format!("{HEAD}spec: {{{}}}\n", (0..20_000).map(|n| format!("k{n}: 1, ")).collect::<String>()));
    documents.push(format!("a: {}\n", "x".repeat(2 << 20)));
    documents.push("x".repeat(17 << 20));
    documents.push(billion_laughs("{", "}"));
    documents.push(billion_laughs("[", "]"));
    documents.push(quadratic_aliases());
    documents.push(format!(
        "{HEAD}spec: {{hosts: [a], {}}}\n",
        (0..5_000).map(|n| format!("<<: {{x{n}: 1}}, ")).collect::<String>()
    ));
    documents.push("---\na: b\n".repeat(10_100));
    documents.push(format!("a: &a {}\n", "&b ".repeat(2_000)));
    documents.push((0..5_000).map(|n| format!("k{n}: &n{n} x\n")).collect());
    documents.push(format!("{HEAD}  labels: {{{}}}\n", (0..5_000).map(|n| format!("k{n}: v, ")).collect::<String>()));
    documents
}

fn billion_laughs(open: &str, close: &str) -> String {
    let key = |n: usize| if open == "{" { format!("k{n}: ") } else { String::new() };
    let mut text = "a0: &a0 lol\n".to_owned();
    for level in 1..12 {
        let row: String = (0..10).map(|n| format!("{}*a{}, ", key(n), level - 1)).collect();
        text.push_str(&format!("a{level}: &a{level} {open}{row}{close}\n"));
    }
    text
}

fn quadratic_aliases() -> String {
    let long: String = (0..5_000).map(|n| format!("{n}, ")).collect();
    format!("a: &a [{long}]\nb: [{}]\n", "*a, ".repeat(900))
}

#[test]
fn hostile_documents_give_errors_and_nothing_else() {
    let documents = documents();
    assert!(documents.len() >= 60, "{}", documents.len());
    for document in documents {
        let started = Instant::now();
        let shown: String = document.chars().take(80).collect();
        for result in parse_documents("a.yaml", &document) {
            let error = result.expect_err(&shown);
            let text = error.to_string();
            assert!(!error.problems.is_empty() && error.problems.len() <= 40, "{shown}: {}", error.problems.len());
            assert!(error.problems.iter().all(|p| !p.message.is_empty() && p.message.len() < 2_000), "{shown}: {text}");
            assert!(!text.contains(['\u{0}', '\u{1b}']), "{shown:?}: {text:?}");
        }
        if document.len() < 50_000 {
            let _ = parse_mesh_config("mesh.yaml", &document);
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{shown} took {:?}", started.elapsed());
    }
}

#[test]
fn messages_are_sentences() {
    let spec = |spec: &str| format!("{HEAD}spec: {spec}\n");
    let cases = [
        ("a: b\na: c".to_owned(), "a.yaml:2: the key \"a\" stands twice in one map; take one of them out"),
        ("- a".to_owned(), "a.yaml:1: expected a resource: a map with apiVersion, kind, metadata and spec"),
        ("a: [1, 2".to_owned(), "a.yaml:1: it is not YAML: unclosed bracket '['"),
        ("a: b: c".to_owned(), "a.yaml:1: it is not YAML: mapping values are not allowed in this context"),
        ("a: &x [*x]".to_owned(), "a.yaml:1: an alias within its own anchor"),
        ("a: *unknown".to_owned(), "a.yaml:1: an alias (*name) without its anchor (&name)"),
        (billion_laughs("[", "]"), "a.yaml:6: its aliases would make it too large; write them out"),
        (billion_laughs("{", "}"), "a.yaml:5: its aliases would make it too large; write them out"),
        ("[".repeat(1_000), "a.yaml:1: it is nested too deeply"),
        ("{a: ".repeat(60) + &"}".repeat(60), "a.yaml:1: it is nested too deeply"),
        ("a: !include /etc/passwd".to_owned(), "a.yaml:1: tag !include is not allowed; leave it out"),
        (format!("a: {}\n", "x".repeat(2 << 20)), "a.yaml:1: this document is larger than 1 MiB"),
        ("x".repeat(17 << 20), "a.yaml: it is larger than 16 MiB; split it"),
        (
            "kind: EnvoyFilter\napiVersion: networking.istio.io/v1alpha3".to_owned(),
            "a.yaml:1: kind: \"EnvoyFilter\" is not a kind that is known here: VirtualService, DestinationRule, \
             ServiceEntry, WorkloadEntry, WorkloadGroup, Sidecar, Gateway, PeerAuthentication, RequestAuthentication, \
             AuthorizationPolicy, Telemetry",
        ),
        (spec("{hosts: {a: b}}"), "a.yaml:5: spec.hosts: expected a list, found a map"),
        (
            spec("{http: [{match: [{port: 0}]}]}"),
            "a.yaml:5: spec.http[0].match[0].port: Invalid value: 0: a port must be between 1-65535",
        ),
        (
            spec("{hosts: [\"a\\nb\"], tcp: [{route: [{destination: {host: b}}]}]}"),
            "a.yaml:5: spec.hosts[0]: \"a\\nb\" is not a host name",
        ),
        (
            spec("{hosts: [a], http: [{match: [{uri: {regex: '(?=a)'}}], route: [{destination: {host: b}}]}]}"),
            "a.yaml:5: spec.http[0].match[0].uri.regex: it is not a regular expression (RE2 syntax): look-around, \
             including look-ahead and look-behind, is not supported",
        ),
    ];
    for (text, expected) in cases {
        let results = parse_documents("a.yaml", &text);
        let message = results.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(message, expected);
    }
}
