//! The session of a host: one stream that holds its lease.
//!
//! Open first, then heartbeats, each acknowledged. A newer session of the same host ends an older one. A stream that
//! ends leaves the lease to run out: power-off looks the same.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_api::proto::host::session_request::Kind as Said;
use hawser_api::proto::host::session_response::Kind as Answer;
use hawser_api::proto::host::{
    self, Drained, GoodbyeAck, HeartbeatAck, RenewNow, SessionOpen, SessionOpened, SessionRequest, SessionResponse,
};
use hawser_mesh::{Health, InstanceRef};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::epoch::Epoch;
use super::join::check_text;
use super::sign::MOST_WORKLOADS;
use super::{Group, Hosts, Refusal, Session, record};
use crate::ads;
use crate::store::{HostRecord, Standing};

/// Answers that wait for a slow host.
pub(super) const QUEUE: usize = 16;
/// Bytes of an attempt.
const ATTEMPT: usize = 16;
/// The longest that a drain waits for proxies.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);
/// What a drain waits if the host does not say.
const DRAIN: Duration = Duration::from_secs(5);
/// Hosts that are told of new roots in a second.
const RENEWALS: u32 = 50;
/// The longest that a host waits for that.
const LONGEST_SPREAD: Duration = Duration::from_secs(600);
/// Health reports of one workload.
const MOST_PORTS: usize = 256;

type Out = mpsc::Sender<Result<SessionResponse, Status>>;

impl Hosts {
    /// Serves a session until it ends.
    pub(super) async fn serve(
        self,
        id: Arc<str>,
        source: IpAddr,
        mut said: Streaming<SessionRequest>,
        out: Out,
        ads: ads::Server,
    ) {
        let end = CancellationToken::new();
        let result = self.converse(&id, source, &mut said, &out, &end, &ads).await;
        self.close(&id, &end);
        if let Err(status) = result {
            tracing::info!(host = %id, reason = status.message(), "session refused");
            // Nobody may be left to hear it.
            let _ = out.try_send(Err(status));
        }
    }

    async fn converse(
        &self,
        id: &Arc<str>,
        source: IpAddr,
        said: &mut Streaming<SessionRequest>,
        out: &Out,
        end: &CancellationToken,
        ads: &ads::Server,
    ) -> Result<(), Status> {
        let silence = self.inner.settings.lease * 3;
        let open = match tokio::time::timeout(silence, said.message()).await {
            Ok(Ok(Some(SessionRequest { kind: Some(Said::Open(open)) }))) => open,
            Ok(Ok(None) | Err(_)) => return Ok(()),
            Ok(Ok(Some(_))) => return Err(Status::invalid_argument("a session begins with SessionOpen")),
            Err(_) => return Err(Status::deadline_exceeded("nothing was said")),
        };
        let opened = self.open(id, source, open, out, end).await?;
        let mut rotations = self.inner.authority.rotations();
        if !send(out, Answer::Opened(opened)).await {
            return Ok(());
        }
        let mut renew_at = None;
        loop {
            let message = tokio::select! {
                () = end.cancelled() => return Err(self.ended(id)),
                Ok(()) = rotations.changed() => {
                    renew_at = Some(tokio::time::Instant::now() + self.spread());
                    continue;
                }
                () = tokio::time::sleep_until(renew_at.unwrap_or_else(tokio::time::Instant::now)), if renew_at.is_some() => {
                    renew_at = None;
                    let roots = self.inner.authority.roots_pem().to_vec();
                    if !send(out, Answer::Renew(RenewNow { roots })).await {
                        return Ok(());
                    }
                    continue;
                }
                message = tokio::time::timeout(silence, said.message()) => message,
            };
            let kind = match message {
                Ok(Ok(Some(request))) => request.kind,
                Ok(Ok(None) | Err(_)) => return Ok(()),
                Err(_) => return Err(Status::deadline_exceeded("no heartbeat for three leases")),
            };
            let answer = match kind {
                Some(Said::Heartbeat(beat)) => {
                    let frozen = self.heartbeat(id, end, beat.workloads)?;
                    Answer::Ack(HeartbeatAck { sequence: beat.sequence, frozen })
                }
                Some(Said::Drain(drain)) => {
                    let timeout = drain.timeout.and_then(|t| Duration::try_from(t).ok());
                    // A drain takes a while; heartbeats go on meanwhile.
                    let (this, id, out, ads) = (self.clone(), id.clone(), out.clone(), ads.clone());
                    tokio::spawn(async move {
                        let drained = this.drain(&id, timeout.unwrap_or(DRAIN).min(LONGEST_DRAIN), &ads).await;
                        send(&out, Answer::Drained(drained)).await;
                    });
                    continue;
                }
                Some(Said::Goodbye(goodbye)) => {
                    self.goodbye(id, goodbye.forget).await?;
                    send(out, Answer::Goodbye(GoodbyeAck {})).await;
                    return Ok(());
                }
                Some(Said::Open(_)) => return Err(Status::invalid_argument("the session is open already")),
                // Something that a newer agent says and this program does not know.
                None => continue,
            };
            if !send(out, answer).await {
                return Ok(());
            }
        }
    }

