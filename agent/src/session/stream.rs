//! One session stream, from open to its end.

use std::time::Duration;

use hawser_api::proto::host::host_client::HostClient;
use hawser_api::proto::host::session_request::Kind as Say;
use hawser_api::proto::host::session_response::Kind as Hear;
use hawser_api::proto::host::{
    Drain, Drained, Goodbye, Heartbeat, SessionOpen, SessionOpened, SessionRequest, SessionResponse,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{Command, Session};
use crate::discovery::Connection;
use crate::identity::{Issued, RenewNow};
use crate::refusal::Refusal;

const ANSWER: Duration = Duration::from_secs(10);
/// The most messages that wait for the connection; more means that it does not move.
const QUEUE: usize = 16;

/// How a session that was open ended.
pub(super) enum End {
    /// As we wished.
    Goodbye,
    /// Otherwise.
    Lost(String),
}

#[derive(Default)]
struct Waiting {
    drained: Option<oneshot::Sender<Drained>>,
    goodbye: Option<oneshot::Sender<()>>,
}

impl Session {
    /// Opens a session on a connection and holds it.
    pub(super) async fn hold(&mut self, connection: Connection) -> Result<End, Refusal> {
        let pending = self.epochs.pending()?;
        let identity = self.holder.current();
        let open = SessionOpen {
            epoch: pending.epoch,
            attempt: pending.attempt.to_vec(),
            version: env!("CARGO_PKG_VERSION").into(),
            addresses: identity.record.addresses.clone(),
            hostname: hostname(),
            workloads: self.health.borrow_and_update().clone(),
            proxy: self.proxy.as_str().into(),
        };
        let (say, queue) = mpsc::channel(QUEUE);
        let _ = say.try_send(request(Say::Open(open)));
        let mut client = HostClient::new(connection.channel.clone());
        let opening = async {
            let mut hear = client.session(ReceiverStream::new(queue)).await?.into_inner();
            match hear.message().await?.and_then(|message| message.kind) {
                Some(Hear::Opened(opened)) => Ok((hear, opened)),
                _ => Err(Refusal::new(Code::Internal, "", "discovery did not open the session")),
            }
        };
        let (hear, opened) = timeout(ANSWER, opening)
            .await
            .map_err(|_| Refusal::new(Code::DeadlineExceeded, "", "discovery did not open the session in time"))??;
        self.epochs.opened(opened.epoch)?;
        if let Some(record) = opened.record.clone() {
            self.take_record(record);
        }
        self.status.send_modify(|status| {
            status.epoch = opened.epoch;
            status.open = true;
            status.refused = None;
        });
        self.link.up(&connection);
        tracing::info!(epoch = opened.epoch, discovery = connection.address, "session open");
        Ok(self.talk(&say, hear, &opened).await)
    }

    async fn talk(
        &mut self,
        say: &mpsc::Sender<SessionRequest>,
        mut hear: Streaming<SessionResponse>,
        opened: &SessionOpened,
    ) -> End {
        let (period, patience) = pace(opened);
        let mut beat = interval(period);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Waiting::default();
        let (mut sent, mut acknowledged) = (0_u64, 0_u64);
        // Since when a heartbeat is without its acknowledgement.
        let mut silent_since: Option<Instant> = None;
        loop {
            let give_up = silent_since.unwrap_or_else(Instant::now) + patience;
            let message = tokio::select! {
                message = hear.message() => match message {
                    Ok(Some(message)) => message,
                    Ok(None) => return End::Lost("discovery closed it".into()),
                    Err(status) => return End::Lost(status.message().to_owned()),
                },
                () = tokio::time::sleep_until(give_up), if silent_since.is_some() => {
                    return End::Lost(format!("no heartbeat was acknowledged for {} ms", patience.as_millis()));
                }
                command = self.commands.recv() => {
                    let next = match command {
                        Some(Command::Drain { timeout, reply }) => {
                            waiting.drained = Some(reply);
                            Say::Drain(Drain { timeout: prost_types::Duration::try_from(timeout).ok() })
                        }
                        Some(Command::Goodbye { forget, reply }) => {
                            waiting.goodbye = Some(reply);
                            Say::Goodbye(Goodbye { forget })
                        }
                        None => return End::Goodbye,
                    };
                    if say.try_send(request(next)).is_err() {
                        return End::Lost("it does not move".into());
                    }
                    continue;
                }
                _ = beat.tick() => {
                    if self.heartbeat(say, &mut sent).is_err() {
                        return End::Lost("it does not move".into());
                    }
                    silent_since.get_or_insert_with(Instant::now);
                    continue;
                }
                Ok(()) = self.health.changed() => {
                    // Told at once, and the next beat a whole period later.
                    beat.reset_immediately();
                    continue;
                }
            };
            match message.kind {
                Some(Hear::Ack(ack)) => {
                    acknowledged = acknowledged.max(ack.sequence);
                    silent_since = (acknowledged < sent).then(Instant::now);
                    self.status
                        .send_if_modified(|status| std::mem::replace(&mut status.frozen, ack.frozen) != ack.frozen);
                }
                Some(Hear::Record(record)) => self.take_record(record),
                Some(Hear::Drained(drained)) => {
                    if let Some(reply) = waiting.drained.take() {
                        let _ = reply.send(drained);
                    }
                }
                Some(Hear::Goodbye(_)) => {
                    if let Some(reply) = waiting.goodbye.take() {
                        let _ = reply.send(());
                    }
                    return End::Goodbye;
                }
                Some(Hear::Renew(renew)) => {
                    let issued = Issued { host: None, workloads: Vec::new(), roots: renew.roots };
                    if let Err(error) = self.holder.renewed(issued) {
                        tracing::warn!(error = format!("{error:#}"), "new roots were not taken");
                    }
                    let _ = self.renew.try_send(RenewNow);
                }
                // Something that a newer discovery says.
                Some(Hear::Opened(_)) | None => {}
            }
        }
    }

    fn heartbeat(&mut self, say: &mpsc::Sender<SessionRequest>, sent: &mut u64) -> Result<(), ()> {
        *sent += 1;
        let workloads = self.health.borrow_and_update().clone();
        say.try_send(request(Say::Heartbeat(Heartbeat { sequence: *sent, workloads }))).map_err(|_| ())
    }

    fn take_record(&self, record: hawser_api::proto::host::Record) {
        if let Err(error) = self.holder.set_record(record) {
            tracing::warn!(error = format!("{error:#}"), "the record that discovery sent was not taken");
        }
    }
}

/// How often to speak, and how long to wait for an answer before the connection counts as dead.
fn pace(opened: &SessionOpened) -> (Duration, Duration) {
    let read = |value: &Option<prost_types::Duration>| value.and_then(|value| Duration::try_from(value).ok());
    let lease = read(&opened.lease).unwrap_or(Duration::from_secs(5)).max(Duration::from_secs(1));
    let period = read(&opened.heartbeat).filter(|period| !period.is_zero()).unwrap_or(lease / 3);
    (period.clamp(Duration::from_millis(100), lease), lease.mul_f64(0.6).min(Duration::from_secs(30)))
}

fn request(kind: Say) -> SessionRequest {
    SessionRequest { kind: Some(kind) }
}

/// This host's name.
pub(crate) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}
