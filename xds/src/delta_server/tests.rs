use super::*;
use crate::status::State;
use crate::tests::world::{CDS, EDS, LDS, RDS, World};

struct Stream {
    server: DeltaServer,
    world: World,
    now: Instant,
}

impl Stream {
    fn new(closure: Closure, world: World) -> Self {
        Self { server: DeltaServer::new(Limits::default(), closure), world, now: Instant::now() }
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        self.server.on_request(request, &self.world, self.now).unwrap()
    }

    fn subscribe(&mut self, ty: TypeUrl, names: &[&str]) -> Vec<DeltaDiscoveryResponse> {
        self.send(DeltaDiscoveryRequest { resource_names_subscribe: strings(names), ..of(&ty) })
    }

    fn unsubscribe(&mut self, ty: TypeUrl, names: &[&str]) -> Vec<DeltaDiscoveryResponse> {
        self.send(DeltaDiscoveryRequest { resource_names_unsubscribe: strings(names), ..of(&ty) })
    }

    fn resume(&mut self, ty: TypeUrl, names: &[&str], held: &[(&str, &str)]) -> Vec<DeltaDiscoveryResponse> {
        let initial_resource_versions = held.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.send(DeltaDiscoveryRequest {
            resource_names_subscribe: strings(names),
            initial_resource_versions,
            ..of(&ty)
        })
    }

    fn ack(&mut self, response: &DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryResponse> {
        let ty = TypeUrl::from(response.type_url.as_str());
        self.send(DeltaDiscoveryRequest { response_nonce: response.nonce.clone(), ..of(&ty) })
    }

    fn nack(&mut self, response: &DeltaDiscoveryResponse, message: &str) -> Vec<DeltaDiscoveryResponse> {
        let error = hawser_api::proto::google::rpc::Status { message: message.to_owned(), ..Default::default() };
        let ty = TypeUrl::from(response.type_url.as_str());
        self.send(DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            error_detail: Some(error),
            ..of(&ty)
        })
    }

    fn ack_all(&mut self, mut responses: Vec<DeltaDiscoveryResponse>) -> Vec<String> {
        let mut seen = Vec::new();
        while !responses.is_empty() {
            let response = responses.remove(0);
            seen.push(show(&response));
            let more = self.ack(&response);
            responses.extend(more);
        }
        seen
    }

    fn put(&mut self, ty: TypeUrl, name: &str, content: &str) -> Vec<DeltaDiscoveryResponse> {
        self.world.put(ty.clone(), name, content);
        self.change(&[(ty, name)])
    }

    fn change(&mut self, names: &[(TypeUrl, &str)]) -> Vec<DeltaDiscoveryResponse> {
        let changes = names.iter().map(|(ty, name)| (ty.clone(), Arc::from(*name))).collect();
        self.server.on_change(&changes, &self.world, self.now)
    }
}

fn of(ty: &TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: ty.as_str().to_owned(), ..Default::default() }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `Cluster +a +b -c`
fn show(response: &DeltaDiscoveryResponse) -> String {
    let mut text = TypeUrl::from(response.type_url.as_str()).short().to_owned();
    for resource in &response.resources {
        text += &format!(" +{}", resource.name);
    }
    for name in &response.removed_resources {
        text += &format!(" -{name}");
    }
    text
}

fn shown(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    responses.iter().map(show).collect()
}

#[test]
fn rule_1_a_name_that_is_held_is_answered_when_it_is_asked_for_again() {
    let mut stream = Stream::new(Closure::Off, World::with([(EDS, "a", "1")]));
    let sent = stream.subscribe(EDS, &["a"]);
    stream.ack_all(sent);
    assert_eq!(shown(&stream.subscribe(EDS, &["a"])), ["ClusterLoadAssignment +a"]);
}

#[test]
fn rule_2_a_name_that_does_not_exist_is_answered_at_once_and_comes_when_it_appears() {
    let mut stream = Stream::new(Closure::Off, World::default());
    let sent = stream.subscribe(LDS, &["a"]);
    assert_eq!(shown(&sent), ["Listener -a"]);
    stream.ack_all(sent);
    assert!(stream.change(&[(LDS, "a")]).is_empty(), "said once");
    let again = stream.subscribe(LDS, &["a"]);
    assert_eq!(shown(&again), ["Listener -a"]);
    stream.ack_all(again);
    assert_eq!(shown(&stream.put(LDS, "a", "1")), ["Listener +a"]);
}

#[test]
fn rule_2_what_is_undecided_is_answered_when_it_is_decided() {
    let mut stream = Stream::new(Closure::Off, World::default());
    stream.world.undecided.insert((LDS, "a".into()));
    assert!(stream.subscribe(LDS, &["a"]).is_empty());
    stream.world.undecided.clear();
    assert_eq!(shown(&stream.change(&[(LDS, "a")])), ["Listener -a"]);
}

