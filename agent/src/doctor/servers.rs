//! Name resolution as the host has it: whether its servers answer, and know where discovery is.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Finding;
use super::way::host;
use crate::dns::Upstreams;
use crate::dns::forward::Forwarder;
use crate::mark::OwnMark;

const CHECK: &str = "names";
const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
const PATIENCE: Duration = Duration::from_millis(1500);
const RESOLVE: Duration = Duration::from_secs(4);

/// Asks each server, and for each of these names of discovery.
pub(super) async fn findings(addresses: Vec<String>, mark: OwnMark) -> Vec<Finding> {
    let text = tokio::fs::read_to_string(FILE).await.unwrap_or_default();
    let upstreams = Upstreams::new(FILE);
    let (servers, forwarder) = (upstreams.servers(), Forwarder::new(upstreams, mark));
    let answers = async {
        let asked: Vec<_> = servers.iter().map(|server| tokio::spawn(answers(*server, forwarder.clone()))).collect();
        let mut seen = Vec::new();
        for (server, asked) in servers.iter().zip(asked) {
            seen.push((*server, asked.await.unwrap_or_default()));
        }
        judge(is_named(&text), &seen)
    };
    let (mut findings, names) = tokio::join!(answers, resolved(addresses));
    findings.extend(names);
    findings
}

/// Judges servers by whether they answered.
fn judge(named: bool, servers: &[(IpAddr, bool)]) -> Vec<Finding> {
    let silent: Vec<String> = servers.iter().filter(|(_, answers)| !answers).map(|(ip, _)| ip.to_string()).collect();
    if silent.is_empty() {
        let shown: Vec<String> = servers.iter().map(|(ip, _)| ip.to_string()).collect();
        return vec![Finding::ok(CHECK, format!("the name servers of {FILE} answer: {}", shown.join(", ")))];
    }
    if !named {
        let sentence = format!("{FILE} names no name server, and none answers at 127.0.0.1");
        return vec![Finding::warning(CHECK, sentence, "name one; without it only names of the mesh resolve")];
    }
    let sentence = if silent.len() == servers.len() {
        format!("no name server of {FILE} answers: {}", silent.join(", "))
    } else {
        format!("{} of {FILE} does not answer, which slows down every name that is not the mesh's", silent.join(", "))
    };
    vec![Finding::warning(CHECK, sentence, format!("name servers that answer in {FILE}, or see why these do not"))]
}

/// Whether discovery's names have addresses.
async fn resolved(addresses: Vec<String>) -> Vec<Finding> {
    let mut names: Vec<String> = addresses.iter().filter_map(|address| host(address)).map(str::to_owned).collect();
    names.retain(|name| name.parse::<IpAddr>().is_err());
    names.sort();
    names.dedup();
    let all = addresses.len();
    let known = join_all(names.iter().map(|name| is_known(name))).await;
    let unknown: Vec<String> =
        names.iter().zip(known).filter(|(_, known)| !known).map(|(name, _)| name.clone()).collect();
    judge_names(&names, &unknown, all)
}

async fn is_known(name: &str) -> bool {
    let found = timeout(RESOLVE, tokio::net::lookup_host((name, PORT))).await;
    found.is_ok_and(|found| found.is_ok_and(|mut found| found.next().is_some()))
}

fn judge_names(names: &[String], unknown: &[String], addresses: usize) -> Vec<Finding> {
    const CURE: &str =
        "see /etc/resolv.conf and /etc/hosts, or have discovery advertise an address that this host can resolve";
    if names.is_empty() {
        return Vec::new();
    }
    if unknown.is_empty() {
        return vec![Finding::ok(CHECK, format!("the name of discovery resolves: {}", names.join(", ")))];
    }
    let sentence = format!("the name of discovery does not resolve here: {}", unknown.join(", "));
    vec![if unknown.len() < addresses {
        Finding::warning(CHECK, sentence, CURE)
    } else {
        Finding::failure(CHECK, sentence, CURE).blamed("discovery-unreachable")
    }]
}

fn is_named(text: &str) -> bool {
    text.lines().any(|line| line.split_ascii_whitespace().next() == Some("nameserver"))
}

/// Whether a server answers anything to a question for the root.
async fn answers(server: IpAddr, forwarder: Forwarder) -> bool {
    let query = question(rand::random());
    // A second one in case the first is lost.
    for _ in 0..2 {
        if let Ok(asked) = timeout(PATIENCE / 2, forwarder.ask_udp(&query, server)).await {
            return asked.is_ok();
        }
    }
    false
}

/// `. IN NS`.
fn question(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn servers_are_judged_by_their_answers() {
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        assert_eq!(judge(true, &[(a, true), (b, true)])[0].verdict, Verdict::Ok);
        let some = judge(true, &[(a, true), (b, false)]);
        assert!(some[0].verdict == Verdict::Warning && some[0].sentence.starts_with("10.0.0.2 of"), "{some:?}");
        let none = judge(true, &[(a, false), (b, false)]);
        assert!(none[0].verdict == Verdict::Warning && none[0].sentence.contains("no name server"), "{none:?}");
        assert!(judge(false, &[(a, false)])[0].sentence.contains("names no name server"));
        assert!(is_named("search x\n nameserver 1.1.1.1\n") && !is_named("# nameserver 1.1.1.1\n"));
    }

    #[test]
    fn discovery_has_to_resolve_if_it_has_no_other_address() {
        let names = ["a.test".to_owned()];
        assert_eq!(judge_names(&names, &[], 1)[0].verdict, Verdict::Ok);
        assert_eq!(judge_names(&names, &names, 1)[0].verdict, Verdict::Failure);
        assert_eq!(judge_names(&names, &names, 2)[0].verdict, Verdict::Warning);
        assert!(judge_names(&[], &[], 1).is_empty());
    }

    #[test]
    fn the_question_is_one_that_an_answer_can_be_matched_to() {
        use crate::dns::answer::matches;
        let query = question(0x1234);
        let mut response = query.clone();
        response[2] |= 0x80;
        assert!(matches(&query, &response));
    }
}
