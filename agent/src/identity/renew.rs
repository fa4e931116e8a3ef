//! Keeps certificates fresh: `Sign` at half their life, `Rejoin` by the host key when nothing else is left.
//!
//! In: the schedule, the link to discovery, a request to renew. Out: new certificates in the [`Holder`]. Whatever
//! fails is tried again with back-off for as long as the host is joined.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{anyhow, bail};
use hawser_api::proto::host::host_client::HostClient;
use hawser_api::proto::host::join_response::Kind;
use hawser_api::proto::host::{JoinResponse, Joined, RejoinRequest, SignRequest, WorkloadCsr};
use hawser_daemon::backoff::Backoff;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::holder::{Holder, Identity, Issued};
use super::key::Key;
use super::proof::{REJOIN, prove};
use super::schedule::{Clocks, Due, LONGEST_SLEEP};
use crate::discovery::{Connection, Dial, Link, Trust};
use crate::mark::OwnMark;
use crate::refusal::Refusal;
use crate::session::Epochs;

const ANSWER: Duration = Duration::from_secs(10);

/// Renews certificates.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    holder: Holder,
    link: Link,
    mark: OwnMark,
}

/// A request to renew everything now: the roots changed.
pub(crate) struct RenewNow;

struct Wanted {
    host: bool,
    workloads: Vec<String>,
}

