//! Resources of the configuration: applied all or none, deleted, listed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use hawser_api::istio::{Kind, ObjectRef, Resource, honoured, parse_documents};
use hawser_api::proto::admin::{
    self, Applied, ApplyRequest, ApplyResponse, ConfigInfo, DeleteRequest, DeleteResponse, Document, ListConfigRequest,
    ListConfigResponse,
};
use hawser_mesh::{Event, Object, ObjectKey, Origin, RegistryKind};
use tonic::Status;

use super::AdminService;
use crate::registry::model::ConfigState;
use crate::store::{ConfigRecord, Store, StoreError};

/// Documents of one verb at most.
const MOST: usize = 10_000;

/// A resource as it is stored and said.
#[derive(Clone)]
struct Item {
    resource: Resource,
    record: ConfigRecord,
    warnings: Vec<String>,
}

impl AdminService {
    pub(super) async fn apply_documents(&self, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        let items = read(&request.documents)?;
        let mut refusals: Vec<String> = Vec::new();
        for item in items.values() {
            if let Some(why) = honoured(&item.resource).refuse {
                let at = origin(&item.record);
                refusals.push(format!("{at}: {}: {why}", item.resource.object_ref()));
            }
        }
        if !refusals.is_empty() {
            return Err(Status::failed_precondition(refusals.join("\n")));
        }
        let applied = self.put(items, request.dry_run).await?;
        Ok(ApplyResponse { applied })
    }

    /// Applies a resource that discovery made.
    pub(super) async fn apply_made(&self, resource: Resource) -> Result<(), Status> {
        let problems: Vec<String> = resource.check().iter().map(ToString::to_string).collect();
        if !problems.is_empty() {
            return Err(Status::invalid_argument(problems.join("\n")));
        }
        let record = ConfigRecord { yaml: resource.to_yaml(), file: String::new(), line: 0 };
        let item = Item { record, warnings: Vec::new(), resource };
        self.put([(item.resource.object_ref(), item)].into(), false).await?;
        Ok(())
    }

    async fn put(&self, items: BTreeMap<ObjectRef, Item>, dry_run: bool) -> Result<Vec<Applied>, Status> {
        let _turn = self.inner.source.turn().await;
        let mut applied = Vec::new();
        let mut changed = Vec::new();
        for (object, item) in items {
            let stored: Option<ConfigRecord> = self.inner.store.get(&key(&object))?;
            let outcome = match &stored {
                None => "created",
                Some(old) if same(old, &item.resource) => "unchanged",
                Some(_) => "configured",
            };
            let mut warnings = item.warnings.clone();
            warnings.extend(self.shadowed_by_file(&object));
            applied.push(Applied { object: Some(reference(&object)), outcome: outcome.into(), warnings });
            if outcome != "unchanged" {
                changed.push((object, item));
            }
        }
        if dry_run || changed.is_empty() {
            return Ok(applied);
        }
        let events: Vec<Event> = changed.iter().map(|(_, item)| event(item.resource.clone(), &item.record)).collect();
        let said: Vec<Arc<Resource>> = events.iter().filter_map(resource).cloned().collect();
        let write = move |txn: &crate::store::Txn<'_>| {
            for (object, item) in &changed {
                txn.put(&key(object), &item.record)?;
            }
            Ok::<_, StoreError>(())
        };
        self.inner.store.write(write).await?;
        self.inner.source.publish(events).await;
        self.shown(|snapshot| {
            let held: HashSet<*const Resource> =
                snapshot.configs.iter().filter_map(|c| c.resource.as_ref()).map(Arc::as_ptr).collect();
            said.iter().all(|resource| held.contains(&Arc::as_ptr(resource)))
        })
        .await;
        Ok(applied)
    }

    pub(super) async fn delete_objects(&self, request: DeleteRequest) -> Result<DeleteResponse, Status> {
        let mut objects: BTreeSet<ObjectRef> = read(&request.documents)?.into_keys().collect();
        for object in request.objects {
            let kind: Kind = object.kind.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
            let namespace = super::registrations::or_default(object.namespace);
            objects.insert(ObjectRef { kind, namespace, name: object.name });
        }
        if objects.len() > MOST {
            return Err(Status::invalid_argument(format!("{MOST} resources at most are deleted at once")));
        }
        let _turn = self.inner.source.turn().await;
        let mut missing = Vec::new();
        for object in &objects {
            if self.inner.store.get::<ConfigRecord>(&key(object))?.is_none() {
                missing.push(match self.elsewhere(object) {
                    Some(other) => format!("{object} comes from {other}: delete it there"),
                    None => format!("{object} does not exist"),
                });
            }
        }
        if !missing.is_empty() {
            return Err(Status::not_found(missing.join("\n")));
        }
        let keys: Vec<String> = objects.iter().map(key).collect();
        let write = move |txn: &crate::store::Txn<'_>| {
            for key in &keys {
                txn.remove::<ConfigRecord>(key)?;
            }
            Ok::<_, StoreError>(())
        };
        self.inner.store.write(write).await?;
        let events = objects.iter().map(|object| Event::Delete(ObjectKey::Config(object.clone()))).collect();
        self.inner.source.publish(events).await;
        let api = super::ApiSource::id();
        self.shown(|snapshot| {
            !snapshot
                .configs
                .iter()
                .any(|c| c.registry == api && c.object.as_ref().is_some_and(|o| objects.contains(o)))
        })
        .await;
        let deleted = |object: &ObjectRef| Applied {
            object: Some(reference(object)),
            outcome: "deleted".into(),
            warnings: Vec::new(),
        };
        Ok(DeleteResponse { deleted: objects.iter().map(deleted).collect() })
    }

    pub(super) fn configs(&self, request: &ListConfigRequest) -> Result<ListConfigResponse, Status> {
        let kind: Option<Kind> = match request.kind.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?),
        };
        let snapshot = self.inner.snapshots.borrow().clone();
        let wanted = |c: &&ConfigState| {
            let object = c.object.as_ref();
            (kind.is_none() || object.map(|o| o.kind) == kind)
                && (request.namespace.is_empty() || object.is_some_and(|o| o.namespace == request.namespace))
        };
        let config = snapshot.configs.iter().filter(wanted).map(|c| config_info(c, request.with_yaml)).collect();
        Ok(ListConfigResponse { config })
    }

    /// Files win over the API: a warning for who applies what will not count.
    fn shadowed_by_file(&self, object: &ObjectRef) -> Option<String> {
        let other = self.elsewhere(object)?;
        Some(format!("{other} says {object} too, and wins: this one has no effect until that is gone"))
    }

    /// Where else a resource of this name comes from, if that wins over the API.
    fn elsewhere(&self, object: &ObjectRef) -> Option<String> {
        let snapshot = self.inner.snapshots.borrow().clone();
        let other = |c: &&ConfigState| c.object.as_ref() == Some(object) && c.registry.kind == RegistryKind::Files;
        snapshot.configs.iter().find(other).map(|c| format!("file {}", c.origin))
    }
}

