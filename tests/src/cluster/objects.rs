//! The objects of the mixed mesh that tests and the demo show: services of Bookinfo, two nodes in two zones, rules.

/// Services with the addresses that the cluster gave them.
pub const SERVICES: [(&str, &str); 3] = [
    ("details.default.svc.cluster.local", "10.96.0.11"),
    ("reviews.default.svc.cluster.local", "10.96.0.12"),
    ("ratings.default.svc.cluster.local", "10.96.0.13"),
];

/// Nodes `node-a` and `node-b` in zones `a` and `b` of region `eu-1`.
pub fn nodes() -> String {
    let node = |zone: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: node-{zone}\n\
             \x20 labels: {{topology.kubernetes.io/region: eu-1, topology.kubernetes.io/zone: {zone}}}\n---\n"
        )
    };
    node("a") + &node("b")
}

/// The services; who is behind each is for its selector to say.
pub fn services() -> String {
    let service = |(name, address): &(&str, &str)| {
        let app = name.split('.').next().unwrap_or_default();
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {app}, namespace: default}}\n\
             spec: {{clusterIP: {address}, selector: {{app: {app}}}, ports: [{{name: http, port: 9080, targetPort: 9080}}]}}\n---\n"
        )
    };
    SERVICES.iter().map(service).collect()
}

/// Subsets of reviews by version; with `near`, callers prefer what is in their own zone.
pub fn subsets(near: bool) -> String {
    let policy = if near {
        "  trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 5}\n    loadBalancer: {localityLbSetting: {enabled: true}}\n"
    } else {
        ""
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: reviews, namespace: default}}\n\
         spec:\n  host: reviews\n  subsets:\n  - {{name: v1, labels: {{version: v1}}}}\n  - {{name: v2, labels: {{version: v2}}}}\n{policy}"
    )
}

/// So much of a hundred requests for reviews to v1, the rest to v2.
pub fn weights(v1: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: default}}\n\
         spec:\n  hosts: [reviews]\n  http:\n  - route:\n\
         \x20   - {{destination: {{host: reviews, subset: v1}}, weight: {v1}}}\n\
         \x20   - {{destination: {{host: reviews, subset: v2}}, weight: {}}}\n",
        100 - v1
    )
}

/// An account of namespace `default` that may ask for join tokens there.
pub fn may_bring_hosts(account: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: default}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {account}, namespace: default}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: hawser-join-tokens}}\n\
         subjects: [{{kind: ServiceAccount, name: {account}, namespace: default}}]\n"
    )
}