#[test]
fn rule_3_a_changed_cluster_is_followed_by_its_endpoints_and_a_changed_listener_by_its_routes() {
    let world = World::with([(CDS, "c", "1"), (EDS, "c", "1"), (LDS, "l", "1;r"), (RDS, "r", "1;c")]);
    let mut stream = Stream::new(Closure::Off, world);
    for (ty, names) in [(CDS, ["*"]), (LDS, ["*"]), (EDS, ["c"]), (RDS, ["r"])] {
        let sent = stream.subscribe(ty, &names);
        stream.ack_all(sent);
    }
    let sent = stream.put(CDS, "c", "2");
    assert_eq!(shown(&sent), ["Cluster +c", "ClusterLoadAssignment +c"]);
    stream.ack_all(sent);
    let sent = stream.put(LDS, "l", "2;r");
    assert_eq!(shown(&sent), ["Listener +l", "RouteConfiguration +r"]);
}

#[test]
fn rule_3_endpoints_that_are_under_way_are_sent_again_after_their_cluster() {
    let mut stream = Stream::new(Closure::Off, World::with([(CDS, "c", "1"), (EDS, "c", "1")]));
    let sent = stream.subscribe(CDS, &["*"]);
    stream.ack_all(sent);
    let endpoints = stream.subscribe(EDS, &["c"]);
    assert_eq!(shown(&stream.put(CDS, "c", "2")), ["Cluster +c"]);
    assert_eq!(shown(&stream.ack(&endpoints[0])), ["ClusterLoadAssignment +c"]);
}

#[test]
fn rule_4_a_wildcard_survives_names_and_a_reconnect_that_lists_names() {
    let world = World::with([(CDS, "a", "1"), (CDS, "b", "1")]);
    let mut stream = Stream::new(Closure::Off, world.clone());
    let sent = stream.send(of(&CDS));
    assert_eq!(shown(&sent), ["Cluster +a +b"], "an empty first request is a wildcard");
    stream.ack_all(sent);
    let sent = stream.subscribe(CDS, &["a"]);
    stream.ack_all(sent);
    assert_eq!(shown(&stream.put(CDS, "b", "2")), ["Cluster +b"]);

    let mut stream = Stream::new(Closure::Off, world);
    assert!(stream.resume(CDS, &["*", "a"], &[("a", "1"), ("b", "1")]).is_empty());
    assert_eq!(shown(&stream.put(CDS, "b", "2")), ["Cluster +b"]);
}

#[test]
fn rule_5_names_that_are_gone_come_back_as_removed_on_a_resume() {
    let mut stream = Stream::new(Closure::Off, World::with([(CDS, "a", "1"), (CDS, "b", "2")]));
    let sent = stream.resume(CDS, &[], &[("a", "1"), ("b", "1"), ("gone", "1")]);
    assert_eq!(shown(&sent), ["Cluster +b -gone"]);
}

#[test]
fn rule_6_a_name_given_up_under_a_wildcard_is_answered() {
    let mut stream = Stream::new(Closure::Off, World::with([(CDS, "a", "1")]));
    let sent = stream.subscribe(CDS, &["*", "a"]);
    stream.ack_all(sent);
    assert_eq!(shown(&stream.unsubscribe(CDS, &["a"])), ["Cluster +a"]);
}

#[test]
fn rule_7_an_empty_first_request_means_nothing_for_other_types_and_with_closure() {
    let world = World::with([(EDS, "a", "1"), (CDS, "a", "1")]);
    assert!(Stream::new(Closure::Off, world.clone()).send(of(&EDS)).is_empty());
    assert!(Stream::new(Closure::On, world).send(of(&CDS)).is_empty());
    let mut empty = Stream::new(Closure::Off, World::default());
    assert_eq!(shown(&empty.send(of(&CDS))), ["Cluster"], "a wildcard without resources is answered");
}

#[test]
fn rule_9_an_unchanged_resource_is_not_sent_again() {
    let world = World::with([(CDS, "a", "1"), (CDS, "b", "1")]);
    let mut stream = Stream::new(Closure::Off, world.clone());
    let sent = stream.subscribe(CDS, &["*"]);
    stream.ack_all(sent);
    assert!(stream.change(&[(CDS, "a"), (CDS, "b")]).is_empty());
    assert!(stream.server.on_change(&Changes::all(), &stream.world, stream.now).is_empty());
    assert!(Stream::new(Closure::Off, world).resume(CDS, &["*"], &[("a", "1"), ("b", "1")]).is_empty());
}