/// Events of everything that is stored; what can't be read any more is reported, not dropped.
pub(super) fn stored(store: &Store) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    for (key, record) in store.list::<ConfigRecord>()? {
        for parsed in parse_documents(&record.file, &record.yaml) {
            events.push(match parsed {
                Ok(parsed) => event(parsed.resource, &record),
                Err(error) => {
                    let origin = Origin { name: key.as_str().into(), line: 0 };
                    Event::Rejected { origin, message: error.to_string() }
                }
            });
        }
    }
    Ok(events)
}

fn resource(event: &Event) -> Option<&Arc<Resource>> {
    match event {
        Event::Upsert(Object::Config(resource, _)) => Some(resource),
        _ => None,
    }
}

fn event(resource: Resource, record: &ConfigRecord) -> Event {
    let name = if record.file.is_empty() { "api" } else { record.file.as_str() };
    Event::Upsert(Object::Config(Arc::new(resource), Origin { name: name.into(), line: record.line }))
}

/// Reads documents; every problem of every document is in the error.
fn read(documents: &[Document]) -> Result<BTreeMap<ObjectRef, Item>, Status> {
    let mut items: BTreeMap<ObjectRef, Item> = BTreeMap::new();
    let mut problems: Vec<String> = Vec::new();
    for Document { file, yaml } in documents {
        for parsed in parse_documents(file, yaml) {
            match parsed {
                Err(error) => problems.push(error.to_string()),
                Ok(parsed) => {
                    let resource = parsed.resource;
                    let record = ConfigRecord { yaml: resource.to_yaml(), file: file.clone(), line: parsed.line };
                    let report = honoured(&resource);
                    let warnings = report.unhonoured.iter().map(|u| format!("{}: {}", u.path, u.why)).collect();
                    let object = resource.object_ref();
                    if let Some(other) = items.get(&object) {
                        problems.push(format!("{}: {object} is in {} too", origin(&record), origin(&other.record)));
                    }
                    items.insert(object, Item { resource, record, warnings });
                }
            }
        }
    }
    if items.len() > MOST {
        problems.push(format!("{MOST} resources at most are applied at once"));
    }
    if problems.is_empty() { Ok(items) } else { Err(Status::invalid_argument(problems.join("\n"))) }
}

/// Whether what is stored says the same; where it is written does not count.
fn same(old: &ConfigRecord, new: &Resource) -> bool {
    old.yaml == new.to_yaml()
}

fn origin(record: &ConfigRecord) -> Origin {
    Origin { name: record.file.as_str().into(), line: record.line }
}

fn key(object: &ObjectRef) -> String {
    format!("{}/{}/{}", object.kind, object.namespace, object.name)
}

fn reference(object: &ObjectRef) -> admin::ObjectRef {
    admin::ObjectRef { kind: object.kind.to_string(), namespace: object.namespace.clone(), name: object.name.clone() }
}

fn config_info(state: &ConfigState, with_yaml: bool) -> ConfigInfo {
    let yaml = state.resource.as_ref().filter(|_| with_yaml).map(|r| r.to_yaml()).unwrap_or_default();
    ConfigInfo {
        object: state.object.as_ref().map(reference),
        source: state.registry.to_string(),
        origin: state.origin.to_string(),
        state: state.outcome.as_str().to_owned(),
        messages: state.messages.clone(),
        yaml,
    }
}
