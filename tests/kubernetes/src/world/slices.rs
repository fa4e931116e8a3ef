//! EndpointSlices, made of services and pods as the controller of a real cluster makes them.
//!
//! In: changes of services, pods and nodes. Out: slices, changed in place, a hundred endpoints each at most. Ports that
//! pods resolve differently, and families of addresses, have slices of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::kinds::Place;
use crate::server::Server;
use crate::store::{Change, Entry, Store};
use crate::write::{now, suffix};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const OURS: &str = "endpointslice-controller.k8s.io";
const SERVICE: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints of a slice.
const MOST: usize = 100;

type Named = (String, String);
type Labels = BTreeMap<String, String>;

/// A pod, as far as endpoints are made of it.
#[derive(Debug)]
struct Pod {
    name: String,
    uid: String,
    labels: Labels,
    ips: Vec<String>,
    node: Option<String>,
    hostname: Option<(String, String)>,
    ready: bool,
    ending: bool,
    over: bool,
    /// Named ports of containers: name, protocol, number.
    ports: Vec<(String, String, u64)>,
}

/// What the controller knows.
#[derive(Debug, Default)]
pub(super) struct Slices {
    pods: BTreeMap<String, BTreeMap<String, Arc<Pod>>>,
    services: BTreeMap<Named, (Labels, Arc<Value>)>,
    zones: BTreeMap<String, String>,
    due: BTreeSet<Named>,
}

