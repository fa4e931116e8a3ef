//! The way to discovery, and what it says of itself: whether it is reached and known, its clock, its virtual ranges.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use hawser_api::proto::host::HelloRequest;
use hawser_api::proto::host::host_client::HostClient;
use hawser_api::token::JoinToken;
use tokio::time::{Instant, timeout};

use super::Finding;
use crate::discovery::{Connection, Dial, DialError, Trust};
use crate::identity::OnDisk;
use crate::mark::OwnMark;
use crate::member::Member;
use crate::refusal::Refusal;

const CHECK: &str = "discovery";
const CLOCK: &str = "clock";
/// For name, connection and TLS of one address, of which each has its own time.
const REACH: Duration = Duration::from_secs(9);
const HELLO: Duration = Duration::from_secs(2);
/// As many as a token names.
const MOST: usize = 8;
/// A certificate begins two minutes before it is made: who is further behind does not believe it.
const BEHIND: i64 = 123_000;
/// Certificates of a day are renewed when half of it is left: who is further ahead finds them ended.
const AHEAD: i64 = 12 * 3_600_000;
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
    joined: Option<&OnDisk>,
    mark: OwnMark,
) -> Vec<Target> {
    let known = |addresses: &[String], dial: &dyn Fn() -> Dial| -> Vec<Target> {
        let target = |address: &String| {
            let dial = Dial { addresses: vec![address.clone()], ..dial() };
            Target { address: address.clone(), dial }
        };
        addresses.iter().take(MOST).map(target).collect()
    };
    let stored = |OnDisk { joined, roots }: &OnDisk| Dial {
        addresses: Vec::new(),
        trust_domain: joined.trust_domain.clone(),
        trust: Trust { pins: joined.pins.clone(), roots: roots.clone() },
        client: None,
        mark,
    };
    match (token, member, joined) {
        (Some(token), _, _) => known(&token.addresses, &|| Dial::with(token, mark)),
        (None, Some(member), _) => known(&member.holder.joined().discovery, &|| member.holder.way(mark)),
        (None, None, Some(stored_here)) => known(&stored_here.joined.discovery, &|| stored(stored_here)),
        (None, None, None) => Vec::new(),
    }
}

/// The way as a join goes it, address by address, with the connection that it goes on with.
pub(super) async fn taken(
    token: &JoinToken,
    mark: OwnMark,
) -> (Vec<Finding>, Option<Told>, Result<Connection, Refusal>) {
    let began = Instant::now();
    match Dial::with(token, mark).connect().await {
        Ok(connection) => {
            let took = began.elapsed();
            let told = told(&connection).await;
            let seen = (connection.address.clone(), Seen::Reached(took, told.clone()));
            (judge(&[seen], false), told.ok(), Ok(connection))
        }
        Err(error) => (judge(&[(token.addresses.join(", "), Seen::of(&error))], false), None, Err(error.into())),
    }
}

/// Looks at all of them; what it found, and what discovery said.
pub(super) async fn findings(targets: Vec<Target>, joined: bool) -> (Vec<Finding>, Option<Told>) {
    let all = targets.into_iter().map(|target| async { (target.address.clone(), look(target).await) });
    let seen = join_all(all).await;
    let told = seen.iter().find_map(|(_, seen)| match seen {
        Seen::Reached(_, Ok(told)) => Some(told.clone()),
        _ => None,
    });
    (judge(&seen, joined), told)
}

async fn look(target: Target) -> Seen {
    let began = Instant::now();
    match timeout(REACH, target.dial.connect()).await {
        Ok(Ok(connection)) => {
            let took = began.elapsed();
            Seen::Reached(took, told(&connection).await)
        }
        Ok(Err(error)) => Seen::of(&error),
        Err(_) => {
            Seen::Away(format!("discovery can't be reached: no answer at {} in {} s", target.address, REACH.as_secs()))
        }
    }
}

impl Seen {
    fn of(error: &DialError) -> Self {
        match (error, error.clock()) {
            (_, Some((behind, by))) => Self::Clock { behind, by },
            (DialError::NotTrusted { .. }, None) => Self::NotTrusted(error.to_string()),
            _ => Self::Away(error.to_string()),
        }
    }
}

async fn told(connection: &Connection) -> Result<Told, String> {
    let said = timeout(HELLO, hello(connection)).await;
    said.unwrap_or_else(|_| Err(format!("no answer in {} s", HELLO.as_secs())))
}

async fn hello(connection: &Connection) -> Result<Told, String> {
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

/// Judges what came of all addresses. One that is as it should be is enough.
fn judge(seen: &[(String, Seen)], joined: bool) -> Vec<Finding> {
    const ELSE: &str = "the other addresses of discovery are used instead; see what answers at this one";
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
                    Ok(told) => clock = clock.or(told.ahead.map(|ahead| judge_clock(ahead, joined))),
                    Err(why) => findings.push(Finding::warning(
                        CHECK,
                        format!("discovery at {address} does not say what it is: {why}"),
                        "see how discovery is: hawser status on the control host",
                    )),
                }
            }
            Seen::Clock { .. } if reached > 0 => {
                let sentence = format!("the certificate of discovery at {address} is not valid now");
                findings.push(Finding::warning(CHECK, sentence, ELSE));
            }
            Seen::Clock { behind, by } => {
                let sentence = format!(
                    "discovery's certificate is not valid at this host's time: its clock is {} {} or more",
                    human(*by),
                    if *behind { "behind" } else { "ahead" }
                );
                clock = Some(Finding::failure(CLOCK, sentence, SET));
            }
            Seen::NotTrusted(why) | Seen::Away(why) if reached > 0 => {
                findings.push(Finding::warning(CHECK, why, ELSE));
            }
            Seen::NotTrusted(why) => {
                let cure = "see that the address is right; after discovery got a new root, make a new token";
                findings.push(Finding::failure(CHECK, why, cure).blamed("discovery-not-trusted"));
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
fn judge_clock(ahead: i64, joined: bool) -> Finding {
    let by = human(Duration::from_millis(ahead.unsigned_abs()));
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let sentence = format!("this host's clock is {by} {way} discovery's");
    if ahead < -BEHIND {
        Finding::failure(CLOCK, format!("{sentence}: certificates do not hold yet at its time"), SET)
    } else if ahead > AHEAD && joined {
        Finding::failure(CLOCK, format!("{sentence}: certificates end too early at its time"), SET)
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
        judge(&named, true)
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
        let late = Seen::Clock { behind: false, by: Duration::from_secs(9) };
        for other in [Seen::NotTrusted("it is somebody else".into()), late] {
            let verdicts: Vec<_> = seen(&[other, reached(0)]).into_iter().map(|finding| finding.verdict).collect();
            assert_eq!(verdicts, [Verdict::Warning, Verdict::Ok, Verdict::Ok]);
        }
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
        let verdict = |ahead| judge_clock(ahead, true).verdict;
        assert_eq!([verdict(0), verdict(-20_000), verdict(20_000)], [Verdict::Ok; 3]);
        assert_eq!([verdict(-60_000), verdict(600_000)], [Verdict::Warning; 2]);
        assert_eq!([verdict(-180_000), verdict(86_400_000), verdict(i64::MIN)], [Verdict::Failure; 3]);
        assert_eq!(judge_clock(86_400_000, false).verdict, Verdict::Warning, "a join works all the same");
        assert_eq!(judge_clock(-180_000, false).verdict, Verdict::Failure, "no certificate would be accepted");
        assert!(judge_clock(-180_000, true).sentence.contains("3 min behind"));
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
