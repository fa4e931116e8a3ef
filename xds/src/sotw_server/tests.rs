use super::*;
use crate::tests::world::{CDS, EDS, LDS, RDS, World};

struct Stream {
    server: SotwServer,
    world: World,
    now: Instant,
}

impl Stream {
    fn new(world: World) -> Self {
        Self { server: SotwServer::new(Limits::default()), world, now: Instant::now() }
    }

    fn ask(&mut self, ty: TypeUrl, names: &[&str], nonce: &str) -> Vec<DiscoveryResponse> {
        let request = DiscoveryRequest {
            type_url: ty.as_str().to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            ..Default::default()
        };
        self.server.on_request(request, &self.world, self.now).unwrap()
    }

    /// The first question of a type, answered and acknowledged; returns the nonce of the answer.
    fn open(&mut self, ty: TypeUrl, names: &[&str]) -> String {
        let answer = self.ask(ty.clone(), names, "");
        self.ask(ty, names, &answer[0].nonce);
        answer[0].nonce.clone()
    }

    fn change(&mut self, names: &[(TypeUrl, &str)]) -> Vec<DiscoveryResponse> {
        let changes = names.iter().map(|(ty, name)| (ty.clone(), Arc::from(*name))).collect();
        self.server.on_change(&changes, &self.world, self.now)
    }
}

/// `Cluster a;1 b;1`: the contents, which begin with a revision.
fn shown(responses: &[DiscoveryResponse]) -> Vec<String> {
    let content = |any: &Any| String::from_utf8(any.value.clone()).unwrap();
    let show = |response: &DiscoveryResponse| {
        let mut text = TypeUrl::from(response.type_url.as_str()).short().to_owned();
        for any in &response.resources {
            text += &format!(" {}", content(any));
        }
        text
    };
    responses.iter().map(show).collect()
}

#[test]
fn clusters_and_listeners_are_complete_and_others_hold_what_changed() {
    let world = World::with([(CDS, "a", "a1"), (CDS, "b", "b1"), (EDS, "a", "a1"), (EDS, "b", "b1")]);
    let mut stream = Stream::new(world);
    let clusters = stream.ask(CDS, &[], "");
    assert_eq!(shown(&clusters), ["Cluster a1 b1"]);
    stream.ask(CDS, &[], &clusters[0].nonce);
    stream.open(EDS, &["a", "b"]);
    stream.world.put(CDS, "b", "b2");
    stream.world.put(EDS, "a", "a2");
    let sent = stream.change(&[(CDS, "b"), (EDS, "a")]);
    assert_eq!(shown(&sent), ["Cluster a1 b2", "ClusterLoadAssignment a2 b1"], "b follows its cluster");
    assert_ne!(sent[0].version_info, clusters[0].version_info);
}

#[test]
fn rule_2_a_listener_that_does_not_exist_is_answered_with_nothing_and_comes_when_it_appears() {
    let mut stream = Stream::new(World::default());
    let sent = stream.ask(LDS, &["x"], "");
    assert_eq!(shown(&sent), ["Listener"]);
    stream.ask(LDS, &["x"], &sent[0].nonce);
    stream.world.put(LDS, "x", "x1");
    assert_eq!(shown(&stream.change(&[(LDS, "x")])), ["Listener x1"]);
}

#[test]
fn rule_4_a_wildcard_beside_names_and_an_empty_list_after_names() {
    let world = World::with([(CDS, "a", "a1"), (CDS, "b", "b1")]);
    let mut stream = Stream::new(world.clone());
    assert_eq!(shown(&stream.ask(CDS, &["*", "a"], "")), ["Cluster a1 b1"]);

    let mut stream = Stream::new(world);
    let nonce = stream.open(CDS, &["a"]);
    assert!(stream.ask(CDS, &[], &nonce).is_empty(), "all names given up is no wildcard");
    stream.world.put(CDS, "a", "a2");
    assert!(stream.change(&[(CDS, "a")]).is_empty());
}

#[test]
fn rule_7_a_wildcard_without_resources_is_answered_with_nothing() {
    let mut stream = Stream::new(World::default());
    assert_eq!(shown(&stream.ask(CDS, &[], "")), ["Cluster"]);
    assert!(stream.ask(EDS, &[], "").is_empty());
}