fn text(value: &Value, at: &str) -> String {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn labels(value: &Value) -> Labels {
    let map = value.as_object();
    map.into_iter().flatten().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

impl Pod {
    fn read(object: &Value) -> Self {
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let listed = object.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
        let mut ips: Vec<String> = listed.filter_map(|ip| ip["ip"].as_str().map(str::to_owned)).collect();
        let first = text(object, "/status/podIP");
        if ips.is_empty() && !first.is_empty() {
            ips.push(first);
        }
        let containers = object.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
        let ports = containers.filter_map(|c| c["ports"].as_array()).flatten().filter_map(|p| {
            let protocol = p["protocol"].as_str().unwrap_or("TCP").to_owned();
            Some((p["name"].as_str()?.to_owned(), protocol, p["containerPort"].as_u64()?))
        });
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            name: text(object, "/metadata/name"),
            uid: text(object, "/metadata/uid"),
            labels: labels(&object["metadata"]["labels"]),
            node: some(text(object, "/spec/nodeName")),
            hostname: some(text(object, "/spec/hostname")).map(|name| (name, text(object, "/spec/subdomain"))),
            ready,
            ending: object.pointer("/metadata/deletionTimestamp").is_some(),
            over: matches!(object.pointer("/status/phase").and_then(Value::as_str), Some("Failed" | "Succeeded")),
            ports: ports.collect(),
            ips,
        }
    }
}

impl Slices {
    /// Takes note of a change.
    pub(super) fn look(&mut self, place: &Place, change: &Change) {
        let (namespace, name) = (change.now.namespace.clone(), change.now.name.clone());
        match (place.group.as_str(), place.plural.as_str()) {
            ("", "services") => {
                let key = (namespace, name);
                if change.deleted {
                    self.services.remove(&key);
                    self.due.remove(&key);
                } else {
                    let object = change.now.value();
                    let selector = labels(&object["spec"]["selector"]);
                    self.services.insert(key.clone(), (selector, Arc::new(object)));
                    self.due.insert(key);
                }
            }
            ("", "pods") => {
                let pods = self.pods.entry(namespace.clone()).or_default();
                let before = if change.deleted {
                    pods.remove(&name)
                } else {
                    pods.insert(name.clone(), Arc::new(Pod::read(&change.now.value())))
                };
                let after = pods.get(&name).cloned();
                for pod in before.iter().chain(after.iter()) {
                    self.due_by(&namespace, &pod.labels);
                }
            }
            ("", "nodes") => {
                let zone = change.now.labels().remove(ZONE).filter(|_| !change.deleted);
                let known = match zone {
                    Some(zone) => self.zones.insert(name, zone.clone()) == Some(zone),
                    None => self.zones.remove(&name).is_none(),
                };
                if !known {
                    self.due.extend(self.services.keys().cloned());
                }
            }
            _ => {}
        }
    }

    fn due_by(&mut self, namespace: &str, labels: &Labels) {
        let from = (namespace.to_owned(), String::new());
        let own = self.services.range(from..).take_while(|((n, _), _)| n == namespace);
        let fitting = own.filter(|(_, (selector, _))| fits(selector, labels)).map(|(key, _)| key.clone());
        self.due.extend(fitting.collect::<Vec<_>>());
    }

    /// Writes what is due.
    pub(super) fn write(&mut self, server: &Server) {
        for key in std::mem::take(&mut self.due) {
            let Some((selector, service)) = self.services.get(&key) else { continue };
            if selector.is_empty() || service["spec"]["type"] == "ExternalName" {
                continue;
            }
            let pods = self.pods.get(&key.0);
            let pods: Vec<Arc<Pod>> = pods
                .into_iter()
                .flat_map(BTreeMap::values)
                .filter(|p| !p.over && fits(selector, &p.labels))
                .cloned()
                .collect();
            let mut store = server.store();
            // It may have gone meanwhile.
            if store.get(&Place::new("", "services"), &key.0, &key.1).is_none() {
                continue;
            }
            let families = service["spec"]["ipFamilies"].as_array().cloned().unwrap_or_else(|| vec![json!("IPv4")]);
            for family in families.iter().filter_map(Value::as_str) {
                self.reconcile(&mut store, service, family, &pods);
            }
        }
    }

    fn reconcile(&self, store: &mut Store, service: &Value, family: &str, pods: &[Arc<Pod>]) {
        let namespace = text(service, "/metadata/namespace");
        let name = text(service, "/metadata/name");
        let owner = text(service, "/metadata/uid");
        let place = Place::new("discovery.k8s.io", "endpointslices");
        let known: Vec<(Arc<Entry>, Value)> = store
            .list(&place, Some(&namespace))
            .into_iter()
            .filter(|e| e.owners.contains(&owner))
            .map(|e| (Arc::clone(&e), e.value()))
            .filter(|(_, o)| {
                o["metadata"]["labels"][SERVICE] == name.as_str() && o["metadata"]["labels"][MANAGED_BY] == OURS
            })
            .filter(|(_, o)| o["addressType"] == family)
            .collect();
        let mut left: Vec<(Arc<Entry>, Value)> = known;
        let mut wanted: Vec<(Value, Value)> = Vec::new();
        for (ports, endpoints) in self.groups(service, family, pods) {
            let ordered = in_known_order(endpoints, &left);
            for chunk in ordered.chunks(MOST) {
                wanted.push((ports.clone(), chunk.to_vec().into()));
            }
        }
        if wanted.is_empty() {
            wanted.push((Value::Null, Value::Null));
        }
        for (ports, endpoints) in wanted {
            let same = left.iter().position(|(_, o)| o["ports"] == ports);
            let old = same.or((!left.is_empty()).then_some(0)).map(|at| left.remove(at));
            let mut object = old.as_ref().map_or_else(|| new_slice(&namespace, &name), |(_, o)| o.clone());
            object["addressType"] = family.into();
            object["endpoints"] = endpoints;
            object["ports"] = ports;
            object["metadata"]["labels"] = slice_labels(service, &name);
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Service", "name": name,
                "uid": owner, "controller": true, "blockOwnerDeletion": true}]);
            match old {
                Some((_, was)) if was == object => continue,
                Some((_, was)) => {
                    let generation = was.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
                    object["metadata"]["generation"] = (generation + 1).into();
                }
                None => {}
            }
            store.put(&place, &object);
        }
        for (entry, _) in left {
            store.remove(&place, &entry.namespace, &entry.name);
        }
    }

    /// Endpoints by the ports that their pods have for the service.
    fn groups(&self, service: &Value, family: &str, pods: &[Arc<Pod>]) -> Vec<(Value, Vec<Value>)> {
        let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
        for pod in pods {
            let ip = pod.ips.iter().find(|ip| ip.contains(':') == (family == "IPv6"));
            let Some(ip) = ip else { continue };
            let ports = ports(service, pod);
            let group = groups.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new()));
            group.1.push(self.endpoint(service, pod, ip));
        }
        groups.into_values().collect()
    }

    fn endpoint(&self, service: &Value, pod: &Pod, ip: &str) -> Value {
        let open = service["spec"]["publishNotReadyAddresses"] == true;
        let ready = open || (pod.ready && !pod.ending);
        let mut endpoint = json!({
            "addresses": [ip], "conditions": {"ready": ready, "serving": pod.ready, "terminating": pod.ending},
            "targetRef": {"kind": "Pod", "namespace": text(service, "/metadata/namespace"), "name": pod.name, "uid": pod.uid},
        });
        if let Some(node) = &pod.node {
            endpoint["nodeName"] = node.as_str().into();
            if let Some(zone) = self.zones.get(node) {
                endpoint["zone"] = zone.as_str().into();
            }
        }
        if let Some((hostname, _)) = pod.hostname.as_ref().filter(|(_, sub)| *sub == text(service, "/metadata/name")) {
            endpoint["hostname"] = hostname.as_str().into();
        }
        let near = text(service, "/spec/trafficDistribution");
        if ready && matches!(near.as_str(), "PreferSameZone" | "PreferClose" | "PreferSameNode") {
            let mut hints = json!({});
            if let Some(zone) = endpoint.get("zone") {
                hints["forZones"] = json!([{"name": zone}]);
            }
            if let Some(node) = endpoint.get("nodeName").filter(|_| near == "PreferSameNode") {
                hints["forNodes"] = json!([{"name": node}]);
            }
            endpoint["hints"] = hints;
        }
        endpoint
    }
}

