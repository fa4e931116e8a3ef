//! The way to discovery, and what it says of itself: whether it is reached and known, its clock, its virtual ranges.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_api::proto::host::HelloRequest;
use hawser_api::proto::host::host_client::HostClient;
use hawser_api::token::JoinToken;
use tokio::time::{Instant, timeout};

use super::Finding;
use crate::discovery::{Connection, Dial, DialError, Trust};
use crate::identity::Joined;
use crate::mark::OwnMark;
use crate::member::Member;

const CHECK: &str = "discovery";
const CLOCK: &str = "clock";
/// For name, connection and TLS of one address.
const REACH: Duration = Duration::from_secs(4);
const HELLO: Duration = Duration::from_secs(2);
/// As many as a token names.
const MOST: usize = 8;
/// A certificate begins this long before it is made: who is further behind does not believe it.
const BEHIND: i64 = 120_000;
/// Who is further ahead finds certificates ended that others still use.
const AHEAD: i64 = 3_600_000;
/// Worth knowing.
const NOTICED: i64 = 30_000;
const SET: &str = "set this host's clock, and have it kept: timedatectl set-ntp true, or chrony";

/// An address of discovery, and how it is known there.
pub(super) struct Target {
    pub(super) address: String,
    dial: Dial,
}

/// What discovery said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) virtual_ranges: Vec<String>,
    /// This host's clock less discovery's, in milliseconds.
    ahead: Option<i64>,
}

/// What came of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Reached(Duration, Result<Told, String>),
    /// By this much at least, this host's clock is wrong: behind, or ahead.
    Clock {
        behind: bool,
        by: Duration,
    },
    NotTrusted(String),
    Away(String),
}

/// Where to look: where a token says, else where the host belongs.
pub(super) fn targets(
    member: Option<&Member>,
    token: Option<&JoinToken>,
    joined: Option<&Joined>,
    mark: OwnMark,
) -> Vec<Target> {
    let known = |addresses: &[String], dial: &dyn Fn() -> Dial| -> Vec<Target> {
        let target = |address: &String| {
            let dial = Dial { addresses: vec![address.clone()], ..dial() };
            Target { address: address.clone(), dial }
        };
        addresses.iter().take(MOST).map(target).collect()
    };
    let pinned = |trust_domain: &hawser_api::identity::TrustDomain, pins: &[hawser_api::token::Pin]| Dial {
        addresses: Vec::new(),
        trust_domain: trust_domain.clone(),
        trust: Trust { pins: pins.to_vec(), roots: Vec::new() },
        client: None,
        mark,
    };
    match (token, member, joined) {
        (Some(token), _, _) => known(&token.addresses, &|| pinned(&token.trust_domain, &token.pins)),
        (None, Some(member), _) => known(&member.holder.joined().discovery, &|| member.holder.way(mark)),
        (None, None, Some(joined)) => known(&joined.discovery, &|| pinned(&joined.trust_domain, &joined.pins)),
        (None, None, None) => Vec::new(),
    }
}

/// Looks at all of them; what it found, and what discovery said.
pub(super) async fn findings(targets: Vec<Target>) -> (Vec<Finding>, Option<Told>) {
    let tasks: Vec<_> =
        targets.into_iter().map(|target| (target.address.clone(), tokio::spawn(look(target)))).collect();
    let mut seen = Vec::new();
    for (address, task) in tasks {
        let task = tokio_util::task::AbortOnDropHandle::new(task);
        seen.push((address, task.await.unwrap_or_else(|error| Seen::Away(error.to_string()))));
    }
    let told = seen.iter().find_map(|(_, seen)| match seen {
        Seen::Reached(_, Ok(told)) => Some(told.clone()),
        _ => None,
    });
    (judge(&seen), told)
}

async fn look(target: Target) -> Seen {
    let began = Instant::now();
    match timeout(REACH, target.dial.connect()).await {
        Ok(Ok(connection)) => {
            let took = began.elapsed();
            let told = timeout(HELLO, hello(connection)).await;
            Seen::Reached(took, told.unwrap_or_else(|_| Err(format!("no answer in {} s", HELLO.as_secs()))))
        }
        Ok(Err(error @ DialError::NotTrusted { .. })) => match error.clock() {
            Some((behind, by)) => Seen::Clock { behind, by },
            None => Seen::NotTrusted(error.to_string()),
        },
        Ok(Err(error)) => Seen::Away(error.to_string()),
        Err(_) => {
            Seen::Away(format!("discovery can't be reached: no answer at {} in {} s", target.address, REACH.as_secs()))
        }
    }
}

