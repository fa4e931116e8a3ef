//! What a server fills in and what it refuses, for the built-in kinds and for the metadata of all.
//!
//! In: an object somebody wants to keep. Out: the object with its defaults, warnings, faults.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::refusal::Cause;

mod service;

pub(crate) use service::Addresses;

/// Bytes of all annotations together.
const ANNOTATIONS: usize = 262_144;
const NAME: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                    must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Fills in defaults of a built-in kind. `old` is what was there.
pub(crate) fn default(kind: &Kind, object: &mut Value, old: Option<&Value>, addresses: &mut Addresses) {
    match kind.name.as_str() {
        "Namespace" => namespace(object),
        "Pod" => pod(object, old.is_none()),
        "Service" => service::default(object, old, addresses),
        "EndpointSlice" => slice(object),
        "Lease" if object["spec"].is_null() => object["spec"] = json!({}),
        "ServiceAccount" | "ConfigMap" => {}
        "Deployment" => deployment(object),
        "Secret" if object["type"].is_null() => object["type"] = "Opaque".into(),
        "CustomResourceDefinition" => definition(object),
        _ => {}
    }
}

fn default_to(at: &mut Value, key: &str, value: Value) {
    if at.get(key).is_none_or(Value::is_null) {
        at[key] = value;
    }
}

fn namespace(object: &mut Value) {
    let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    if object["spec"].is_null() {
        object["spec"] = json!({"finalizers": ["kubernetes"]});
    }
    default_to(object, "status", json!({"phase": "Active"}));
}

fn pod(object: &mut Value, new: bool) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        *spec = json!({"containers": []});
    }
    let host = spec["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            self::container(container, host);
        }
    }
    let account = spec.get("serviceAccountName").or(spec.get("serviceAccount")).cloned().unwrap_or("default".into());
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", account.clone()),
        ("serviceAccount", account),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("priority", json!(0)),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        default_to(spec, key, value);
    }
    if new {
        default_to(
            &mut object["spec"],
            "tolerations",
            json!([
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ]),
        );
    }
    if object["status"].is_null() {
        object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    }
}

fn container(container: &mut Value, host: bool) {
    for (key, value) in [
        ("resources", json!({})),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("imagePullPolicy", json!("IfNotPresent")),
    ] {
        default_to(container, key, value);
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default_to(port, "protocol", json!("TCP"));
        if host {
            let number = port["containerPort"].clone();
            default_to(port, "hostPort", number);
        }
    }
}

fn deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    default_to(spec, "replicas", json!(1));
    default_to(
        spec,
        "strategy",
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
    );
    default_to(spec, "revisionHistoryLimit", json!(10));
    default_to(spec, "progressDeadlineSeconds", json!(600));
    default_to(object, "status", json!({}));
}

fn slice(object: &mut Value) {
    for list in ["endpoints", "ports"] {
        if object.get(list).is_none_or(|v| v.as_array().is_none_or(Vec::is_empty)) {
            object[list] = Value::Null;
        }
    }
    for endpoint in object.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
        default_to(endpoint, "conditions", json!({}));
    }
    for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default_to(port, "name", json!(""));
        default_to(port, "protocol", json!("TCP"));
    }
}

fn definition(object: &mut Value) {
    let names = &mut object["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    default_to(names, "listKind", format!("{kind}List").into());
    default_to(names, "singular", kind.to_lowercase().into());
    default_to(&mut object["spec"], "conversion", json!({"strategy": "None"}));
}

/// Faults of the metadata, and warnings about it.
pub(crate) fn metadata(object: &Value) -> (Vec<Cause>, Vec<String>) {
    let (mut causes, mut warnings) = (Vec::new(), Vec::new());
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if !is_subdomain(name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), NAME));
    }
    let annotations = metadata["annotations"].as_object();
    let bytes: usize = annotations.into_iter().flatten().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if bytes > ANNOTATIONS {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS));
    }
    let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    for owner in owners {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner[key].as_str().is_none_or(str::is_empty) {
                let field = format!("metadata.ownerReferences.{key}");
                causes.push(Cause::invalid(&field, &json!(""), "must not be empty"));
            }
        }
    }
    let controllers: Vec<&Value> = owners.iter().filter(|o| o["controller"] == true).collect();
    if let [first, second, ..] = controllers.as_slice() {
        let text = |o: &Value, key: &str| o[key].as_str().unwrap_or_default().to_owned();
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
            text(first, "kind"),
            text(first, "name"),
            text(second, "kind"),
            text(second, "name")
        );
        let shown: Vec<String> = owners.iter().map(shown_owner).collect();
        let text = format!("Invalid value: [{}]: {why}", shown.join(","));
        causes.push(Cause::new("FieldValueInvalid", "metadata.ownerReferences", text));
    }
    for finalizer in metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !finalizer.contains('/') && !matches!(finalizer, "orphan" | "foregroundDeletion") {
            warnings.push(format!(
                "metadata.finalizers: \"{finalizer}\": prefer a domain-qualified finalizer name to avoid accidental conflicts \
                 with other finalizer writers"
            ));
        }
    }
    (causes, warnings)
}

