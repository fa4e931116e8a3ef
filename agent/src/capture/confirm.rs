//! The first installation: kept only if the host can still reach discovery, and can still be reached.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_api::proto::host::connect_back_result::Outcome;
use hawser_api::proto::host::host_client::HostClient;
use hawser_api::proto::host::{ConnectBackRequest, Record};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use super::{Capture, chain, note};
use crate::discovery::Link;
use crate::host::Steps;
use crate::identity::Holder;
use crate::mark::OwnMark;
use crate::redirect::TIMER;
use crate::refusal::Refusal;

const SSH: u32 = 22;
const MOST_PORTS: usize = 64;
/// Less than the timer that undoes the change.
const CONFIRM: Duration = Duration::from_secs(8);

impl Capture {
    /// Installs redirection; undoes it unless new connections show that the host is as reachable as before.
    pub(crate) async fn install(
        &self,
        holder: &Holder,
        link: &Link,
        mark: OwnMark,
        steps: &Steps,
    ) -> Result<(), Refusal> {
        let ports = ports(&holder.current().record);
        let before = match link.live() {
            Some(live) => seen_from_outside(live.channel.clone(), &ports).await?,
            None => {
                return Err(Refusal::new(
                    Code::Unavailable,
                    "discovery-unreachable",
                    "the connection to discovery broke",
                ));
            }
        };
        let mut redirection = self.0.redirection.lock().await;
        let failed =
            |error: &dyn std::error::Error| Refusal::new(Code::FailedPrecondition, "rolled-back", chain(error));
        let intent = self.intent();
        let mut pending = redirection.apply_with_rollback(&intent, TIMER).await.map_err(|error| failed(&error))?;
        note(std::mem::take(&mut pending.notes));
        steps.say("redirection", "installed; it is undone unless this host stays reachable");

        let confirm = async {
            let connection = holder.dial(mark).await?;
            let after = seen_from_outside(connection.channel.clone(), &ports).await?;
            Ok(lost(&before, &after))
        };
        let why = match timeout(CONFIRM, confirm).await {
            Ok(Ok(lost)) if lost.is_empty() => {
                pending.confirm().await.map_err(|error| failed(&error))?;
                self.set_installed();
                self.catch_up(&mut redirection, &intent).await;
                steps.say("confirm", "discovery is reached by a new connection, and reaches this host");
                return Ok(());
            }
            Ok(Ok(lost)) => format!("discovery could no longer connect to port {}", lost.join(", ")),
            Ok(Err(refusal)) => Refusal::to_string(&refusal),
            Err(_) => format!("no answer in {} s", CONFIRM.as_secs()),
        };
        pending.rollback().await.map_err(|error| failed(&error))?;
        let sentence = format!("redirection was undone, because the host could not be reached with it: {why}");
        Err(Refusal::new(Code::FailedPrecondition, "rolled-back", sentence))
    }
}

fn ports(record: &Record) -> Vec<u32> {
    let declared = record.workloads.iter().flat_map(|workload| workload.ports.iter().map(|port| port.port));
    let mut ports: Vec<u32> = std::iter::once(SSH).chain(declared).collect();
    ports.dedup();
    ports.truncate(MOST_PORTS);
    ports
}

/// What discovery sees of each port; empty if it can't look.
pub(crate) async fn seen_from_outside(channel: Channel, ports: &[u32]) -> Result<BTreeMap<u32, Outcome>, Refusal> {
    let mut client = HostClient::new(channel);
    let request = ConnectBackRequest { ports: ports.to_vec() };
    match timeout(CONFIRM, client.connect_back(request)).await {
        Err(_) => Err(Refusal::new(Code::DeadlineExceeded, "", "discovery did not connect back in time")),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(BTreeMap::new()),
        Ok(Err(status)) => Err(status.into()),
        Ok(Ok(response)) => {
            let results = response.into_inner().results;
            Ok(results.into_iter().map(|result| (result.port, result.outcome())).collect())
        }
    }
}

/// Ports that could be reached and can't any more. A port without a listener counts as reached: it was refused by
/// the host, not by something in between.
fn lost(before: &BTreeMap<u32, Outcome>, after: &BTreeMap<u32, Outcome>) -> Vec<String> {
    let reached = |outcome: &Outcome| matches!(outcome, Outcome::Connected | Outcome::Refused);
    let gone = before.iter().filter(|(port, outcome)| reached(outcome) && !after.get(port).is_some_and(reached));
    gone.map(|(port, _)| port.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_be_reached_before_can_be_lost() {
        let before = [(22, Outcome::Connected), (80, Outcome::Refused), (81, Outcome::Timeout)].into();
        let good = [(22, Outcome::Connected), (80, Outcome::Connected), (81, Outcome::Timeout)].into();
        assert!(lost(&before, &good).is_empty());
        let bad = [(22, Outcome::Timeout), (80, Outcome::Unreachable)].into();
        assert_eq!(lost(&before, &bad), ["22", "80"]);
        assert!(lost(&BTreeMap::new(), &bad).is_empty());
    }
}
