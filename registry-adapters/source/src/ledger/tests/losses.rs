//! What is believed of a loss.

use super::*;

#[test]
fn small_numbers_may_be_deleted() {
    let mut world = World::of(&[("a", 2)]);
    world.observe("a", some("a", 0, 1));
    assert_eq!(world.held.len(), 1);
    world.observe("a", Vec::new());
    assert!(world.held.is_empty() && !world.is_frozen());

    let mut world = World::of(&[("a", 1), ("b", 1)]);
    world.all(&[]);
    assert!(world.held.is_empty() && !world.is_frozen());
}

#[test]
fn one_service_that_is_taken_out_of_the_list_goes_however_large_it_is() {
    let mut world = World::of(&[("a", 100), ("b", 2)]);
    world.list(&["b"]);
    assert_eq!((world.held.len(), world.is_frozen()), (2, false));
    let mut world = World::of(&[("a", 100), ("b", 100), ("c", 100)]);
    world.list(&["b", "c"]);
    world.pass(S);
    world.list(&["c"]);
    assert!(world.is_frozen(), "the second within the window is too much");
    assert_eq!(world.held.len(), 300, "and the first is back");
}

#[test]
fn an_empty_answer_removes_nothing() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    world.list(&[]);
    let (_, why) = world.ledger.frozen().unwrap();
    assert_eq!(world.held.len(), 20);
    assert!(why.starts_with("test lost 20 of 20 instances and 2 of 2 services at once: "), "{why}");
    assert!(why.ends_with("hawser registries accept test"), "{why}");
}

#[test]
fn a_service_that_was_emptied_stays_if_it_was_much_of_all() {
    let mut world = World::of(&[("a", 10), ("b", 5)]);
    world.observe("a", some("a", 0, 6));
    assert_eq!((world.is_frozen(), world.held.len()), (false, 11), "4 of 15 is 27 percent");
    world.pass(S * 11);
    world.observe("a", some("a", 0, 1));
    assert_eq!((world.is_frozen(), world.held.len()), (true, 11));
}

#[test]
fn a_loss_in_pieces_is_one_loss_and_what_went_already_comes_back() {
    let mut world = World::of(&[("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
    for part in ["a", "b", "c", "d"] {
        world.observe(part, some(part, 0, 5));
        world.pass(S);
    }
    assert!(world.is_frozen());
    assert_eq!(world.held.len(), 40);
}

#[test]
fn a_loss_that_takes_its_time_is_believed() {
    let mut world = World::of(&[("a", 20)]);
    for left in (0..20).rev() {
        world.observe("a", some("a", 0, left));
        world.pass(S * 11);
    }
    assert!(world.held.is_empty() && !world.is_frozen());
}

#[test]
fn replaced_instances_are_no_loss() {
    let mut world = World::of(&[("a", 6)]);
    world.observe("a", some("a", 100, 6));
    assert_eq!((world.held.len(), world.is_frozen()), (6, false));
    for step in 1..30 {
        world.observe("a", some("a", 100 + step, 6));
        world.pass(S / 10);
    }
    assert_eq!((world.held.len(), world.is_frozen()), (6, false));
}

#[test]
fn a_frozen_source_still_adds_and_changes() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    world.list(&[]);
    world.list(&["b", "c"]);
    world.observe("b", vec![workload("b-0", 7), workload("b-new", 1)]);
    world.observe("c", some("c", 0, 2));
    assert!(world.is_frozen());
    assert_eq!((world.held.len(), world.held["b-0"], world.of_part("c")), (23, 7, 2));
    world.observe("c", some("c", 1, 1));
    assert_eq!(world.of_part("c"), 1, "what came since may go");
}

#[test]
fn in_a_frozen_source_a_service_that_is_whole_replaces_its_instances() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    world.observe("a", Vec::new());
    world.observe("b", some("b", 5, 10));
    assert!(world.is_frozen());
    assert_eq!((world.of_part("a"), world.of_part("b")), (10, 10));
}

#[test]
fn it_ends_when_the_state_is_back() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    world.list(&[]);
    world.list(&["a", "b"]);
    world.observe("a", some("a", 0, 10));
    assert!(world.is_frozen());
    world.observe("b", some("b", 0, 10));
    assert!(!world.is_frozen());
    assert_eq!(world.held.len(), 20);
}