/// A reference to an owner, its keys in the order of the real server.
fn shown_owner(owner: &Value) -> String {
    let keys = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let each = keys.iter().filter_map(|key| Some(format!("\"{key}\":{}", owner.get(*key)?)));
    format!("{{{}}}", each.collect::<Vec<_>>().join(","))
}

/// Whether a text is a DNS subdomain.
fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Faults of a built-in kind, and warnings about it.
pub(crate) fn faults(kind: &Kind, object: &Value, old: Option<&Value>) -> (Vec<Cause>, Vec<String>) {
    match kind.name.as_str() {
        "EndpointSlice" => (slice_faults(object, old), slice_warnings(object)),
        "Event" if kind.place.group == "events.k8s.io" => (event_faults(object), Vec::new()),
        "Lease" => (lease_faults(object), Vec::new()),
        "Service" => (service::faults(object, old), Vec::new()),
        "Endpoints" => {
            (Vec::new(), vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()])
        }
        "Namespace" | "Pod" => (Vec::new(), Vec::new()),
        "CustomResourceDefinition" => (definition_faults(object), Vec::new()),
        _ => (Vec::new(), Vec::new()),
    }
}

fn event_faults(object: &Value) -> Vec<Cause> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let mut causes = Vec::new();
    if text("eventTime").is_empty() {
        causes.push(Cause::required("eventTime", ""));
    }
    for field in ["reportingController", "reportingInstance", "action", "reason"] {
        if text(field).is_empty() {
            causes.push(Cause::required(field, ""));
        } else if text(field).len() > 128 {
            causes.push(Cause::invalid(field, &object[field], "can have at most 128 characters"));
        }
    }
    if text("note").len() > 1024 {
        causes.push(Cause::invalid("message", &"".into(), "can have at most 1024 characters"));
    }
    if !["Normal", "Warning"].contains(&text("type")) {
        causes.push(Cause::invalid("type", &object["type"], "has invalid value"));
    }
    let about = object.pointer("/regarding/namespace").and_then(Value::as_str).unwrap_or_default();
    if Some(about) != object.pointer("/metadata/namespace").and_then(Value::as_str) {
        causes.push(Cause::invalid("involvedObject.namespace", &about.into(), "does not match event.namespace"));
    }
    causes
}

fn slice_warnings(object: &Value) -> Vec<String> {
    let old = object["addressType"] == "FQDN";
    old.then(|| "spec.addressType: FQDN endpoints are deprecated".to_owned()).into_iter().collect()
}

fn too_many(field: &str, count: usize, most: usize) -> Option<Cause> {
    let text = format!("Too many: {count}: must have at most {most} items");
    (count > most).then(|| Cause::new("FieldValueTooMany", field, text))
}

