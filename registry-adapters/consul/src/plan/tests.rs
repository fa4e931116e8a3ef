use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A plan, the time, and the questions that are out.
struct World {
    plan: Plan,
    now: Instant,
    out: Vec<Ask>,
}

fn limits() -> Limits {
    Limits {
        parallel: 4,
        sweep: 5 * S,
        refresh: 600 * S,
        wait: 60 * S,
        partial_view: false,
        lists_consul: true,
        token: false,
        peer: false,
    }
}

fn meta(index: u64) -> Meta {
    Meta { index: Some(index), known_leader: Some(true), ..Meta::default() }
}

fn list(names: &[&str]) -> BTreeMap<Arc<str>, u64> {
    names.iter().chain(&["consul"]).map(|name| (Arc::from(*name), 1)).collect()
}

impl World {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        Self { plan: Plan::new(limits, now), now, out: Vec::new() }
    }

    /// Listed and warm: the lists were answered with index 10, nothing was read yet.
    fn listed(names: &[&str]) -> Self {
        let mut world = Self::new(limits());
        world.ask();
        world.lists(names);
        world
    }

    /// Every service was read, with index 10.
    fn read(names: &[&str]) -> Self {
        let mut world = Self::listed(names);
        while let Some(ask) = world.reads().first().cloned() {
            assert_eq!(world.health(&ask, meta(10), false), Heard::Use);
        }
        world
    }

    fn lists(&mut self, names: &[&str]) {
        for ask in std::mem::take(&mut self.out) {
            let moved = self.plan.hear(&ask, &meta(10), self.now).unwrap();
            match ask.what {
                What::Services => {
                    self.plan.services(&meta(10), list(names), moved, self.now);
                }
                What::Critical | What::Warning => {
                    self.plan.checks(ask.what == What::Warning, &meta(10), vec![], self.now);
                }
                What::Nodes => self.plan.nodes(&meta(10), BTreeMap::new(), self.now),
                _ => {}
            }
        }
    }

    /// Asks what is due.
    fn ask(&mut self) -> Vec<Ask> {
        let asks = self.plan.next(self.now);
        self.out.extend(asks.clone());
        asks
    }

    fn after(&mut self, time: Duration) -> Vec<Ask> {
        self.now += time;
        self.ask()
    }

    /// Questions about services that are out.
    fn reads(&mut self) -> Vec<Ask> {
        self.ask();
        self.out.iter().filter(|ask| matches!(ask.what, What::Health(_))).cloned().collect()
    }

    fn of(&mut self, what: &What) -> Ask {
        self.ask();
        let at = self.out.iter().position(|ask| ask.what == *what);
        self.out.remove(at.unwrap_or_else(|| panic!("{what:?} is not asked")))
    }

    fn health(&mut self, ask: &Ask, meta: Meta, empty: bool) -> Heard {
        self.out.retain(|out| out.id != ask.id);
        self.plan.health(ask, &meta, empty, self.now)
    }

    fn services(&mut self, meta: Meta, names: BTreeMap<Arc<str>, u64>) -> Option<(Vec<Arc<str>>, bool)> {
        let ask = self.of(&What::Services);
        let moved = self.plan.hear(&ask, &meta, self.now)?;
        self.plan.services(&meta, names, moved, self.now)
    }

    fn fails(&mut self, what: &What, failure: Failure) -> bool {
        let ask = self.of(what);
        self.plan.failed(&ask, &failure, self.now)
    }

    fn subscribe(&mut self, names: &[&str], capacity: usize) {
        let wanted = names.iter().map(|n| Arc::from(*n)).collect();
        self.plan.set_interest(&wanted, capacity, self.now);
        for id in self.plan.cancelled() {
            self.out.retain(|ask| ask.id != id);
        }
    }
}

fn health(name: &str) -> What {
    What::Health(name.into())
}

