//! The host's lease: one stream to discovery, held for as long as the host is joined.
//!
//! In: the host's identity, its health, commands to drain and leave. Out: the record as discovery has it, requests to
//! renew, and the state of the link. The first attempt after a loss comes within 500 ms; only later ones back off.

mod epochs;
mod stream;

use std::time::Duration;

use hawser_api::proto::host::{Drained, WorkloadHealth};
use hawser_daemon::backoff::Backoff;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Code;

pub(crate) use epochs::{Epochs, forget};
pub(crate) use stream::hostname;

use crate::config::ProxyKind;
use crate::discovery::Link;
use crate::identity::{Holder, RenewNow, Renewal};
use crate::mark::OwnMark;
use crate::refusal::Refusal;

const FIRST_RETRY: Duration = Duration::from_millis(400);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Between attempts that a person must help.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// Health of every workload, as it is sent.
pub(crate) type Health = watch::Receiver<Vec<WorkloadHealth>>;

/// What a session needs.
pub(crate) struct Session {
    pub(crate) holder: Holder,
    pub(crate) link: Link,
    pub(crate) epochs: Epochs,
    pub(crate) renewal: Renewal,
    pub(crate) renew: mpsc::Sender<RenewNow>,
    pub(crate) health: Health,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) status: watch::Sender<SessionStatus>,
    pub(crate) mark: OwnMark,
    pub(crate) proxy: ProxyKind,
}

/// What the session is told to do. A dropped reply means that there was no session to do it on.
#[derive(Debug)]
pub(crate) enum Command {
    /// Mark the endpoints draining.
    Drain { timeout: Duration, reply: oneshot::Sender<Drained> },
    /// Take them out; with `forget`, the record too.
    Goodbye { forget: bool, reply: oneshot::Sender<()> },
}

/// How the lease is.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionStatus {
    pub(crate) epoch: u64,
    pub(crate) open: bool,
    pub(crate) frozen: bool,
    /// Why discovery does not take this host, until it does.
    pub(crate) refused: Option<Refusal>,
}

impl Session {
    /// Holds the lease until a goodbye was said.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(500), LONGEST_RETRY);
        let mut rejoin = false;
        loop {
            let (wait, ended) = match self.attempt(rejoin).await {
                Ok(stream::End::Goodbye) => return,
                Ok(stream::End::Lost(why)) => {
                    tracing::info!(why, "session lost");
                    backoff.reset();
                    rejoin = false;
                    (FIRST_RETRY.mul_f64(rand::random_range(0.0..1.0)), None)
                }
                Err(refusal) => {
                    let asks_for_proof = matches!(refusal.code, Code::Unauthenticated) || is_tls_refusal(&refusal);
                    rejoin = asks_for_proof && !rejoin;
                    let wait = match (refusal.is_final(), rejoin) {
                        (true, _) => REFUSED_RETRY,
                        (false, true) => Duration::ZERO,
                        (false, false) => backoff.next_wait(),
                    };
                    (wait, Some(refusal))
                }
            };
            self.link.down();
            self.status.send_modify(|status| {
                status.open = false;
                if let Some(refusal) = ended {
                    let news = status.refused.as_ref() != Some(&refusal);
                    if news {
                        tracing::warn!(reason = refusal.reason, why = %refusal, "no session with discovery");
                    }
                    status.refused = Some(refusal);
                }
            });
            let until = tokio::time::sleep(wait);
            tokio::pin!(until);
            loop {
                tokio::select! {
                    () = &mut until => break,
                    // Its reply is dropped: there is no session.
                    command = self.commands.recv() => if command.is_none() { return },
                }
            }
        }
    }

    async fn attempt(&mut self, rejoin: bool) -> Result<stream::End, Refusal> {
        if rejoin || self.holder.host_expired() {
            self.renewal.rejoin(&self.epochs).await?;
        }
        let connection = self.holder.dial(self.mark).await?;
        self.hold(connection).await
    }
}

/// A server refuses a client's certificate by a TLS alert, which comes after the handshake.
fn is_tls_refusal(refusal: &Refusal) -> bool {
    let words = [
        "CertificateExpired",
        "BadCertificate",
        "UnknownCA",
        "CertificateRequired",
        "AccessDenied",
        "CertificateUnknown",
    ];
    refusal.reason.is_empty() && words.iter().any(|word| refusal.sentence.contains(word))
}
