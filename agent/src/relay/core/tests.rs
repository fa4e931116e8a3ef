use prost_types::Any;

use super::*;

#[derive(Default)]
struct Memory(BTreeMap<(TypeUrl, String), Arc<Resource>>);

impl Kept for Memory {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Arc<Resource>> {
        self.0.get(&(ty.clone(), name.to_owned())).cloned()
    }

    fn all(&self, ty: &TypeUrl) -> Vec<Arc<Resource>> {
        self.0.iter().filter(|((of, _), _)| of == ty).map(|(_, resource)| resource.clone()).collect()
    }
}

impl Memory {
    fn with(names: &[&str]) -> Self {
        Self(
            names.iter().map(|name| ((TypeUrl::LISTENER, (*name).to_owned()), Arc::new(resource(name, "1")))).collect(),
        )
    }
}

fn resource(name: &str, version: &str) -> Resource {
    let any = Any { type_url: TypeUrl::LISTENER.as_str().into(), value: vec![1, 2, 3] };
    Resource { name: name.into(), version: version.into(), resource: Some(any) }
}

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: TypeUrl::LISTENER.as_str().into(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn ack(nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { response_nonce: nonce.into(), ..subscribe(&[]) }
}

fn response(nonce: &str, resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: TypeUrl::LISTENER.as_str().into(),
        nonce: nonce.into(),
        resources,
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn down(acts: &[Act]) -> &DeltaDiscoveryResponse {
    acts.iter().find_map(|act| if let Act::Down(response) = act { Some(response) } else { None }).unwrap()
}

fn ups(acts: &[Act]) -> Vec<&DeltaDiscoveryRequest> {
    acts.iter().filter_map(|act| if let Act::Up(request) = act { Some(request) } else { None }).collect()
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

#[test]
fn discovery_hears_an_ack_only_after_the_client_gave_it() {
    let (mut core, kept, now) = (Core::new(), Memory::default(), Instant::now());
    core.on_up(now);
    assert_eq!(ups(&core.on_request(subscribe(&["a"]), &kept, now).unwrap()).len(), 1);
    let acts = core.on_response(response("up-7", vec![resource("a", "1")], &[])).unwrap();
    assert!(ups(&acts).is_empty());
    let nonce = down(&acts).nonce.clone();
    let acts = core.on_request(ack(&nonce), &kept, now).unwrap();
    assert_eq!(ups(&acts)[0].response_nonce, "up-7");
    assert!(acts.contains(&Act::Keep(TypeUrl::LISTENER, resource("a", "1").into())));
    assert_eq!(core.held(), 1);
}

#[test]
fn a_refusal_goes_up_with_its_words_and_is_not_kept() {
    let (mut core, kept, now) = (Core::new(), Memory::default(), Instant::now());
    core.on_up(now);
    core.on_request(subscribe(&["a"]), &kept, now).unwrap();
    let acts = core.on_response(response("up-1", vec![resource("a", "1")], &[])).unwrap();
    let mut nack = ack(&down(&acts).nonce);
    let words = "unknown field 9".to_owned();
    nack.error_detail = Some(hawser_api::proto::google::rpc::Status { message: words.clone(), ..Default::default() });
    let acts = core.on_request(nack, &kept, now).unwrap();
    assert_eq!(acts.len(), 1);
    assert_eq!(ups(&acts)[0].error_detail.as_ref().unwrap().message, words);
    assert_eq!((core.held(), core.last_nack().unwrap()), (0, "Listener: unknown field 9"));
}

#[test]
fn without_discovery_a_subscription_is_answered_at_once() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["kept"]), Instant::now());
    core.on_away(&kept, now);
    let acts = core.on_request(subscribe(&["kept", "absent"]), &kept, now).unwrap();
    let answer = down(&acts).clone();
    assert_eq!((names(&answer), answer.removed_resources.as_slice()), (vec!["kept"], &["absent".to_owned()][..]));
    // Its acknowledgement is for us alone, and the absent one is not forgotten by the cache.
    assert!(core.on_request(ack(&answer.nonce), &kept, now).unwrap().is_empty());
    // Discovery comes back: it is told what the client wants and has.
    let acts = core.on_up(now);
    assert_eq!(ups(&acts)[0].resource_names_subscribe, ["absent", "kept"]);
    assert_eq!(ups(&acts)[0].initial_resource_versions, BTreeMap::from([("kept".to_owned(), "1".to_owned())]));
    assert!(ups(&acts)[0].node.is_some());
}

#[test]
fn before_anybody_knows_only_what_is_kept_is_answered() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["kept"]), Instant::now());
    let acts = core.on_request(subscribe(&["kept", "absent"]), &kept, now).unwrap();
    assert_eq!((names(down(&acts)), down(&acts).removed_resources.len()), (vec!["kept"], 0));
    assert!(core.waits());
    assert_eq!(down(&core.on_away(&kept, now)).removed_resources, ["absent"]);
    assert!(!core.waits());
}

