//! A change of any resource of the configuration reaches a proxy, and nothing else is sent again: counted, for each kind of
//! resource and each data plane, through sessions of both ends.

#![allow(clippy::unwrap_used)] // helpers of tests fail by panic

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::DeltaDiscoveryResponse;
use hawser_discovery::compiler::{Compiler, Sight};
use hawser_discovery::registry::{self, EventSender, MemoryBook, Settings, Snapshot, Snapshots};
use hawser_discovery::view::{Class, Client};
use hawser_mesh::{Event, Object, Origin, RegistryId, RegistryKind};
use hawser_xds::{Changes, ClientLimits, Closure, DeltaClient, DeltaServer, Limits, Source, TypeUrl};

/// Two services with a workload each, and the workload whose proxy is asked.
const WORLD: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: default}
spec:
  hosts: [one.test]
  addresses: [203.0.113.1]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: one}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: other}
spec:
  hosts: [two.test]
  addresses: [203.0.113.2]
  location: MESH_INTERNAL
  ports: [{number: 81, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one, namespace: default, labels: {security.istio.io/tlsMode: istio}}
spec: {address: 10.0.0.1, labels: {app: one}, serviceAccount: one}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: me, namespace: default}
spec: {address: 10.0.0.31, labels: {app: me}, serviceAccount: me, ports: {http: 8080}}
";

const FILES: RegistryKind = RegistryKind::Files;

fn config(text: &str) -> Vec<Event> {
    let parsed = hawser_api::istio::parse_documents("input.yaml", text).into_iter().map(Result::unwrap);
    let origin = |line| Origin { name: "input.yaml".into(), line };
    parsed.map(|p| Event::Upsert(Object::Config(Arc::new(p.resource), origin(p.line)))).collect()
}

/// Both ends of a proxy's stream.
struct Stream {
    compiler: Compiler,
    client: Client,
    server: DeltaServer,
    proxy: DeltaClient,
    snapshot: Arc<Snapshot>,
}

impl Stream {
    /// A proxy that holds all that it wants.
    fn open(class: Class, snapshot: Arc<Snapshot>) -> Self {
        let node = Node { id: "sidecar~10.0.0.31~me.default~default.svc.cluster.local".to_owned(), ..Node::default() };
        let labels = [("app".to_owned(), "me".to_owned())].into();
        let client = Client { class, labels, ..Client::from_node(&node, false) };
        let closure = || if class == Class::Envoy { Closure::Off } else { Closure::On };
        let mut stream = Self {
            compiler: Compiler::default(),
            client,
            server: DeltaServer::new(Limits::default(), closure()),
            proxy: DeltaClient::new(node, closure(), ClientLimits::default()),
            snapshot,
        };
        for (ty, names) in stream.wanted() {
            stream.proxy.subscribe(&ty, &names).unwrap();
        }
        let requests = stream.proxy.connect();
        let mut responses = Vec::new();
        for request in requests {
            let sight = Sight::new(&stream.compiler, &stream.client, &stream.snapshot);
            responses.extend(stream.server.on_request(request, &sight, Instant::now()).unwrap());
        }
        assert!(!stream.take(responses).is_empty());
        stream
    }

    /// What a proxy subscribes to: ours by name, an Envoy to everything and to what that leads to.
    fn wanted(&self) -> Vec<(TypeUrl, Vec<String>)> {
        if self.client.class != Class::Envoy {
            let listeners = ["virtualInbound", "203.0.113.1_80", "203.0.113.2_81"];
            return vec![(TypeUrl::LISTENER, listeners.map(str::to_owned).to_vec())];
        }
        let sight = Sight::new(&self.compiler, &self.client, &self.snapshot);
        let below = |from: TypeUrl, to: &TypeUrl| -> Vec<String> {
            let needs = sight.names(&from).into_iter().flat_map(|name| sight.closure(&from, &name));
            let names: BTreeSet<String> = needs.filter(|(ty, _)| ty == to).map(|(_, name)| name.to_string()).collect();
            names.into_iter().collect()
        };
        let all = || vec!["*".to_owned()];
        vec![
            (TypeUrl::CLUSTER, all()),
            (TypeUrl::ENDPOINTS, below(TypeUrl::CLUSTER, &TypeUrl::ENDPOINTS)),
            (TypeUrl::LISTENER, all()),
            (TypeUrl::ROUTE, below(TypeUrl::LISTENER, &TypeUrl::ROUTE)),
        ]
    }

