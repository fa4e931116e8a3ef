//! `hawser leave`: out of everyone's endpoints first, then off this host.

use std::time::Duration;

use hawser_api::proto::agent::LeaveHostRequest;
use tonic::Code;

use super::{Host, Phase, Steps, not_joined};
use crate::capture;
use crate::credential;
use crate::identity::forget;
use crate::refusal::Refusal;
use crate::session;
use crate::state::StateDir;

/// How long discovery may wait for proxies to acknowledge that this host drains.
const DRAIN: Duration = Duration::from_secs(5);
/// How long requests in flight may take, unless the operator says otherwise.
const IN_FLIGHT: Duration = Duration::from_secs(30);
/// How long a leave that goes on waits for discovery.
const SESSION: Duration = Duration::from_secs(15);
/// Says that discovery was, or is about to be, asked to forget this host: then there is no way back.
const LEAVING: &str = "leaving";

impl Host {
    /// Leaves in order.
    pub(crate) async fn leave(&self, request: LeaveHostRequest, steps: &Steps) -> Result<(), Refusal> {
        let _verb = self.one_verb().await?;
        self.take_leave(request, steps).await
    }

    async fn take_leave(&self, request: LeaveHostRequest, steps: &Steps) -> Result<(), Refusal> {
        let Some(member) = self.member() else { return self.clean_again(steps).await };
        let in_flight = request.drain.and_then(|drain| Duration::try_from(drain).ok()).unwrap_or(IN_FLIGHT);
        self.set(Phase::Leaving, Some(member.clone()));

        match member.drain(DRAIN).await {
            Some(drained) => {
                let (told, holders) = (drained.acknowledged, drained.holders);
                steps.say("drain", format!("{told} of {holders} proxies know that this host drains"));
            }
            None if request.force => steps.say("drain", "discovery is away; leaving all the same"),
            None => {
                self.set(Phase::Joined, Some(member));
                let sentence = "discovery can't be told: wait until `hawser status` shows it connected, or run \
                                `hawser leave --force`, which leaves this host's record behind at discovery";
                return Err(Refusal::new(Code::Unavailable, "discovery-unreachable", sentence));
            }
        }
        let ended = member.drain_proxy(in_flight).await;
        steps.say("drain", if ended { "requests in flight have ended" } else { "some requests were cut off" });
        if let Err(error) = self.0.state.write(LEAVING, b"") {
            tracing::warn!(%error, "if this host stops now, its next start does not know that it was leaving");
        }
        if member.goodbye(true).await {
            steps.say("deregister", "discovery has forgotten this host");
        } else {
            steps.say("deregister", "discovery did not answer; its record of this host stays until it is revoked");
        }
        let mut left = member.dismantle().await;
        member.stop().await;
        if let Err(error) = wipe(&self.0.state) {
            left.push(format!("{error:#}"));
        }
        credential::left(&self.0.state, &member.holder.joined().token_id);
        self.set(Phase::Idle, None);
        if !left.is_empty() {
            let sentence = format!("this host has left the mesh, but something stayed behind: {}", left.join("; "));
            return Err(Refusal::new(Code::Internal, "cleanup-incomplete", sentence));
        }
        steps.say("cleanup", "redirection, proxy and keys are gone");
        steps.done("this host has left the mesh");
        Ok(())
    }

    /// Finishes a leave in whose middle the agent ended: discovery has forgotten this host, or is to.
    pub(super) async fn go_on_leaving(self) {
        tracing::info!("this host was leaving when its agent ended; it goes on");
        // Whoever asks to join meanwhile waits: this host is no member any more.
        let _verb = self.0.verb.lock().await;
        if let Some(member) = self.member() {
            // Whether it knows us, does not, or is away: each is an end of this wait.
            let _ = tokio::time::timeout(SESSION, member.session_open()).await;
        }
        let request = LeaveHostRequest { force: true, drain: Some(prost_types::Duration::default()) };
        match self.take_leave(request, &Steps::silent()).await {
            Ok(()) => tracing::info!("this host has left the mesh"),
            Err(refusal) => {
                tracing::error!(why = %refusal, "the leave could not be finished");
                self.set_trouble(Some(refusal.sentence));
            }
        }
    }

    /// A leave that could not finish is finished; else there is nothing to leave.
    async fn clean_again(&self, steps: &Steps) -> Result<(), Refusal> {
        let incomplete = |why| Refusal::new(Code::Internal, "cleanup-incomplete", why);
        let left = capture::clean(&self.0.state).await.map_err(|error| incomplete(capture::chain(&error)))?;
        if !left {
            return Err(not_joined());
        }
        wipe(&self.0.state)?;
        steps.done("what an earlier leave left behind is gone");
        Ok(())
    }
}

/// Whether a leave was begun, and not finished.
pub(super) fn is_under_way(state: &StateDir) -> bool {
    state.read(LEAVING).is_ok_and(|mark| mark.is_some())
}

/// No leave is under way.
pub(super) fn unmark(state: &StateDir) -> anyhow::Result<()> {
    Ok(state.remove(LEAVING)?)
}

/// Removes everything that says that this host was ever joined.
fn wipe(state: &StateDir) -> anyhow::Result<()> {
    let epochs = session::forget(state);
    let cache = state.remove("cache");
    forget(state, false)?;
    // The last: whatever is left without it is not taken for a member's.
    unmark(state)?;
    epochs?;
    Ok(cache?)
}