#[test]
fn rule_10_what_changes_under_way_is_sent_once_in_its_last_state() {
    let mut stream = Stream::new(Closure::Off, World::with([(EDS, "a", "1"), (EDS, "b", "1")]));
    let first = stream.subscribe(EDS, &["a", "b"]);
    assert!(stream.put(EDS, "a", "2").is_empty());
    assert!(stream.put(EDS, "a", "3").is_empty());
    assert!(stream.put(EDS, "b", "2").is_empty());
    assert!(stream.put(EDS, "b", "1").is_empty());
    assert!(!stream.server.acknowledged(&EDS, "a", &"3".into()));
    let second = stream.ack(&first[0]);
    assert_eq!(shown(&second), ["ClusterLoadAssignment +a"]);
    assert_eq!(second[0].resources[0].version, "3");
    assert!(!stream.server.acknowledged(&EDS, "a", &"3".into()));
    stream.ack(&second[0]);
    assert!(stream.server.acknowledged(&EDS, "a", &"3".into()));
    assert!(stream.server.acknowledged(&EDS, "never heard of", &"1".into()));
}

#[test]
fn rule_11_a_refused_version_is_not_sent_again_and_is_shown() {
    let mut stream = Stream::new(Closure::Off, World::with([(LDS, "a", "1")]));
    let first = stream.subscribe(LDS, &["a"]);
    stream.ack_all(first);
    let bad = stream.put(LDS, "a", "2");
    assert!(stream.nack(&bad[0], "no such thing").is_empty());
    assert!(stream.change(&[(LDS, "a")]).is_empty());
    let status = &stream.server.status()[0];
    assert_eq!(status.state(), State::Rejected);
    assert_eq!(status.last_nack.as_ref().unwrap().message, "no such thing");
    let good = stream.put(LDS, "a", "1");
    assert_eq!(shown(&good), ["Listener +a"], "what it had before is sent: nobody knows what it kept");
    stream.ack_all(good);
    assert_eq!(stream.server.status()[0].state(), State::Synced);
}

#[test]
fn rule_12_a_large_response_is_split() {
    let world = World::with([(CDS, "a", "1"), (CDS, "b", "1"), (CDS, "c", "1")]);
    let mut stream = Stream::new(Closure::Off, world);
    stream.server.limits.response_bytes = 250;
    let sent = stream.subscribe(CDS, &["*"]);
    assert_eq!(stream.ack_all(sent), ["Cluster +a +b", "Cluster +c"]);
}

#[test]
fn rule_13_new_clusters_go_first_and_old_ones_last() {
    let world = World::with([(CDS, "old", "1"), (EDS, "old", "1"), (LDS, "l", "1;r"), (RDS, "r", "1;old")]);
    let mut stream = Stream::new(Closure::Off, world);
    for (ty, names) in [(CDS, ["*"]), (LDS, ["*"]), (EDS, ["old"]), (RDS, ["r"])] {
        let sent = stream.subscribe(ty, &names);
        stream.ack_all(sent);
    }
    stream.world.put(CDS, "new", "1");
    stream.world.put(RDS, "r", "2;new");
    stream.world.remove(CDS, "old");
    let sent = stream.change(&[(RDS, "r"), (CDS, "old"), (CDS, "new")]);
    assert_eq!(shown(&sent), ["Cluster +new", "RouteConfiguration +r"]);
    assert_eq!(shown(&stream.ack(&sent[0])), ["Cluster -old"]);
}

#[test]
fn rule_13_a_route_waits_for_a_cluster_that_can_not_go_yet() {
    let world = World::with([(CDS, "c", "1"), (RDS, "r", "1;c")]);
    let mut stream = Stream::new(Closure::Off, world);
    let clusters = stream.subscribe(CDS, &["*"]);
    let routes = stream.subscribe(RDS, &["r"]);
    stream.ack_all(routes);
    stream.world.put(CDS, "new", "1");
    stream.world.put(RDS, "r", "2;new");
    assert!(stream.change(&[(RDS, "r"), (CDS, "new")]).is_empty());
    assert_eq!(shown(&stream.ack(&clusters[0])), ["Cluster +new", "RouteConfiguration +r"]);
}

