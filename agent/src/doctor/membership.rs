//! How a joined host's part in the mesh is: lease, certificates, proxy, redirection, and its ports from outside.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hawser_api::proto::agent::{CertificateStatus, StatusResponse};
use hawser_api::proto::host::connect_back_result::Outcome;
use tokio::time::timeout;

use super::Finding;
use crate::capture::seen_from_outside;
use crate::host::Phase;
use crate::member::Member;
use crate::refusal::Refusal;
use crate::status;

const LOOK: Duration = Duration::from_secs(5);

/// Judges what `hawser status` shows.
pub(super) async fn findings(member: &Member) -> Vec<Finding> {
    let status = status::of(Phase::Joined, Some(member)).await;
    let refused = member.session.borrow().refused.clone();
    let restored = member.capture.healing().warning(SystemTime::now(), tokio::time::Instant::now());
    let trouble = member.proxy_trouble();
    judge(&status, refused.as_ref(), restored, &trouble, SystemTime::now())
}

fn judge(
    status: &StatusResponse,
    refused: Option<&Refusal>,
    restored: Option<String>,
    trouble: &str,
    now: SystemTime,
) -> Vec<Finding> {
    let mut findings = vec![match (status.discovery_state.as_str(), refused) {
        ("connected", _) => Finding::ok("lease", format!("discovery holds this host's lease, epoch {}", status.epoch)),
        (_, Some(refused)) if refused.is_final() => Finding::split("lease", &refused.sentence),
        (_, Some(refused)) => {
            let sentence = format!("discovery holds no lease of this host: {refused}");
            Finding::failure("lease", sentence, "see what is said of discovery and of the clock")
        }
        (state, None) => {
            let sentence =
                format!("discovery holds no lease of this host: {state}; the last configuration stays in force");
            Finding::failure("lease", sentence, "see what is said of discovery")
        }
    }];
    let workloads = status.workloads.iter().map(|workload| &workload.certificate);
    findings.extend(certificates(workloads.chain([&status.host_certificate]), now));
    let proxy = status.proxy.clone().unwrap_or_default();
    findings.push(match (proxy.state.as_str(), proxy.last_nack.as_str()) {
        ("running", "") => Finding::ok("proxy", format!("the proxy serves, process {}", proxy.pid)),
        ("running", nack) => Finding::warning(
            "proxy",
            format!("the proxy serves, and refused configuration: {nack}"),
            "hawser proxy-status on the control host names it; what was there before stays in force",
        ),
        _ => Finding::failure("proxy", trouble, "systemctl status hawser-proxy; journalctl -u hawser-proxy"),
    });
    let redirection = status.redirection.clone().unwrap_or_default();
    findings.push(match redirection.state.as_str() {
        "installed" => Finding::ok("redirection", format!("redirection is loaded: in {}", list(&redirection.inbound))),
        "differs" => {
            let cure = "hawser redirect check says how; the agent puts it back within seconds, or its log says why not";
            Finding::failure("redirection", "what is loaded of redirection is not what should be", cure)
        }
        _ => {
            let cure = "it is loaded when the proxy serves and discovery is there; the agent's log says why it is not";
            Finding::failure("redirection", "redirection is not loaded: nothing is captured", cure)
        }
    });
    findings.extend(restored.map(|sentence| {
        Finding::warning(
            "redirection",
            sentence,
            "see who loads rules so often; docs/firewalls.md says what each does to ours",
        )
    }));
    findings
}

