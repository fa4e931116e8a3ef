//! What the service manager is told of this host, and when it is told that traffic works.
//!
//! In: the host as it is. Out: one sentence, and READY: at once on a host that is not joined, as nothing is in its way
//! there; on a joined one when its proxy serves and its traffic reaches it.

use std::time::Duration;

use hawser_daemon::Service;

use crate::discovery::Reach;
use crate::host::{Host, Phase};
use crate::member::Member;
use crate::supervise::Phase as ProxyPhase;

/// Between two looks, until traffic works and after.
const EARLY: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(1);

/// How the host is, for the service manager.
struct Report {
    works: bool,
    sentence: String,
}

/// Reports until it is dropped.
pub(crate) async fn run(host: Host, service: Service) {
    loop {
        let report = of(&host);
        service.status(report.sentence);
        if report.works {
            service.ready();
        }
        tokio::time::sleep(if service.is_ready() { LATER } else { EARLY }).await;
    }
}

fn of(host: &Host) -> Report {
    let member = host.member();
    match (host.phase(), member) {
        (Phase::Idle, _) => Report { works: true, sentence: idle(host) },
        (Phase::Joining, _) => Report { works: true, sentence: "joining".into() },
        (Phase::Leaving, _) => Report { works: true, sentence: "leaving".into() },
        (Phase::Joined, None) => Report { works: false, sentence: "stopping".into() },
        (Phase::Joined, Some(member)) => joined(&member),
    }
}

fn idle(host: &Host) -> String {
    match host.trouble() {
        Some(trouble) => format!("not joined: {trouble}"),
        None => "not joined: `hawser join` makes this host a member".into(),
    }
}

fn joined(member: &Member) -> Report {
    if let Some(refusal) = member.refused_for_good() {
        // Nothing that we wait for will come.
        return Report { works: true, sentence: format!("refused by discovery: {refusal}") };
    }
    let proxy = member.supervisor.state.borrow().clone();
    let names = member.holder.current().workloads.values().map(|c| c.identity.to_string()).collect::<Vec<_>>();
    let link = member.link.state();
    let discovery = match link.reach {
        Reach::Up(_) => String::new(),
        _ => format!("; discovery is {}, the last configuration stays in force", link.reach.as_str()),
    };
    let mut waits = Vec::new();
    if proxy.phase != ProxyPhase::Running {
        let trouble = if proxy.trouble.is_empty() { String::new() } else { format!(" ({})", proxy.trouble) };
        waits.push(format!("the proxy, which is {}{trouble}", proxy.phase.as_str()));
    }
    if !member.capture.is_installed() {
        waits.push("redirection".to_owned());
    }
    let works = waits.is_empty();
    let sentence = if works {
        format!("joined as {}{discovery}", names.join(", "))
    } else {
        format!("joined; waiting for {}{discovery}", waits.join(" and "))
    };
    Report { works, sentence }
}