#[test]
fn rule_14_a_listener_brings_its_closure_and_takes_it_along() {
    let world = World::with([
        (LDS, "l", "1;r"),
        (LDS, "m", "1;r"),
        (RDS, "r", "1;c"),
        (CDS, "c", "1"),
        (EDS, "c", "1"),
        (CDS, "d", "1"),
        (EDS, "d", "1"),
    ]);
    let mut stream = Stream::new(Closure::On, world);
    let sent = stream.subscribe(LDS, &["l"]);
    let all = ["Cluster +c", "ClusterLoadAssignment +c", "RouteConfiguration +r", "Listener +l"];
    assert_eq!(stream.ack_all(sent), all);
    let sent = stream.subscribe(LDS, &["m"]);
    assert_eq!(stream.ack_all(sent), ["Listener +m"]);
    let sent = stream.put(RDS, "r", "2;d");
    let moved =
        ["Cluster +d", "ClusterLoadAssignment +d", "RouteConfiguration +r", "ClusterLoadAssignment -c", "Cluster -c"];
    assert_eq!(sorted(stream.ack_all(sent)), sorted(moved.map(str::to_owned).into()));
    assert!(stream.unsubscribe(LDS, &["l"]).is_empty(), "another listener needs it");
    let sent = stream.unsubscribe(LDS, &["m"]);
    let gone = ["RouteConfiguration -r", "ClusterLoadAssignment -d", "Cluster -d"];
    assert_eq!(sorted(stream.ack_all(sent)), sorted(gone.map(str::to_owned).into()));
}

#[test]
fn rule_14_what_a_resuming_client_no_longer_needs_is_removed() {
    let world = World::with([(LDS, "l", "1;r"), (RDS, "r", "2;d"), (CDS, "c", "1"), (CDS, "d", "1")]);
    let mut stream = Stream::new(Closure::On, world);
    assert!(stream.resume(CDS, &[], &[("c", "1")]).is_empty());
    assert!(stream.resume(RDS, &[], &[("r", "1")]).is_empty());
    let sent = stream.resume(LDS, &["l"], &[("l", "1;r")]);
    assert_eq!(stream.ack_all(sent), ["Cluster +d", "RouteConfiguration +r", "Cluster -c"]);
}

#[test]
fn a_stale_nonce_acknowledges_nothing_but_its_subscriptions_count() {
    let mut stream = Stream::new(Closure::Off, World::with([(EDS, "a", "1"), (EDS, "b", "1")]));
    let first = stream.subscribe(EDS, &["a"]);
    let stale = DeltaDiscoveryRequest {
        response_nonce: "of another stream".to_owned(),
        resource_names_subscribe: strings(&["b"]),
        ..of(&EDS)
    };
    assert!(stream.send(stale).is_empty());
    assert!(!stream.server.acknowledged(&EDS, "a", &"1".into()));
    assert_eq!(shown(&stream.ack(&first[0])), ["ClusterLoadAssignment +b"]);
}

#[test]
fn a_hostile_request_is_refused_with_a_sentence() {
    let limits = Limits {
        names_per_request: 2,
        name_length: 8,
        subscriptions: 3,
        subscribed_bytes: 8,
        types: 2,
        node_bytes: 4,
        ..Limits::default()
    };
    let ask = |ty: &str, names: &[&str]| DeltaDiscoveryRequest {
        type_url: ty.to_owned(),
        resource_names_subscribe: strings(names),
        ..Default::default()
    };
    let node = Node { id: "far too long".to_owned(), ..Default::default() };
    let cases = [
        (ask("t", &["a", "b", "c"]), "3 names in one request; at most 2 are taken"),
        (ask("t", &["123456789"]), "a resource name of 9 bytes; at most 8 are taken"),
        (ask("", &["a"]), "an empty type URL"),
        (ask("t", &[""]), "an empty resource name"),
        (DeltaDiscoveryRequest { node: Some(node), ..ask("t", &[]) }, "a node of 14 bytes; at most 4 are taken"),
    ];
    let world = World::default();
    for (request, sentence) in cases {
        let refused = DeltaServer::new(limits, Closure::Off).on_request(request, &world, Instant::now()).unwrap_err();
        assert_eq!(refused.to_string(), sentence);
    }
    let mut server = DeltaServer::new(limits, Closure::Off);
    let mut send = |request| server.on_request(request, &world, Instant::now());
    send(ask("t", &["a", "b"])).unwrap();
    assert_eq!(send(ask("t", &["c", "d"])).unwrap_err().to_string(), "more than 3 names of t");
    send(ask("u", &[])).unwrap();
    assert_eq!(send(ask("v", &[])).unwrap_err().to_string(), "more than 2 types on one stream");
    // A name that is given up makes room, one that is asked for again takes none.
    send(ask("u", &["12345678"])).unwrap();
    send(ask("u", &["12345678"])).unwrap();
    let given_up = vec!["12345678".to_owned()];
    send(DeltaDiscoveryRequest { resource_names_unsubscribe: given_up, ..ask("u", &["1234567"]) }).unwrap();
    assert_eq!(send(ask("u", &["89"])).unwrap_err().to_string(), "names of u of more than 8 bytes together");
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
