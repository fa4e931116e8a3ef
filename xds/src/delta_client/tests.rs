use super::*;
use hawser_api::proto::discovery::Resource as WireResource;
use prost_types::Any;

const EDS: TypeUrl = TypeUrl::ENDPOINTS;
const CDS: TypeUrl = TypeUrl::CLUSTER;
const LDS: TypeUrl = TypeUrl::LISTENER;

fn client(closure: Closure) -> DeltaClient {
    let node = Node { id: "me".to_owned(), ..Default::default() };
    DeltaClient::new(node, closure, ClientLimits::default())
}

fn response(ty: &TypeUrl, nonce: &str, resources: &[(&str, &str)], removed: &[&str]) -> DeltaDiscoveryResponse {
    let wire = |(name, version): &(&str, &str)| WireResource {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        resource: Some(Any { type_url: ty.as_str().to_owned(), value: b"body".to_vec() }),
    };
    DeltaDiscoveryResponse {
        type_url: ty.as_str().to_owned(),
        nonce: nonce.to_owned(),
        resources: resources.iter().map(wire).collect(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

#[test]
fn rule_15_what_is_not_accepted_is_not_held() {
    let mut client = client(Closure::Off);
    client.connect();
    client.subscribe(&EDS, ["a", "b"]).unwrap();
    let update = client.on_response(response(&EDS, "1", &[("a", "1")], &["b"])).unwrap();
    assert_eq!(client.known(&EDS, "a"), Known::Unknown);
    let ack = client.accept(&EDS, &update.nonce).unwrap();
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("1", None));
    assert_eq!(client.known(&EDS, "a"), Known::Held("1".into()));
    assert_eq!(client.known(&EDS, "b"), Known::Absent);

    client.on_response(response(&EDS, "2", &[("a", "2")], &[])).unwrap();
    let nack = client.reject(&EDS, "2", "because").unwrap();
    assert_eq!(nack.error_detail.unwrap().message, "because");
    assert_eq!(client.known(&EDS, "a"), Known::Held("1".into()));
    assert!(client.accept(&EDS, "2").is_none(), "a verdict is given once");
}

#[test]
fn rule_16_a_new_stream_resumes_from_what_is_held() {
    let mut client = client(Closure::On);
    let first = client.subscribe(&LDS, ["l"]).unwrap();
    assert!(first.is_none(), "there is no stream yet");
    let requests = client.connect();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].node.as_ref().unwrap().id, "me");
    client.on_response(response(&CDS, "1", &[("c", "1")], &[])).unwrap();
    client.accept(&CDS, "1").unwrap();
    client.on_response(response(&LDS, "2", &[("l", "1")], &[])).unwrap();
    client.accept(&LDS, "2").unwrap();
    client.on_response(response(&CDS, "3", &[("c", "2")], &[])).unwrap();

    client.disconnect();
    let requests = client.connect();
    let types: Vec<&str> = requests.iter().map(|r| r.type_url.as_str()).collect();
    assert_eq!(types, [CDS.as_str(), LDS.as_str()]);
    assert!(requests[0].resource_names_subscribe.is_empty(), "it was brought, not asked for");
    assert_eq!(requests[0].initial_resource_versions["c"], "1", "version 2 was not accepted");
    assert_eq!(requests[1].resource_names_subscribe, ["l"]);
    assert!(requests[0].node.is_some() && requests[1].node.is_none());
}

#[test]
fn rule_16_a_cache_is_resumed_like_anything_held() {
    let mut client = client(Closure::Off);
    let resource = Resource { name: "a".into(), version: "7".into(), body: Bytes::from_static(b"body") };
    client.restore(&EDS, &resource).unwrap();
    client.subscribe(&EDS, ["a"]).unwrap();
    assert_eq!(client.connect()[0].initial_resource_versions["a"], "7");
}

#[test]
fn rule_4_and_17_a_wildcard_is_said_on_every_stream_and_no_type_is_opened_without_a_name() {
    let mut client = client(Closure::Off);
    client.subscribe(&CDS, ["a", "*"]).unwrap();
    client.subscribe(&LDS, ["l"]).unwrap();
    client.unsubscribe(&LDS, ["l"]);
    let requests = client.connect();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].resource_names_subscribe, ["*", "a"]);
}

#[test]
fn rule_18_what_exceeds_limits_or_was_not_asked_for_is_refused_with_a_sentence() {
    let limits = ClientLimits { names: 2, resource_bytes: 4, total_bytes: 7, undecided: 1, name_length: 20 };
    let mut client = DeltaClient::new(Node::default(), Closure::Off, limits);
    client.connect();
    client.subscribe(&EDS, ["*"]).unwrap();
    let mut refusal = |response| {
        let refused = client.on_response(response).unwrap_err();
        assert_eq!(refused.nack.error_detail.unwrap().message, refused.reason.to_string());
        refused.reason.to_string()
    };
    let mut big = response(&EDS, "1", &[("a", "1")], &[]);
    big.resources[0].resource.as_mut().unwrap().value = vec![0; 5];
    assert_eq!(refusal(big), "resource a has 5 bytes; at most 4 are taken");
    assert_eq!(
        refusal(response(&EDS, "1", &[("a", "1"), ("b", "1")], &[])),
        "all resources together would have 8 bytes; at most 7 are taken"
    );
    let mut odd = response(&EDS, "1", &[("a", "1")], &[]);
    odd.resources[0].resource.as_mut().unwrap().type_url = "x".to_owned();
    assert!(refusal(odd).starts_with("resource a is of type \"x\""));
    assert!(refusal(response(&CDS, "1", &[], &[])).contains("was not asked for"));
    assert!(refusal(response(&EDS, "1", &[("a-name-of-21-letters--", "1")], &[])).contains("at most 20"));
    assert!(client.on_response(response(&EDS, "1", &[("a", "1")], &[])).is_ok());
    assert!(
        client
            .on_response(response(&EDS, "2", &[], &[]))
            .unwrap_err()
            .reason
            .to_string()
            .contains("wait for an answer")
    );
    assert!(client.subscribe(&EDS, ["b", "c", "d"]).is_err());
}
