//! What kinds there are: those that every server has, and those that definitions add.
//!
//! In: a table, and CustomResourceDefinitions. Out: [`Kind`]s, found by group, version and plural.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::schema::Schema;

/// A kind's place: its group and its plural.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) group: String,
    pub(crate) plural: String,
}

/// A version of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) served: bool,
    pub(crate) storage: bool,
    pub(crate) schema: Option<Arc<Schema>>,
}

/// A kind of object.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) list: String,
    pub(crate) singular: String,
    pub(crate) short: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) subresources: Vec<String>,
    pub(crate) versions: Vec<Version>,
    /// Made by a definition.
    pub(crate) custom: bool,
    /// Its definition is being deleted.
    pub(crate) ending: bool,
    /// Only created, never kept: reviews.
    pub(crate) asked_only: bool,
    /// Changes of the specification are counted.
    pub(crate) generations: bool,
    /// Which generation of its definition this is.
    pub(crate) revision: i64,
}

impl Place {
    pub(crate) fn new(group: &str, plural: &str) -> Self {
        Self { group: group.to_owned(), plural: plural.to_owned() }
    }

    /// `plural.group`, as error texts name it.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl Kind {
    /// `group/version`, or `version` for the core.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.place.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.place.group) }
    }

    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name && v.served)
    }

    /// The version that objects are kept in.
    pub(crate) fn storage(&self) -> &str {
        self.versions.iter().find(|v| v.storage).map_or("v1", |v| v.name.as_str())
    }

    pub(crate) fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|s| s == subresource)
    }

    /// An empty object of the kind, as a typed server writes it.
    pub(crate) fn empty(&self) -> Value {
        if self.custom {
            return json!({});
        }
        match self.name.as_str() {
            "Pod" => json!({"spec": {"containers": null}, "status": {}}),
            "Service" => json!({"spec": {}, "status": {"loadBalancer": {}}}),
            "EndpointSlice" => json!({"addressType": "", "endpoints": null, "ports": null}),
            "Namespace" | "Lease" => json!({"spec": {}, "status": {}}),
            "Node" => json!({"spec": {}, "status": {
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {}}}),
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => json!({"spec": {}, "status": {}}),
            _ => json!({}),
        }
    }

    /// The kind that a definition describes.
    ///
    /// # Errors
    /// A sentence that names the field that is missing.
    pub(crate) fn defined(definition: &Value) -> Result<Self, String> {
        let text = |at: &str| {
            definition.pointer(at).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("{at} is missing"))
        };
        let words = |at: &str| -> Vec<String> {
            let found = definition.pointer(at).and_then(Value::as_array);
            found.into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect()
        };
        let name = text("/spec/names/kind")?;
        let mut versions = Vec::new();
        let mut subresources = Vec::new();
        for version in definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten() {
            let schema = version.pointer("/schema/openAPIV3Schema").map(|s| Arc::new(Schema::new(s.clone())));
            if version.pointer("/subresources/status").is_some() && subresources.is_empty() {
                subresources.push("status".to_owned());
            }
            versions.push(Version {
                name: version["name"].as_str().ok_or("spec.versions[].name is missing")?.to_owned(),
                served: version["served"].as_bool().unwrap_or(false),
                storage: version["storage"].as_bool().unwrap_or(false),
                schema,
            });
        }
        versions.sort_by_key(|v| age(&v.name));
        Ok(Self {
            place: Place::new(&text("/spec/group")?, &text("/spec/names/plural")?),
            list: text("/spec/names/listKind").unwrap_or_else(|_| format!("{name}List")),
            singular: text("/spec/names/singular").unwrap_or_else(|_| name.to_lowercase()),
            short: words("/spec/names/shortNames"),
            categories: words("/spec/names/categories"),
            namespaced: text("/spec/scope")? == "Namespaced",
            ending: definition.pointer("/metadata/deletionTimestamp").is_some(),
            name,
            subresources,
            versions,
            custom: true,
            asked_only: false,
            generations: true,
            revision: definition.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
        })
    }
}

/// Order of versions: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha3`.
pub(crate) fn age(version: &str) -> (u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>) {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let rest = version.strip_prefix('v').unwrap_or(version);
    let major: u32 = digits(rest);
    let (rank, minor) = match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((_, minor)), _) => (1, digits(minor)),
        (_, Some((_, minor))) => (2, digits(minor)),
        _ => (0, 0),
    };
    (rank, std::cmp::Reverse(major), std::cmp::Reverse(minor))
}

/// The kinds that every server has.
pub(crate) fn built_in() -> BTreeMap<Place, Arc<Kind>> {
    TABLE.iter().map(|row| Arc::new(row.kind())).map(|kind| (kind.place.clone(), kind)).collect()
}

