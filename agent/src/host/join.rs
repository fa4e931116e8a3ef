//! `hawser join`: one transaction, step by step, undone at the first failure.

use std::sync::Arc;
use std::time::Duration;

use hawser_api::names::reasons;
use hawser_api::proto::agent::JoinHostRequest;
use hawser_api::token::JoinToken;
use tokio::time::timeout;
use tonic::Code;

use super::{Host, Phase, Steps};
use crate::discovery::Connection;
use crate::doctor::{self, Verdict};
use crate::identity::forget;
use crate::join::{Enrolment, enroll};
use crate::member::Member;
use crate::refusal::Refusal;
use crate::session;

const SESSION: Duration = Duration::from_secs(15);
const PROXY: Duration = Duration::from_secs(15);

impl Host {
    /// Joins, or says that it is joined.
    pub(crate) async fn join(&self, request: JoinHostRequest, steps: &Steps) -> Result<(), Refusal> {
        let _verb = self.one_verb().await?;
        let invalid = |error| Refusal::new(Code::InvalidArgument, reasons::MALFORMED, format!("{error}"));
        let token: JoinToken = request.token.parse().map_err(invalid)?;
        if let Some(member) = self.member() {
            return again(&member, &token, steps);
        }
        let connection = self.preflight(&token, steps).await?;
        self.set(Phase::Joining, None);
        let enrolment = Enrolment { token, connection, addresses: request.addresses, locality: request.locality };
        match self.take_part(enrolment, steps).await {
            Ok(member) => {
                self.set(Phase::Joined, Some(member));
                steps.done("this host is part of the mesh");
                Ok(())
            }
            Err(refusal) => {
                self.set(Phase::Idle, None);
                Err(refusal)
            }
        }
    }

    /// What can be known to fail before anything is changed or asked. Gives the connection that it found discovery by.
    async fn preflight(&self, token: &JoinToken, steps: &Steps) -> Result<Connection, Refusal> {
        let (findings, connection) = doctor::before_join(&self.0.config, token).await;
        for warning in findings.iter().filter(|finding| finding.verdict == Verdict::Warning) {
            steps.say("preflight", format!("warning: {}: {}", warning.sentence, warning.cure));
        }
        if let Some(refusal) = doctor::refusal(&findings) {
            return Err(refusal);
        }
        steps.say("preflight", "this host can join");
        connection
    }

    async fn take_part(&self, enrolment: Enrolment, steps: &Steps) -> Result<Arc<Member>, Refusal> {
        // One that an earlier leave left behind would end this membership at the next start.
        super::leave::unmark(&self.0.state)?;
        let holder = match enroll(&self.0.state, enrolment).await {
            Ok(holder) => holder,
            Err(refusal) => {
                self.undo(false);
                return Err(refusal);
            }
        };
        for credential in holder.current().workloads.values() {
            steps.say("identity", credential.identity.to_string());
        }
        let member = match Member::start(&self.0.config, &self.0.state, holder.clone()).await {
            Ok(member) => Arc::new(member),
            Err(error) => {
                self.undo(Member::disown(&self.0.config, &self.0.state, holder).await);
                return Err(error.into());
            }
        };
        if let Err(refusal) = take_steps(&member, steps).await {
            tracing::warn!(why = %refusal, "join failed; undoing it");
            let heard = member.withdraw().await;
            // Nobody writes any more.
            drop(member);
            self.undo(heard);
            return Err(refusal);
        }
        Ok(member)
    }

    /// Takes back what a join wrote, but for the host key: with it a join can be asked for again. So can one whose record
    /// discovery could not be told to forget, for which the epoch is kept.
    fn undo(&self, forgotten: bool) {
        let cache = self.0.state.remove("cache").map_err(anyhow::Error::from);
        let epochs = if forgotten { session::forget(&self.0.state) } else { Ok(()) };
        for error in [forget(&self.0.state, true), cache, epochs].into_iter().filter_map(Result::err) {
            tracing::warn!(error = format!("{error:#}"), "files of the failed join are left");
        }
    }
}

async fn take_steps(member: &Member, steps: &Steps) -> Result<(), Refusal> {
    let late = || Refusal::new(Code::DeadlineExceeded, "", "discovery did not open this host's session in time");
    timeout(SESSION, member.session_open()).await.map_err(|_| late())??;
    let identity = member.holder.current();
    for workload in &identity.record.workloads {
        let ports: Vec<String> = workload.ports.iter().map(|port| format!("{}={}", port.name, port.port)).collect();
        steps.say("registration", format!("{}/{}: {}", workload.namespace, workload.name, ports.join(", ")));
    }
    if timeout(PROXY, member.proxy_ready()).await.is_err() {
        return Err(Refusal::new(Code::DeadlineExceeded, "proxy-not-ready", member.proxy_trouble()));
    }
    steps.say("proxy", "the proxy is ready");
    member.install(steps).await
}

fn again(member: &Member, token: &JoinToken, steps: &Steps) -> Result<(), Refusal> {
    // A host that discovery refuses for good can't go on as it is, whatever the token.
    if let Some(refusal) = member.refused_for_good() {
        return Err(refusal);
    }
    let joined = member.holder.joined();
    let instance = member.holder.current().record.instance_id.clone();
    if joined.token_id == token.id && joined.trust_domain == token.trust_domain {
        steps.done(format!("this host is joined already, as {instance}"));
        return Ok(());
    }
    let sentence = format!(
        "this host is joined already, as {instance} of {}: run `hawser leave` before it joins with another token",
        joined.trust_domain
    );
    Err(Refusal::new(Code::AlreadyExists, reasons::ALREADY_JOINED, sentence))
}