#[test]
fn rule_8_a_question_that_is_repeated_after_its_acknowledgement_is_answered() {
    let mut stream = Stream::new(World::with([(EDS, "a", "a1")]));
    let nonce = stream.open(EDS, &["a"]);
    let again = stream.ask(EDS, &["a"], &nonce);
    assert_eq!(shown(&again), ["ClusterLoadAssignment a1"]);
    assert!(stream.ask(EDS, &["a"], &nonce).is_empty(), "its nonce is stale by now");
    assert!(stream.ask(EDS, &["a"], &again[0].nonce).is_empty(), "an acknowledgement is no question");
}

#[test]
fn rule_8_a_name_given_up_and_asked_for_again_with_a_stale_nonce_is_answered() {
    let mut stream = Stream::new(World::with([(EDS, "a", "a1"), (EDS, "b", "b1")]));
    let nonce = stream.open(EDS, &["a"]);
    let sent = stream.ask(EDS, &["a", "b"], &nonce);
    assert_eq!(shown(&sent), ["ClusterLoadAssignment b1"]);
    assert!(stream.ask(EDS, &["b"], &nonce).is_empty());
    assert!(stream.ask(EDS, &["a", "b"], &nonce).is_empty(), "one response at a time");
    assert_eq!(shown(&stream.ask(EDS, &["a", "b"], &sent[0].nonce)), ["ClusterLoadAssignment a1"]);
}

#[test]
fn rule_9_names_that_are_added_are_sent_and_names_that_are_held_are_not() {
    let mut stream = Stream::new(World::with([(EDS, "a", "a1"), (EDS, "b", "b1")]));
    let nonce = stream.open(EDS, &["a"]);
    let sent = stream.ask(EDS, &["a", "b"], &nonce);
    assert_eq!(shown(&sent), ["ClusterLoadAssignment b1"]);
    assert!(stream.ask(EDS, &["a", "b"], &sent[0].nonce).is_empty());
    assert!(stream.change(&[(EDS, "a"), (EDS, "b")]).is_empty());
    assert!(stream.server.acknowledged(&EDS, "b", &"b1".into()));
    assert!(stream.ask(EDS, &["b"], &sent[0].nonce).is_empty());
    assert_eq!(shown(&stream.ask(EDS, &["a", "b"], &sent[0].nonce)), ["ClusterLoadAssignment a1"]);
}

#[test]
fn rule_11_a_refused_version_is_not_sent_again() {
    let mut stream = Stream::new(World::with([(LDS, "l", "l1")]));
    let sent = stream.ask(LDS, &[], "");
    let error = hawser_api::proto::google::rpc::Status { message: "no".to_owned(), ..Default::default() };
    let nack = DiscoveryRequest {
        type_url: LDS.as_str().to_owned(),
        response_nonce: sent[0].nonce.clone(),
        error_detail: Some(error),
        ..Default::default()
    };
    assert!(stream.server.on_request(nack, &stream.world, stream.now).unwrap().is_empty());
    assert!(stream.change(&[(LDS, "l")]).is_empty());
    assert_eq!(stream.server.status()[0].last_nack.as_ref().unwrap().message, "no");
    stream.world.put(LDS, "l", "l2");
    assert_eq!(shown(&stream.change(&[(LDS, "l")])), ["Listener l2"]);
}

#[test]
fn rule_12_a_large_response_of_endpoints_is_split() {
    let mut stream = Stream::new(World::with([(EDS, "a", "a1"), (EDS, "b", "b1")]));
    stream.server.limits.response_bytes = 120;
    let sent = stream.ask(EDS, &["a", "b"], "");
    assert_eq!(shown(&sent), ["ClusterLoadAssignment a1"]);
    assert_eq!(shown(&stream.ask(EDS, &["a", "b"], &sent[0].nonce)), ["ClusterLoadAssignment b1"]);
}

#[test]
fn rule_13_an_old_cluster_stays_until_the_route_has_left_it() {
    let world = World::with([(CDS, "old", "1"), (LDS, "l", "1;r"), (RDS, "r", "r1;old")]);
    let mut stream = Stream::new(world);
    stream.open(CDS, &[]);
    stream.open(LDS, &[]);
    stream.open(RDS, &["r"]);
    stream.world.put(CDS, "new", "2");
    stream.world.put(RDS, "r", "r2;new");
    stream.world.remove(CDS, "old");
    let sent = stream.change(&[(CDS, "new"), (CDS, "old"), (RDS, "r")]);
    assert_eq!(shown(&sent), ["Cluster 2 1", "RouteConfiguration r2;new"]);
    assert_eq!(shown(&stream.ask(CDS, &[], &sent[0].nonce)), ["Cluster 2"]);
}
