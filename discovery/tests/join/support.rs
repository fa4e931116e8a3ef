//! A discovery without sockets: real store, CA, registry, TLS and gRPC; connections come through memory, from whatever
//! address a test names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use axum::Router;
use hawser_api::identity::TrustDomain;
use hawser_api::names::reasons;
use hawser_api::proto::admin::admin_client::AdminClient;
use hawser_api::proto::admin::admin_server::AdminServer;
use hawser_api::proto::admin::{CreateTokenRequest, ListHostsRequest, NamedPort, RevokeTokenRequest};
use hawser_api::proto::host::host_client::HostClient;
use hawser_api::proto::host::host_server::HostServer;
use hawser_api::proto::host::join_response::Kind;
use hawser_api::proto::host::{
    HostAddress, JoinRequest, JoinResponse, Joined, MeshSettings, RejoinRequest, WorkloadCsr,
};
use hawser_api::proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use hawser_api::proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use hawser_api::proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use hawser_api::token::JoinToken;
use hawser_daemon::drain::{self, Trigger, Watch};
use hawser_daemon::readiness::Readiness;
use hawser_discovery::admin::{AdminService, ApiSource, Parts};
use hawser_discovery::ads;
use hawser_discovery::hosts::{self, Binding, EXPORTER, HostService, Hosts, signed_text};
use hawser_discovery::identity::accounts::{Accounts, DEFAULT_AUDIENCE};
use hawser_discovery::identity::{Authority, CertificateService, Serving, Signer};
use hawser_discovery::metrics::Metrics;
use hawser_discovery::registry::{self, Settings, Snapshots};
use hawser_discovery::server::{Limits, TlsServer};
use hawser_discovery::store::{Addresses, Store};
use hawser_mesh::{Publisher, Workload};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

pub(crate) struct Discovery {
    pub(crate) hosts: Hosts,
    pub(crate) accounts: Accounts,
    snapshots: Snapshots,
    server: TlsServer<Router>,
    admin: AdminClient<Channel>,
    roots: RootCertStore,
    drain: Watch,
    _trigger: Trigger,
    _dir: tempfile::TempDir,
}

impl Discovery {
    pub(crate) async fn start(lease: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (trigger, drain) = drain::channel();
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let signer = Signer::own(dir.path(), &domain, SystemTime::now()).unwrap();
        let authority = Arc::new(Authority::new(domain.clone(), signer));
        let settings = Settings::new(domain.clone());
        let expected = [ApiSource::id(), hosts::registry_id()];
        let (events, snapshots) =
            registry::spawn(settings.clone(), expected, Box::new(Addresses::new(store.clone()))).unwrap();
        let mesh = MeshSettings { domain: settings.domain.clone(), ..MeshSettings::default() };
        let host_settings = hosts::Settings {
            lease,
            rejoin_window: Duration::from_secs(3600),
            mesh: hosts::Mesh { trust_domain: domain.clone(), settings: mesh },
            virtual_ranges: Vec::new(),
        };
        let metrics = Metrics::default();
        let hosts =
            Hosts::load(host_settings, store.clone(), authority.clone(), snapshots.clone(), metrics.clone()).unwrap();
        tokio::spawn(hosts.clone().run(Publisher::new(hosts::registry_id(), events.clone()), drain.clone()));
        let source = ApiSource::new(events);
        source.start(&store, &settings).await.unwrap();
        let ads = ads::Server::new(snapshots.clone(), Arc::new(hosts.clone()));
        let accounts = Accounts::new(DEFAULT_AUDIENCE);
        ads.trust(accounts.clone());
        let serving = Serving::new(&authority).unwrap();
        let tls = Arc::new(serving.tls().unwrap());
        let certificates = CertificateService::new(authority.clone(), accounts.clone(), metrics.clone());
        let routes = Routes::new(HostServer::new(HostService::new(hosts.clone(), ads.clone())))
            .add_service(IstioCertificateServiceServer::new(certificates))
            .add_service(ads.service())
            .prepare()
            .into_axum_router();
        let server = TlsServer::new(tls, domain, hosts.clone(), metrics, Limits::default(), routes);
        let mut ready = snapshots.clone();
        ready.wait_for(|s| s.ready()).await.unwrap();
        let roots = authority.root_store();
        let admin = AdminService::new(Parts {
            rejoin_window: Duration::from_secs(30 * 86400),
            store,
            authority,
            hosts: hosts.clone(),
            ads,
            snapshots: snapshots.clone(),
            settings,
            source,
            sources: Default::default(),
            readiness: Readiness::new(),
            advertise: vec!["mesh.invalid:15012".into()],
            started: SystemTime::now(),
        });
        let admin = admin_client(admin).await;
        Self { hosts, accounts, snapshots, server, admin, roots, drain, _trigger: trigger, _dir: dir }
    }

