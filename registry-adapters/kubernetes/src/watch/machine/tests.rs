use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::wire::{Config, Named, Pod};

/// What a real API server said.
const WATCHES: &str = include_str!("../../../tests/data/watches.json");

fn recorded(name: &str) -> Value {
    let all: BTreeMap<String, Value> = serde_json::from_str(WATCHES).unwrap();
    all[name].clone()
}

/// Feeds the lines of a recorded watch.
fn feed<T: Item>(machine: &mut Machine<T>, name: &str, now: Instant) -> Vec<Change<T>> {
    let recorded = recorded(name);
    machine.started();
    let lines = recorded["lines"].as_array().unwrap().iter();
    lines.filter_map(|line| machine.line(Line::parse(line.to_string().as_bytes()).unwrap(), now)).collect()
}

fn failure(name: &str) -> Failure {
    let recorded = recorded(name);
    let body = match &recorded["body"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let retry = recorded["retry_after"].as_str().and_then(|text| text.parse().ok());
    Failure::of_answer(recorded["status"].as_u64().unwrap() as u16, retry, body.as_bytes())
}

fn shown<T: Item>(changes: &[Change<T>]) -> Vec<String> {
    let show = |change: &Change<T>| match change {
        Change::Whole(all) => {
            let names: Vec<String> = all.iter().map(|item| item.name().to_string()).collect();
            format!("all: {}", names.join(" "))
        }
        Change::Set(item) => format!("set {}", item.name()),
        Change::Gone(name) => format!("gone {name}"),
    };
    changes.iter().map(show).collect()
}

fn machine<T: Item>() -> Machine<T> {
    Machine::new(Limits::new(1))
}

/// A machine that knows a list and follows it from version 5.
fn following<T: Item>(now: Instant) -> Machine<T> {
    let mut machine: Machine<T> = Machine::new(Limits { streaming: false, ..Limits::new(1) });
    machine.next(now);
    let page: Page<T> = serde_json::from_str(r#"{"metadata":{"resourceVersion":"5"},"items":null}"#).unwrap();
    assert_eq!(shown(&[machine.page(page, now).unwrap()]), ["all: "]);
    assert_eq!(machine.next(now), Do::Watch { place: 0, version: "5".to_owned() });
    machine
}

#[test]
fn a_list_that_comes_as_a_stream_is_said_when_it_is_whole() {
    let now = Instant::now();
    let mut machine: Machine<Config> = machine();
    assert_eq!(machine.next(now), Do::Stream { place: 0, cached: false });
    let changes = feed(&mut machine, "streaming-list/no-rv", now);
    assert_eq!(shown(&changes)[..2], ["all: w3/vm-1 w3/vm-2 w3/vm-9", "set w3/vm-1"]);
    machine.ended(now);
    assert_eq!(machine.next(now), Do::Watch { place: 0, version: "830".to_owned() }, "bookmarks move on");
    let mut empty: Machine<Config> = Machine::new(Limits::new(1));
    empty.next(now);
    assert_eq!(shown(&feed(&mut empty, "streaming-list/empty", now)), ["all: "]);
}

#[test]
fn a_stream_whose_end_is_never_marked_says_nothing_and_pages_are_asked_for() {
    let now = Instant::now();
    let mut machine: Machine<Config> = machine();
    machine.next(now);
    assert_eq!(shown(&feed(&mut machine, "streaming-list/no-bookmarks", now)), [""; 0]);
    machine.silent();
    assert_eq!(machine.next(now), Do::List { place: 0, token: None, cached: false });
}

#[test]
fn a_server_that_refuses_streams_is_asked_for_pages_at_once() {
    let now = Instant::now();
    let mut machine: Machine<Config> = machine();
    machine.next(now);
    machine.failed(failure("streaming-list/no-match"), now);
    assert_eq!(machine.next(now), Do::List { place: 0, token: None, cached: false });
    assert_eq!(machine.trouble(), None);
}

#[test]
fn pages_are_one_list_and_a_page_that_fails_is_asked_for_again() {
    let now = Instant::now();
    let mut machine: Machine<Named> = Machine::new(Limits { streaming: false, ..Limits::new(1) });
    let page = |text: &str| serde_json::from_str::<Page<Named>>(text).unwrap();
    machine.next(now);
    let first = page(r#"{"metadata":{"resourceVersion":"5","continue":"abc"},"items":[{"metadata":{"name":"a"}}]}"#);
    assert_eq!(shown(&machine.page(first, now).into_iter().collect::<Vec<_>>()), [""; 0]);
    let rest = Do::List { place: 0, token: Some("abc".to_owned()), cached: false };
    assert_eq!(machine.next(now), rest);
    machine.failed(Failure::Unreachable("reset".to_owned()), now);
    assert!(matches!(machine.next(now), Do::Wait(_)));
    assert_eq!(machine.next(now + Duration::from_secs(20)), rest);
    // Custom resources end their list with an empty token, others with none.
    let last = page(r#"{"metadata":{"resourceVersion":"5","continue":""},"items":[{"metadata":{"name":"b"}}]}"#);
    assert_eq!(shown(&[machine.page(last, now).unwrap()]), ["all: a b"]);
}

#[test]
fn a_token_that_is_too_old_begins_the_list_anew_and_the_one_that_comes_with_it_is_not_used() {
    let now = Instant::now();
    let mut machine: Machine<Named> = Machine::new(Limits { streaming: false, ..Limits::new(1) });
    machine.next(now);
    let first = r#"{"metadata":{"resourceVersion":"5","continue":"abc"},"items":[{"metadata":{"name":"a"}}]}"#;
    machine.page(serde_json::from_str(first).unwrap(), now);
    machine.next(now);
    machine.failed(failure("gone/list-continue-restarted"), now);
    assert_eq!(machine.next(now), Do::List { place: 0, token: None, cached: false });
    let whole = r#"{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"b"}}]}"#;
    let change = machine.page(serde_json::from_str(whole).unwrap(), now);
    assert_eq!(shown(&[change.unwrap()]), ["all: b"], "nothing of the list before");
}

#[test]
fn a_watch_that_is_too_old_says_so_in_the_stream_and_a_list_follows_at_once() {
    let now = Instant::now();
    for name in ["gone/watch-restarted", "gone/watch-configmaps-restarted", "crd-deleted/watch-old-rv-after-recreate"] {
        let mut machine: Machine<Config> = following(now);
        assert_eq!(shown(&feed(&mut machine, name, now)), [""; 0], "{name}");
        assert_eq!(machine.next(now), Do::List { place: 0, token: None, cached: false });
    }
}

#[test]
fn a_watch_that_fails_as_gone_by_its_status_is_not_tried_again_from_the_same_version() {
    let now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    machine.failed(failure("gone/list-exact-restarted"), now);
    assert_eq!(machine.next(now), Do::List { place: 0, token: None, cached: false });
}

#[test]
fn a_version_from_the_future_is_silent_in_a_watch_and_told_in_a_stream() {
    let now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    assert_eq!(shown(&feed(&mut machine, "plain/rv-future", now)), [""; 0]);
    assert_eq!(machine.patience(), Duration::from_secs(150), "bookmarks come each minute");
    machine.silent();
    assert_eq!(machine.next(now), Do::List { place: 0, token: None, cached: false });
    let mut machine: Machine<Config> = Machine::new(Limits::new(1));
    machine.next(now);
    feed(&mut machine, "streaming-list/rv-future", now);
    assert_eq!(machine.next(now), Do::Stream { place: 0, cached: false });
    assert_eq!(machine.trouble(), None);
}

#[test]
fn the_life_of_a_pod_is_followed_to_its_end() {
    let now = Instant::now();
    let mut machine: Machine<Pod> = following(now);
    let changes = feed(&mut machine, "plain/pod-life", now);
    let deleting: Vec<bool> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Set(pod) => Some(pod.metadata.deleting),
            _ => None,
        })
        .collect();
    assert!(deleting.contains(&true) && !deleting[0]);
    assert!(matches!(changes.last(), Some(Change::Gone(_))));
    let Do::Watch { version, .. } = machine.next(now) else { panic!() };
    assert_ne!(version, "5", "what was said is not asked for again");
}

#[test]
fn bookmarks_alone_move_the_version() {
    let now = Instant::now();
    let mut machine: Machine<Pod> = following(now);
    assert_eq!(shown(&feed(&mut machine, "plain/idle-bookmarks-pods", now)), [""; 0]);
    machine.ended(now);
    let Do::Watch { version, .. } = machine.next(now) else { panic!() };
    assert_ne!(version, "5");
}

#[test]
fn a_watch_that_ends_in_order_goes_on_at_once_and_one_that_ends_again_and_again_waits() {
    let now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    machine.ended(now + Duration::from_secs(290));
    let later = now + Duration::from_secs(290);
    assert!(matches!(machine.next(later), Do::Watch { .. }));
    machine.started();
    machine.ended(later);
    assert!(matches!(machine.next(later), Do::Wait(_)), "it said nothing and ended at once");
}

#[test]
fn objects_of_a_kind_that_is_deleted_go_one_by_one_and_the_kind_may_come_back() {
    let mut now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    let changes = feed(&mut machine, "crd-deleted/objects", now);
    let names = ["set shop/g-held", "gone shop/g0", "gone shop/g1", "gone shop/web-vms", "gone shop/g-held"];
    assert_eq!(shown(&changes), names);
    machine.ended(now);
    // The kind is not known any more: plain text, no status.
    let mut said = Vec::new();
    for _ in 0..20 {
        match machine.next(now) {
            Do::Wait(at) => now = at,
            Do::Confirm => said.extend(machine.confirmed(now)),
            _ => machine.failed(failure("crd-deleted/list-after"), now),
        }
        if machine.is_absent() {
            break;
        }
    }
    assert_eq!(shown(&said), ["all: "], "said once, and only when it was so for a while");
    assert!(machine.trouble().is_none() && matches!(machine.next(now), Do::Wait(_)));
    machine.hurry();
    assert!(!matches!(machine.next(now), Do::Wait(_)));
    let page = r#"{"metadata":{"resourceVersion":"9"},"items":[]}"#;
    assert_eq!(shown(&[machine.page(serde_json::from_str(page).unwrap(), now).unwrap()]), ["all: "]);
    assert!(!machine.is_absent());
}

#[test]
fn a_kind_that_is_unknown_for_a_moment_loses_nothing() {
    let now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    for after in [0, 0, 1] {
        machine.failed(failure("crd-deleted/list-after"), now + Duration::from_secs(after));
        assert_ne!(machine.next(now), Do::Confirm);
    }
    assert!(!machine.is_absent());
}

#[test]
fn who_answers_404_to_everything_loses_nothing() {
    // A kind that every server has is never absent.
    let mut now = Instant::now();
    let mut machine: Machine<Named> = Machine::new(Limits { streaming: false, ..Limits::builtin() });
    let page = r#"{"metadata":{"resourceVersion":"9"},"items":[]}"#;
    assert!(machine.page(serde_json::from_str(page).unwrap(), now).is_some());
    for _ in 0..20 {
        match machine.next(now) {
            Do::Wait(at) => now = at,
            Do::Confirm => panic!("it is there"),
            _ => machine.failed(failure("crd-deleted/list-after"), now),
        }
    }
    assert!(!machine.is_absent() && machine.trouble().is_some());
    // Of others the server itself has to say it; who can't be asked is asked again, not at once.
    let mut machine: Machine<Config> = following(now);
    let mut asked = Vec::new();
    while asked.len() < 2 {
        match machine.next(now) {
            Do::Wait(at) => now = at,
            Do::Confirm => {
                asked.push(now);
                machine.failed(Failure::Unreadable("no list of groups".to_owned()), now);
                assert!(matches!(machine.next(now), Do::Wait(_)));
            }
            _ => machine.failed(failure("crd-deleted/list-after"), now),
        }
    }
    assert!(!machine.is_absent() && asked[1] > asked[0]);
}

#[test]
fn a_kind_is_looked_for_in_each_version_of_its_group() {
    let now = Instant::now();
    let mut machine: Machine<Config> = Machine::new(Limits::new(3));
    let mut places = Vec::new();
    for _ in 0..3 {
        let Do::Stream { place, .. } = machine.next(now) else { panic!() };
        places.push(place);
        machine.failed(failure("crd-deleted/list-after"), now);
    }
    assert_eq!(places, [0, 1, 2]);
    assert!(matches!(machine.next(now), Do::Wait(_)));
    let later = now + Duration::from_secs(60);
    machine.next(later);
    machine.failed(failure("crd-deleted/list-after"), later);
    assert_eq!(machine.next(later), Do::Stream { place: 1, cached: false });
    assert_eq!(shown(&feed(&mut machine, "streaming-list/empty", later)), ["all: "]);
    machine.ended(later);
    assert!(matches!(machine.next(later), Do::Watch { place: 1, .. }), "where it was found it stays");
}

#[test]
fn refusals_are_never_final_and_leave_what_was_said() {
    let mut now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    let denied = Failure::of_answer(403, None, br#"{"message":"workloadentries is forbidden","code":403}"#);
    for _ in 0..10 {
        machine.failed(denied.clone(), now);
        let Do::Wait(at) = machine.next(now) else { panic!() };
        assert!(at - now <= Duration::from_secs(15));
        now = at;
        assert!(matches!(machine.next(now), Do::Watch { .. }), "it is tried again from where it was");
    }
    assert!(machine.trouble().is_some());
    machine.started();
    assert!(machine.trouble().is_none());
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
    let now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    assert_eq!(
        failure("write/429"),
        Failure::Busy("Too many requests, please try again later.".into(), Duration::from_secs(1))
    );
    machine.failed(failure("write/429"), now);
    let Do::Wait(at) = machine.next(now) else { panic!() };
    assert!(at - now >= Duration::from_secs(1));
    let starting = Failure::of_answer(503, Some(5), b"{\"code\":503,\"message\":\"before all known HTTP paths\"}");
    machine.failed(starting, now);
    let Do::Wait(at) = machine.next(now) else { panic!() };
    assert!(at - now >= Duration::from_secs(5));
}

#[test]
fn a_version_that_a_server_can_not_read_ends_in_a_list() {
    let mut now = Instant::now();
    let mut machine: Machine<Config> = following(now);
    for _ in 0..STUBBORN {
        machine.failed(failure("plain/rv-garbage"), now);
        let Do::Wait(at) = machine.next(now) else { panic!() };
        now = at;
    }
    assert_eq!(machine.next(now), Do::List { place: 0, token: None, cached: false });
}

#[test]
fn a_server_whose_store_is_away_is_asked_for_what_it_remembers_by_who_knows_nothing() {
    let mut now = Instant::now();
    let body = br#"{"message":"Timeout: request did not complete within the allotted timeout","code":504}"#;
    let away = Failure::of_answer(504, None, body);
    let mut fresh: Machine<Config> = machine();
    for _ in 0..2 {
        assert_eq!(fresh.next(now), Do::Stream { place: 0, cached: false });
        fresh.failed(away.clone(), now);
        let Do::Wait(at) = fresh.next(now) else { panic!() };
        now = at;
    }
    assert_eq!(fresh.next(now), Do::Stream { place: 0, cached: true });
    let mut known: Machine<Config> = following(now);
    known.silent();
    for _ in 0..3 {
        assert_eq!(known.next(now), Do::List { place: 0, token: None, cached: false }, "what is known is newer");
        known.failed(away.clone(), now);
        let Do::Wait(at) = known.next(now) else { panic!() };
        now = at;
    }
}

fn line<T: Item>(kind: &str, name: &str) -> Line<T> {
    let metadata = serde_json::json!({"name": name, "resourceVersion": "6"});
    Line::parse(serde_json::json!({"type": kind, "object": {"metadata": metadata}}).to_string().as_bytes()).unwrap()
}

fn why<T: Item>(machine: &Machine<T>) -> String {
    machine.trouble().map(|(_, failure)| failure.to_string()).unwrap_or_default()
}

#[test]
fn a_stream_that_never_ends_is_given_up_at_the_bound_and_what_was_read_of_it_is_let_go() {
    let now = Instant::now();
    let mut machine: Machine<Named> = Machine::new(Limits::new(1).with_most(3));
    machine.next(now);
    for name in ["a", "b", "c"] {
        assert!(machine.line(line("ADDED", name), now).is_none() && !machine.gave_up());
    }
    assert!(machine.line(line("ADDED", "d"), now).is_none() && machine.gave_up());
    assert_eq!(why(&machine), "the API server has too much of it: more than 3 objects");
    assert!(matches!(machine.next(now + Duration::from_secs(100)), Do::Wait(_)), "not at once: it costs much");
    // Somebody took one away: all is read anew, and counted anew.
    let later = now + Duration::from_secs(150);
    assert_eq!(machine.next(later), Do::Stream { place: 0, cached: false });
    for name in ["a", "b", "c"] {
        machine.line(line("ADDED", name), later);
    }
    let end = Line::Bookmark("9".to_owned(), true);
    assert_eq!(shown(&[machine.line(end, later).unwrap()]), ["all: a b c"]);
    assert_eq!(machine.trouble(), None);
}

#[test]
fn bytes_count_too_and_only_those_of_one_list() {
    let now = Instant::now();
    let mut machine: Machine<Named> = Machine::new(Limits::new(1));
    machine.next(now);
    machine.weigh(700 << 20);
    assert!(machine.line(line("ADDED", "a"), now).is_none() && !machine.gave_up());
    machine.weigh(100 << 20);
    machine.line(line("ADDED", "b"), now);
    assert_eq!(
        why(&machine),
        "the API server has too much of it: more than 781 MiB, which is the bound for 200000 objects"
    );
    let mut following: Machine<Named> = following(now);
    for _ in 0..100 {
        following.weigh(64 << 20);
        assert!(following.line(line("MODIFIED", "a"), now).is_some(), "a watch may go on for ever");
    }
}

#[test]
fn pages_that_never_end_are_given_up() {
    let now = Instant::now();
    let page = |token: usize, name: &str| -> Page<Named> {
        let items = if name.is_empty() { Vec::new() } else { vec![serde_json::json!({"metadata": {"name": name}})] };
        let metadata = serde_json::json!({"resourceVersion": "5", "continue": format!("t{token}")});
        serde_json::from_value(serde_json::json!({"metadata": metadata, "items": items})).unwrap()
    };
    let paged = || Machine::<Named>::new(Limits { streaming: false, ..Limits::new(1).with_most(2) });
    let mut objects = paged();
    let mut nothing = paged();
    for token in 0.. {
        objects.next(now);
        assert!(objects.page(page(token, "x"), now).is_none());
        if objects.gave_up() {
            assert_eq!((token, why(&objects).contains("more than 2 objects")), (2, true), "{}", why(&objects));
            break;
        }
    }
    for token in 0.. {
        nothing.next(now);
        assert!(nothing.page(page(token, ""), now).is_none());
        if nothing.gave_up() {
            assert_eq!((token, why(&nothing).contains("more than 10000 pages")), (10_000, true), "{}", why(&nothing));
            break;
        }
    }
    let mut circle = paged();
    circle.next(now);
    circle.page(page(1, "x"), now);
    circle.next(now);
    circle.page(page(1, "x"), now);
    assert!(circle.gave_up() && why(&circle).contains("leads to itself"), "{}", why(&circle));
}

#[test]
fn a_watch_that_adds_without_end_is_given_up_and_says_nothing_more() {
    let now = Instant::now();
    let mut machine: Machine<Named> = Machine::new(Limits { streaming: false, ..Limits::new(1).with_most(2) });
    machine.next(now);
    let page: Page<Named> = serde_json::from_str(
        r#"{"metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#,
    )
    .unwrap();
    machine.page(page, now);
    assert!(machine.line(line("DELETED", "a"), now).is_some() && machine.line(line("ADDED", "c"), now).is_some());
    assert!(machine.line(line("MODIFIED", "c"), now).is_some());
    assert!(machine.line(line("ADDED", "d"), now).is_none() && machine.gave_up());
    assert_eq!(machine.next(now + Duration::from_secs(200)), Do::List { place: 0, token: None, cached: false });
}