    async fn open(
        &self,
        id: &Arc<str>,
        source: IpAddr,
        open: SessionOpen,
        out: &Out,
        end: &CancellationToken,
    ) -> Result<SessionOpened, Refusal> {
        if open.attempt.len() != ATTEMPT {
            return Err(Refusal::Malformed(format!("an attempt has {ATTEMPT} bytes")));
        }
        check_text(&open.hostname, "host name", 253)?;
        check_text(&open.version, "version", 64)?;
        check_health(&open.workloads)?;
        let known = self.record_of(id)?;
        self.no_twin(id, source).await?;
        let addresses = self.moved(&known, &open, source).await;
        let (now, lease) = (Self::now(), self.inner.settings.lease);
        let asked = (open.epoch, open.attempt);
        let (hostname, version, hawser) = (open.hostname, open.version, open.proxy != "envoy");
        let record = self
            .update(id, move |record| {
                if record.revoked {
                    return Err(Refusal::HostRevoked);
                }
                let mut epoch = Epoch { number: record.epoch, attempt: std::mem::take(&mut record.attempt) };
                epoch.open(asked.0, &asked.1).ok_or(Refusal::HostCloned)?;
                record.epoch = epoch.number;
                record.attempt = epoch.attempt;
                record.standing = Standing::Present;
                record.seen = now;
                record.version = version;
                record.hawser = hawser;
                if !hostname.is_empty() {
                    record.hostname = hostname;
                }
                if let Some(addresses) = addresses {
                    record.addresses = addresses;
                }
                Ok(record.clone())
            })
            .await?;

        let (epoch, beats) = (record.epoch, watch::Sender::new(0));
        let session = Session { epoch, source, beats, out: out.clone(), end: end.clone() };
        let mut table = self.inner.table.lock();
        let live = table.hosts.get_mut(id).ok_or(Refusal::HostUnknown)?;
        if live.session.as_ref().is_some_and(|other| other.epoch > session.epoch) {
            return Err(Refusal::HostCloned);
        }
        live.health = open.workloads;
        if let Some(older) = live.session.replace(session) {
            older.end.cancel();
        }
        table.leases.open(id, Instant::now());
        table.touch(id.clone());
        drop(table);
        self.inner.wake.notify_one();
        tracing::info!(host = %id, epoch = record.epoch, "session opened");
        Ok(SessionOpened {
            epoch: record.epoch,
            lease: prost_types::Duration::try_from(lease).ok(),
            heartbeat: prost_types::Duration::try_from(lease / 3).ok(),
            record: Some(record::for_agent(id, &record, &self.inner.settings.mesh)),
        })
    }

    /// Refuses a copy of a host whose own session goes on elsewhere: both know the newest epoch, but only one of them
    /// holds the lease. A session that is silent for a lease has lost its host.
    async fn no_twin(&self, id: &Arc<str>, source: IpAddr) -> Result<(), Refusal> {
        let current = self.inner.table.lock().hosts.get(id).and_then(|live| live.session.clone());
        let Some(other) = current.filter(|other| other.source != source) else { return Ok(()) };
        let mut beats = other.beats.subscribe();
        tokio::select! {
            () = other.end.cancelled() => Ok(()),
            beat = tokio::time::timeout(self.inner.settings.lease, beats.changed()) => match beat {
                Ok(Ok(())) => Err(Refusal::HostCloned),
                Ok(Err(_)) | Err(_) => Ok(()),
            },
        }
    }

    /// New addresses of a host, if it has any that are its own. An address that is refused changes nothing.
    async fn moved(&self, record: &HostRecord, open: &SessionOpen, source: IpAddr) -> Option<Vec<host::HostAddress>> {
        if open.addresses.is_empty() || open.addresses == record.addresses {
            return None;
        }
        let ports = record.workloads.iter().flat_map(|w| w.workload.ports.iter().cloned()).collect();
        let group = Group { ports, ..Group::default() };
        match self.check_addresses(&open.addresses, source, &group).await {
            Ok(addresses) => Some(addresses),
            Err(refusal) => {
                tracing::warn!(hostname = record.hostname, %refusal, "new addresses of a host are not taken");
                None
            }
        }
    }

    /// When one of all hosts is told of new roots: not all at once.
    fn spread(&self) -> Duration {
        let hosts = u32::try_from(self.inner.table.lock().hosts.len()).unwrap_or(u32::MAX);
        let longest = (Duration::from_secs(1) * hosts / RENEWALS).min(LONGEST_SPREAD);
        longest.mul_f64(rand::random_range(0.0..1.0))
    }