    pub(crate) async fn token(&self, group: &str, uses: u32) -> JoinToken {
        let request = CreateTokenRequest {
            namespace: "default".into(),
            group: group.into(),
            ports: vec![NamedPort { name: "http".into(), port: 9080 }],
            uses,
            ..CreateTokenRequest::default()
        };
        self.admin.clone().create_token(request).await.unwrap().into_inner().token.parse().unwrap()
    }

    pub(crate) async fn revoke_token(&self, id: &str) {
        self.admin.clone().revoke_token(RevokeTokenRequest { id: id.into() }).await.unwrap();
    }

    /// Waits until the only host's lease is in a state.
    pub(crate) async fn lease(&self, state: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut snapshots = self.snapshots.clone();
        loop {
            let hosts = self.admin.clone().list_hosts(ListHostsRequest {}).await.unwrap().into_inner().hosts;
            if hosts.iter().all(|h| h.lease == state) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{hosts:?}");
            let tick = tokio::time::Instant::now() + Duration::from_millis(100);
            let _ = tokio::time::timeout_at(tick, snapshots.changed()).await;
        }
    }

    /// Waits until the only workload is published like this.
    pub(crate) async fn published(&self, like: impl Fn(&Workload) -> bool) {
        let mut snapshots = self.snapshots.clone();
        let so = snapshots.wait_for(|s| s.workloads().first().is_some_and(|m| like(&m.workload)));
        let so = tokio::time::timeout(Duration::from_secs(20), so).await.is_ok();
        assert!(so, "{:?}", self.snapshots.borrow().workloads());
    }

    pub(crate) async fn unpublished(&self) {
        let mut snapshots = self.snapshots.clone();
        let gone = snapshots.wait_for(|s| s.workload_count() == 0);
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap().unwrap();
    }

    pub(crate) async fn join(&self, token: &JoinToken, keys: &HostKeys, address: &str) -> Result<Joined, Status> {
        self.join_signed_by(token, keys, keys, address).await
    }

    pub(crate) async fn join_signed_by(
        &self,
        token: &JoinToken,
        keys: &HostKeys,
        signer: &HostKeys,
        address: &str,
    ) -> Result<Joined, Status> {
        let (channel, exporter) = self.connect("10.9.0.1", None).await;
        let (say, said) = tokio::sync::mpsc::channel(1);
        let mut hear = HostClient::new(channel).join(ReceiverStream::new(said)).await?.into_inner();
        let nonce = challenge(hear.message().await?);
        let mut request = JoinRequest {
            token_id: token.id.clone(),
            secret: token.secret_bytes().to_vec(),
            host_public_key: keys.public_key(),
            host_csr: keys.host_csr(),
            workloads: vec![WorkloadCsr { workload_id: String::new(), csr: keys.workload_csr() }],
            // The tests' hosts connect from 10.9.0.1.
            addresses: vec![HostAddress { address: address.into(), network: String::new() }],
            hostname: "vm-1".into(),
            ..JoinRequest::default()
        };
        let binding = Binding { nonce, exporter };
        request.signature = signer.sign(&signed_text("hawser-join-v1", &binding, &request.encode_to_vec()));
        say.send(request).await.unwrap();
        joined(hear.message().await?)
    }

    pub(crate) async fn rejoin(&self, keys: &HostKeys, of: &Joined, session: (u64, u8)) -> Result<Joined, Status> {
        let (channel, exporter) = self.connect("10.9.0.1", None).await;
        let (say, said) = tokio::sync::mpsc::channel(1);
        let mut hear = HostClient::new(channel).rejoin(ReceiverStream::new(said)).await?.into_inner();
        let nonce = challenge(hear.message().await?);
        let mut request = RejoinRequest {
            instance_id: of.record.clone().unwrap().instance_id,
            host_csr: keys.host_csr(),
            workloads: vec![WorkloadCsr { workload_id: "reviews".into(), csr: keys.workload_csr() }],
            epoch: session.0,
            attempt: vec![session.1; 16],
            ..RejoinRequest::default()
        };
        let binding = Binding { nonce, exporter };
        request.signature = keys.sign(&signed_text("hawser-rejoin-v1", &binding, &request.encode_to_vec()));
        say.send(request).await.unwrap();
        joined(hear.message().await?)
    }

    /// A client with the host's certificate.
    pub(crate) async fn host(&self, keys: &HostKeys, joined: &Joined, from: &str) -> HostClient<Channel> {
        let chain = &joined.host.as_ref().unwrap().chain;
        HostClient::new(self.connect(from, Some((chain, &keys.host))).await.0)
    }

    /// A client with the workload's certificate.
    pub(crate) async fn with_workload_certificate(
        &self,
        keys: &HostKeys,
        joined: &Joined,
        from: &str,
    ) -> HostClient<Channel> {
        HostClient::new(self.connect(from, Some((&joined.workloads[0].chain, &keys.workload))).await.0)
    }

