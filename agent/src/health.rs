//! Health of the host's workloads, port by port.
//!
//! In: the record with its probes. Out: a watch on the whole health, as heartbeats carry it. A port without a probe is
//! healthy; one whose probe has said nothing yet is unknown, which is not down. A changed record restarts only the
//! probes that changed.

mod probe;
mod thresholds;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::proto::host::{Health as State, Port, PortHealth, Probe, Record, WorkloadHealth};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::identity::Identity;
use thresholds::Thresholds;

type Key = (String, u32);

/// Runs the probes. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Prober {
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone, Debug)]
struct Board {
    ports: Arc<Mutex<BTreeMap<Key, PortHealth>>>,
    out: watch::Sender<Vec<WorkloadHealth>>,
}

impl Prober {
    /// Probes what the record says, now and after each change.
    pub(crate) fn start(mut identity: watch::Receiver<Arc<Identity>>) -> (Self, watch::Receiver<Vec<WorkloadHealth>>) {
        let (out, health) = watch::channel(Vec::new());
        let board = Board { ports: Arc::default(), out };
        let mut running: BTreeMap<Key, (Option<Probe>, Option<AbortOnDropHandle<()>>)> = BTreeMap::new();
        let record = identity.borrow_and_update().record.clone();
        adapt(&mut running, &record, &board);
        let task = tokio::spawn(async move {
            let mut record = record;
            while identity.changed().await.is_ok() {
                let next = identity.borrow_and_update().record.clone();
                if next != record {
                    adapt(&mut running, &next, &board);
                    record = next;
                }
            }
        });
        (Self { _task: AbortOnDropHandle::new(task) }, health)
    }
}

/// The health as discovery hears it: while `protected` says no, no port takes calls, whatever its probes say. A caller that
/// came before our proxy does would meet the bare application.
pub(crate) fn behind(
    mut health: watch::Receiver<Vec<WorkloadHealth>>,
    mut protected: watch::Receiver<bool>,
) -> (AbortOnDropHandle<()>, watch::Receiver<Vec<WorkloadHealth>>) {
    let told = |health: &[WorkloadHealth], protected: bool| {
        let mut told = health.to_vec();
        for port in told.iter_mut().flat_map(|w| &mut w.ports).filter(|_| !protected) {
            port.health = State::Unhealthy.into();
            port.reason = "calls are not protected yet".to_owned();
        }
        told
    };
    let (out, heard) = watch::channel(told(&health.borrow_and_update(), *protected.borrow_and_update()));
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                Ok(()) = health.changed() => {}
                Ok(()) = protected.changed() => {}
                else => return,
            }
            out.send_replace(told(&health.borrow_and_update(), *protected.borrow_and_update()));
        }
    });
    (AbortOnDropHandle::new(task), heard)
}

fn adapt(running: &mut BTreeMap<Key, (Option<Probe>, Option<AbortOnDropHandle<()>>)>, record: &Record, board: &Board) {
    let address = Ipv4Addr::LOCALHOST.into();
    let mut wanted: BTreeMap<Key, &Port> = BTreeMap::new();
    for workload in &record.workloads {
        wanted.extend(workload.ports.iter().map(|port| ((workload.id.clone(), port.port), port)));
    }
    running.retain(|key, (probe, _)| wanted.get(key).is_some_and(|port| port.probe == *probe));
    board.ports.lock().retain(|key, _| running.contains_key(key));
    for (key, port) in wanted {
        if running.contains_key(&key) {
            continue;
        }
        let probed = port.probe.clone().filter(|probe| probe.kind.is_some());
        let health = if probed.is_some() { State::Unknown } else { State::Healthy };
        board.set(&key, health, if probed.is_some() { "not probed yet" } else { "" });
        let task = probed
            .map(|probe| AbortOnDropHandle::new(tokio::spawn(watch_port(key.clone(), probe, address, board.clone()))));
        running.insert(key, (port.probe.clone(), task));
    }
    board.publish(record);
}

async fn watch_port(key: Key, probe: Probe, address: IpAddr, board: Board) {
    let read = |value: &Option<prost_types::Duration>, default: u64| {
        let value = value.and_then(|value| Duration::try_from(value).ok()).filter(|value| !value.is_zero());
        value.unwrap_or(Duration::from_secs(default))
    };
    let period = read(&probe.period, 10).max(Duration::from_millis(100));
    let within = read(&probe.timeout, 1).clamp(Duration::from_millis(10), Duration::from_secs(60));
    let mut thresholds = Thresholds::new(probe.success_threshold, probe.failure_threshold);
    if let Some(delay) = probe.initial_delay.and_then(|delay| Duration::try_from(delay).ok()) {
        tokio::time::sleep(delay).await;
    }
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let result = probe::probe(&probe, key.1, address, within).await;
        let health = thresholds.record(result.is_ok());
        let reason = result.err().unwrap_or_default();
        board.update(&key, health, &reason);
    }
}

impl Board {
    fn set(&self, key: &Key, health: State, reason: &str) {
        let port = PortHealth { port: key.1, health: health.into(), reason: reason.chars().take(200).collect() };
        self.ports.lock().insert(key.clone(), port);
    }

    /// A port's news, told only if there are any.
    fn update(&self, key: &Key, health: State, reason: &str) {
        self.set(key, health, reason);
        let ports = self.ports.lock().clone();
        self.out.send_if_modified(|workloads| {
            let mut changed = false;
            for workload in workloads.iter_mut() {
                for port in &mut workload.ports {
                    if let Some(now) = ports.get(&(workload.workload_id.clone(), port.port))
                        && now != port
                    {
                        changed |= now.health != port.health;
                        *port = now.clone();
                    }
                }
            }
            changed
        });
    }

    /// The whole health in the record's order.
    fn publish(&self, record: &Record) {
        let ports = self.ports.lock().clone();
        let health = |workload: &hawser_api::proto::host::Workload| WorkloadHealth {
            workload_id: workload.id.clone(),
            ports: workload.ports.iter().filter_map(|p| ports.get(&(workload.id.clone(), p.port)).cloned()).collect(),
        };
        self.out.send_replace(record.workloads.iter().map(health).collect());
    }
}
