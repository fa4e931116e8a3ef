//! What a Kubernetes cluster needs to run discovery, as objects.
//!
//! In: flags. Out: one stream of YAML, or a List as JSON. Invariant: nothing is asked of any server; rights are the least
//! that the parts need, each with its reason beside it.

use std::collections::BTreeSet;
use std::io::Read as _;

use hawser_api::istio::{Kind, definition};
use hawser_api::join_request;
use serde_json::{Value, json};

use crate::args::{Generate, Manifest, Present};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Format};

/// Its name, wherever one is needed.
const NAME: &str = "hawser-discovery";
/// The namespace of what counts in the whole mesh.
const ROOT: &str = "istio-system";
/// Its user in the image, as its packages make one.
const USER: u32 = 65_532;
/// Largest list of definitions that are there.
const MOST: u64 = 4 << 20;

/// Runs `hawser manifest`.
pub(crate) fn run(format: Format, manifest: &Manifest) -> Outcome {
    let objects = match manifest {
        Manifest::Crds(present) => definitions(present)?,
        Manifest::Generate(generate) => {
            let mut all = if generate.without_crds { Vec::new() } else { definitions(&generate.definitions)? };
            all.extend(objects(generate));
            all
        }
    };
    if format == Format::Json {
        output::value(format, &json!({"apiVersion": "v1", "kind": "List", "items": objects}))?;
        return Ok(exit::OK);
    }
    for object in &objects {
        output::text("---\n")?;
        output::value(Format::Yaml, object)?;
    }
    Ok(exit::OK)
}

/// The definitions that are not there yet: Istio's own, where it is installed, are better left alone.
fn definitions(present: &Present) -> Outcome<Vec<Value>> {
    let there = match &present.present {
        None => BTreeSet::new(),
        Some(file) => names(&read(file)?),
    };
    let wanted = Kind::ALL.into_iter().filter(|kind| !there.contains(&format!("{}.{}", kind.plural(), kind.group())));
    // Ours is always printed: nobody else keeps it up to date.
    Ok(wanted.map(definition).chain([join_request::definition()]).collect())
}

fn read(file: &std::path::Path) -> Outcome<String> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().take(MOST).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(MOST).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(exit::USAGE, format!("--present: {} can't be read: {error}", file.display()))
            .hint("kubectl get crd -o name | hawser manifest generate --present -")),
    }
}

/// Names, with or without what kubectl writes before them.
fn names(text: &str) -> BTreeSet<String> {
    let last = |line: &str| line.trim().rsplit('/').next().unwrap_or_default().to_owned();
    text.lines().map(last).filter(|name| !name.is_empty()).collect()
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "hawser", "app.kubernetes.io/managed-by": "hawser"})
}

fn metadata(generate: &Generate, name: &str) -> Value {
    json!({"name": name, "namespace": generate.namespace, "labels": labels()})
}

fn objects(generate: &Generate) -> Vec<Value> {
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": generate.namespace, "labels": labels()}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(generate, NAME)}),
        cluster_role(),
        binding("ClusterRole", None, &generate.namespace),
        join_tokens_role(),
    ];
    if generate.remote_clusters {
        all.push(role(ROOT, &json!([rule("", &["secrets"], &READ)])));
        all.push(binding("Role", Some(ROOT), &generate.namespace));
    }
    if !generate.outside {
        all.extend([config_map(generate), volume(generate), service(generate), deployment(generate)]);
    }
    all
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// How it reads.
const READ: [&str; 2] = ["list", "watch"];
/// How it writes what is its own: to apply is to create or to patch.
const WRITE: [&str; 3] = ["create", "patch", "delete"];