#[test]
fn a_stream_that_breaks_answers_whoever_waits() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["kept"]), Instant::now());
    core.on_up(now);
    core.on_request(subscribe(&["kept", "absent"]), &kept, now).unwrap();
    let in_flight = core.on_response(response("old", vec![resource("other", "3")], &[])).unwrap();
    let nonce = down(&in_flight).nonce.clone();
    let acts = core.on_away(&kept, now);
    assert_eq!((names(down(&acts)), down(&acts).removed_resources.len()), (vec!["kept"], 1));
    // An acknowledgement of what came on the old stream is not sent on the new one.
    core.on_up(now);
    assert!(ups(&core.on_request(ack(&nonce), &kept, now).unwrap()).is_empty());
}

#[test]
fn what_the_client_takes_after_its_stream_broke_is_kept_all_the_same() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["a", "b"]), Instant::now());
    core.on_up(now);
    core.on_request(subscribe(&["a", "b"]), &kept, now).unwrap();
    let nonce = down(&core.on_response(response("up-1", vec![resource("a", "2")], &["b"])).unwrap()).nonce.clone();
    core.on_away(&kept, now);
    let acts = core.on_request(ack(&nonce), &kept, now).unwrap();
    let (ty, news) = (TypeUrl::LISTENER, Arc::new(resource("a", "2")));
    assert_eq!(acts, [Act::Keep(ty.clone(), news), Act::Forget(ty, "b".into())]);
}

#[test]
fn a_silent_discovery_does_not_hide_the_cache() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["kept"]), Instant::now());
    core.on_up(now);
    core.on_request(subscribe(&["kept", "absent"]), &kept, now).unwrap();
    assert!(core.on_tick(&kept, now).is_empty());
    let acts = core.on_tick(&kept, now + PATIENCE);
    assert_eq!((names(down(&acts)), down(&acts).removed_resources.len()), (vec!["kept"], 0));
}

#[test]
fn a_wildcard_is_served_from_the_cache_and_survives_a_reconnect() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["a", "b"]), Instant::now());
    core.on_away(&kept, now);
    let acts = core.on_request(subscribe(&["*"]), &kept, now).unwrap();
    assert_eq!(names(down(&acts)), ["a", "b"]);
    assert_eq!(ups(&core.on_up(now))[0].resource_names_subscribe, ["*"]);
    let (mut core, none) = (Core::new(), Memory::default());
    core.on_away(&none, now);
    assert!(names(down(&core.on_request(subscribe(&["*"]), &none, now).unwrap())).is_empty());
}

#[test]
fn what_a_client_claims_is_resumed_without_being_subscribed() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["brought"]), Instant::now());
    core.on_away(&kept, now);
    let mut claim = subscribe(&[]);
    claim.initial_resource_versions.insert("brought".into(), "1".into());
    assert!(core.on_request(claim, &kept, now).unwrap().is_empty());
    let acts = core.on_up(now);
    assert!(ups(&acts)[0].resource_names_subscribe.is_empty());
    assert_eq!(ups(&acts)[0].initial_resource_versions["brought"], "1");
}

#[test]
fn what_a_client_has_and_the_cache_lost_is_asked_for_once_more() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["good", "stale"]), Instant::now());
    core.on_up(now);
    let has = |all: &[(&str, &str)]| all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let all = [("good", "1"), ("stale", "2"), ("lost", "1")];
    let request =
        DeltaDiscoveryRequest { initial_resource_versions: has(&all), ..subscribe(&["good", "stale", "lost"]) };
    let acts = core.on_request(request, &kept, now).unwrap();
    assert_eq!(ups(&acts)[0].initial_resource_versions, has(&[("good", "1"), ("stale", ""), ("lost", "")]));
    // Until it came, whatever becomes of the stream.
    assert_eq!(ups(&core.on_up(now))[0].initial_resource_versions["stale"], "");
    let acts = core.on_response(response("up-1", vec![resource("stale", "2")], &["lost"])).unwrap();
    let acts = core.on_request(ack(&down(&acts).nonce.clone()), &kept, now).unwrap();
    assert!(acts.contains(&Act::Keep(TypeUrl::LISTENER, resource("stale", "2").into())));
    assert_eq!(ups(&core.on_up(now))[0].initial_resource_versions, has(&[("good", "1"), ("stale", "2")]));
}

#[test]
fn what_a_client_has_is_not_taken_back_to_what_the_cache_was_left_with() {
    let (mut core, kept, now) = (Core::new(), Memory::with(&["good", "stale", "new"]), Instant::now());
    core.on_away(&kept, now);
    let mut all = subscribe(&["*"]);
    all.initial_resource_versions = [("good", "1"), ("stale", "2")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let acts = core.on_request(all, &kept, now).unwrap();
    assert_eq!(names(down(&acts)), ["new"]);
}

#[test]
fn a_client_that_asks_for_too_much_is_ended() {
    let (mut core, kept, now) = (Core::new(), Memory::default(), Instant::now());
    for index in 0..MOST_TYPES {
        let request = DeltaDiscoveryRequest { type_url: format!("t{index}"), ..subscribe(&["a"]) };
        core.on_request(request, &kept, now).unwrap();
    }
    let request = DeltaDiscoveryRequest { type_url: "one-more".into(), ..subscribe(&["a"]) };
    assert!(core.on_request(request, &kept, now).is_err());
    let long = "x".repeat(LONGEST_NAME + 1);
    assert!(core.on_request(subscribe(&[&long]), &kept, now).is_err());
}
