//! What Istio's own validation accepts is accepted; what it refuses is refused, at the same field and for the same reason.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use hawser_api::istio::{ParseError, Resource, parse_documents};

/// For each invalid document: its name, our field, and a word of the reason.
const EXPECTED: &[(&str, &str, &str)] = &[
    // `_err` names a field: ours is the same.
    ("Invalid value: minimumPercent", "spec.trafficPolicy.loadBalancer.warmup.minimumPercent", "150"),
    ("Required value: duration", "spec.trafficPolicy.loadBalancer.warmup.duration", "required"),
    ("Invalid value: aggression", "spec.trafficPolicy.loadBalancer.warmup.aggression", "-0.1"),
    ("no-spec", "spec", "required"),
    ("missing-host", "spec.hosts", "required"),
    ("bad-selector-value", "spec.workloadSelector.labels.val", "wildcard is not supported in selector"),
    ("selector-and-endpoints", "spec.workloadSelector", "only one of WorkloadSelector or Endpoints can be set"),
    ("bad-host-wildcard", "spec.hosts[0]", "hostname cannot be wildcard"),
    ("bad-cidr-resolution", "spec.addresses[0]", "CIDR addresses are allowed only for NONE/STATIC resolution types"),
    ("duplicate-ports-name", "spec.ports[1].name", "Duplicate value"),
    ("duplicate-ports-number", "spec.ports[1].number", "port number cannot be duplicated"),
    ("bad-port", "spec.ports[0].number", "port must be between 1-65535"),
    ("bad-port-target", "spec.ports[0].targetPort", "port must be between 1-65535"),
    ("none-with-endpoints", "spec.endpoints", "NONE mode cannot set endpoints"),
    ("dns-rr-with-multiple-endpoints", "spec.endpoints", "DNS_ROUND_ROBIN mode cannot have multiple endpoints"),
    ("missing-address", "spec.address", "Address is required"),
    ("bad-uds-dir", "spec.address", "UDS may not be a dir"),
    ("bad-uds-relative", "spec.address", "UDS must be an absolute path or abstract socket"),
    ("uds-with-ports", "spec.ports", "UDS may not include ports"),
    ("high-port", "spec.ports.http", "port must be between 1-65535"),
    ("bad-port-name", "spec.ports[\"@\"]", "Invalid value"),
];

#[test]
fn what_is_valid_is_accepted_and_survives_being_written() {
    for (file, text) in files("-valid.yaml") {
        let documents = parse_documents(&file, &text);
        assert!(!documents.is_empty(), "{file}");
        for parsed in documents {
            let resource = parsed.unwrap_or_else(|error| panic!("{error}")).resource;
            assert_eq!(read_one(&resource.to_yaml()).unwrap(), resource);
            assert_eq!(Resource::from_json(&resource.to_json()).unwrap(), resource);
        }
    }
}

#[test]
fn what_is_invalid_is_refused_at_its_field_for_its_reason() {
    let mut seen = 0;
    for (file, text) in files("-invalid.yaml") {
        for document in text.split("\n---\n").filter(|d| d.lines().any(|l| l.starts_with("_err:"))) {
            seen += 1;
            let (reason, rest) = without_err(document);
            let error = read_one(&rest).expect_err(&format!("{file}: accepted, but: {reason}\n{rest}"));
            let name = error.object.as_ref().map(|o| o.name.clone()).unwrap_or_else(|| name(&rest));
            let (_, field, word) = expected(&name, &reason).unwrap_or_else(|| panic!("no row for {name}: {reason}"));
            assert_eq!(error.problems.len(), 1, "{file} {name}: {error}");
            assert_eq!(error.problems[0].path.to_string(), *field, "{file} {name}: {error}");
            assert!(error.problems[0].message.contains(word), "{file} {name}: {error}");
            assert!(error.problems[0].line > 0, "{error}");
            agrees(&reason, &error);
        }
    }
    assert_eq!(seen, EXPECTED.len() + 1, "every document has a row, and no-spec is there twice");
}

/// Kubernetes' own message is found in ours, its field in our field.
fn agrees(reason: &str, error: &ParseError) {
    let problem = &error.problems[0];
    match reason.strip_prefix("spec").map(|_| reason.split_once(": ").unwrap()) {
        Some((field, kind)) => {
            assert!(problem.path.to_string().starts_with(field), "{field} in {problem}");
            assert!(problem.message.starts_with(kind), "{kind} in {problem}");
        }
        None => assert!(problem.message.contains(reason), "{reason} in {problem}"),
    }
}

fn expected(name: &str, reason: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let warmup =
        reason.rsplit_once(": ").map(|(path, kind)| format!("{kind}: {}", path.rsplit('.').next().unwrap_or_default()));
    EXPECTED.iter().find(|row| row.0 == name || warmup.as_deref() == Some(row.0))
}

fn without_err(document: &str) -> (String, String) {
    let (err, rest): (Vec<&str>, Vec<&str>) = document.lines().partition(|line| line.starts_with("_err:"));
    let reason = err[0].trim_start_matches("_err:").trim().trim_matches(['\'', '"']);
    (reason.to_owned(), rest.join("\n"))
}

fn name(document: &str) -> String {
    let line = document.lines().find_map(|line| line.strip_prefix("  name: "));
    line.unwrap_or_default().to_owned()
}

fn read_one(text: &str) -> Result<Resource, ParseError> {
    let mut documents = parse_documents("test.yaml", text);
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0).map(|parsed| parsed.resource)
}

fn files(ending: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|p| (p.display().to_string(), std::fs::read_to_string(p).unwrap())).collect()
}
