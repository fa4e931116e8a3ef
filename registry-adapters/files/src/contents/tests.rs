use super::*;

fn entry(name: &str, address: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{address: {address}}}\n"
    )
}

fn look(files: &[(&str, &str)]) -> Look {
    files.iter().map(|(name, text)| ((*name).into(), Text::Read((*text).to_owned()))).collect()
}

/// Events as short lines.
fn lines(changes: Changes) -> Vec<String> {
    changes.events.iter().map(line).collect()
}

fn line(event: &Event) -> String {
    match event {
        Event::Upsert(Object::Config(resource, origin)) => format!("+ {} {origin}", resource.metadata.name),
        Event::Delete(ObjectKey::Config(key)) => format!("- {}", key.name),
        Event::Rejected { origin, message } => format!("! {origin} {}", message.lines().next().unwrap_or_default()),
        Event::Cleared(origin) => format!("ok {origin}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn only_what_changed_is_said() {
    let mut contents = Contents::default();
    let (a, b) = (entry("a", "10.0.0.1"), entry("b", "10.0.0.2"));
    assert_eq!(lines(contents.look(look(&[("1.yaml", &format!("{a}---\n{b}"))]))), ["+ a 1.yaml:1", "+ b 1.yaml:6"]);
    assert!(lines(contents.look(look(&[("1.yaml", &format!("{a}---\n{b}"))]))).is_empty());
    let c = entry("b", "10.0.0.3");
    assert_eq!(lines(contents.look(look(&[("1.yaml", &format!("{a}---\n{c}"))]))), ["+ b 1.yaml:6"]);
    assert_eq!(lines(contents.look(look(&[("1.yaml", &a)]))), ["- b"]);
    assert_eq!(lines(contents.look(look(&[("2.yaml", &a)]))), ["+ a 2.yaml:1"]);
    assert_eq!(lines(contents.look(look(&[]))), ["- a"]);
}

#[test]
fn a_bad_file_keeps_what_it_said_and_takes_nothing_else_down() {
    let mut contents = Contents::default();
    let (a, b, c) = (entry("a", "10.0.0.1"), entry("b", "10.0.0.2"), entry("c", "10.0.0.3"));
    contents.look(look(&[("1.yaml", &a), ("2.yaml", &b)]));
    let bad = format!("{c}---\n{}", a.replace("10.0.0.1", "'no address'"));
    let told =
        "! 1.yaml:6 1.yaml:9: spec.address: \"no address\" is neither an IP address nor a host name nor a unix:// path";
    let b2 = entry("b", "10.0.0.9");
    assert_eq!(lines(contents.look(look(&[("1.yaml", &bad), ("2.yaml", &b2)]))), ["+ b 2.yaml:1", told]);
    assert!(lines(contents.look(look(&[("1.yaml", &bad), ("2.yaml", &b2)]))).is_empty());
    let good = format!("{c}---\n{a}");
    assert_eq!(
        lines(contents.look(look(&[("1.yaml", &good), ("2.yaml", &b2)]))),
        ["+ a 1.yaml:6", "+ c 1.yaml:1", "ok 1.yaml:6"]
    );
}

#[test]
fn a_file_that_never_said_anything_says_its_good_documents() {
    let mut contents = Contents::default();
    let text = format!("{}---\nfoo: [\n", entry("a", "10.0.0.1"));
    let said = lines(contents.look(look(&[("1.yaml", &text)])));
    assert_eq!(said[0], "+ a 1.yaml:1");
    assert!(said[1].starts_with("! 1.yaml:"), "{said:?}");
}

#[test]
fn of_two_documents_of_one_name_the_first_file_counts() {
    let mut contents = Contents::default();
    let (a, other) = (entry("a", "10.0.0.1"), entry("a", "10.0.0.2"));
    let told =
        "! 2.yaml:1 2.yaml:1: WorkloadEntry default/a stands already at 1.yaml:1, which counts; take one of them out";
    assert_eq!(lines(contents.look(look(&[("2.yaml", &other), ("1.yaml", &a)]))), ["+ a 1.yaml:1", told]);
    assert_eq!(lines(contents.look(look(&[("2.yaml", &other)]))), ["+ a 2.yaml:1", "ok 2.yaml:1"]);
}

#[test]
fn an_emptied_file_is_believed_at_the_second_look() {
    let mut contents = Contents::default();
    let a = entry("a", "10.0.0.1");
    contents.look(look(&[("1.yaml", &a)]));
    let changes = contents.look(look(&[("1.yaml", "")]));
    assert!(changes.look_again && changes.events.is_empty());
    assert!(lines(contents.look(look(&[("1.yaml", &a)]))).is_empty());
    contents.look(look(&[("1.yaml", "")]));
    assert_eq!(lines(contents.look(look(&[("1.yaml", "# nothing\n")]))), ["- a"]);
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_it_said() {
    let mut contents = Contents::default();
    let a = entry("a", "10.0.0.1");
    contents.look(look(&[("1.yaml", &a)]));
    let unreadable = Look::from([("1.yaml".into(), Text::Unreadable("it is not UTF-8".to_owned()))]);
    assert_eq!(lines(contents.look(unreadable)), ["! 1.yaml 1.yaml: it is not UTF-8"]);
    let unchanged = Look::from([("1.yaml".into(), Text::Unchanged)]);
    assert!(lines(contents.look(unchanged)).is_empty());
    assert_eq!(lines(contents.look(look(&[("1.yaml", &a)]))), ["ok 1.yaml"]);
}
