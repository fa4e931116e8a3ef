//! A host joins, holds its lease, renews, rejoins and leaves, over real TLS, against the real parts of discovery.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use hawser_api::names::reasons;
use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::DeltaDiscoveryRequest;
use hawser_api::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hawser_api::proto::host::session_request::Kind as Say;
use hawser_api::proto::host::session_response::Kind as Hear;
use hawser_api::proto::host::{
    Drain, Goodbye, Health, Heartbeat, PortHealth, SessionOpen, SessionRequest, SignRequest, WorkloadCsr,
    WorkloadHealth,
};
use hawser_api::proto::istio::v1::auth::IstioCertificateRequest;
use hawser_api::proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use hawser_discovery::identity::accounts::{NoReview, Review, Reviewer, User};
use hawser_mesh as mesh;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use support::{Discovery, HostKeys, reason};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

const LEASE: Duration = Duration::from_secs(1);

fn open(epoch: u64, attempt: u8) -> SessionRequest {
    let open = SessionOpen { epoch, attempt: vec![attempt; 16], version: "0.1.0".into(), ..SessionOpen::default() };
    SessionRequest { kind: Some(Say::Open(open)) }
}

fn beat(sequence: u64, health: Health) -> SessionRequest {
    let ports = vec![PortHealth { port: 9080, health: health.into(), reason: String::new() }];
    let workloads = vec![WorkloadHealth { workload_id: "reviews".into(), ports }];
    SessionRequest { kind: Some(Say::Heartbeat(Heartbeat { sequence, workloads })) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_is_idempotent_and_costs_one_use_for_each_host() {
    let discovery = Discovery::start(LEASE).await;
    let token = discovery.token("reviews", 1).await;
    let keys = HostKeys::new();
    let first = discovery.join(&token, &keys, "10.9.0.1").await.unwrap();
    let record = first.record.clone().unwrap();
    assert_eq!(record.workloads[0].spiffe_id, "spiffe://cluster.local/ns/default/sa/default");
    assert_eq!((first.workloads.len(), first.roots.len()), (1, 1));

    let again = discovery.join(&token, &keys, "10.9.0.1").await.unwrap();
    assert_eq!(again.record.unwrap().instance_id, record.instance_id);

    let other = discovery.join(&token, &HostKeys::new(), "10.9.0.1").await.unwrap_err();
    assert_eq!(reason(&other), reasons::TOKEN_USED_UP);
    assert!(other.message().contains("used 1 of 1 times"), "{}", other.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_join_has_its_own_reason() {
    let discovery = Discovery::start(LEASE).await;
    let token = discovery.token("reviews", 9).await;
    let keys = HostKeys::new();
    let wrong_address = discovery.join(&token, &keys, "127.0.0.1").await.unwrap_err();
    assert_eq!(reason(&wrong_address), reasons::ADDRESS_REFUSED);

    let mut guessed = token.clone();
    guessed.secret = "guess".into();
    assert_eq!(reason(&discovery.join(&guessed, &keys, "10.9.0.1").await.unwrap_err()), reasons::TOKEN_UNKNOWN);

    let forged = discovery.join_signed_by(&token, &keys, &HostKeys::new(), "10.9.0.1").await.unwrap_err();
    assert_eq!(reason(&forged), reasons::SIGNATURE_INVALID);

    discovery.revoke_token(&token.id).await;
    assert_eq!(reason(&discovery.join(&token, &keys, "10.9.0.1").await.unwrap_err()), reasons::TOKEN_REVOKED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_publishes_the_host_and_its_health_and_leaves_in_order() {
    let discovery = Discovery::start(LEASE).await;
    let token = discovery.token("reviews", 1).await;
    let keys = HostKeys::new();
    let joined = discovery.join(&token, &keys, "10.9.0.1").await.unwrap();
    let mut host = discovery.host(&keys, &joined, "10.9.0.1").await;

    let (say, said) = tokio::sync::mpsc::channel(8);
    say.send(open(0, 1)).await.unwrap();
    let mut hear = host.session(ReceiverStream::new(said)).await.unwrap().into_inner();
    let Some(Hear::Opened(opened)) = hear.message().await.unwrap().unwrap().kind else { panic!() };
    assert_eq!(opened.epoch, 1);
    discovery.published(|w| w.health_of(9080) == mesh::Health::Healthy).await;

    say.send(beat(1, Health::Unhealthy)).await.unwrap();
    let Some(Hear::Ack(ack)) = hear.message().await.unwrap().unwrap().kind else { panic!() };
    assert_eq!(ack.sequence, 1);
    discovery.published(|w| w.health_of(9080) == mesh::Health::Unhealthy && w.health == mesh::Health::Healthy).await;

    say.send(SessionRequest { kind: Some(Say::Drain(Drain::default())) }).await.unwrap();
    let Some(Hear::Drained(drained)) = hear.message().await.unwrap().unwrap().kind else { panic!() };
    assert_eq!(drained.holders, 0);
    discovery.published(|w| w.health == mesh::Health::Draining).await;

    say.send(SessionRequest { kind: Some(Say::Goodbye(Goodbye { forget: true })) }).await.unwrap();
    let Some(Hear::Goodbye(_)) = hear.message().await.unwrap().unwrap().kind else { panic!() };
    discovery.unpublished().await;
    let gone = discovery.rejoin(&keys, &joined, (1, 2)).await.unwrap_err();
    assert_eq!(reason(&gone), reasons::HOST_UNKNOWN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_host_that_is_the_last_of_its_service_stays_and_a_twin_is_refused() {
    let discovery = Discovery::start(LEASE).await;
    let token = discovery.token("reviews", 1).await;
    let keys = HostKeys::new();
    let joined = discovery.join(&token, &keys, "10.9.0.1").await.unwrap();
    let mut host = discovery.host(&keys, &joined, "10.9.0.1").await;
    for (epoch, attempt, expected) in [(0, 1, Ok(1)), (1, 2, Ok(2)), (0, 1, Err(reasons::HOST_CLONED))] {
        let (say, said) = tokio::sync::mpsc::channel(8);
        say.send(open(epoch, attempt)).await.unwrap();
        let mut hear = host.session(ReceiverStream::new(said)).await.unwrap().into_inner();
        let answer = match hear.message().await {
            Ok(Some(response)) => match response.kind {
                Some(Hear::Opened(opened)) => Ok(opened.epoch),
                other => panic!("{other:?}"),
            },
            Ok(None) => panic!("no answer"),
            Err(status) => Err(reason(&status).to_owned()),
        };
        assert_eq!(answer, expected.map_err(str::to_owned));
    }
    // Nobody beats: the lease lapses, and it was all of the service.
    discovery.lease("frozen").await;
    discovery.published(|w| w.health == mesh::Health::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_by_certificate_and_by_key_until_the_host_is_revoked() {
    let discovery = Discovery::start(LEASE).await;
    let token = discovery.token("reviews", 1).await;
    let keys = HostKeys::new();
    let joined = discovery.join(&token, &keys, "10.9.0.1").await.unwrap();
    let mut host = discovery.host(&keys, &joined, "10.9.0.1").await;
    let request = |id: &str, csr| SignRequest { requests: vec![WorkloadCsr { workload_id: id.into(), csr }] };
    let signed = host.sign(request("reviews", keys.workload_csr())).await.unwrap().into_inner();
    assert_eq!(signed.certificates[0].workload_id, "reviews");
    host.sign(request("", keys.host_csr())).await.unwrap();
    assert!(host.sign(request("", keys.workload_csr())).await.is_err(), "a host certificate for another key");
    assert!(host.sign(request("ratings", keys.workload_csr())).await.is_err());

    // A workload certificate of a joined host opens nothing, nor does none.
    let mut workload = discovery.with_workload_certificate(&keys, &joined, "10.9.0.1").await;
    let refused = workload.sign(request("reviews", keys.workload_csr())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let refused = discovery.create_certificate_with_workload(&keys, &joined).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);

    assert!(discovery.rejoin(&keys, &joined, (0, 1)).await.is_ok());
    assert_eq!(reason(&discovery.rejoin(&keys, &joined, (7, 1)).await.unwrap_err()), reasons::HOST_CLONED);
    let stranger = discovery.rejoin(&HostKeys::new(), &joined, (0, 1)).await.unwrap_err();
    assert_eq!(reason(&stranger), reasons::SIGNATURE_INVALID);

    let id = joined.record.clone().unwrap().instance_id;
    discovery.hosts.revoke(&id).await.unwrap();
    assert_eq!(reason(&discovery.rejoin(&keys, &joined, (0, 1)).await.unwrap_err()), reasons::HOST_REVOKED);
    let mut host = discovery.host(&keys, &joined, "10.9.0.1").await;
    let refused = host.sign(request("reviews", keys.workload_csr())).await.unwrap_err();
    assert_eq!(reason(&refused), reasons::HOST_REVOKED);
}

struct Reviewing;

#[tonic::async_trait]
impl Reviewer for Reviewing {
    async fn review(&self, token: &str, audience: &str) -> Result<Review, NoReview> {
        let user = User {
            username: "system:serviceaccount:shop:web".into(),
            groups: vec!["system:serviceaccounts".into()],
            ..User::default()
        };
        let audiences = vec![audience.to_owned()];
        Ok(Review { authenticated: token.ends_with(".good"), user, audiences, error: "[invalid bearer token]".into() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_who_the_api_server_says_its_token_is_for_certificates_and_for_xds() {
    let discovery = Discovery::start(LEASE).await;
    // A claim of its end in the year 2100, and a signature.
    let token = |signature: &str| format!("Bearer e30.eyJleHAiOjQxMDI0NDQ4MDB9.{signature}");
    let shown = |token: Option<String>, csr: String| {
        let mut request = tonic::Request::new(IstioCertificateRequest { csr, ..IstioCertificateRequest::default() });
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        request
    };
    let keys = HostKeys::new();
    let csr = keys.request_for("spiffe://cluster.local/ns/kube-system/sa/admin");
    let mut signer = IstioCertificateServiceClient::new(discovery.stranger().await);
    // No cluster is followed.
    let refused = signer.create_certificate(shown(Some(token("good")), csr.clone())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    discovery.accounts.follow("one", std::sync::Arc::new(Reviewing));
    for bad in [None, Some(token("bad")), Some("Basic good".into()), Some("Bearer good".into())] {
        let refused = signer.create_certificate(shown(bad, csr.clone())).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
    }
    let mut elsewhere = shown(Some(token("good")), csr.clone());
    elsewhere.metadata_mut().insert("clusterid", "two".parse().unwrap());
    assert!(signer.create_certificate(elsewhere).await.unwrap_err().message().contains("\"two\""));
    let chain = signer.create_certificate(shown(Some(token("good")), csr)).await.unwrap().into_inner().cert_chain;
    let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let names: Vec<_> = webpki::EndEntityCert::try_from(&leaf).unwrap().valid_uri_names().map(str::to_owned).collect();
    assert_eq!(names, ["spiffe://cluster.local/ns/shop/sa/web"]);

    let mut xds = AggregatedDiscoveryServiceClient::new(discovery.stranger().await);
    let mut open = async |token: Option<String>, namespace: &str| {
        let id = format!("sidecar~10.1.0.1~web-0.{namespace}~{namespace}.svc.cluster.local");
        let node = Some(Node { id, ..Node::default() });
        let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
        let first = DeltaDiscoveryRequest { node, type_url, ..DeltaDiscoveryRequest::default() };
        let mut request = tonic::Request::new(tokio_stream::once(first).chain(tokio_stream::pending()));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        xds.delta_aggregated_resources(request).await?.into_inner().message().await
    };
    assert!(open(Some(token("good")), "shop").await.unwrap().is_some());
    let refused = open(Some(token("good")), "pay").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    for bad in [None, Some(token("bad"))] {
        assert_eq!(open(bad, "shop").await.unwrap_err().code(), tonic::Code::Unauthenticated);
    }
}
