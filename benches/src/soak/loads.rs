//! The loads of the soak, side by side, each at its share of what all take together.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::place::Place;
use crate::load::{Kind, Load, Seen};
use crate::mesh::Door;
use crate::tool::{Tool, arguments};

/// A load, and its share.
struct Part {
    name: &'static str,
    door: Door,
    kind: Kind,
    connections: u32,
    streams: u32,
    share: f64,
}

const PARTS: [Part; 5] = [
    Part { name: "http", door: Door::Http, kind: Kind::Tiny, connections: 32, streams: 1, share: 0.4 },
    Part { name: "http new", door: Door::Http, kind: Kind::TinyNew, connections: 16, streams: 1, share: 0.15 },
    Part { name: "grpc", door: Door::Grpc, kind: Kind::Grpc, connections: 4, streams: 4, share: 0.25 },
    Part { name: "tcp", door: Door::Tcp, kind: Kind::Message, connections: 16, streams: 1, share: 0.15 },
    Part { name: "tcp new", door: Door::Tcp, kind: Kind::MessageNew, connections: 8, streams: 1, share: 0.05 },
];
/// How long they are measured, alone and together.
const MEASURED: u32 = 2000;
/// Who takes so much longer than its time does not keep up.
const LATE: f64 = 1.05;
/// Loads that leave less room to each other than that were measured wrongly.
const LEAST: f64 = 0.15;

impl Part {
    fn load(&self, rate: u32, millis: u32) -> Load {
        Load { kind: self.kind, connections: self.connections, streams: self.streams, rate, millis }
    }
}

fn start(place: &Place, part: &Part, load: Load, tells: bool) -> anyhow::Result<Tool> {
    let mut args = arguments(load, place.address(part.door))?;
    if tells {
        args.push("--tells".to_owned());
    }
    Tool::spawn(place.command(&args))
}

/// The rate of each part: its share of `level` of what they take side by side.
///
/// What each takes alone, as fast as answers come, is more than fits beside the others: alone and at full speed, one
/// wake-up serves many requests. So what fits is looked for as it is used, all at once and in an open loop.
pub(super) fn saturation(place: &Place, level: f64) -> anyhow::Result<Vec<u32>> {
    let mut alone = vec![];
    for part in &PARTS {
        let seen = start(place, part, part.load(0, MEASURED), false)?.go()?;
        anyhow::ensure!(seen.done > 0 && seen.seconds > 0.0, "{}, before anything changed: no answer", part.name);
        alone.push(checked(part, &seen)?.done as f64 / seen.seconds);
    }
    let shares = |part: f64| -> Vec<u32> {
        PARTS.iter().zip(&alone).map(|(p, most)| ((most * p.share * part) as u32).max(1)).collect()
    };
    let mut fits = 1.0;
    while !keeps_up(place, &shares(fits))? {
        fits -= 0.1;
        anyhow::ensure!(fits > LEAST, "side by side the loads take less than {LEAST} of what each takes alone");
    }
    let rates = shares(fits * level);
    for ((part, alone), rate) in PARTS.iter().zip(&alone).zip(&rates) {
        super::say(&format!("{:<9} takes {alone:.0}/s alone, gets {rate}/s", part.name));
    }
    super::say(&format!("side by side they take {:.0} % of their shares of that", fits * 100.0));
    Ok(rates)
}

/// Whether all of these rates are followed at once: who does not, has requests left when its time is over.
fn keeps_up(place: &Place, rates: &[u32]) -> anyhow::Result<bool> {
    let parts = || PARTS.iter().zip(rates);
    let tools = parts().map(|(part, rate)| start(place, part, part.load(*rate, MEASURED), false));
    let mut tools = tools.collect::<Result<Vec<_>, _>>()?;
    for tool in &mut tools {
        tool.begin()?;
    }
    let mut all = true;
    for (part, tool) in PARTS.iter().zip(&mut tools) {
        let seen = tool.seen()?;
        all &= checked(part, &seen)?.seconds < f64::from(MEASURED) / 1000.0 * LATE;
    }
    Ok(all)
}

fn checked<'a>(part: &Part, seen: &'a Seen) -> anyhow::Result<&'a Seen> {
    anyhow::ensure!(seen.failed == 0, "{}, before anything changed: {:?}", part.name, seen.first_failures);
    Ok(seen)
}

/// Loads under way.
pub(super) struct Running(Vec<One>);

struct One {
    name: &'static str,
    seen: Arc<Mutex<Seen>>,
    follow: JoinHandle<anyhow::Result<()>>,
    /// Failures that were printed.
    told: usize,
}

impl Running {
    pub(super) fn start(place: &Place, rates: &[u32], seconds: u32) -> anyhow::Result<Self> {
        let mut tools = vec![];
        for (part, rate) in PARTS.iter().zip(rates) {
            tools.push((part.name, start(place, part, part.load(*rate, seconds * 1000), true)?));
        }
        let mut all = vec![];
        for (name, mut tool) in tools {
            let seen = Arc::new(Mutex::new(Seen::default()));
            let shared = seen.clone();
            tool.begin()?;
            let follow = std::thread::spawn(move || {
                loop {
                    let now = tool.seen()?;
                    let ended = now.over;
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = now;
                    if ended {
                        return Ok(());
                    }
                }
            });
            all.push(One { name, seen, follow, told: 0 });
        }
        Ok(Self(all))
    }

    /// How it goes.
    pub(super) fn line(&mut self) -> anyhow::Result<String> {
        let mut words = vec![];
        for One { name, seen, follow, told } in &mut self.0 {
            anyhow::ensure!(!follow.is_finished() || look(seen).seconds > 0.0, "the load {name} has ended");
            let seen = look(seen);
            for failure in seen.first_failures.iter().skip(*told) {
                super::say(&format!("{name}: FAILED {failure}"));
            }
            *told = seen.first_failures.len();
            words.push(format!("{name} {}/{} p99 {:.1} ms", seen.done, seen.failed, seen.p99 / 1e3));
        }
        Ok(words.join(", "))
    }

    /// Waits for the end of all.
    pub(super) fn finish(self) -> anyhow::Result<Vec<(&'static str, Seen)>> {
        let mut all = vec![];
        for One { name, seen, follow, .. } in self.0 {
            super::joined(follow.join())?;
            all.push((name, look(&seen)));
        }
        Ok(all)
    }
}

fn look(seen: &Mutex<Seen>) -> Seen {
    seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What came of them; what must not have been.
pub(super) fn report(all: &[(&'static str, Seen)], say: impl Fn(&str)) -> Vec<String> {
    let mut problems = vec![];
    for (name, seen) in all {
        let Seen { done, failed, p50, p99, max, .. } = seen;
        say(&format!(
            "{name:<9} {done:>10} answered, {failed} failed; p50 {:.2} ms, p99 {:.2} ms, longest {:.0} ms",
            p50 / 1e3,
            p99 / 1e3,
            max / 1e3
        ));
        if *failed > 0 {
            problems.push(format!("{name}: {failed} of {} failed: {:#?}", done + failed, seen.first_failures));
        }
        if *done == 0 {
            problems.push(format!("{name}: nothing was answered"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_one_whole() {
        assert!((PARTS.iter().map(|p| p.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_failure_is_a_problem() {
        let good = Seen { done: 10, ..Seen::default() };
        let bad = Seen { done: 10, failed: 1, ..Seen::default() };
        assert!(report(&[("good", good)], |_| ()).is_empty());
        assert_eq!(report(&[("bad", bad), ("none", Seen::default())], |_| ()).len(), 2);
    }
}