/// What it reads of the whole cluster, whose tokens it may ask about, and the little that it writes: answers to requests for join
/// tokens, hosts that joined, and what became of Istio's resources.
fn cluster_role() -> Value {
    let mut rules = vec![
        // Services and what is behind them; namespaces and nodes for their labels: network, region, zone.
        rule("", &["namespaces", "nodes", "pods", "services"], &READ),
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        // Whose the token of a pod is.
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        // Requests for join tokens: seen, answered in their status, taken away when nobody did.
        rule(join_request::GROUP, &[join_request::PLURAL], &["list", "watch", "delete"]),
        rule(join_request::GROUP, &["jointokenrequests/status"], &["patch"]),
    ];
    let groups: BTreeSet<&str> = Kind::ALL.into_iter().map(Kind::group).collect();
    for group in groups {
        let kinds: Vec<&str> = Kind::ALL.into_iter().filter(|k| k.group() == group).map(Kind::plural).collect();
        rules.push(rule(group, &kinds, &READ));
        let statuses: Vec<String> = kinds.iter().map(|kind| format!("{kind}/status")).collect();
        let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
        rules.push(rule(group, &statuses, &["patch"]));
    }
    rules.extend([
        // Joined hosts, for kubectl and an istiod beside us, and as endpoints of services.
        rule(Kind::WorkloadEntry.group(), &[Kind::WorkloadEntry.plural()], &WRITE),
        rule("discovery.k8s.io", &["endpointslices"], &WRITE),
        // Of resources that can't be used.
        rule("events.k8s.io", &["events"], &["create"]),
    ]);
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": NAME, "labels": labels()},
        "rules": rules})
}

/// What whoever may bring hosts into a namespace needs there. Nobody has it before it is bound, by a RoleBinding.
fn join_tokens_role() -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "hawser-join-tokens", "labels": labels()},
        "rules": [rule(join_request::GROUP, &[join_request::PLURAL], &["create", "get", "delete"])]})
}

fn role(namespace: &str, rules: &Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": NAME, "namespace": namespace, "labels": labels()}, "rules": rules})
}

fn binding(kind: &str, namespace: Option<&str>, account: &str) -> Value {
    let mut metadata = json!({"name": NAME, "labels": labels()});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"), "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": account}]})
}

/// Istio's MeshConfig keys, and where services come from: the cluster that it runs in.
fn config_map(generate: &Generate) -> Value {
    let mesh = format!("trustDomain: {}\nrootNamespace: {ROOT}\n", generate.trust_domain);
    let remote = if generate.remote_clusters { "{}" } else { "{remoteClusters: {disabled: true}}" };
    let registries = format!("registries:\n- name: cluster\n  kubernetes: {remote}\n");
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(generate, NAME),
        "data": {"mesh.yaml": mesh, "registries.yaml": registries}})
}

/// The store and the CA's key: what may not be lost.
fn volume(generate: &Generate) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata(generate, NAME),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": generate.storage}}}})
}

fn service(generate: &Generate) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(generate, NAME),
        "spec": {"selector": {"app.kubernetes.io/name": NAME}, "ports": [
            // xDS, certificates and hosts speak gRPC over TLS of its own.
            {"name": "tls-xds", "port": 15012, "targetPort": "tls-xds"},
            {"name": "http-monitoring", "port": 15014, "targetPort": "http-monitoring"}]}})
}