/// The verbs of what is kept.
pub(crate) const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same, in the order in which definitions' kinds have them.
pub(crate) const CUSTOM_VERBS: [&str; 8] =
    ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// Group, plural, kind, namespaced, short names, subresources, whether generations are counted, whether it is only asked.
struct Row(&'static str, &'static str, &'static str, bool, &'static [&'static str], &'static [&'static str], u8);

const KEPT: u8 = 0;
const COUNTED: u8 = 1;
const ASKED: u8 = 2;

impl Row {
    fn kind(&self) -> Kind {
        let Row(group, plural, name, namespaced, short, subresources, nature) = *self;
        let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let in_all =
            matches!(plural, "pods" | "services" | "deployments" | "replicasets" | "statefulsets" | "daemonsets");
        Kind {
            place: Place::new(group, plural),
            name: name.to_owned(),
            list: format!("{name}List"),
            singular: name.to_lowercase(),
            short: owned(short),
            categories: if in_all { owned(&["all"]) } else { Vec::new() },
            namespaced,
            subresources: owned(subresources),
            versions: vec![Version { name: "v1".to_owned(), served: true, storage: true, schema: None }],
            custom: false,
            ending: false,
            asked_only: nature == ASKED,
            generations: nature == COUNTED,
            revision: 0,
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

const TABLE: [Row; 35] = [
    Row("", "configmaps", "ConfigMap", true, &["cm"], &[], KEPT),
    Row("", "endpoints", "Endpoints", true, &["ep"], &[], KEPT),
    Row("", "events", "Event", true, &["ev"], &[], KEPT),
    Row("", "namespaces", "Namespace", false, &["ns"], &["finalize", "status"], KEPT),
    Row("", "nodes", "Node", false, &["no"], &["status"], KEPT),
    Row("", "persistentvolumeclaims", "PersistentVolumeClaim", true, &["pvc"], &["status"], KEPT),
    Row("", "pods", "Pod", true, &["po"], &["status"], COUNTED),
    Row("", "secrets", "Secret", true, &[], &[], KEPT),
    Row("", "serviceaccounts", "ServiceAccount", true, &["sa"], &["token"], KEPT),
    Row("", "services", "Service", true, &["svc"], &["status"], KEPT),
    Row("apps", "daemonsets", "DaemonSet", true, &["ds"], &["status"], COUNTED),
    Row("apps", "deployments", "Deployment", true, &["deploy"], &["status"], COUNTED),
    Row("apps", "replicasets", "ReplicaSet", true, &["rs"], &["status"], COUNTED),
    Row("apps", "statefulsets", "StatefulSet", true, &["sts"], &["status"], COUNTED),
    Row(AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", false, &[], &[], ASKED),
    Row(AUTHENTICATION, "tokenreviews", "TokenReview", false, &[], &[], ASKED),
    Row(AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", false, &[], &[], ASKED),
    Row(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", false, &[], &[], ASKED),
    Row(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        false,
        &[],
        &[],
        COUNTED,
    ),
    Row(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        false,
        &[],
        &[],
        COUNTED,
    ),
    Row(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        false,
        &["crd", "crds"],
        &["status"],
        COUNTED,
    ),
    Row("batch", "jobs", "Job", true, &[], &["status"], COUNTED),
    Row("coordination.k8s.io", "leases", "Lease", true, &[], &[], KEPT),
    Row("discovery.k8s.io", "endpointslices", "EndpointSlice", true, &[], &[], COUNTED),
    Row("events.k8s.io", "events", "Event", true, &["ev"], &[], KEPT),
    Row("networking.k8s.io", "ingresses", "Ingress", true, &["ing"], &["status"], COUNTED),
    Row("networking.k8s.io", "networkpolicies", "NetworkPolicy", true, &["netpol"], &[], COUNTED),
    Row("policy", "poddisruptionbudgets", "PodDisruptionBudget", true, &["pdb"], &["status"], COUNTED),
    Row("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true, &["hpa"], &["status"], COUNTED),
    Row("storage.k8s.io", "storageclasses", "StorageClass", false, &["sc"], &[], KEPT),
    Row("scheduling.k8s.io", "priorityclasses", "PriorityClass", false, &["pc"], &[], COUNTED),
    Row(RBAC, "clusterrolebindings", "ClusterRoleBinding", false, &[], &[], KEPT),
    Row(RBAC, "clusterroles", "ClusterRole", false, &[], &[], KEPT),
    Row(RBAC, "rolebindings", "RoleBinding", true, &[], &[], KEPT),
    Row(RBAC, "roles", "Role", true, &[], &[], KEPT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_preference() {
        let mut names = ["v1alpha3", "v1", "v1beta1", "v2", "v1beta2"];
        names.sort_by_key(|v| age(v));
        assert_eq!(names, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha3"]);
    }
}
