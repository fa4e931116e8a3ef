//! hawser-proxy beside a real Envoy: discovery compiles one configuration, the same bytes go through both, and what clients,
//! servers and access logs saw must be equal, line by line.
//!
//! The cases are tables, in `tables/`; the next is one line to add. What is meant to differ is written in the case, with the
//! entry of docs/envoy.md that says why, and must differ exactly so. `HAWSER_CASES=words` plays only the cases whose names
//! have them, and shows all that was seen; of policies the sets, several with `|` between. `HAWSER_TIMES=n` plays them so often.
#![allow(clippy::unwrap_used)]

mod authz;
mod bed;
mod case;
mod client;
mod fields;
mod http2;
mod message;
mod mtls;
mod net;
mod policies;
mod seen;
mod server;
mod sidecars;
mod sockets;
mod stream;
mod tables;
mod text;
mod tls;
mod tokens;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_tests::{isolated, programs};

use crate::bed::{Bed, Placed};
use crate::seen::{Seen, difference};

/// The path of requests that only ask whether a connection still serves.
pub(crate) const PROBE: &str = "/still-there";
/// Long enough for the other end to act on what came before.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// How many cases are played at once.
const THREADS: usize = 12;

/// Whose proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// hawser-proxy.
    Ours,
    /// Envoy.
    Envoy,
}

/// Both.
pub(crate) const SIDES: [Side; 2] = [Side::Ours, Side::Envoy];

/// What one case came to.
struct Played {
    placed: Placed,
    seen: [Seen; 2],
    from: [SocketAddr; 2],
}

#[test]
fn hawser_proxy_does_what_envoy_does() {
    isolated(|| {
        let only = std::env::var("HAWSER_CASES").ok();
        let chosen = tables::all().filter(|case| only.as_ref().is_none_or(|words| case.name.contains(words.as_str())));
        // By a plain request it is seen that both have their configuration.
        let plain = only.as_ref().map(|_| tables::OUTBOUND);
        let times = std::env::var("HAWSER_TIMES").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        let chosen = chosen.flat_map(|case| std::iter::repeat_n(case, times));
        let cases = bed::place(plain.into_iter().chain(chosen));
        ensure!(cases.len() > 1, "no case has such a name");
        let bed = Bed::start(&cases, "")?;
        let mut played = play(&bed, &cases)?;
        let log = bed.log(&cases)?;
        let mut wrong = Vec::new();
        for one in &mut played {
            finish(one, &log);
            let lines = SIDES.map(|side| one.seen[side as usize].lines(&bed.names(&one.placed, side)));
            let text = judge(&one.placed, &lines);
            if only.is_some() {
                eprintln!("=== {}\n{}", one.placed.case.name, lines[Side::Envoy as usize].join("\n"));
            }
            wrong.extend(text);
        }
        eprintln!("{} cases", played.len());
        ensure!(wrong.is_empty(), "{} of {} cases:\n\n{}", wrong.len(), played.len(), wrong.join("\n"));
        Ok(())
    });
}

/// Plays all cases, several at once.
fn play(bed: &Bed, cases: &[Placed]) -> Result<Vec<Played>> {
    let queues = bed::queues(cases);
    let next = AtomicUsize::new(0);
    let played = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(queue) = queues.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for placed in queue {
                        let both = SIDES.map(|side| bed.play(placed, side));
                        played.lock().unwrap().push((placed.clone(), both));
                    }
                }
            });
        }
    });
    let mut all = Vec::new();
    for (placed, [ours, theirs]) in played.into_inner().unwrap() {
        let ((ours, from), (theirs, there)) = (ours?, theirs?);
        all.push(Played { placed, seen: [ours, theirs], from: [from, there] });
    }
    all.sort_by_key(|one| one.placed.case.name);
    Ok(all)
}

/// Adds what servers saw and what was logged.
fn finish(one: &mut Played, log: &str) {
    for side in SIDES {
        let seen = &mut one.seen[side as usize];
        let mut servers = Vec::new();
        let mut requests = one.placed.requests.of(side);
        if one.placed.case.arrive > 0 {
            requests.sort_by_key(|request| request.server);
        }
        for request in requests {
            let name = if one.placed.case.either {
                let at = servers.iter().position(|s| *s == request.server).unwrap_or_else(|| {
                    servers.push(request.server);
                    servers.len() - 1
                });
                format!("server {}", ["A", "B"][at])
            } else {
                format!("server v{}", request.server + 1)
            };
            for (at, line) in request.lines.into_iter().enumerate() {
                seen.server(if at == 0 { format!("{line}   at {name}") } else { line });
            }
        }
        for line in Bed::log_of(log, one.from[side as usize]) {
            if !line.contains(PROBE) {
                seen.log(line);
            }
        }
    }
}

/// What is wrong with a case, if anything is.
fn judge(placed: &Placed, lines: &[Vec<String>; 2]) -> Option<String> {
    let [ours, theirs] = lines;
    let found = difference(ours, theirs);
    let meant: Vec<&str> = placed
        .case
        .kept
        .iter()
        .flat_map(|kept| kept.exactly.lines())
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let same = found.len() == meant.len() && found.iter().zip(&meant).all(|(a, b)| squeezed(a) == squeezed(b));
    (!same).then(|| {
        let mut text = format!("=== {} ({})\n{}\n", placed.case.name, placed.name, found.join("\n"));
        if !meant.is_empty() {
            text.push_str(&format!("  but it should differ so:\n{}\n", meant.join("\n")));
        }
        text
    })
}

/// Spaces count for nothing where a difference is written down.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn no_two_cases_have_one_name() {
    let mut names = BTreeSet::new();
    for case in tables::all() {
        assert!(names.insert(case.name), "{}", case.name);
    }
}

#[test]
fn every_difference_that_is_kept_has_its_reason_in_the_page() {
    let page = std::fs::read_to_string(programs::source_root().join("docs/envoy.md")).unwrap();
    let told: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::trim).collect();
    let kept: BTreeSet<&str> = tables::all()
        .chain(tables::sets().flat_map(|set| set.tries))
        .filter_map(|case| case.kept.map(|kept| kept.because))
        .collect();
    assert_eq!(told, kept);
    for (field, _, reason) in seen::RULES {
        assert!(page.contains(&format!("| `{field}` | {reason} |")), "docs/envoy.md lacks {field}");
    }
}
