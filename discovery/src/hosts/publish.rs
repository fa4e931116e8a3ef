//! One task: lets time pass for leases, follows edits of groups, and tells the registry what changed, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use hawser_daemon::drain::Watch;
use hawser_mesh::{Event, Object, ObjectKey, Publisher, Workload, WorkloadKey};

use super::lease::State;
use super::{Group, Hosts, Refusal, record};
use crate::registry::Snapshot;
use crate::store::{HostRecord, Standing};

type Published = BTreeMap<Arc<str>, BTreeMap<WorkloadKey, Arc<Workload>>>;
type Groups = BTreeMap<String, Group>;

impl Hosts {
    /// Runs until the drain, or until nobody listens.
    pub async fn run(self, publisher: Publisher, drain: Watch) {
        let mut published = Published::new();
        let mut groups = Groups::new();
        let mut configs = None;
        let mut snapshots = self.inner.snapshots.clone();
        let (first, generation) = self.collect(&mut published);
        if !publisher.publish(first.into_iter().chain([Event::Synced]).collect()).await {
            return;
        }
        self.inner.published.send_replace(generation);
        let mut sweep = tokio::time::interval(super::sweep::EVERY);
        loop {
            let next = self.inner.table.lock().leases.next();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = drain.draining() => return,
                () = self.inner.wake.notified() => {}
                () = due => self.tick(),
                _ = sweep.tick() => drop(tokio::spawn(self.clone().sweep())),
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = snapshots.borrow_and_update().clone();
                    if !configs.as_ref().is_some_and(|old| Arc::ptr_eq(old, &snapshot.configs)) {
                        self.regroup(&mut groups, &snapshot);
                        configs = Some(snapshot.configs.clone());
                    }
                }
            }
            let (events, generation) = self.collect(&mut published);
            if !publisher.publish(events).await {
                return;
            }
            self.inner.published.send_replace(generation);
        }
    }

    /// Events that bring the registry from what was published to what is so.
    fn collect(&self, published: &mut Published) -> (Vec<Event>, u64) {
        let mut table = self.inner.table.lock();
        let mut events = Vec::new();
        for id in std::mem::take(&mut table.dirty) {
            let state = table.leases.state(&id);
            let wanted = match (table.hosts.get(&id), state) {
                (Some(live), Some(state)) => record::for_registry(&id, &live.record, state, &live.health),
                _ => Vec::new(),
            };
            let mut known = published.remove(&id).unwrap_or_default();
            let mut now = BTreeMap::new();
            for workload in wanted {
                let workload = match known.remove(&workload.key) {
                    Some(old) if *old == workload => old,
                    _ => {
                        let new = Arc::new(workload);
                        events.push(Event::Upsert(Object::Workload(new.clone())));
                        new
                    }
                };
                now.insert(workload.key.clone(), workload);
            }
            events.extend(known.into_keys().map(|key| Event::Delete(ObjectKey::Workload(key))));
            if !now.is_empty() {
                published.insert(id, now);
            }
        }
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        for (state, count) in table.leases.counts() {
            *counts.entry(state.as_str()).or_default() += count;
        }
        self.inner.metrics.frozen(counts.get(State::Kept.as_str()).copied().unwrap_or_default());
        counts.into_iter().for_each(|(state, count)| self.inner.metrics.leases(state, count));
        (events, table.generation)
    }

    fn tick(&self) {
        let mut lapsed = Vec::new();
        {
            let mut table = self.inner.table.lock();
            let (was_frozen, freezes) = (table.leases.is_frozen(), table.leases.freezes());
            for id in table.leases.tick(Instant::now()) {
                let state = table.leases.state(&id);
                let standing = match state {
                    Some(State::Lapsed) => Some(Standing::Lapsed),
                    Some(State::Away) => Some(Standing::Away),
                    _ => None,
                };
                if let (Some(standing), Some(live)) = (standing, table.hosts.get(&id)) {
                    lapsed.push((id.clone(), live.record.epoch, standing));
                }
                tracing::info!(host = %id, state = state.map(State::as_str), "lease lapsed");
                table.touch(id);
            }
            if table.leases.is_frozen() != was_frozen {
                if was_frozen {
                    tracing::info!("hosts are back: lapses count again");
                } else {
                    tracing::warn!("many hosts, or all of a service, lapsed at once: they are kept, not taken out");
                }
            }
            (freezes..table.leases.freezes()).for_each(|_| self.inner.metrics.freeze());
        }
        if !lapsed.is_empty() {
            tokio::spawn(self.clone().note(lapsed));
        }
    }

    /// Writes down who lapsed, unless they came back meanwhile.
    async fn note(self, lapsed: Vec<(Arc<str>, u64, Standing)>) {
        let now = Self::now();
        let written = self
            .inner
            .store
            .write(move |txn| {
                let mut changed = Vec::new();
                for (id, epoch, standing) in lapsed {
                    let Some(mut record) = txn.get::<HostRecord>(&id)? else { continue };
                    if record.epoch == epoch && record.standing != standing {
                        record.standing = standing;
                        record.seen = now;
                        record.revision += 1;
                        txn.put(&id, &record)?;
                        changed.push((id, record));
                    }
                }
                Ok::<_, Refusal>(changed)
            })
            .await;
        match written {
            Ok(changed) => changed.into_iter().for_each(|(id, record)| self.learn(&id, record)),
            Err(error) => tracing::error!(%error, "lapsed leases can not be written down"),
        }
    }

    /// Brings records to what their groups say now. A group that is gone leaves its records as they are.
    fn regroup(&self, known: &mut Groups, snapshot: &Snapshot) {
        let groups: Groups = Group::all(snapshot).into_iter().map(|group| (group.key(), group)).collect();
        let changed: Groups = groups
            .iter()
            .filter(|(key, group)| known.get(*key) != Some(group))
            .map(|(k, g)| (k.clone(), g.clone()))
            .collect();
        *known = groups;
        if !changed.is_empty() {
            let hosts = self.members_of(&changed.keys().cloned().collect());
            if !hosts.is_empty() {
                tokio::spawn(self.clone().edit(hosts, changed));
            }
        }
    }

    fn members_of(&self, groups: &BTreeSet<String>) -> Vec<Arc<str>> {
        let table = self.inner.table.lock();
        let is_member = |record: &HostRecord| {
            record.workloads.iter().any(|w| groups.contains(&format!("{}/{}", w.workload.namespace, w.workload.group)))
        };
        table.hosts.iter().filter(|(_, live)| is_member(&live.record)).map(|(id, _)| id.clone()).collect()
    }

    async fn edit(self, hosts: Vec<Arc<str>>, groups: Groups) {
        let mesh = self.inner.settings.mesh.clone();
        let written = self
            .inner
            .store
            .write(move |txn| {
                let mut edited = Vec::new();
                for id in hosts {
                    let Some(mut record) = txn.get::<HostRecord>(&id)? else { continue };
                    let mut changed = false;
                    for of in &mut record.workloads {
                        let key = format!("{}/{}", of.workload.namespace, of.workload.group);
                        if let Some(group) = groups.get(&key) {
                            changed |= record::apply_group(of, group, &mesh).unwrap_or_else(|error| {
                                tracing::warn!(group = key, %error, "group can not be applied to its hosts");
                                false
                            });
                        }
                    }
                    if changed {
                        record.revision += 1;
                        txn.put(&id, &record)?;
                        edited.push((id, record));
                    }
                }
                Ok::<_, Refusal>(edited)
            })
            .await;
        match written {
            Ok(edited) => {
                for (id, record) in edited {
                    self.learn(&id, record.clone());
                    self.tell(&id, &record);
                }
            }
            Err(error) => tracing::error!(%error, "edited groups can not be written to their hosts"),
        }
    }
}
