use super::*;

fn config(kind: Kind, name: &str, metadata: &str, spec: &str) -> Config {
    let json = format!(
        r#"{{"apiVersion":"{}/v1","kind":"{kind}","metadata":{{"name":"{name}","namespace":"shop"{metadata}}},"spec":{spec}}}"#,
        kind.group()
    );
    serde_json::from_str(&json).unwrap()
}

fn entry(name: &str, metadata: &str, address: &str) -> Config {
    config(Kind::WorkloadEntry, name, metadata, &format!(r#"{{"address":"{address}"}}"#))
}

fn told(configs: &mut Configs) -> Vec<String> {
    let (changed, _) = configs.changed(|_| true);
    let show = |(part, told): (Part, Told)| match told {
        Told::Is(objects) => format!("{part} {}", objects.len()),
        Told::Gone => format!("{part} gone"),
        Told::Missing => format!("{part} missing"),
    };
    changed.into_iter().map(show).collect()
}

#[test]
fn of_an_object_that_says_nonsense_the_last_good_version_stays() {
    let mut configs = Configs::default();
    let kind = Kind::WorkloadEntry;
    configs.take(kind, Change::Whole(vec![entry("a", "", "10.0.0.1")]));
    assert_eq!(told(&mut configs), ["config/WorkloadEntry/shop/a 1"]);
    configs.take(kind, Change::Set(entry("a", "", "not an address!")));
    assert_eq!(told(&mut configs), [""; 0]);
    let wrong = configs.refusals();
    let refusal = wrong.values().next().unwrap().as_ref().unwrap();
    assert!(refusal.kept && refusal.message.contains("address"), "{refusal:?}");
    assert!(refusal.text().ends_with("its last good version counts on"), "{}", refusal.text());
    assert_eq!(configs.parts(|_| true).map(|(_, good)| good).collect::<Vec<_>>(), [true]);
    configs.take(kind, Change::Set(entry("a", "", "10.0.0.2")));
    assert_eq!(told(&mut configs), ["config/WorkloadEntry/shop/a 1"]);
    assert_eq!(configs.refusals().into_values().collect::<Vec<_>>(), [None], "taken back");
    assert!(configs.refusals().is_empty());
}

#[test]
fn a_version_that_only_says_what_nobody_reads_is_not_told() {
    let mut configs = Configs::default();
    configs.take(Kind::WorkloadEntry, Change::Whole(vec![entry("a", r#","resourceVersion":"1""#, "10.0.0.1")]));
    assert_eq!(told(&mut configs).len(), 1);
    configs.take(Kind::WorkloadEntry, Change::Set(entry("a", r#","resourceVersion":"2""#, "10.0.0.1")));
    assert_eq!(told(&mut configs), [""; 0]);
}

#[test]
fn entries_that_are_ours_are_no_input() {
    let mut configs = Configs::default();
    let ours = r#","annotations":{"hawser.io/instance":"7"}"#;
    configs.take(Kind::WorkloadEntry, Change::Whole(vec![entry("a", ours, "10.0.0.1"), entry("b", "", "10.0.0.2")]));
    assert_eq!(told(&mut configs), ["config/WorkloadEntry/shop/b 1"]);
    configs.take(Kind::WorkloadEntry, Change::Set(entry("b", ours, "10.0.0.2")));
    assert_eq!(told(&mut configs), ["config/WorkloadEntry/shop/b gone"], "it became ours");
}

#[test]
fn what_a_new_list_lacks_is_missing_and_what_was_deleted_is_gone() {
    let mut configs = Configs::default();
    let all = || vec![entry("a", "", "10.0.0.1"), entry("b", "", "10.0.0.2")];
    configs.take(Kind::WorkloadEntry, Change::Whole(all()));
    told(&mut configs);
    configs.take(Kind::WorkloadEntry, Change::Whole(all().into_iter().take(1).collect()));
    assert_eq!(told(&mut configs), ["config/WorkloadEntry/shop/b missing"]);
    configs.take(Kind::WorkloadEntry, Change::Gone(Name::new("shop", "a")));
    assert_eq!(told(&mut configs), ["config/WorkloadEntry/shop/a gone"]);
}