#[test]
fn it_ends_a_while_after_most_of_the_state_is_back_and_the_rest_goes() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    world.list(&[]);
    world.list(&["a", "b"]);
    world.observe("a", some("a", 0, 10));
    world.observe("b", some("b", 0, 8));
    assert_eq!((world.is_frozen(), world.held.len()), (true, 20));
    assert_eq!(world.ledger.wake_at(), Some(world.now + S * 10));
    world.pass(S * 10);
    assert_eq!((world.is_frozen(), world.held.len()), (false, 18));
}

#[test]
fn an_operators_word_ends_it() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    assert!(!world.accept());
    world.list(&["c", "d"]);
    world.observe("c", some("c", 0, 1));
    world.observe("d", some("d", 0, 1));
    assert!(world.accept());
    assert_eq!((world.is_frozen(), world.held.len(), world.ledger.counts()), (false, 2, (2, 2)));
}

#[test]
fn a_source_that_stands_by_it_is_believed_if_so_configured_and_silence_is_no_standing_by() {
    let freeze = Freeze { accept_after: Some(S * 100), ..Freeze::default() };
    let mut world = World::with(freeze);
    world.all(&[("a", 10), ("b", 10)]);
    world.pass(S * 60);
    world.list(&[]);
    world.pass(S * 60);
    let events = world.ledger.failed("down", world.now);
    world.take(events);
    world.pass(S * 60);
    world.list(&[]);
    world.pass(S * 99);
    assert_eq!((world.is_frozen(), world.held.len()), (true, 20));
    world.pass(S);
    assert_eq!((world.is_frozen(), world.held.len()), (false, 0));
}

#[test]
fn never_means_never() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    world.list(&[]);
    world.pass(S * 1_000_000);
    assert_eq!((world.is_frozen(), world.held.len()), (true, 20));
}

#[test]
fn an_adapters_doubt_holds_everything_until_it_trusts_again() {
    let mut world = World::of(&[("a", 10), ("b", 10)]);
    let events = world.ledger.doubt("the token lost its rights", world.now);
    world.take(events);
    world.list(&["a"]);
    world.observe("a", some("a", 0, 9));
    world.pass(S * 60);
    assert_eq!((world.is_frozen(), world.held.len()), (true, 20));
    assert!(world.ledger.frozen().unwrap().1.starts_with("the token lost its rights: "));
    world.list(&["a", "b"]);
    world.observe("b", some("b", 0, 10));
    let events = world.ledger.trust(world.now);
    world.take(events);
    world.pass(S * 10);
    assert_eq!((world.is_frozen(), world.held.len()), (false, 19));
}

#[test]
fn after_a_restart_the_first_complete_answer_is_held_against_the_stored_state() {
    let stored = World::of(&[("a", 10), ("b", 10)]).ledger.remembered();
    let restart = |changed| {
        let mut world = World::new();
        let events = world.ledger.load(stored.clone(), S, changed, world.now);
        world.take(events);
        world.list(&["a"]);
        world.observe("a", Vec::new());
        (world.is_frozen(), world.held.len(), world.stale.len())
    };
    assert_eq!(restart(false), (true, 20, 0));
    assert_eq!(restart(true), (false, 0, 0), "other settings: the loss is meant");
}

#[test]
fn what_the_source_itself_says_is_gone_goes_however_much_it_is() {
    let mut world = World::of(&[("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
    for part in ["a", "b", "c"] {
        let events = world.ledger.gone(part, world.now);
        world.take(events);
    }
    assert_eq!((world.held.len(), world.is_frozen()), (10, false));
    world.list(&["d"]);
    assert!(!world.is_frozen(), "it is not missing from a list that comes later");
}

#[test]
fn while_losses_are_held_what_the_source_says_is_gone_goes_and_counts_no_more() {
    let mut world = World::of(&[("a", 10), ("b", 10), ("c", 10)]);
    world.list(&["c"]);
    assert!(world.is_frozen() && world.held.len() == 30);
    let events = world.ledger.gone("a", world.now);
    world.take(events);
    assert_eq!((world.held.len(), world.is_frozen()), (20, true));
    let (_, why) = world.ledger.frozen().unwrap();
    assert!(why.starts_with("test lost 10 of 20 instances and 1 of 2 services at once"), "{why}");
    let events = world.ledger.gone("b", world.now);
    world.take(events);
    assert_eq!((world.held.len(), world.is_frozen()), (10, false), "nothing is held any more");
}