    /// What of a new snapshot is sent, resources with `+` and removals with `-`.
    fn follow(&mut self, snapshot: Arc<Snapshot>) -> Vec<String> {
        let responses = {
            let before = Sight::new(&self.compiler, &self.client, &self.snapshot);
            let sight = Sight::new(&self.compiler, &self.client, &snapshot);
            let changes = match before.same_view(&sight) {
                true => sight.touched(&self.snapshot),
                false => Changes::all(),
            };
            self.server.on_change(&changes, &sight, Instant::now())
        };
        self.snapshot = snapshot;
        self.take(responses)
    }

    /// Takes responses, and what acknowledging them brings.
    fn take(&mut self, responses: Vec<DeltaDiscoveryResponse>) -> Vec<String> {
        let (mut sent, mut left) = (Vec::new(), std::collections::VecDeque::from(responses));
        while let Some(response) = left.pop_front() {
            let update = self.proxy.on_response(response).unwrap();
            sent.extend(update.upserts.iter().map(|resource| format!("+{} {}", update.ty.short(), resource.name)));
            sent.extend(update.removed.iter().map(|name| format!("-{} {name}", update.ty.short())));
            if let Some(request) = self.proxy.accept(&update.ty, &update.nonce) {
                let sight = Sight::new(&self.compiler, &self.client, &self.snapshot);
                left.extend(self.server.on_request(request, &sight, Instant::now()).unwrap());
            }
        }
        sent.sort();
        sent
    }
}

/// The snapshot that shows a change.
async fn changed(events: &EventSender, snapshots: &mut Snapshots, change: Vec<Event>) -> Arc<Snapshot> {
    let before = snapshots.borrow_and_update().revision;
    events.send((RegistryId::only(FILES), change)).await.unwrap();
    snapshots.wait_for(|snapshot| snapshot.revision > before).await.unwrap().clone()
}

/// A change, and what of it comes to hawser-proxy and to an Envoy.
struct Change {
    what: &'static str,
    yaml: &'static str,
    ours: &'static [&'static str],
    envoy: &'static [&'static str],
}