async fn hello(connection: Connection) -> Result<Told, String> {
    let mut client = HostClient::new(connection.channel.clone());
    let request = HelloRequest { version: env!("CARGO_PKG_VERSION").into(), features: Vec::new() };
    let began = Instant::now();
    let answer = client.hello(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    // Said about half way.
    let said_at = millis(SystemTime::now()) - i64::try_from(began.elapsed().as_millis() / 2).unwrap_or_default();
    let now = answer.now.and_then(|now| SystemTime::try_from(now).ok());
    let virtual_ranges = answer.virtual_ranges.into_iter().take(MOST).collect();
    Ok(Told { virtual_ranges, ahead: now.map(|now| said_at.saturating_sub(millis(now))) })
}

fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// Judges what came of all addresses.
fn judge(seen: &[(String, Seen)]) -> Vec<Finding> {
    let reached = seen.iter().filter(|(_, seen)| matches!(seen, Seen::Reached(..))).count();
    let mut findings = Vec::new();
    let mut clock = None;
    for (address, seen) in seen {
        match seen {
            Seen::Reached(took, told) => {
                let sentence =
                    format!("discovery answers at {address}, and is the mesh's own ({} ms)", took.as_millis());
                findings.push(Finding::ok(CHECK, sentence));
                match told {
                    Ok(told) => clock = clock.or(told.ahead.map(judge_clock)),
                    Err(why) => findings.push(Finding::warning(
                        CHECK,
                        format!("discovery at {address} does not say what it is: {why}"),
                        "see how discovery is: hawser status on the control host",
                    )),
                }
            }
            Seen::Clock { behind, by } => {
                let sentence = format!(
                    "discovery's certificate is not valid at this host's time: its clock is {} {} or more",
                    human(*by),
                    if *behind { "behind" } else { "ahead" }
                );
                clock = Some(Finding::failure(CLOCK, sentence, SET));
            }
            Seen::NotTrusted(why) => {
                let cure = "see that the address is right; after discovery got a new root, make a new token";
                findings.push(Finding::failure(CHECK, why, cure).blamed("discovery-not-trusted"));
            }
            Seen::Away(why) if reached > 0 => {
                findings.push(Finding::warning(CHECK, why, "the other addresses of discovery are used instead"));
            }
            Seen::Away(why) => {
                let cure = "see that discovery runs, and that nothing between keeps this host from its port 15012";
                findings.push(Finding::failure(CHECK, why, cure).blamed("discovery-unreachable"));
            }
        }
    }
    if seen.is_empty() {
        let cure = "name a join token: hawser doctor --token-file FILE";
        findings.push(Finding::unknown(CHECK, "where discovery is can't be known before a join", cure));
    }
    findings.extend(clock);
    findings
}

/// Judges this host's clock by how far it is ahead of discovery's, in milliseconds.
fn judge_clock(ahead: i64) -> Finding {
    let by = human(Duration::from_millis(ahead.unsigned_abs()));
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let sentence = format!("this host's clock is {by} {way} discovery's");
    if !(-BEHIND..=AHEAD).contains(&ahead) {
        Finding::failure(CLOCK, format!("{sentence}: certificates do not hold at its time"), SET)
    } else if ahead.abs() > NOTICED {
        Finding::warning(CLOCK, sentence, SET)
    } else {
        Finding::ok(CLOCK, sentence)
    }
}

/// The host of `host:port`.
pub(super) fn host(address: &str) -> Option<&str> {
    let (host, _) = address.rsplit_once(':')?;
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!plain.is_empty() && (plain.parse::<IpAddr>().is_ok() || !plain.contains(':'))).then_some(plain)
}

/// A span as people say it.
fn human(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, refusal};

    fn seen(all: &[Seen]) -> Vec<Finding> {
        let named: Vec<_> =
            all.iter().enumerate().map(|(n, seen)| (format!("10.0.0.{n}:15012"), seen.clone())).collect();
        judge(&named)
    }

    fn reached(ahead: i64) -> Seen {
        Seen::Reached(Duration::from_millis(3), Ok(Told { virtual_ranges: Vec::new(), ahead: Some(ahead) }))
    }

    #[test]
    fn one_address_that_answers_is_enough() {
        let away = Seen::Away("discovery can't be reached: refused".into());
        let findings = seen(&[away.clone(), reached(0)]);
        assert_eq!(refusal(&findings), None);
        assert_eq!(findings[0].verdict, Verdict::Warning);
        assert_eq!(refusal(&seen(&[away])).unwrap().reason, "discovery-unreachable");
        let impostor = seen(&[Seen::NotTrusted("it is somebody else".into())]);
        assert_eq!(refusal(&impostor).unwrap().reason, "discovery-not-trusted");
        let nowhere = seen(&[]);
        assert!(nowhere[0].verdict == Verdict::Unknown && nowhere[0].cure.contains("--token-file"));
        let mute = seen(&[Seen::Reached(Duration::ZERO, Err("no answer".into()))]);
        assert_eq!((mute[0].verdict, mute[1].verdict), (Verdict::Ok, Verdict::Warning));
    }

    #[test]
    fn a_clock_is_judged_by_what_certificates_bear() {
        let verdict = |ahead| judge_clock(ahead).verdict;
        assert_eq!([verdict(0), verdict(-20_000), verdict(20_000)], [Verdict::Ok; 3]);
        assert_eq!([verdict(-60_000), verdict(600_000)], [Verdict::Warning; 2]);
        assert_eq!([verdict(-180_000), verdict(86_400_000), verdict(i64::MIN)], [Verdict::Failure; 3]);
        assert!(judge_clock(-180_000).sentence.contains("3 min behind"));
        let year = Seen::Clock { behind: true, by: Duration::from_secs(365 * 86_400) };
        let findings = seen(&[year]);
        assert!(findings.len() == 1 && findings[0].sentence.contains("365 days behind"), "{findings:?}");
        assert_eq!(findings[0].check, CLOCK);
    }

    #[test]
    fn hosts_of_addresses_are_read() {
        assert_eq!(host("a.test:15012"), Some("a.test"));
        assert_eq!(host("[fd00::1]:15012"), Some("fd00::1"));
        assert_eq!(host("10.0.0.1:15012"), Some("10.0.0.1"));
        assert_eq!((host("x"), host(":1")), (None, None));
    }
}