/// One replica, replaced and never doubled: its store has one writer.
fn deployment(generate: &Generate) -> Value {
    let mut args = vec![
        "--data-dir=/var/lib/hawser-discovery".to_owned(),
        "--admin-socket=/run/hawser-discovery/admin.sock".to_owned(),
        "--mesh-config=/etc/hawser/mesh.yaml".to_owned(),
        "--registries=/etc/hawser/registries.yaml".to_owned(),
        format!("--trust-domain={}", generate.trust_domain),
        format!("--advertise={NAME}.{}.svc:15012", generate.namespace),
    ];
    args.extend(generate.advertise.iter().map(|address| format!("--advertise={address}")));
    let probe = |path: &str, period: u32, failures: u32| json!({"httpGet": {"path": path, "port": "http-monitoring"}, "periodSeconds": period, "failureThreshold": failures});
    let container = json!({
        "name": "discovery", "image": generate.image, "args": args,
        "ports": [{"name": "tls-xds", "containerPort": 15012}, {"name": "http-monitoring", "containerPort": 15014}],
        // It is ready when every registry is; that it starts may take long where much is there.
        "startupProbe": probe("/healthz", 2, 90), "readinessProbe": probe("/readyz", 2, 2), "livenessProbe": probe("/healthz", 10, 6),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "store", "mountPath": "/var/lib/hawser-discovery"}, {"name": "run", "mountPath": "/run/hawser-discovery"},
            {"name": "config", "mountPath": "/etc/hawser", "readOnly": true}],
    });
    let security = json!({"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}});
    let pod = json!({
        "serviceAccountName": NAME, "securityContext": security, "containers": [container],
        // Longer than proxies take to find out and come back.
        "terminationGracePeriodSeconds": 30,
        "volumes": [
            {"name": "store", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "config", "configMap": {"name": NAME}}],
    });
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(generate, NAME), "spec": {
        "replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
        "template": {"metadata": {"labels": labels()}, "spec": pod}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate() -> Generate {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            generate: Generate,
        }
        Only::parse_from(["manifest", "--advertise", "mesh.example:15012"]).generate
    }

    #[test]
    fn one_replica_is_replaced_and_writes_nowhere_but_into_its_volumes() {
        let all = objects(&generate());
        let deployment = all.iter().find(|o| o["kind"] == "Deployment").unwrap();
        assert_eq!(
            (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
            (&json!(1), &json!("Recreate"))
        );
        let container = deployment.pointer("/spec/template/spec/containers/0").unwrap();
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert!(container["args"].as_array().unwrap().contains(&json!("--advertise=mesh.example:15012")));
    }

    #[test]
    fn a_discovery_elsewhere_needs_an_account_and_its_rights() {
        let all = objects(&Generate { outside: true, ..generate() });
        let kinds: Vec<&str> = all.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ClusterRole"]);
    }

    #[test]
    fn no_rule_has_a_star_and_little_of_the_cluster_is_written() {
        let mut written = BTreeSet::new();
        for role in objects(&generate()).iter().filter(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == NAME)
        {
            for rule in role["rules"].as_array().unwrap() {
                assert!(!rule.to_string().contains('*'), "{rule}");
                let words = |key: &str| rule[key].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned());
                for verb in words("verbs").filter(|verb| !READ.contains(&verb.as_str())) {
                    written.extend(words("resources").map(|resource| format!("{verb} {resource}")));
                }
            }
        }
        let mut allowed: BTreeSet<String> = Kind::ALL.map(|kind| format!("patch {}/status", kind.plural())).into();
        for resource in ["workloadentries", "endpointslices"] {
            allowed.extend(WRITE.map(|verb| format!("{verb} {resource}")));
        }
        allowed.extend(["create tokenreviews", "create events"].map(str::to_owned));
        allowed.extend(["delete jointokenrequests", "patch jointokenrequests/status"].map(str::to_owned));
        assert_eq!(written, allowed);
        assert!(
            !objects(&generate()).iter().any(|o| o.to_string().contains("secrets")),
            "secrets only if they are asked for"
        );
    }

    #[test]
    fn the_manifest_beside_the_packages_is_the_one_that_is_printed() {
        let printed: String = objects(&Generate { advertise: Vec::new(), ..generate() })
            .iter()
            .map(|object| format!("---\n{}", serde_saphyr::to_string(object).unwrap()))
            .collect();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/kubernetes/discovery.yaml");
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(kept == printed, "hawser manifest generate --without-crds > packaging/kubernetes/discovery.yaml");
    }

    #[test]
    fn kinds_that_are_there_are_left_alone() {
        let said = "customresourcedefinition.apiextensions.k8s.io/virtualservices.networking.istio.io\nsidecars.networking.istio.io\n";
        let there = names(said);
        assert!(
            there.contains("virtualservices.networking.istio.io") && there.contains("sidecars.networking.istio.io")
        );
        assert_eq!(definitions(&Present { present: None }).unwrap().len(), Kind::ALL.len() + 1);
    }
}
