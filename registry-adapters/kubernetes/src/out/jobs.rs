//! What an object needs, given what is wanted and what is there; and what an answer changes of that.

use std::time::{Duration, Instant};

use hawser_api::istio::Kind;
use hawser_daemon::backoff::Backoff;
use hawser_registry_source::Fingerprint;
use jiff::Timestamp;
use serde_json::json;

use super::conditions::Condition;
use super::events::{self, About};
use super::seen::{self, Seen, SeenSlice};
use super::send::{Ask, Job};
use super::{AFTERWARDS, Done, Key, Out, Verdict, Wanted, entries};
use crate::configs::Part;
use crate::name::Name;
use crate::settings::is_word;
use crate::watch::Failure;
use crate::world::World;

/// Type of the condition that says what became of a resource.
const HONOURED: &str = "hawser.io/Honoured";
/// How often what is others' is let go.
const TRIES: u32 = 10;
/// Kinds of writes, as people read of them, and what to grant for each; by lane.
const RIGHTS: [(&str, &str); super::queue::LANES] = [
    ("endpointslices", "create, patch and delete on endpointslices.discovery.k8s.io"),
    ("workloadentries", "create, patch and delete on workloadentries.networking.istio.io"),
    ("workloadentries/status", "patch on workloadentries/status"),
    ("status", "patch on the status of Istio's kinds"),
    ("events", "create on events.events.k8s.io"),
];

/// A request, the version that it is upon, and what it says.
type Asked = (Job, Option<String>, Option<Fingerprint>);

impl Out {
    /// What is to be done about an object; `None` if nothing, or nothing now.
    pub(super) fn job(&mut self, key: &Key, world: &World) -> Option<Asked> {
        match key {
            Key::Slice(name) => self.slice_job(name),
            Key::Entry(name) => self.entry_job(name, world),
            Key::Health(name) => self.health_job(name),
            // Of what is no part of the mesh nothing is said.
            Key::Status(part) | Key::Event(part) if world.refuses(&part.1.namespace).is_some() => None,
            Key::Status(part) => self.status_job(part),
            Key::Event(part) => self.event_job(part),
        }
    }