fn fits(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

fn ports(service: &Value, pod: &Pod) -> Value {
    let of = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports = of.filter_map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let number = match &port["targetPort"] {
            Value::String(name) => pod.ports.iter().find(|(n, p, _)| n == name && p == protocol)?.2,
            other => other.as_u64().or(port["port"].as_u64())?,
        };
        let name = port["name"].as_str().unwrap_or_default();
        let mut made = json!({"name": name, "protocol": protocol, "port": number});
        if let Some(app) = port.get("appProtocol").filter(|a| !a.is_null()) {
            made["appProtocol"] = app.clone();
        }
        Some(made)
    });
    ports.collect()
}

/// What was there keeps its place; what is new comes behind.
fn in_known_order(endpoints: Vec<Value>, known: &[(Arc<Entry>, Value)]) -> Vec<Value> {
    let order: Vec<String> = known
        .iter()
        .filter_map(|(_, o)| o["endpoints"].as_array())
        .flatten()
        .map(|e| text(e, "/targetRef/uid"))
        .collect();
    let mut endpoints = endpoints;
    endpoints.sort_by_key(|e| {
        let uid = text(e, "/targetRef/uid");
        (order.iter().position(|known| *known == uid).unwrap_or(usize::MAX), text(e, "/targetRef/name"))
    });
    endpoints
}

fn new_slice(namespace: &str, service: &str) -> Value {
    json!({"metadata": {"name": format!("{service}-{}", suffix()), "generateName": format!("{service}-"),
        "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now(), "generation": 1}})
}

fn slice_labels(service: &Value, name: &str) -> Value {
    let mut all = labels(&service["metadata"]["labels"]);
    all.insert(SERVICE.to_owned(), name.to_owned());
    all.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    if service["spec"]["clusterIP"] == "None" {
        all.insert(HEADLESS.to_owned(), String::new());
    } else {
        all.remove(HEADLESS);
    }
    json!(all)
}
