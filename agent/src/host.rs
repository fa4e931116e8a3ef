//! The host as its operator sees it: idle or joined, and the verbs that lead from one to the other.
//!
//! In: `join`, `leave`, questions. Out: a [`Member`] that runs, or none; progress, step by step. A join that fails
//! leaves nothing behind but the host key, with which it can be tried again; a leave leaves nothing.

mod join;
mod leave;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use hawser_api::names::reasons;
use hawser_api::proto::agent::redirect_request::Verb;
use hawser_api::proto::agent::{DoctorResponse, RedirectResponse, StatusResponse};
use hawser_api::token::JoinToken;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Code;

pub(crate) use steps::Steps;

use crate::capture;
use crate::config::Config;
use crate::doctor::{self, Patient};
use crate::identity::Holder;
use crate::member::Member;
use crate::refusal::Refusal;
use crate::state::StateDir;
use crate::status;

/// The host. Clones share it.
#[derive(Clone)]
pub(crate) struct Host(Arc<Inner>);

/// How long a verb waits for another one.
const TURN: Duration = Duration::from_secs(30);

/// How many may look at the host at once.
const MOST_LOOKS: usize = 2;

struct Inner {
    config: Config,
    state: StateDir,
    /// One verb at a time.
    verb: tokio::sync::Mutex<()>,
    /// Looks at the host under way.
    looks: tokio::sync::Semaphore,
    now: Mutex<Now>,
    phases: watch::Sender<Phase>,
}

struct Now {
    phase: Phase,
    member: Option<Arc<Member>>,
    /// Why the host could not join by itself.
    trouble: Option<String>,
}

/// Where the host is between idle and joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    Joining,
    Joined,
    Leaving,
}

impl Host {
    /// Reads what is on disk and, if the host is joined, takes up its part at once: discovery is not needed for that.
    pub(crate) async fn open(config: Config, state: StateDir) -> anyhow::Result<Self> {
        let joined = Holder::load(&state)?;
        let now = Now { phase: Phase::Idle, member: None, trouble: None };
        let host = Self(Arc::new(Inner {
            config,
            state,
            verb: tokio::sync::Mutex::default(),
            looks: tokio::sync::Semaphore::new(MOST_LOOKS),
            now: Mutex::new(now),
            phases: watch::Sender::new(Phase::Idle),
        }));
        if let Some(holder) = joined {
            let member = Member::start(&host.0.config, &host.0.state, holder).await?;
            member.resume().await;
            if leave::is_under_way(&host.0.state) {
                host.set(Phase::Leaving, Some(Arc::new(member)));
                tokio::spawn(host.clone().go_on_leaving());
            } else {
                host.set(Phase::Joined, Some(Arc::new(member)));
            }
        } else if let Err(error) = capture::clean(&host.0.state).await {
            tracing::error!(error = capture::chain(&error), "redirection of an earlier join is left");
        }
        Ok(host)
    }

    /// Where the host is.
    pub(crate) fn phase(&self) -> Phase {
        self.0.now.lock().phase
    }

    /// Where it is, as it changes.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phases.subscribe()
    }

    /// Why it could not join by itself, if it should have.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.0.now.lock().trouble.clone()
    }

    /// Says why it could not, until it could.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        self.0.now.lock().trouble = trouble;
    }

    /// Its part in the mesh, if it has one.
    pub(crate) fn member(&self) -> Option<Arc<Member>> {
        self.0.now.lock().member.clone()
    }

    /// Everything that `hawser status` shows.
    pub(crate) async fn status(&self) -> StatusResponse {
        let (phase, member) = {
            let now = self.0.now.lock();
            (now.phase, now.member.clone())
        };
        status::of(phase, member.as_deref()).await
    }

    /// What redirection is, should be, and where they differ.
    pub(crate) async fn redirect(&self, verb: Verb) -> anyhow::Result<RedirectResponse> {
        let member = self.member().ok_or_else(not_joined)?;
        member.capture.redirect(verb).await
    }

    /// Answers `hawser doctor`; an empty token is none.
    pub(crate) async fn doctor(&self, token: &str) -> Result<DoctorResponse, Refusal> {
        let invalid = |error| Refusal::new(Code::InvalidArgument, reasons::MALFORMED, format!("{error}"));
        let token: Option<JoinToken> =
            Some(token).filter(|token| !token.is_empty()).map(str::parse).transpose().map_err(invalid)?;
        let busy = |_| Refusal::new(Code::Aborted, "busy", "others look at this host: try again when they are done");
        let _look = self.0.looks.try_acquire().map_err(busy)?;
        let patient = Patient { config: &self.0.config, member: self.member(), joined: None, token: token.as_ref() };
        let findings = doctor::examine(&patient).await;
        Ok(DoctorResponse { findings: findings.into_iter().map(Into::into).collect() })
    }

    /// Ends without a word to anybody: the lease, the proxy and the redirection outlive the agent.
    pub(crate) async fn stop(&self) {
        let member = self.0.now.lock().member.take();
        if let Some(member) = member {
            member.stop().await;
        }
    }

    fn set(&self, phase: Phase, member: Option<Arc<Member>>) {
        let mut now = self.0.now.lock();
        (now.phase, now.member) = (phase, member);
        self.0.phases.send_replace(phase);
    }

    /// Waits for its turn: whoever asks to join while the host joins by itself wants to hear how that ends.
    async fn one_verb(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refusal> {
        let busy = "the agent is busy with another join or leave: try again when it is done";
        let turn = tokio::time::timeout(TURN, self.0.verb.lock()).await;
        turn.map_err(|_| Refusal::new(Code::Aborted, "busy", busy))
    }
}

impl Phase {
    /// The word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Leaving => "leaving",
        }
    }
}

fn not_joined() -> Refusal {
    Refusal::new(Code::FailedPrecondition, "not-joined", "this host is not joined: run `hawser join TOKEN`")
}