    pub(crate) async fn create_certificate_with_workload(
        &self,
        keys: &HostKeys,
        joined: &Joined,
    ) -> Result<IstioCertificateResponse, Status> {
        let (channel, _) = self.connect("10.9.0.1", Some((&joined.workloads[0].chain, &keys.workload))).await;
        let csr = CertificateParams::default().serialize_request(&keys.workload).unwrap().pem().unwrap();
        let request = IstioCertificateRequest { csr, ..IstioCertificateRequest::default() };
        Ok(IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner())
    }

    /// A connection without a certificate.
    pub(crate) async fn stranger(&self) -> Channel {
        self.connect("10.9.0.7", None).await.0
    }

    /// A connection from an address, and its exporter.
    async fn connect(&self, from: &str, certificate: Option<(&[String], &KeyPair)>) -> (Channel, [u8; 32])
    where
        Self: Sized,
    {
        let from = SocketAddr::new(from.parse().unwrap(), 40000);
        let builder = ClientConfig::builder_with_provider(hawser_daemon::tls_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(support_verifier::AnyName::new(self.roots.clone())));
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (server, drain) = (self.server.clone(), self.drain.clone());
        tokio::spawn(async move { server.connection(theirs, from, drain).await });
        let name = ServerName::try_from("mesh.invalid").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, ours).await.unwrap();
        let exporter = tls.get_ref().1.export_keying_material([0u8; 32], EXPORTER, None).unwrap();
        let mut stream = Some(tls);
        let connector = service_fn(move |_: Uri| {
            let stream = stream.take();
            async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("connected once already")) }
        });
        let channel = Endpoint::from_static("http://mesh.invalid").connect_with_connector(connector).await.unwrap();
        (channel, exporter)
    }
}

async fn admin_client(service: AdminService) -> AdminClient<Channel> {
    let routes = Routes::new(AdminServer::new(service)).prepare().into_axum_router();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let service = hyper_util::service::TowerToHyperService::new(routes);
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(TokioIo::new(theirs), service),
    );
    let mut stream = Some(ours);
    let connector = service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("connected once already")) }
    });
    AdminClient::new(Endpoint::from_static("http://admin.invalid").connect_with_connector(connector).await.unwrap())
}

fn challenge(response: Option<JoinResponse>) -> [u8; 32] {
    let Some(Kind::Challenge(challenge)) = response.unwrap().kind else { panic!("no challenge first") };
    challenge.nonce.try_into().unwrap()
}

fn joined(response: Option<JoinResponse>) -> Result<Joined, Status> {
    match response.and_then(|r| r.kind) {
        Some(Kind::Joined(joined)) => Ok(joined),
        other => Err(Status::new(Code::Unknown, format!("{other:?}"))),
    }
}

/// The stable word of a refusal.
pub(crate) fn reason(status: &Status) -> &str {
    status.metadata().get(reasons::KEY).map_or("", |value| value.to_str().unwrap())
}

/// The keys of a host.
pub(crate) struct HostKeys {
    host: KeyPair,
    workload: KeyPair,
}

impl HostKeys {
    pub(crate) fn new() -> Self {
        Self { host: KeyPair::generate().unwrap(), workload: KeyPair::generate().unwrap() }
    }

    pub(crate) fn host_csr(&self) -> Vec<u8> {
        CertificateParams::default().serialize_request(&self.host).unwrap().der().to_vec()
    }

    pub(crate) fn workload_csr(&self) -> Vec<u8> {
        CertificateParams::default().serialize_request(&self.workload).unwrap().der().to_vec()
    }

    /// A request that names somebody.
    pub(crate) fn request_for(&self, uri: &str) -> String {
        let mut asked = CertificateParams::default();
        asked.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        asked.serialize_request(&self.workload).unwrap().pem().unwrap()
    }

    fn public_key(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.host)
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.host.serialize_der()).unwrap();
        key.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec()
    }
}

mod support_verifier {
    //! Verifies the chain and nothing of the name: what discovery's clients do beyond that is tested with them.

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::client::verify_server_cert_signed_by_trust_anchor;
    use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
    use rustls::server::ParsedCertificate;
    use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    #[derive(Debug)]
    pub(super) struct AnyName {
        roots: RootCertStore,
    }

    impl AnyName {
        pub(super) fn new(roots: RootCertStore) -> Self {
            Self { roots }
        }
    }

    impl ServerCertVerifier for AnyName {
        fn verify_server_cert(
            &self,
            leaf: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            let algorithms = hawser_daemon::tls_provider().signature_verification_algorithms;
            let leaf = ParsedCertificate::try_from(leaf)?;
            verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, now, algorithms.all)?;
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = hawser_daemon::tls_provider().signature_verification_algorithms;
            verify_tls12_signature(message, cert, dss, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = hawser_daemon::tls_provider().signature_verification_algorithms;
            verify_tls13_signature(message, cert, dss, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            hawser_daemon::tls_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