    /// Renews a lease; whether the registry is frozen.
    fn heartbeat(
        &self,
        id: &Arc<str>,
        end: &CancellationToken,
        health: Vec<host::WorkloadHealth>,
    ) -> Result<bool, Status> {
        check_health(&health)?;
        // One that was ended between two messages renews nothing.
        if end.is_cancelled() {
            return Err(self.ended(id));
        }
        let mut table = self.inner.table.lock();
        let Some(live) = table.hosts.get_mut(id) else { return Err(Refusal::HostUnknown.into()) };
        let changed = live.health != health;
        live.health = health;
        if let Some(session) = &live.session {
            session.beats.send_modify(|beats| *beats = beats.wrapping_add(1));
        }
        if table.leases.renew(id, Instant::now()) || changed {
            table.touch(id.clone());
            self.inner.wake.notify_one();
        }
        Ok(table.leases.is_frozen())
    }

    /// Marks a host draining and waits until the proxies that hold its endpoints have taken it.
    async fn drain(&self, id: &Arc<str>, timeout: Duration, ads: &ads::Server) -> Drained {
        let deadline = tokio::time::Instant::now() + timeout;
        let instances: Vec<InstanceRef> = {
            let mut table = self.inner.table.lock();
            if table.leases.drain(id, Instant::now()) {
                table.touch(id.clone());
            }
            let workloads = table.hosts.get(id).map(|live| live.record.workloads.as_slice()).unwrap_or_default();
            let instance = |w: &crate::store::HostWorkload| InstanceRef {
                instance_id: id.clone(),
                workload_id: w.workload.id.as_str().into(),
            };
            workloads.iter().map(instance).collect()
        };
        self.inner.wake.notify_one();
        tracing::info!(host = %id, "host drains");
        let mut drained = Drained::default();
        let mut snapshots = self.inner.snapshots.clone();
        let shown = snapshots.wait_for(|snapshot| {
            instances.iter().all(|instance| {
                snapshot.of_instance(instance).is_none_or(|member| member.workload.health >= Health::Draining)
            })
        });
        if tokio::time::timeout_at(deadline, async {
            self.flush().await;
            shown.await.is_ok()
        })
        .await
            != Ok(true)
        {
            tracing::warn!(host = %id, "a drain was not published in time");
        }
        for instance in &instances {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let seen = ads.acknowledged(instance, left).await;
            drained.holders += u32::try_from(seen.holders).unwrap_or(u32::MAX);
            drained.acknowledged += u32::try_from(seen.acknowledged).unwrap_or(u32::MAX);
        }
        drained
    }

    async fn goodbye(&self, id: &Arc<str>, forget: bool) -> Result<(), Refusal> {
        if forget {
            self.forget(id).await?;
        } else {
            let now = Self::now();
            self.update(id, move |record| {
                record.standing = Standing::Away;
                record.seen = now;
                Ok(())
            })
            .await?;
            let mut table = self.inner.table.lock();
            if table.leases.away(id, Instant::now()) {
                table.touch(id.clone());
            }
            drop(table);
            self.inner.wake.notify_one();
            tracing::info!(host = %id, "host went away in order");
        }
        self.flush().await;
        Ok(())
    }

    /// Tells a host's session that its record changed.
    pub(super) fn tell(&self, id: &str, record: &HostRecord) {
        let session = self.inner.table.lock().hosts.get(id).and_then(|live| live.session.clone());
        let Some(session) = session else { return };
        let changed = record::for_agent(id, record, &self.inner.settings.mesh);
        if session.out.try_send(Ok(SessionResponse { kind: Some(Answer::Record(changed)) })).is_err() {
            // Too slow for its own answers: it learns the record when it opens its next session.
            session.end.cancel();
        }
    }

    /// Forgets a session that ended, unless a newer one took its place.
    fn close(&self, id: &Arc<str>, end: &CancellationToken) {
        end.cancel();
        let mut table = self.inner.table.lock();
        if let Some(live) = table.hosts.get_mut(id)
            && live.session.as_ref().is_some_and(|session| session.end.is_cancelled())
        {
            live.session = None;
        }
    }

    /// Why a session was ended from this side.
    fn ended(&self, id: &Arc<str>) -> Status {
        match self.record_of(id) {
            Err(refusal) => refusal.into(),
            Ok(_) => Status::aborted("another session of this host took its place"),
        }
    }
}

async fn send(out: &Out, answer: Answer) -> bool {
    out.send(Ok(SessionResponse { kind: Some(answer) })).await.is_ok()
}

fn check_health(reports: &[host::WorkloadHealth]) -> Result<(), Refusal> {
    let fine = |r: &host::WorkloadHealth| {
        r.workload_id.len() <= 253 && r.ports.len() <= MOST_PORTS && r.ports.iter().all(|p| p.reason.len() <= 1024)
    };
    if reports.len() <= MOST_WORKLOADS && reports.iter().all(fine) {
        Ok(())
    } else {
        Err(Refusal::Malformed("the health report is larger than any host's".into()))
    }
}