fn names(asks: &[Ask]) -> Vec<String> {
    asks.iter()
        .map(|ask| if let What::Health(name) = &ask.what { name.to_string() } else { format!("{:?}", ask.what) })
        .collect()
}

#[test]
fn at_first_the_lists_are_asked_and_services_only_when_all_of_them_answered() {
    let mut world = World::new(limits());
    let asks = world.ask();
    assert_eq!(names(&asks), ["Services", "Critical", "Warning", "Nodes", "Defaults"]);
    assert!(asks.iter().all(|ask| ask.index.is_none()));
    let services = world.of(&What::Services);
    let moved = world.plan.hear(&services, &meta(10), world.now).unwrap();
    world.plan.services(&meta(10), list(&["a"]), moved, world.now);
    assert!(world.reads().is_empty(), "a change could be missed");
    for what in [What::Critical, What::Warning] {
        let ask = world.of(&what);
        world.plan.hear(&ask, &meta(10), world.now).unwrap();
    }
    // A list that can't be had must not keep everything waiting.
    world.fails(&What::Nodes, Failure::Unreachable("no".into()));
    assert_eq!(names(&world.reads()), ["a"]);
}

#[test]
fn no_more_reads_are_out_than_allowed() {
    let many: Vec<String> = (0..50).map(|n| format!("s{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut world = World::listed(&many);
    assert_eq!(world.reads().len(), 4);
    let ask = world.reads()[0].clone();
    world.health(&ask, meta(10), false);
    assert_eq!(world.reads().len(), 4);
}

#[test]
fn a_subscribed_service_has_a_query_of_its_own_that_waits_for_the_index_it_knows() {
    let mut world = World::read(&["a", "b"]);
    world.subscribe(&["a"], 10);
    let ask = world.of(&health("a"));
    assert_eq!((ask.index, ask.slot, ask.leader), (Some(10), Some(0), false));
    world.health(&ask, meta(11), false);
    let ask = world.of(&health("a"));
    assert_eq!(ask.index, Some(11));
    assert!(!names(&world.after(4 * S)).contains(&"b".to_owned()), "b rests");
}

#[test]
fn queries_that_wait_are_as_many_as_there_is_room_for() {
    let mut world = World::read(&["a", "b", "c"]);
    world.subscribe(&["a", "b", "c"], 2);
    let waiting: Vec<Ask> = world.reads().into_iter().filter(|ask| ask.slot.is_some()).collect();
    assert_eq!(names(&waiting), ["a", "b"]);
    // Who has one keeps it; who no longer wants one makes room, though not before the server knows.
    world.subscribe(&["b", "c"], 2);
    let waiting: Vec<Ask> = world.reads().into_iter().filter(|ask| ask.slot.is_some()).collect();
    assert_eq!(names(&waiting), ["b"]);
    world.now += 60 * S;
    let waiting: Vec<Ask> = world.reads().into_iter().filter(|ask| ask.slot.is_some()).collect();
    assert_eq!(names(&waiting), ["b", "c"]);
    assert_eq!(waiting[1].slot, Some(0));
}

#[test]
fn a_return_without_a_change_is_asked_again_and_ever_more_slowly() {
    let mut world = World::read(&["a"]);
    world.subscribe(&["a"], 10);
    let mut last = Duration::ZERO;
    for round in 11..40 {
        let ask = world.of(&health("a"));
        world.health(&ask, meta(round), false);
        world.plan.told_nothing("a", world.now);
        let before = world.now;
        while names(&world.reads()).is_empty() {
            world.now += 10 * MS;
        }
        last = world.now - before;
    }
    assert!(last > S && last < 3 * S, "{last:?}");
}

#[test]
fn a_service_that_changes_all_the_time_is_asked_four_times_a_second_at_most() {
    let mut world = World::read(&["a"]);
    world.subscribe(&["a"], 10);
    let (mut asked, start, mut index) = (0, world.now, 10);
    while world.now - start < 20 * S {
        while let Some(ask) = world.reads().first().cloned() {
            index += 1;
            asked += 1;
            world.health(&ask, meta(index), false);
            world.plan.taken(&"a".into(), []);
        }
        world.now += 5 * MS;
    }
    assert!((70..=90).contains(&asked), "{asked}");
}

#[test]
fn an_index_that_goes_backwards_is_confirmed_by_the_leader_and_then_believed() {
    let mut world = World::read(&["a"]);
    world.subscribe(&["a"], 10);
    let ask = world.of(&health("a"));
    assert_eq!(world.health(&ask, meta(3), false), Heard::Ignore);
    let ask = world.of(&health("a"));
    assert!(ask.leader && ask.index.is_none());
    assert_eq!(world.health(&ask, meta(3), false), Heard::Use);
    assert_eq!(world.of(&health("a")).index, Some(3));
    // Of the list too.
    assert_eq!(world.services(meta(2), list(&[])), None);
    let ask = world.of(&What::Services);
    assert!(ask.leader && ask.index.is_none());
}

#[test]
fn a_missing_index_makes_no_hot_loop() {
    let mut world = World::read(&["a"]);
    world.subscribe(&["a"], 10);
    let (mut asked, start) = (0, world.now);
    while world.now - start < 10 * S {
        while let Some(ask) = world.reads().first().cloned() {
            assert!(ask.index.is_none_or(|index| index == 1 || index == 10));
            asked += 1;
            world.health(&ask, Meta::default(), false);
        }
        world.now += 5 * MS;
    }
    assert!(asked < 60, "{asked}");
}

#[test]
fn a_check_that_came_or_went_has_its_service_read_at_once() {
    let mut world = World::read(&["a", "b", "c"]);
    world.plan.taken(&"c".into(), ["n1".into()]);
    let check = |node: &str, service: &str| Check {
        node: node.into(),
        check_id: "x".into(),
        service_name: service.into(),
        status: "critical".into(),
    };
    let ask = world.of(&What::Critical);
    world.plan.hear(&ask, &meta(11), world.now).unwrap();
    world.plan.checks(false, &meta(11), vec![check("n9", "b"), check("n1", "")], world.now);
    assert_eq!(names(&world.reads()), ["b", "c"]);
}

#[test]
fn a_registration_that_the_list_does_not_tell_is_found_by_a_sweep_over_its_time() {
    let many: Vec<String> = (0..100).map(|n| format!("s{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut world = World::read(&many);
    world.now += 10 * S;
    assert!(world.reads().is_empty(), "nothing changed");
    let ask = world.of(&What::Services);
    let moved = world.plan.hear(&ask, &meta(11), world.now).unwrap();
    world.plan.same(&ask, moved, world.now);
    let (start, mut read, mut most) = (world.now, BTreeSet::new(), 0);
    while read.len() < 100 {
        let reads = world.reads();
        most = most.max(reads.len());
        for ask in reads {
            assert!(read.insert(ask.what.clone()), "{:?} twice", ask.what);
            world.health(&ask, meta(10), false);
        }
        world.now += 10 * MS;
    }
    let took = world.now - start;
    assert!(took > 3 * S && took < 5 * S, "{took:?}");
    assert!(most <= 4);
    world.now += 60 * S;
    assert!(world.reads().is_empty(), "each was read once");
}

#[test]
fn what_is_subscribed_to_and_has_no_query_is_swept_before_the_rest() {
    let many: Vec<String> = (0..100).map(|n| format!("s{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut world = World::read(&many);
    world.subscribe(&many[80..], 5);
    world.now += 10 * S;
    let ask = world.of(&What::Services);
    let moved = world.plan.hear(&ask, &meta(11), world.now).unwrap();
    world.plan.same(&ask, moved, world.now);
    let (start, mut read) = (world.now, BTreeMap::new());
    while read.len() < 95 && world.now < start + 10 * S {
        for ask in world.reads().into_iter().filter(|ask| ask.slot.is_none()) {
            assert!(read.insert(names(std::slice::from_ref(&ask)).remove(0), world.now - start).is_none(), "{ask:?}");
            world.health(&ask, meta(10), false);
        }
        world.now += 10 * MS;
    }
    let longest = |of: &[&str]| of.iter().filter_map(|name| read.get(*name)).max().copied().unwrap_or_default();
    let (wanted, rest) = (longest(&many[80..]), longest(&many[..80]));
    assert!(read.len() == 95 && wanted < 5 * S / 2 && wanted > 1500 * MS && rest < 5 * S && rest > 3 * S, "{read:?}");
}

#[test]
fn services_are_read_again_now_and_then_even_if_nothing_says_so() {
    let mut world = World::read(&["a", "b"]);
    world.now += 599 * S;
    assert!(world.reads().is_empty());
    world.now += 4 * S;
    assert!(!world.reads().is_empty());
}

#[test]
fn what_changed_while_it_was_read_is_read_again() {
    let mut world = World::listed(&["a"]);
    let ask = world.reads()[0].clone();
    world.plan.services.touch("a", world.now);
    world.health(&ask, meta(10), false);
    assert_eq!(names(&world.reads()), ["a"]);
}

#[test]
fn a_new_service_and_one_whose_tags_changed_are_read_at_once() {
    let mut world = World::read(&["a", "b"]);
    let mut changed = list(&["a", "b", "c"]);
    changed.insert("b".into(), 2);
    let (names_now, others) = world.services(meta(11), changed).unwrap();
    assert_eq!((names_now.len(), others), (3, true));
    let mut asked = names(&world.reads());
    asked.sort();
    assert_eq!(asked[..2], ["b", "c"]);
}

#[test]
fn a_token_that_is_refused_stops_everything_until_another_one_is_there() {
    let mut world = World::read(&["a"]);
    world.subscribe(&["a"], 10);
    world.fails(&What::Services, Failure::Denied("ACL not found".into()));
    assert!(world.plan.is_blind());
    let why = world.plan.trouble().unwrap().to_owned();
    assert!(why.contains("ACL token was deleted") && why.contains("tokenFile") && why.contains("node_prefix"), "{why}");
    let late = world.of(&health("a"));
    assert_eq!(world.health(&late, meta(11), true), Heard::Ignore, "nothing is believed now");
    assert!(world.reads().is_empty());
    world.plan.token_changed(world.now);
    let (_, others) = world.services(meta(12), list(&["a"])).unwrap();
    assert!(!others && !world.plan.is_blind() && world.plan.trouble().is_none());
    let ask = world.of(&health("a"));
    assert_eq!(ask.index, None, "it is read anew");
}

#[test]
fn while_nothing_is_believed_nobody_wakes_for_questions_that_are_not_asked() {
    let mut world = World::read(&["a"]);
    let waiting = [What::Critical, What::Warning, What::Nodes, What::Defaults].map(|what| world.of(&what));
    assert_eq!(world.services(meta(11), BTreeMap::new()), None);
    // Their waits end.
    for ask in waiting {
        world.plan.hear(&ask, &meta(11), world.now);
    }
    let mut woken = 0;
    let start = world.now;
    while world.now - start < 20 * S {
        woken += 1;
        assert!(woken < 100, "awake all the time");
        for ask in world.ask() {
            assert_eq!(ask.what, What::Services);
            let moved = world.plan.hear(&ask, &meta(11), world.now).unwrap();
            assert_eq!(world.plan.services(&meta(11), BTreeMap::new(), moved, world.now), None);
        }
        world.now = world.plan.wake_at(world.now).unwrap().max(world.now);
    }
    assert!(woken >= 8, "{woken}");
}

#[test]
fn a_token_that_is_gone_is_noticed_by_asking_about_itself() {
    let mut world = World::new(Limits { token: true, ..limits() });
    let ask = world.of(&What::Token);
    world.plan.token_is_good(&ask, world.now);
    world.now += 20 * S;
    world.ask();
    assert!(!world.out.iter().any(|ask| ask.what == What::Token));
    world.now += 15 * S;
    world.fails(&What::Token, Failure::Denied("ACL not found".into()));
    assert!(world.plan.is_blind());
    world.now += 15 * S;
    let ask = world.of(&What::Token);
    world.plan.token_is_good(&ask, world.now);
    assert!(!world.plan.is_blind());
}

#[test]
fn a_consul_without_acls_is_not_asked_about_tokens() {
    let mut world = World::new(Limits { token: true, ..limits() });
    world.fails(&What::Token, Failure::NoAcls);
    world.now += 600 * S;
    assert!(!names(&world.ask()).contains(&"Token".to_owned()) && !world.plan.is_blind());
}

#[test]
fn a_list_without_consul_itself_or_with_the_filtered_mark_is_not_believed() {
    let filtered = Meta { filtered: true, ..meta(11) };
    let weak: BTreeMap<Arc<str>, u64> = BTreeMap::from([("a".into(), 1)]);
    for (meta, list) in [(meta(11), BTreeMap::new()), (meta(11), weak), (filtered, list(&["a"]))] {
        let mut world = World::read(&["a", "b"]);
        assert_eq!(world.services(meta, list.clone()), None);
        assert!(world.plan.is_blind() && world.plan.trouble().unwrap().contains("partialView"));
        world.now += 3 * S;
        assert_eq!(world.of(&What::Services).index, None, "rights come back without a change of the list");
    }
}

#[test]
fn a_partial_view_is_the_whole_truth_where_it_is_meant() {
    let mut world = World::new(Limits { partial_view: true, ..limits() });
    world.ask();
    let meta = Meta { filtered: true, ..meta(11) };
    assert!(world.services(meta, BTreeMap::from([("a".into(), 1)])).is_some());
    assert!(world.plan.trouble().is_none());
}

#[test]
fn an_anonymous_request_under_deny_by_default_is_told_that_it_needs_a_token() {
    let mut world = World::new(limits());
    world.ask();
    let meta = Meta { denies_by_default: Some(true), ..meta(5) };
    world.services(meta, BTreeMap::new());
    assert!(world.plan.trouble().unwrap().contains("deny by default, and there is no token"));
}

#[test]
fn a_listed_service_without_instances_is_asked_of_the_leader_and_then_taken_for_hidden() {
    let mut world = World::read(&["a", "b", "c"]);
    world.subscribe(&["a"], 10);
    let ask = world.of(&health("a"));
    assert_eq!(world.health(&ask, meta(11), true), Heard::Ignore);
    assert!(world.reads().is_empty(), "the list may be about to say that it is gone");
    world.now += S;
    let ask = world.of(&health("a"));
    assert!(ask.leader);
    assert_eq!(world.health(&ask, meta(11), true), Heard::Hidden);
    assert!(!world.plan.is_blind(), "one of three");
}

#[test]
fn a_service_that_is_gone_is_no_longer_asked() {
    let mut world = World::read(&["a", "b"]);
    world.subscribe(&["a"], 10);
    let ask = world.of(&health("a"));
    world.health(&ask, meta(11), true);
    let (left, others) = world.services(meta(12), list(&["b"])).unwrap();
    assert_eq!((left, others), (vec![Arc::from("b")], true));
    world.now += 2 * S;
    assert!(!names(&world.reads()).contains(&"a".to_owned()));
}

#[test]
fn hidden_nodes_stop_everything_until_instances_are_seen_again() {
    let mut world = World::listed(&["a", "b"]);
    for round in 0..2 {
        for ask in world.reads() {
            let heard = world.health(&ask, meta(10), true);
            assert_eq!(heard, Heard::Ignore, "round {round}");
        }
        world.now += S;
    }
    assert!(world.plan.is_blind() && world.plan.trouble().unwrap().contains("hides their instances"));
    world.now += PROBE;
    let probe = world.reads()[0].clone();
    assert!(probe.leader);
    world.health(&probe, meta(10), false);
    world.now += S;
    let again: Vec<Ask> = world.reads();
    assert!(!again.is_empty(), "everything is read anew");
    for ask in again {
        world.health(&ask, meta(10), false);
    }
    assert!(!world.plan.is_blind());
}

#[test]
fn silence_is_trouble_only_when_it_lasts_and_never_makes_blind() {
    let mut world = World::read(&["a"]);
    let away = || Failure::Unreachable("c: connection refused".into());
    world.fails(&What::Services, away());
    assert_eq!(world.plan.trouble(), None);
    world.now += 15 * S;
    world.fails(&What::Services, away());
    assert!(world.plan.trouble().unwrap().contains("connection refused"));
    assert!(!world.plan.is_blind());
    world.now += 15 * S;
    assert!(world.services(meta(10), list(&["a"])).is_some());
    assert_eq!(world.plan.trouble(), None);
}

#[test]
fn after_a_failure_the_next_question_does_not_wait_for_an_index_that_a_new_server_may_never_reach() {
    let mut world = World::read(&["a"]);
    world.subscribe(&["a"], 10);
    for what in [What::Services, health("a")] {
        assert!(world.of(&what).index.is_some());
    }
    let mut world = World::read(&["a"]);
    world.subscribe(&["a"], 10);
    for what in [What::Services, health("a")] {
        world.fails(&what, Failure::Unreachable("gone".into()));
        world.now += 15 * S;
        assert_eq!(world.of(&what).index, None, "{what:?}");
    }
}

#[test]
fn failures_back_off() {
    let mut world = World::listed(&["a"]);
    let (mut asked, start) = (0, world.now);
    while world.now - start < 60 * S {
        for ask in world.reads() {
            asked += 1;
            world.out.retain(|out| out.id != ask.id);
            world.plan.failed(&ask, &Failure::Unreachable("no".into()), world.now);
        }
        world.now += 10 * MS;
    }
    assert!((5..30).contains(&asked), "{asked}");
}

#[test]
fn a_server_that_takes_no_more_connections_gets_fewer_queries() {
    let many: Vec<String> = (0..20).map(|n| format!("s{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut world = World::read(&many);
    world.subscribe(&many, 20);
    assert_eq!(world.reads().len(), 20);
    let full = Failure::Crowded("c: connection reset".into());
    let last = world.reads().pop().unwrap();
    world.out.retain(|out| out.id != last.id);
    world.plan.failed(&last, &full, world.now);
    let cancelled = world.plan.cancelled();
    world.out.retain(|ask| !cancelled.contains(&ask.id));
    world.now += S;
    let waiting = world.reads().into_iter().filter(|ask| ask.slot.is_some()).count();
    assert_eq!(waiting, 10);
}

#[test]
fn an_answer_that_can_not_be_read_is_passed_over_and_asked_again_later() {
    let mut world = World::listed(&["a"]);
    assert!(world.fails(&health("a"), Failure::TooLarge(1)));
    assert!(world.reads().is_empty());
}

#[test]
fn a_protocol_that_changed_has_its_services_read_anew() {
    let mut world = World::read(&["a", "b"]);
    world.subscribe(&["a"], 10);
    world.ask();
    world.plan.defaults(BTreeMap::from([("a".into(), "grpc".into())]), world.now);
    let cancelled = world.plan.cancelled();
    assert_eq!(cancelled.len(), 1);
    world.out.retain(|ask| !cancelled.contains(&ask.id));
    assert_eq!(world.of(&health("a")).index, None);
    assert_eq!(world.plan.protocol("a"), Some("grpc"));
}