fn certificates<'a>(all: impl Iterator<Item = &'a Option<CertificateStatus>>, now: SystemTime) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    const RENEW: &str = "it is renewed when discovery is there: see what is said of discovery and of the clock";
    let mut findings = Vec::new();
    let mut count = 0;
    for certificate in all {
        count += 1;
        let Some(certificate) = certificate else {
            findings.push(Finding::failure(CHECK, "a workload of this host has no certificate yet", RENEW));
            continue;
        };
        let time = |time: Option<prost_types::Timestamp>| time.and_then(|time| SystemTime::try_from(time).ok());
        if time(certificate.not_before).is_some_and(|begin| begin > now) {
            let sentence = format!("the certificate of {} is not valid yet at this host's time", certificate.identity);
            findings.push(Finding::failure(CHECK, sentence, "set this host's clock"));
        } else if time(certificate.not_after).is_none_or(|end| end < now) {
            findings.push(Finding::failure(
                CHECK,
                format!("the certificate of {} has ended", certificate.identity),
                RENEW,
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{count} certificates are valid")));
    }
    findings
}

/// What discovery sees of the host's declared ports.
pub(super) async fn inbound(member: Option<&Member>, joined: bool, declared: Vec<u16>) -> Vec<Finding> {
    const CHECK: &str = "inbound";
    let Some(member) = member else {
        return vec![match joined {
            true => Finding::unknown(
                CHECK,
                "whether others reach this host's ports can't be seen without its agent",
                "systemctl start hawser-agent",
            ),
            false => Finding::unknown(CHECK, "whether others reach this host's ports is seen when it joins", ""),
        }];
    };
    let Some(live) = member.link.live() else {
        let sentence = "whether others reach this host's ports can't be seen while discovery is away";
        return vec![Finding::unknown(CHECK, sentence, "see what is said of discovery")];
    };
    let ports: Vec<u32> = declared.iter().map(|port| u32::from(*port)).collect();
    if ports.is_empty() {
        return vec![Finding::ok(CHECK, "this host declares no port")];
    }
    match timeout(LOOK, seen_from_outside(live.channel.clone(), &ports)).await {
        Ok(Ok(seen)) => judge_inbound(&seen),
        Ok(Err(refusal)) => {
            let sentence = format!("discovery did not look at this host's ports: {refusal}");
            vec![Finding::unknown(CHECK, sentence, "try again; see what is said of discovery")]
        }
        Err(_) => vec![Finding::unknown(
            CHECK,
            format!("discovery did not look at this host's ports in {} s", LOOK.as_secs()),
            "try again; see what is said of discovery",
        )],
    }
}

fn judge_inbound(seen: &BTreeMap<u32, Outcome>) -> Vec<Finding> {
    const CHECK: &str = "inbound";
    let of = |wanted: &[Outcome]| {
        let ports = seen.iter().filter(|(_, outcome)| wanted.contains(outcome));
        ports.map(|(port, _)| port.to_string()).collect::<Vec<_>>()
    };
    let (lost, refused) = (of(&[Outcome::Timeout, Outcome::Unreachable]), of(&[Outcome::Refused]));
    let mut findings = Vec::new();
    if !lost.is_empty() {
        let sentence = format!("discovery does not reach declared ports of this host: {}", list(&lost));
        let cure = "let them in: this host's firewall, security groups, and what is between";
        findings.push(Finding::failure(CHECK, sentence, cure));
    }
    if !refused.is_empty() {
        let sentence = format!("nobody listens on declared ports of this host: {}", list(&refused));
        findings.push(Finding::warning(CHECK, sentence, "start the application, and see that the proxy runs"));
    }
    if seen.is_empty() {
        findings.push(Finding::unknown(
            CHECK,
            "this discovery does not look at a host's ports",
            "update it, or call them from another host",
        ));
    } else if findings.is_empty() {
        let ports: Vec<String> = seen.keys().map(ToString::to_string).collect();
        findings.push(Finding::ok(CHECK, format!("discovery reaches this host's ports: {}", list(&ports))));
    }
    findings
}

fn list(values: &[String]) -> String {
    if values.is_empty() { "nothing".to_owned() } else { values.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use hawser_api::proto::agent::{ProxyStatus, RedirectionStatus};

    fn certificate(from: i64, to: i64) -> Option<CertificateStatus> {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        Some(CertificateStatus { not_before: time(from), not_after: time(to), ..CertificateStatus::default() })
    }

    fn healthy() -> StatusResponse {
        StatusResponse {
            discovery_state: "connected".into(),
            host_certificate: certificate(100, 200),
            proxy: Some(ProxyStatus { state: "running".into(), ..ProxyStatus::default() }),
            redirection: Some(RedirectionStatus { state: "installed".into(), ..RedirectionStatus::default() }),
            ..StatusResponse::default()
        }
    }

    fn failing(status: &StatusResponse, refused: Option<&Refusal>, now: u64) -> Vec<&'static str> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let findings = judge(status, refused, None, "the proxy is down", now);
        findings.iter().filter(|finding| finding.verdict == Verdict::Failure).map(|finding| finding.check).collect()
    }

    #[test]
    fn each_part_of_a_member_is_judged() {
        assert!(failing(&healthy(), None, 150).is_empty());
        assert_eq!(failing(&healthy(), None, 201), ["certificates"]);
        assert_eq!(failing(&healthy(), None, 99), ["certificates"]);
        let away = StatusResponse { discovery_state: "unreachable".into(), ..healthy() };
        assert_eq!(failing(&away, None, 150), ["lease"]);
        let revoked = Refusal::new(tonic::Code::PermissionDenied, "host-revoked", "it was revoked: join again");
        assert_eq!(failing(&away, Some(&revoked), 150), ["lease"]);
        assert_eq!(judge(&away, Some(&revoked), None, "", SystemTime::UNIX_EPOCH)[0].cure, "join again");
        let down = StatusResponse { proxy: None, redirection: None, ..healthy() };
        assert_eq!(failing(&down, None, 150), ["proxy", "redirection"]);
    }

    #[test]
    fn ports_are_judged_by_what_discovery_sees() {
        let verdicts = |seen: &[(u32, Outcome)]| {
            let findings = judge_inbound(&seen.iter().copied().collect());
            findings.into_iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&[(80, Outcome::Connected)]), [Verdict::Ok]);
        assert_eq!(verdicts(&[(80, Outcome::Connected), (81, Outcome::Timeout)]), [Verdict::Failure]);
        assert_eq!(
            verdicts(&[(80, Outcome::Refused), (81, Outcome::Unreachable)]),
            [Verdict::Failure, Verdict::Warning]
        );
        assert_eq!(verdicts(&[]), [Verdict::Unknown]);
    }
}
