use super::*;

const GOOD: &str = "
registries:
- name: inventory
  http_sd:
    url: https://inventory.example.com/targets
    service: {port: {number: 80, protocol: http}}
- name: files
  file_sd:
    files: [/etc/targets/*.json]
    service: {hosts: ['{job}.legacy.mesh'], port: {number: 80}}
    healthCheck: {kind: http, path: /healthz, interval: 5s}
    freeze: {percent: 50, acceptAfter: 1h}
- name: dc1
  consul:
    servers: [http://127.0.0.1:8500]
- name: main
  kubernetes: {network: net1, remoteClusters: {disabled: true}}
- name: files
  dns_srv:
    names: [_http._tcp.example.com]
    service: {port: {number: 80}}
";

#[test]
fn a_file_has_registries_of_all_kinds() {
    let all = parse(GOOD).unwrap();
    let registries = Registries { file: None, text: String::new(), all };
    let names: Vec<String> = registries.ids(Path::new("/nowhere")).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["http_sd/inventory", "file_sd/files", "consul/dc1", "kubernetes/main", "dns_srv/files"]);
    assert!(parse("").unwrap().is_empty() && parse("registries: []").unwrap().is_empty());
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_its_cure() {
    let service = "service: {port: {number: 80}}";
    for (text, why) in [
        ("registries:\n- name: a\n  http_sd:\n    ulr: x\n".to_owned(), "ulr"),
        (
            format!("registries:\n- {{name: a, http_sd: {{url: 'ftp://x', {service}}}}}"),
            "write it as https://host:port/path",
        ),
        (format!("registries:\n- {{name: a, http_sd: {{url: 'http://u:p@x/', {service}}}}}"), "bearerTokenFile"),
        (format!("registries:\n- {{name: A, dns_srv: {{names: [x.y], {service}}}}}"), "lower-case letters"),
        (format!("registries:\n- {{name: a, dns_srv: {{names: [], {service}}}}}"), "registry a: names: there is none"),
        ("registries:\n- {name: a}\n".to_owned(), "one of"),
        (
            format!(
                "registries:\n- {{name: a, dns_srv: {{names: [x.y], {service}}}}}\n- {{name: a, dns_srv: {{names: [x.y], {service}}}}}"
            ),
            "dns_srv/a stands twice",
        ),
        (
            format!(
                "registries:\n- {{name: a, dns_srv: {{names: [x.y], {service}}}, file_sd: {{files: [/a.json], {service}}}}}"
            ),
            "no more and no less",
        ),
        (
            format!("registries:\n- {{name: a, file_sd: {{files: [/a.json], {service}, freeze: {{percent: 0}}}}}}"),
            "1 to 100 percent",
        ),
        (
            format!(
                "registries:\n- {{name: a, file_sd: {{files: [/a.json], {service}, healthCheck: {{kind: tcp, interval: 1}}}}}}"
            ),
            "not a duration",
        ),
    ] {
        let told = format!("{:#}", parse(&text).unwrap_err());
        assert!(told.contains(why), "{why:?} is not in: {told}");
    }
}

#[test]
fn a_field_that_is_not_known_is_told_with_its_line() {
    let told = format!("{:#}", parse("registries:\n- name: a\n  http_sd:\n    ulr: x\n").unwrap_err());
    assert!(told.contains("line 4") || told.contains(":4:") || told.contains("4:"), "{told}");
}

#[test]
fn a_file_that_is_named_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registries.yaml");
    let told = format!("{:#}", read(Some(&file)).unwrap_err());
    assert!(told.contains("registries.yaml") && told.contains("No such file"), "{told}");
    std::fs::write(&file, GOOD).unwrap();
    assert_eq!(read(Some(&file)).unwrap().ids(dir.path()).len(), 5);
}
