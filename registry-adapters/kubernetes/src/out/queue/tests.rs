use super::*;

const S: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct One(usize, u32);

impl Key for One {
    fn lane(&self) -> usize {
        self.0
    }
}

fn busy(seconds: u64) -> Failure {
    Failure::Busy("too many".to_owned(), S * u32::try_from(seconds).unwrap())
}

fn denied() -> Failure {
    Failure::Denied("no".to_owned())
}

/// All that may go now.
fn now(queue: &mut Queue<One>, at: Instant) -> Vec<One> {
    let mut all = Vec::new();
    while let Next::Now(key) = queue.next(at) {
        all.push(key);
    }
    all
}

#[test]
fn a_key_waits_once_and_goes_again_if_it_was_wanted_meanwhile() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    queue.want(One(0, 1), start + S);
    queue.want(One(0, 1), start);
    assert_eq!(now(&mut queue, start), [One(0, 1)]);
    queue.want(One(0, 1), start);
    assert_eq!(queue.next(start), Next::Idle, "it is under way");
    queue.done(&One(0, 1));
    assert_eq!(now(&mut queue, start), [One(0, 1)]);
    queue.idle(&One(0, 1));
    assert!(queue.next(start) == Next::Idle && queue.flying.is_empty());
}

#[test]
fn urgent_ones_go_first_and_no_lane_is_faster_than_it_may_be() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    for number in 0..40 {
        queue.want(One(3, number), start);
    }
    queue.want(One(0, 0), start);
    assert_eq!(queue.next(start), Next::Now(One(0, 0)));
    queue.done(&One(0, 0));
    let mut sent = 0;
    let mut at = start;
    while at < start + S {
        match queue.next(at) {
            Next::Now(key) => {
                sent += 1;
                queue.done(&key);
            }
            Next::At(then) => at = then,
            Next::Idle => break,
        }
    }
    assert!((28..=31).contains(&sent), "twenty at once, ten a second: {sent}");
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_asks_and_then_one_looks() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    for number in 0..20 {
        queue.want(One(0, number), start);
    }
    assert_eq!(now(&mut queue, start).len(), AT_ONCE);
    for number in 0..8 {
        queue.failed(&One(0, number), &busy(7), start);
    }
    let Next::At(again) = queue.next(start) else { panic!("it waits") };
    assert!(again >= start + S * 7 && again < start + S * 8, "{:?}", again - start);
    let looks = now(&mut queue, again);
    assert_eq!(looks.len(), 1, "one looks whether it is over");
    queue.failed(&looks[0], &Failure::Unreachable("gone".to_owned()), again);
    let Next::At(later) = queue.next(again) else { panic!("it waits") };
    assert_eq!(now(&mut queue, later).len(), 1);
    let flying = queue.flying.iter().next().cloned().unwrap();
    queue.done(&flying);
    assert_eq!(now(&mut queue, later).len(), AT_ONCE, "it is over");
}

#[test]
fn one_that_can_not_be_written_waits_longer_and_longer_and_holds_up_no_other() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    let mut at = start;
    let mut waits = Vec::new();
    queue.want(One(1, 1), start);
    for _ in 0..12 {
        assert_eq!(now(&mut queue, at), [One(1, 1)]);
        queue.failed(&One(1, 1), &Failure::Failed("status 500".to_owned()), at);
        // Whatever changes meanwhile does not hurry it.
        queue.want(One(1, 1), at);
        queue.want(One(1, 2), at);
        assert_eq!(now(&mut queue, at), [One(1, 2)]);
        queue.done(&One(1, 2));
        let Next::At(then) = queue.next(at) else { panic!("it is tried again") };
        waits.push(then - at);
        at = then;
    }
    assert!(waits[0] <= FIRST && *waits.last().unwrap() >= LONGEST / 2 && *waits.last().unwrap() <= LONGEST);
}

#[test]
fn a_kind_that_is_refused_stands_alone_and_is_told_when_it_is_meant() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    let mut at = start;
    queue.want(One(1, 1), at);
    queue.want(One(1, 2), at);
    while at < start + S * 40 {
        match queue.next(at) {
            Next::Now(key) if key.0 == 1 => queue.failed(&key, &denied(), at),
            Next::Now(key) => queue.done(&key),
            Next::At(then) => at = then,
            Next::Idle => panic!("it is tried again"),
        }
        queue.want(One(0, 9), at);
        assert_eq!(queue.refused(0, at), None);
        if at < start + S * 20 {
            assert_eq!(queue.refused(1, at), None, "a server that starts refuses too");
        }
    }
    assert_eq!(queue.refused(1, at), Some(&denied()));
    let ending = Failure::Denied("namespace x is being terminated".to_owned());
    queue.done(&One(1, 1));
    assert_eq!(queue.refused(1, at), None);
    queue.failed(&One(1, 2), &ending, at);
    assert!(!queue.lanes[1].pause.doubtful, "that is of one object");
    queue.drop(&One(1, 2));
    queue.drop(&One(1, 1));
    assert!(queue.lanes[1].order.is_empty() && queue.lanes[1].due.is_empty());
}