impl Renewal {
    /// Renewal for one joined host.
    pub(crate) fn new(holder: Holder, link: Link, mark: OwnMark) -> Self {
        Self { holder, link, mark }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(self, mut requests: mpsc::Receiver<RenewNow>) {
        let mut identity = self.holder.watch();
        let mut link = self.link.watch();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut everything = false;
        loop {
            let (wanted, wait) = wanted(&identity.borrow_and_update(), Clocks::read(), everything);
            link.mark_unchanged();
            let mut wait = wait;
            if wanted.host || !wanted.workloads.is_empty() {
                wait = LONGEST_SLEEP;
                if self.link.live().is_some() {
                    match self.sign(wanted).await {
                        Ok(()) => {
                            everything = false;
                            backoff.reset();
                            continue;
                        }
                        Err(error) => {
                            tracing::warn!(error = format!("{error:#}"), "certificates were not renewed");
                            wait = backoff.next_wait();
                        }
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = identity.changed() => if changed.is_err() { return },
                changed = link.changed() => if changed.is_err() { return },
                request = requests.recv() => match request {
                    Some(RenewNow) => everything = true,
                    None => return,
                },
            }
        }
    }

    async fn sign(&self, wanted: Wanted) -> anyhow::Result<()> {
        let live = self.link.live().ok_or_else(|| anyhow!("discovery is away"))?;
        let mut requests = Vec::new();
        let mut keys = Vec::new();
        if wanted.host {
            let csr = self.holder.host_key().request()?;
            requests.push(WorkloadCsr { workload_id: String::new(), csr });
        }
        for workload_id in wanted.workloads {
            let key = Arc::new(Key::generate()?);
            requests.push(WorkloadCsr { workload_id: workload_id.clone(), csr: key.request()? });
            keys.push((workload_id, key));
        }
        let mut client = HostClient::new(live.channel.clone());
        let response = timeout(ANSWER, client.sign(SignRequest { requests }))
            .await
            .map_err(|_| anyhow!("discovery gave no answer"))?
            .map_err(Refusal::from)?
            .into_inner();
        let mut issued = Issued { host: None, workloads: Vec::new(), roots: response.roots };
        for certificate in response.certificates {
            if certificate.workload_id.is_empty() {
                issued.host = Some(certificate);
            } else if let Some((_, key)) = keys.iter().find(|(id, _)| *id == certificate.workload_id) {
                issued.workloads.push((certificate, key.clone()));
            }
        }
        if issued.host.is_some() != wanted.host || issued.workloads.len() != keys.len() {
            bail!("discovery did not sign what was asked for");
        }
        self.holder.renewed(issued)?;
        tracing::info!(host = wanted.host, workloads = keys.len(), "certificates renewed");
        Ok(())
    }

    /// Proves the host key and takes new certificates for everything. Opens a connection of its own.
    pub(crate) async fn rejoin(&self, epochs: &Epochs) -> Result<(), Refusal> {
        let identity = self.holder.current();
        let joined = self.holder.joined();
        let dial = Dial {
            addresses: joined.discovery.clone(),
            trust_domain: joined.trust_domain.clone(),
            trust: Trust { pins: joined.pins.clone(), roots: identity.roots.certificates.clone() },
            client: None,
            mark: self.mark,
        };
        let connection = dial.connect().await?;
        let mut keys = Vec::new();
        let mut workloads = Vec::new();
        for workload in &identity.record.workloads {
            let key = Arc::new(Key::generate().map_err(anyhow::Error::from)?);
            let csr = key.request().map_err(anyhow::Error::from)?;
            workloads.push(WorkloadCsr { workload_id: workload.id.clone(), csr });
            keys.push(key);
        }
        let host_key = self.holder.host_key();
        let pending = epochs.pending()?;
        let request = RejoinRequest {
            instance_id: identity.record.instance_id.clone(),
            host_csr: host_key.request().map_err(anyhow::Error::from)?,
            workloads,
            epoch: pending.epoch,
            attempt: pending.attempt.to_vec(),
            version: env!("CARGO_PKG_VERSION").into(),
            signature: Vec::new(),
        };
        let answer = timeout(2 * ANSWER, ask(&connection, request, host_key))
            .await
            .map_err(|_| Refusal::new(Code::DeadlineExceeded, "", "discovery gave no answer"))??;
        self.take(answer, keys)?;
        tracing::info!("certificates renewed by the host key");
        Ok(())
    }

    fn take(&self, answer: Joined, keys: Vec<Arc<Key>>) -> anyhow::Result<()> {
        let record = answer.record.ok_or_else(|| anyhow!("no record came"))?;
        let asked: Vec<String> = self.holder.current().record.workloads.iter().map(|w| w.id.clone()).collect();
        self.holder.set_record(record)?;
        let mut workloads = Vec::new();
        for certificate in answer.workloads {
            if let Some(index) = asked.iter().position(|id| *id == certificate.workload_id) {
                workloads.push((certificate, keys[index].clone()));
            }
        }
        self.holder.renewed(Issued { host: answer.host, workloads, roots: answer.roots })
    }
}

async fn ask(connection: &Connection, mut request: RejoinRequest, key: &Key) -> Result<Joined, Refusal> {
    let (sender, receiver) = mpsc::channel(1);
    let mut client = HostClient::new(connection.channel.clone());
    let mut answers = client.rejoin(ReceiverStream::new(receiver)).await?.into_inner();
    let nonce = challenge(&mut answers).await?;
    let message = request.encode_to_vec();
    request.signature = prove(key, REJOIN, &nonce, &connection.exporter, &message).map_err(anyhow::Error::from)?;
    sender.send(request).await.map_err(|_| Refusal::new(Code::Unavailable, "", "the connection broke"))?;
    joined(&mut answers).await
}

/// The nonce that a server opens Join and Rejoin with.
pub(crate) async fn challenge(answers: &mut Streaming<JoinResponse>) -> Result<Vec<u8>, Refusal> {
    match answers.message().await?.and_then(|answer| answer.kind) {
        Some(Kind::Challenge(challenge)) if challenge.nonce.len() >= 16 => Ok(challenge.nonce),
        _ => Err(anyhow!("discovery did not begin with a challenge").into()),
    }
}

/// The answer that ends Join and Rejoin.
pub(crate) async fn joined(answers: &mut Streaming<JoinResponse>) -> Result<Joined, Refusal> {
    match answers.message().await?.and_then(|answer| answer.kind) {
        Some(Kind::Joined(joined)) => Ok(joined),
        _ => Err(anyhow!("discovery ended the call without an answer").into()),
    }
}

fn wanted(identity: &Identity, now: Clocks, everything: bool) -> (Wanted, Duration) {
    let mut wait = LONGEST_SLEEP;
    let mut due = |due: Due| match due {
        _ if everything => true,
        Due::Now => true,
        Due::In(until) => {
            wait = wait.min(until);
            false
        }
    };
    let host = due(identity.host.life.due(now));
    let mut workloads = Vec::new();
    for workload in &identity.record.workloads {
        let missing = || Due::Now;
        if due(identity.workloads.get(&workload.id).map_or_else(missing, |credential| credential.life.due(now))) {
            workloads.push(workload.id.clone());
        }
    }
    (Wanted { host, workloads }, wait)
}

impl Holder {
    /// Whether the host's certificate is of no use any more.
    pub(crate) fn host_expired(&self) -> bool {
        self.current().host.life.expired(SystemTime::now())
    }

    /// Connects as this host.
    pub(crate) async fn dial(&self, mark: OwnMark) -> Result<Connection, Refusal> {
        Ok(self.way(mark).connect().await?)
    }

    /// How this host connects.
    pub(crate) fn way(&self, mark: OwnMark) -> Dial {
        let identity = self.current();
        let joined = self.joined();
        Dial {
            addresses: joined.discovery.clone(),
            trust_domain: joined.trust_domain.clone(),
            trust: Trust { pins: Vec::new(), roots: identity.roots.certificates.clone() },
            client: Some(crate::discovery::ClientAuth {
                chain: identity.host.chain.clone(),
                key: self.host_key().to_der(),
            }),
            mark,
        }
    }
}
