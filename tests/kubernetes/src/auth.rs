//! Who asks, and whether they may: static tokens, service accounts' tokens, RBAC objects.
//!
//! In: an Authorization header, a request's attributes, the store. Out: a [`User`], or a refusal; a permission with its
//! reason, or none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kinds::Place;
use crate::refusal::Refusal;
use crate::store::Store;

/// Somebody who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Unique id, empty if there is none.
    #[serde(default)]
    pub uid: String,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What else is known.
    #[serde(default)]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What somebody wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) place: Place,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// A path that is no resource.
    pub(crate) path: Option<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl User {
    /// One who may do everything.
    pub fn admin() -> Self {
        Self {
            name: "admin".to_owned(),
            uid: "admin".to_owned(),
            groups: vec!["system:masters".to_owned()],
            ..Self::default()
        }
        .authenticated()
    }

    pub(crate) fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Self::default()
        }
    }

    pub(crate) fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        let name = format!("system:serviceaccount:{namespace}:{name}");
        Self { name, uid: uid.to_owned(), groups, ..Self::default() }.authenticated()
    }

    /// With the group of everybody who is known.
    pub(crate) fn authenticated(mut self) -> Self {
        self.groups.push("system:authenticated".to_owned());
        self
    }

    pub(crate) fn is_master(&self) -> bool {
        self.is_in("system:masters")
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    pub(crate) fn info(&self) -> Value {
        let mut info = json!({"username": self.name});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// Whether somebody may do something: the reason why, if so.
pub(crate) fn allowed(store: &Store, user: &User, attributes: &Attributes) -> Option<String> {
    if user.is_master() {
        return Some(String::new());
    }
    if open_to_all(user, attributes) {
        return Some("RBAC: allowed by default".to_owned());
    }
    let rbac = |plural: &str| Place::new("rbac.authorization.k8s.io", plural);
    for entry in store.list(&rbac("clusterrolebindings"), None) {
        let binding = entry.value();
        if let Some(subject) = subject(&binding, user, "")
            && role_allows(store, &binding, "", attributes)
        {
            let role = binding.pointer("/roleRef/name").and_then(Value::as_str).unwrap_or_default();
            let name = &entry.name;
            return Some(format!(
                "RBAC: allowed by ClusterRoleBinding \"{name}\" of ClusterRole \"{role}\" to {subject}"
            ));
        }
    }
    if attributes.namespace.is_empty() {
        return None;
    }
    for entry in store.list(&rbac("rolebindings"), Some(&attributes.namespace)) {
        let binding = entry.value();
        if let Some(subject) = subject(&binding, user, &attributes.namespace)
            && role_allows(store, &binding, &attributes.namespace, attributes)
        {
            let part = |at: &str| binding.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (kind, role) = (part("/roleRef/kind"), part("/roleRef/name"));
            let whose = format!("{}/{}", entry.name, entry.namespace);
            return Some(format!("RBAC: allowed by RoleBinding \"{whose}\" of {kind} \"{role}\" to {subject}"));
        }
    }
    None
}

/// What roles that every cluster has give to everybody.
fn open_to_all(user: &User, asked: &Attributes) -> bool {
    let known = user.is_in("system:authenticated");
    if let Some(path) = &asked.path {
        let public = ["/healthz", "/livez", "/readyz", "/version"];
        let below = |roots: &[&str]| roots.iter().any(|r| path == r || path.starts_with(&format!("{r}/")));
        let keys =
            user.is_in("system:serviceaccounts") && below(&["/.well-known/openid-configuration", "/openid/v1/jwks"]);
        return asked.verb == "get" && (below(&public) || known && below(&["/api", "/apis", "/openapi"]) || keys);
    }
    let own = ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"];
    known && asked.verb == "create" && own.contains(&asked.place.plural.as_str())
}

/// The subject of a binding that somebody is, as reasons name it.
fn subject(binding: &Value, user: &User, namespace: &str) -> Option<String> {
    binding["subjects"].as_array()?.iter().find_map(|subject| {
        let name = subject["name"].as_str()?;
        match subject["kind"].as_str()? {
            "User" => (user.name == name).then(|| format!("User \"{name}\"")),
            "Group" => user.is_in(name).then(|| format!("Group \"{name}\"")),
            "ServiceAccount" => {
                let namespace = subject["namespace"].as_str().unwrap_or(namespace);
                let whole = format!("system:serviceaccount:{namespace}:{name}");
                (user.name == whole).then(|| format!("ServiceAccount \"{name}/{namespace}\""))
            }
            _ => None,
        }
    })
}

fn role_allows(store: &Store, binding: &Value, namespace: &str, asked: &Attributes) -> bool {
    let part = |at: &str| binding.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let (plural, namespace) =
        if part("/roleRef/kind") == "ClusterRole" { ("clusterroles", "") } else { ("roles", namespace) };
    let role = store.get(&Place::new("rbac.authorization.k8s.io", plural), namespace, part("/roleRef/name"));
    let Some(role) = role.map(|r| r.value()) else { return false };
    role["rules"].as_array().into_iter().flatten().any(|rule| rule_allows(rule, asked))
}

fn rule_allows(rule: &Value, asked: &Attributes) -> bool {
    let has = |key: &str, wanted: &str| {
        let words = rule[key].as_array();
        words.into_iter().flatten().filter_map(Value::as_str).any(|word| word == "*" || word == wanted)
    };
    if let Some(path) = &asked.path {
        let urls = rule["nonResourceURLs"].as_array();
        let fits = |url: &str| url == path || url.strip_suffix('*').is_some_and(|start| path.starts_with(start));
        return has("verbs", &asked.verb) && urls.into_iter().flatten().filter_map(Value::as_str).any(fits);
    }
    let resource = if asked.subresource.is_empty() {
        asked.place.plural.clone()
    } else {
        format!("{}/{}", asked.place.plural, asked.subresource)
    };
    let named =
        rule["resourceNames"].as_array().is_none_or(|names| names.is_empty() || names.contains(&json!(asked.name)));
    has("verbs", &asked.verb) && has("apiGroups", &asked.place.group) && has("resources", &resource) && named
}

/// A refusal in RBAC's words.
pub(crate) fn refuse(user: &User, asked: &Attributes) -> Refusal {
    if let Some(path) = &asked.path {
        return Refusal::forbidden_path(&user.name, &asked.verb, path);
    }
    let resource = if asked.subresource.is_empty() {
        asked.place.plural.clone()
    } else {
        format!("{}/{}", asked.place.plural, asked.subresource)
    };
    let whence = if asked.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", asked.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {whence}",
        user.name, asked.verb, asked.place.group
    );
    let name = (!asked.name.is_empty() && asked.verb != "create").then_some(asked.name.as_str());
    Refusal::forbidden(&asked.place, name, &why)
}