const CHANGES: &[Change] = &[
    Change {
        what: "VirtualService",
        yaml: "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: one, namespace: default}\n\
               spec: {hosts: [one.test], http: [{timeout: 3s, route: [{destination: {host: one.test}}]}]}\n",
        ours: &["+RouteConfiguration one.test:80"],
        envoy: &["+RouteConfiguration 80"],
    },
    Change {
        what: "DestinationRule",
        yaml: "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: one, namespace: default}\n\
               spec: {host: one.test, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}}\n",
        // An Envoy that gets a cluster waits for its endpoints.
        ours: &["+Cluster outbound|80||one.test", "+ClusterLoadAssignment outbound|80||one.test"],
        envoy: &["+Cluster outbound|80||one.test", "+ClusterLoadAssignment outbound|80||one.test"],
    },
    Change {
        what: "ServiceEntry",
        yaml: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: two, namespace: other}\n\
               spec: {hosts: [two.test], addresses: [203.0.113.2], location: MESH_INTERNAL, resolution: STATIC, \
               ports: [{number: 81, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.2}, {address: 10.0.0.3}]}\n",
        ours: &["+ClusterLoadAssignment outbound|81||two.test"],
        envoy: &["+ClusterLoadAssignment outbound|81||two.test"],
    },
    Change {
        what: "WorkloadEntry",
        yaml: "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
               metadata: {name: one, namespace: default, labels: {security.istio.io/tlsMode: istio}}\n\
               spec: {address: 10.0.0.11, labels: {app: one}, serviceAccount: one}\n",
        ours: &["+ClusterLoadAssignment outbound|80||one.test"],
        envoy: &["+ClusterLoadAssignment outbound|80||one.test"],
    },
    Change {
        what: "PeerAuthentication of a callee",
        yaml: "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: one, namespace: default}\n\
               spec: {selector: {matchLabels: {app: one}}, mtls: {mode: DISABLE}}\n",
        ours: &["+ClusterLoadAssignment outbound|80||one.test"],
        envoy: &["+ClusterLoadAssignment outbound|80||one.test"],
    },
    Change {
        what: "PeerAuthentication of its own",
        yaml: "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: me, namespace: default}\n\
               spec: {selector: {matchLabels: {app: me}}, mtls: {mode: STRICT}}\n",
        ours: &["+Listener virtualInbound"],
        envoy: &["+Listener virtualInbound"],
    },
    Change {
        what: "AuthorizationPolicy of its own",
        yaml: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: me, namespace: default}\n\
               spec: {selector: {matchLabels: {app: me}}, action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}\n",
        ours: &["+Listener virtualInbound"],
        envoy: &["+Listener virtualInbound"],
    },
    Change {
        what: "AuthorizationPolicy of others",
        yaml: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: one, namespace: default}\n\
               spec: {selector: {matchLabels: {app: one}}, action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}\n",
        ours: &[],
        envoy: &[],
    },
    Change {
        what: "RequestAuthentication of its own",
        yaml: "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: me, namespace: default}\n\
               spec: {selector: {matchLabels: {app: me}}, jwtRules: [{issuer: a.test, jwks: '{\"keys\": []}'}]}\n",
        ours: &["+Listener virtualInbound"],
        envoy: &["+Listener virtualInbound"],
    },
    Change {
        what: "RequestAuthentication of others",
        yaml: "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: one, namespace: default}\n\
               spec: {selector: {matchLabels: {app: one}}, jwtRules: [{issuer: a.test, jwks: '{\"keys\": []}'}]}\n",
        ours: &[],
        envoy: &[],
    },
    Change {
        what: "Sidecar of others",
        yaml: "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: one, namespace: default}\n\
               spec: {workloadSelector: {labels: {app: one}}, egress: [{hosts: ['~/*']}]}\n",
        ours: &[],
        envoy: &[],
    },
    Change {
        what: "Sidecar of its own",
        yaml: "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: me, namespace: default}\n\
               spec: {workloadSelector: {labels: {app: me}}, egress: [{hosts: ['./*']}]}\n",
        // What is captured still and nobody's any more goes on as it is.
        ours: &[
            "+Cluster PassthroughCluster",
            "+Listener 203.0.113.2_81",
            "-Cluster outbound|81||two.test",
            "-ClusterLoadAssignment outbound|81||two.test",
            "-RouteConfiguration two.test:81",
        ],
        envoy: &[
            "-Cluster outbound|81||two.test",
            "-ClusterLoadAssignment outbound|81||two.test",
            "-Listener 0.0.0.0_81",
            "-RouteConfiguration 81",
        ],
    },
    Change {
        what: "Sidecar of its own, a listener to bind",
        yaml: "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: me, namespace: default}\n\
               spec: {workloadSelector: {labels: {app: me}}, egress: [{hosts: ['./*'], captureMode: NONE, \
               port: {number: 80, protocol: HTTP, name: http}}, {hosts: ['./*']}]}\n",
        // Ours asks for it by its name, which it is told.
        ours: &["+Listener virtualInbound"],
        envoy: &["+Listener 127.0.0.1_80"],
    },
];

#[tokio::test]
async fn a_change_of_any_resource_reaches_the_proxies_with_nothing_else_resent() {
    let settings = Settings::new("cluster.local".parse().unwrap());
    let files = RegistryId::only(FILES);
    let (events, mut snapshots) = registry::spawn(settings, [files], Box::new(MemoryBook)).unwrap();
    let mut first = config(WORLD);
    first.push(Event::Synced);
    let snapshot = changed(&events, &mut snapshots, first).await;
    assert!(snapshot.ready());
    let mut ours = Stream::open(Class::Hawser(1), snapshot.clone());
    let mut envoy = Stream::open(Class::Envoy, snapshot);
    for change in CHANGES {
        let snapshot = changed(&events, &mut snapshots, config(change.yaml)).await;
        assert_eq!(ours.follow(snapshot.clone()), change.ours, "{}, hawser-proxy", change.what);
        assert_eq!(envoy.follow(snapshot), change.envoy, "{}, Envoy", change.what);
    }
}