    fn slice_job(&mut self, name: &Name) -> Option<Asked> {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}", name.namespace, name.name);
        let (wanted, seen) = (self.wanted.get(name), self.slices.get(name));
        if seen.is_some_and(|seen| seen.deleting) {
            return None;
        }
        let settled = self.settled.get(&Key::Slice(name.clone()));
        match (wanted, seen) {
            (Some(wanted), Some(seen)) => {
                let differs = wanted.print != seen.print && settled != Some(&(wanted.print, seen.print));
                let mut object = wanted.object.clone();
                object["metadata"]["uid"] = seen.uid.as_str().into();
                let ask = Ask::Apply { object, force: true };
                differs.then(|| (Job { path, ask }, Some(seen.version.clone()), Some(wanted.print)))
            }
            (Some(wanted), None) => {
                let ask = Ask::Apply { object: wanted.object.clone(), force: false };
                Some((Job { path, ask }, None, Some(wanted.print)))
            }
            (None, Some(seen)) => {
                let ask = Ask::Delete { uid: seen.uid.clone() };
                let asked = (Job { path, ask }, Some(seen.version.clone()), None);
                if self.is_replaced(&seen.service(name)) {
                    self.queue.want(Key::Slice(name.clone()), Instant::now() + AFTERWARDS);
                    return None;
                }
                Some(asked)
            }
            (None, None) => {
                self.settled.remove(&Key::Slice(name.clone()));
                None
            }
        }
    }

    /// Whether slices of a service are on their way: what goes does so after they came.
    fn is_replaced(&self, service: &Name) -> bool {
        let coming = |(name, wanted): (&Name, &Wanted)| {
            wanted.service == *service
                && !self.slices.contains_key(name)
                && !self.queue.has_failed(&Key::Slice(name.clone()))
        };
        self.wanted.iter().any(coming)
    }

    fn entry_job(&mut self, name: &Name, world: &World) -> Option<Asked> {
        if !self.open.1 {
            return None;
        }
        let report = format!("WorkloadEntry {name}, to be written");
        let place = world.refuses(&name.namespace);
        let host = self.host(name).filter(|_| self.writes.entries).cloned();
        self.count_skipped(name, host.is_some(), place);
        let named = is_word(&name.name, 253) && !name.name.bytes().any(|byte| byte.is_ascii_uppercase());
        let host = host.filter(|_| place.is_none() && named);
        let wanted = host.and_then(|host| entries::entry(&host, &self.mesh, &self.entry_version()));
        let seen = self.objects.get(&Part(Kind::WorkloadEntry, name.clone())).filter(|seen| !seen.deleting);
        let taken = wanted.is_some() && seen.is_some_and(|seen| !seen.ours);
        let why = "a joined host of that name is not written: there is a WorkloadEntry that others wrote, which stays; \
                   give it another name";
        let path = self.path(&self.entry_version(), Kind::WorkloadEntry, name);
        let settled = self.settled.get(&Key::Entry(name.clone()));
        let asked = match (wanted, seen) {
            (Some(object), Some(seen)) if seen.ours => {
                let print = seen::print(&seen::read_entry(&object)?);
                let there = seen.print?;
                let mut object = object;
                object["metadata"]["uid"] = seen.uid.as_str().into();
                let ask = Ask::Apply { object, force: true };
                let differs = print != there && settled != Some(&(print, there));
                differs.then(|| (Job { path, ask }, Some(seen.version.clone()), Some(print)))
            }
            (Some(object), None) if !self.is_ending(name) => {
                let print = seen::print(&seen::read_entry(&object)?);
                Some((Job { path, ask: Ask::Apply { object, force: false } }, None, Some(print)))
            }
            (None, Some(seen)) if seen.ours => {
                let path = self.path(&seen.api_version, Kind::WorkloadEntry, name);
                let ask = Ask::Delete { uid: seen.uid.clone() };
                Some((Job { path, ask }, Some(seen.version.clone()), None))
            }
            _ => None,
        };
        if asked.is_none() && !self.objects.contains_key(&Part(Kind::WorkloadEntry, name.clone())) {
            self.settled.remove(&Key::Entry(name.clone()));
        }
        if asked.is_none() {
            self.reports.insert(report, taken.then(|| why.to_owned()));
        }
        asked
    }

    fn is_ending(&self, name: &Name) -> bool {
        self.objects.get(&Part(Kind::WorkloadEntry, name.clone())).is_some_and(|seen| seen.deleting)
    }

    fn health_job(&self, name: &Name) -> Option<Asked> {
        let host = self.host(name).filter(|_| self.writes.entries && self.open.1)?;
        let seen = self.objects.get(&Part(Kind::WorkloadEntry, name.clone()))?;
        if !seen.ours || seen.deleting {
            return None;
        }
        self.status(seen, Kind::WorkloadEntry, name, &entries::health(host))
    }

    fn status_job(&self, part: &Part) -> Option<Asked> {
        let seen = self.objects.get(part).filter(|seen| !seen.ours && !seen.deleting)?;
        let (verdict, message) = self.verdict(part, seen)?;
        let (status, reason) = match verdict {
            Verdict::Honoured => ("True", "Honoured"),
            Verdict::Partly => ("False", "Partly"),
            Verdict::Rejected => ("False", "Rejected"),
            Verdict::Shadowed => ("False", "Shadowed"),
        };
        let generation = (seen.generation > 0).then_some(seen.generation);
        let condition =
            Condition { kind: HONOURED, status, reason: reason.to_owned(), message, generation, probed: false };
        self.status(seen, part.0, &part.1, &condition)
    }

    fn status(&self, seen: &Seen, kind: Kind, name: &Name, condition: &Condition) -> Option<Asked> {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let conditions = condition.among(&seen.conditions, &now)?;
        let path = self.path(&seen.api_version, kind, name);
        let ask = Ask::Status { version: seen.version.clone(), conditions };
        Some((Job { path, ask }, Some(seen.version.clone()), None))
    }

    /// What became of an object as it is now; `None` if that is not known yet.
    fn verdict(&self, part: &Part, seen: &Seen) -> Option<(Verdict, String)> {
        if let Some(refusal) = self.refusals.get(part) {
            return Some((Verdict::Rejected, refusal.text()));
        }
        let object = hawser_api::istio::ObjectRef {
            kind: part.0,
            namespace: part.1.namespace.to_string(),
            name: part.1.name.to_string(),
        };
        let outcome = self.outcomes.as_ref()?.get(&object)?;
        let of_this = outcome.generation == seen.generation || outcome.generation == 0;
        of_this.then(|| (outcome.verdict, outcome.message.clone()))
    }

    fn event_job(&mut self, part: &Part) -> Option<Asked> {
        let seen = self.objects.get(part).filter(|seen| !seen.ours && !seen.deleting)?;
        let (verdict, message) = self.verdict(part, seen)?;
        let key = events::key(&seen.uid, &message);
        if verdict != Verdict::Rejected || self.said.get(part) == Some(&key) {
            return None;
        }
        let about = About {
            api_version: &seen.api_version,
            kind: part.0.as_str(),
            name: &part.1,
            uid: &seen.uid,
            version: &seen.version,
        };
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", part.1.namespace);
        let job = Job { path, ask: Ask::Create(events::event(about, &message, &now)) };
        self.said.insert(part.clone(), key);
        Some((job, None, None))
    }

    fn path(&self, api_version: &str, kind: Kind, name: &Name) -> String {
        format!("/apis/{api_version}/namespaces/{}/{}/{}", name.namespace, kind.plural(), name.name)
    }

    /// A write ended.
    pub(super) fn done(&mut self, done: Done) {
        let Done { key, upon, print, result } = done;
        let now = Instant::now();
        let failure = match result {
            Ok(answer) => {
                self.queue.done(&key);
                return self.written(key, upon, print, answer.new, &answer.body);
            }
            Err(failure) => failure,
        };
        match (&key, &failure) {
            // Gone already, or said already.
            (Key::Slice(_) | Key::Entry(_), Failure::NotFound(why)) if print.is_none() && !is_no_kind(why) => {
                self.queue.done(&key);
            }
            (Key::Health(_) | Key::Status(_), Failure::NotFound(why)) if !is_no_kind(why) => self.queue.done(&key),
            (Key::Event(_), Failure::Conflict(_)) => self.queue.done(&key),
            (Key::Event(part), _) => {
                self.said.remove(part);
                match failure {
                    // It will not be better when it is said again.
                    Failure::Refused(_) => self.queue.drop(&key),
                    _ => self.queue.failed(&key, &failure, now),
                }
            }
            (Key::Entry(_), Failure::NotFound(why)) if is_no_kind(why) => {
                self.version = (self.version + 1) % Kind::WorkloadEntry.versions().len();
                self.queue.failed(&key, &failure, now);
            }
            _ => self.queue.failed(&key, &failure, now),
        }
        tracing::debug!(?key, %failure, "not written");
        if let Some(what) = key.shown() {
            let lasting = match &failure {
                // It is another object by now, which the watch will tell.
                Failure::Refused(why) => !why.contains("metadata.uid"),
                Failure::Failed(_) | Failure::Conflict(_) => true,
                _ => false,
            };
            let why = lasting.then(|| format!("{failure}; it is tried again"));
            if why.is_some() {
                self.reports.insert(what, why);
            }
        }
    }

    fn written(
        &mut self,
        key: Key,
        upon: Option<String>,
        print: Option<Fingerprint>,
        new: bool,
        body: &serde_json::Value,
    ) {
        if let Some(what) = key.shown() {
            self.reports.insert(what, None);
        }
        match &key {
            Key::Slice(name) => {
                let same = self.slices.get(name).map(|seen| &seen.version) == upon.as_ref();
                match (print, seen::read_slice(body).and_then(|slice| SeenSlice::of(&slice, &self.mesh))) {
                    (Some(print), Some(seen)) => {
                        self.settled.insert(key.clone(), (print, seen.print));
                        if same {
                            self.slices.insert(name.clone(), seen);
                        }
                    }
                    (None, _) => {
                        self.settled.remove(&key);
                        if same && body["kind"] == "Status" {
                            self.slices.remove(name);
                        }
                    }
                    _ => {}
                }
            }
            Key::Entry(name) => self.entry_written(name, upon.as_ref(), print, new, body),
            Key::Health(name) => self.status_written(&Part(Kind::WorkloadEntry, name.clone()), upon.as_ref(), body),
            Key::Status(part) => self.status_written(part, upon.as_ref(), body),
            Key::Event(_) => {}
        }
        self.queue.want(key, Instant::now());
    }

    fn entry_written(
        &mut self,
        name: &Name,
        upon: Option<&String>,
        print: Option<Fingerprint>,
        new: bool,
        body: &serde_json::Value,
    ) {
        let (part, key) = (Part(Kind::WorkloadEntry, name.clone()), Key::Entry(name.clone()));
        let same = self.objects.get(&part).map(|seen| &seen.version) == upon;
        let Some(print) = print else {
            self.settled.remove(&key);
            if same && body["kind"] == "Status" {
                self.objects.remove(&part);
            }
            return;
        };
        let Some(seen) = seen::read_entry(body).map(|config| Seen::of(&config, &self.mesh)) else { return };
        if upon.is_none() && !new && seen.shared {
            self.let_go(name, &seen);
            return;
        }
        self.settled.extend(seen.print.map(|there| (key, (print, there))));
        if same {
            self.objects.insert(part, seen);
        }
        self.queue.want(Key::Health(name.clone()), Instant::now());
    }

    /// Somebody made an entry of that name a moment before ours: it is theirs, so what we said of it is taken back.
    fn let_go(&mut self, name: &Name, seen: &Seen) {
        let metadata = json!({"namespace": &*name.namespace, "name": &*name.name, "uid": seen.uid});
        let object = json!({"apiVersion": seen.api_version, "kind": "WorkloadEntry", "metadata": metadata});
        let job = Job {
            path: self.path(&seen.api_version, Kind::WorkloadEntry, name),
            ask: Ask::Apply { object, force: false },
        };
        let access = self.access.clone();
        self.theirs.insert(seen.uid.clone());
        let theirs = Seen { ours: false, print: None, ..seen.clone() };
        self.objects.insert(Part(Kind::WorkloadEntry, name.clone()), theirs);
        let name = name.clone();
        tokio::spawn(async move {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(20));
            for _ in 0..TRIES {
                match job.clone().send(&access).await {
                    Ok(_) | Err(Failure::NotFound(_) | Failure::Conflict(_)) => return,
                    Err(error) => tracing::warn!(%name, %error, "a WorkloadEntry of others has fields of ours"),
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        });
    }

    fn status_written(&mut self, part: &Part, upon: Option<&String>, body: &serde_json::Value) {
        let same = self.objects.get(part).map(|seen| &seen.version) == upon;
        let seen = seen::read_entry(body).map(|config| Seen::of(&config, &self.mesh));
        if let Some(seen) = seen.filter(|_| same) {
            self.objects.insert(part.clone(), seen);
        }
    }

    /// Counts hosts that are not written because of where they are.
    fn count_skipped(&mut self, name: &Name, host: bool, place: Option<&'static str>) {
        if let Some(why) = place.filter(|_| host) {
            let within = self.hosts.iter().filter(|(key, _)| key.namespace == name.namespace).count();
            if self.skipped.insert(name.namespace.clone(), (why, within)) != Some((why, within)) {
                tracing::warn!(namespace = %name.namespace, why, hosts = within, "hosts are not written");
            }
        } else if (place.is_none() || self.hosts.iter().all(|(key, _)| key.namespace != name.namespace))
            && self.skipped.remove(&name.namespace).is_some()
        {
            self.reports.insert(format!("Namespace {}", name.namespace), None);
        }
    }

    pub(super) fn tell_skipped(&mut self) {
        for (namespace, (why, hosts)) in &self.skipped {
            let hosts = if *hosts == 1 { "a joined host is".to_owned() } else { format!("{hosts} joined hosts are") };
            let why = format!("{hosts} not written as WorkloadEntry: {why}");
            self.reports.insert(format!("Namespace {namespace}"), Some(why));
        }
    }

    /// Tells what of all writes is refused for good.
    pub(super) fn tell_refused(&mut self, now: Instant) {
        for (lane, (what, rights)) in RIGHTS.into_iter().enumerate() {
            let why = self.queue.refused(lane, now).map(|failure| {
                let cure = match failure {
                    Failure::NotFound(_) => "install the definitions that hawser manifest crds prints".to_owned(),
                    _ => format!("grant {rights}, as docs/kubernetes.md has it"),
                };
                format!("{failure}; nothing of the kind is written; {cure}, or turn it off with kubernetes.write")
            });
            self.reports.insert(format!("Writing {what}"), why);
        }
    }
}

impl Key {
    /// As people find it, where that is worth a report.
    fn shown(&self) -> Option<String> {
        match self {
            Self::Slice(name) => Some(format!("EndpointSlice {name}, to be written")),
            Self::Entry(name) => Some(format!("WorkloadEntry {name}, to be written")),
            Self::Health(_) | Self::Status(_) | Self::Event(_) => None,
        }
    }
}

/// Whether the server knows no such kind, and not only no such object.
fn is_no_kind(why: &str) -> bool {
    why.starts_with("404 page not found")
}
