//! Random histories: what discovery holds converges to what the source says, and is never emptied by a sudden loss.

use std::collections::BTreeMap;

use super::*;

/// A generator of numbers, the same in every run.
struct Random(u64);

impl Random {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// What the source has, and a world that hears it.
struct History {
    random: Random,
    truth: BTreeMap<&'static str, Vec<(usize, u32)>>,
    world: World,
}

const PARTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

impl History {
    fn objects(&self, part: &str) -> Vec<Object> {
        let all = self.truth.get(part).into_iter().flatten();
        all.map(|(n, weight)| workload(&format!("{part}-{n}"), *weight)).collect()
    }

    fn change(&mut self) {
        let part = PARTS[self.random.below(PARTS.len())];
        match self.random.below(10) {
            0 => {
                self.truth.remove(part);
            }
            1 | 2 => {
                let left = self.random.below(4);
                self.truth.entry(part).or_default().truncate(left);
            }
            3 => self.truth.entry(part).or_default().iter_mut().for_each(|(_, weight)| *weight += 1),
            _ => {
                let number = self.random.below(30);
                let list = self.truth.entry(part).or_default();
                list.retain(|(n, _)| *n != number);
                list.push((number, 1));
            }
        }
    }

    fn hear(&mut self) {
        let part = PARTS[self.random.below(PARTS.len())];
        match self.random.below(12) {
            0 => self.world.list(&self.truth.keys().copied().collect::<Vec<_>>()),
            1 => {
                let events = self.world.ledger.failed("down", self.world.now);
                self.world.take(events);
            }
            2 => self.world.pass(S * 3),
            3 => {
                self.world.accept();
            }
            4 => {
                let events = match self.random.below(2) {
                    0 => self.world.ledger.doubt("doubt", self.world.now),
                    _ => self.world.ledger.trust(self.world.now),
                };
                self.world.take(events);
            }
            _ if self.truth.contains_key(part) => {
                let objects = self.objects(part);
                self.world.observe(part, objects);
            }
            _ => {}
        }
    }

    /// Everything is heard, everything is accepted.
    fn settle(&mut self) {
        let events = self.world.ledger.trust(self.world.now);
        self.world.take(events);
        for part in self.truth.clone().into_keys() {
            let objects = self.objects(part);
            self.world.observe(part, objects);
        }
        self.world.list(&self.truth.keys().copied().collect::<Vec<_>>());
        self.world.accept();
    }
}

#[test]
fn what_is_held_converges_to_what_the_source_says() {
    for seed in 1..400 {
        let mut history = History { random: Random::of(seed), truth: BTreeMap::new(), world: World::new() };
        for _ in 0..200 {
            history.change();
            history.hear();
        }
        history.settle();
        let expected: BTreeMap<String, u32> = history
            .truth
            .iter()
            .flat_map(|(part, list)| list.iter().map(move |(n, weight)| (format!("{part}-{n}"), *weight)))
            .collect();
        assert_eq!(history.world.held, expected, "seed {seed}");
        assert!(!history.world.is_frozen() && history.world.synced == 1, "seed {seed}");
        assert!(history.world.stale.is_empty(), "seed {seed}");
        let counts = history.world.ledger.counts();
        assert_eq!(counts, (history.truth.len(), expected.len()), "seed {seed}");
    }
}

#[test]
fn no_burst_of_answers_takes_more_than_the_share() {
    for seed in 1..200 {
        let mut random = Random::of(seed);
        let counts: Vec<(&str, usize)> = PARTS.iter().map(|part| (*part, 5 + random.below(20))).collect();
        let mut world = World::of(&counts);
        let before = world.held.len();
        // A source that loses its mind within the window, in any order and in any pieces.
        for _ in 0..40 {
            let (part, count) = counts[random.below(counts.len())];
            match random.below(3) {
                0 => world.observe(part, some(part, 0, random.below(count))),
                1 => world.observe(part, Vec::new()),
                _ => world.list(&PARTS[random.below(3)..3]),
            }
            let left = world.held.len();
            assert!(left * 100 >= before * 70, "seed {seed}: {left} of {before}");
            world.pass(S / 5);
        }
        assert!(world.is_frozen(), "seed {seed}");
    }
}

#[test]
fn whoever_restarts_at_any_moment_never_begins_with_less() {
    for seed in 1..200 {
        let mut random = Random::of(seed);
        let counts: Vec<(&str, usize)> = PARTS.iter().map(|part| (*part, 3 + random.below(9))).collect();
        let old = World::of(&counts);
        let mut world = World::new();
        let events = world.ledger.load(old.ledger.remembered(), S, false, world.now);
        world.take(events);
        world.list(&PARTS);
        for part in PARTS {
            assert_eq!(world.held.len(), old.held.len(), "seed {seed}");
            world.observe(part, Vec::new());
        }
        assert!(world.is_frozen());
        assert_eq!(world.held, old.held, "seed {seed}");
    }
}