fn slice_faults(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = object["addressType"].as_str().unwrap_or_default();
    if kind.is_empty() {
        return vec![Cause::required("addressType", "")];
    }
    if let Some(old) = old.filter(|old| old["addressType"] != object["addressType"])
        && !old["addressType"].is_null()
    {
        return vec![Cause::invalid("addressType", &object["addressType"], "field is immutable")];
    }
    let endpoints = object["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(cause) = too_many("endpoints", endpoints.len(), 1000) {
        return vec![cause];
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        let field = format!("endpoints[{at}].addresses");
        let addresses = endpoint["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        if addresses.is_empty() {
            causes.push(Cause::required(&field, "must contain at least 1 address"));
        }
        if let Some(cause) = too_many(&field, addresses.len(), 100) {
            causes.push(cause);
            continue;
        }
        for (n, address) in addresses.iter().enumerate() {
            causes.extend(address_fault(kind, &field, n, address));
        }
    }
    let ports = object["ports"].as_array().map_or(&[][..], Vec::as_slice);
    for (at, port) in ports.iter().enumerate() {
        if ports.iter().take(at).any(|other| other["name"] == port["name"]) {
            let text = format!("Duplicate value: {}", port["name"]);
            causes.push(Cause::new("FieldValueDuplicate", &format!("ports[{at}].name"), text));
        }
    }
    causes
}

fn address_fault(kind: &str, field: &str, at: usize, address: &Value) -> Option<Cause> {
    let text = address.as_str().unwrap_or_default();
    if kind == "FQDN" {
        return (!is_subdomain(text)).then(|| Cause::invalid(&format!("{field}[{at}]"), address, NAME));
    }
    let one = format!("{field}[{at}]");
    let padded = text.split('.').any(|part| part.len() > 1 && part.starts_with('0')) && !text.contains(':');
    if padded {
        return Some(Cause::invalid(&one, address, "must not have leading 0s"));
    }
    let fits = match text.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv6() == (kind == "IPv6"),
        Err(_) => false,
    };
    if !fits {
        return Some(Cause::invalid(field, address, &format!("must be an {kind} address")));
    }
    let ip = text.parse::<IpAddr>().ok()?;
    let what = if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    } else if ip.is_unspecified() {
        "may not be unspecified (0.0.0.0 or ::)"
    } else if matches!(ip, IpAddr::V4(v4) if v4.is_link_local()) {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    } else {
        return None;
    };
    Some(Cause::invalid(&one, address, what))
}

fn lease_faults(object: &Value) -> Vec<Cause> {
    let seconds = &object["spec"]["leaseDurationSeconds"];
    if seconds.as_i64().is_some_and(|s| s <= 0) {
        return vec![Cause::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0")];
    }
    Vec::new()
}

/// A time of a Lease that has other than six decimals, if there is one.
pub(crate) fn bad_micro_time(object: &Value) -> Option<String> {
    let bad = |text: &&str| {
        let decimals = text.rsplit_once('.').and_then(|(_, rest)| rest.strip_suffix('Z')).unwrap_or_default();
        decimals.len() != 6 || text.parse::<jiff::Timestamp>().is_err()
    };
    let times = ["acquireTime", "renewTime"].into_iter().filter_map(|key| object["spec"][key].as_str());
    times.filter(|t| bad(t)).map(str::to_owned).next()
}

fn definition_faults(object: &Value) -> Vec<Cause> {
    let part = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let wanted = format!("{}.{}", part("/spec/names/plural"), part("/spec/group"));
    let mut causes = Vec::new();
    if part("/metadata/name") != wanted {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &json!(part("/metadata/name")), why));
    }
    let none = Vec::new();
    let versions = object.pointer("/spec/versions").and_then(Value::as_array).unwrap_or(&none);
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::new("FieldValueInvalid", "spec.versions", format!("Invalid value: {why}")));
    }
    for (at, version) in versions.iter().enumerate() {
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            causes
                .push(Cause::required(&format!("spec.versions[{at}].schema.openAPIV3Schema"), "schemas are required"));
        }
    }
    causes
}

/// Takes the status out of what is created, where only its subresource may write it.
pub(crate) fn without_status(kind: &Kind, object: &mut Value) {
    if !kind.has("status") || matches!(kind.name.as_str(), "Node") {
        return;
    }
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
}

/// Removes keys whose value is null from an object's metadata: typed servers never write them.
pub(crate) fn tidy(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.retain(|_, value| {
        let empty = match value {
            Value::Null => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        !empty
    });
    metadata.remove("selfLink");
}

/// The empty metadata of a new object.
pub(crate) fn metadata_of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    if !object.get("metadata").is_some_and(Value::is_object) {
        object.as_object_mut()?.insert("metadata".to_owned(), json!({}));
    }
    object.get_mut("metadata")?.as_object_mut()
}
