//! What a sidecar's agent does in a pod, as far as a proxy needs it: a certificate for the token of the pod's service
//! account, configuration from discovery, both over the socket that hawser-proxy looks for.
//!
//! In: a token in a file, as kubelet writes it, and the mesh's root. Out: delta xDS on a Unix socket. Invariant: nothing is
//! said to a server that is not discovery; when its stream ends, so does the proxy's, which then asks anew.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hawser_api::names::{SECRET_DEFAULT, SECRET_ROOT, metadata};
use hawser_api::proto::core::{DataSource, Node, data_source::Specifier};
use hawser_api::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hawser_api::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use hawser_api::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use hawser_api::proto::istio::v1::auth::IstioCertificateRequest;
use hawser_api::proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use hawser_api::proto::tls::{CertificateValidationContext, Secret, TlsCertificate, secret::Type};
use hawser_xds::{Closure, DeltaServer, Limits, Resource, Source, TypeUrl, Version};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost_types::value::Kind;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

const QUEUE: usize = 64;
const LARGEST: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Discovery's TLS port
    #[arg(long)]
    discovery: String,
    /// Its identity
    #[arg(long, default_value = "spiffe://cluster.local/hawser/discovery")]
    identity: String,
    /// The mesh's root, in PEM
    #[arg(long)]
    roots: PathBuf,
    /// The token of the pod's service account
    #[arg(long)]
    token: PathBuf,
    /// The pod
    #[arg(long)]
    name: String,
    #[arg(long, default_value = "default")]
    namespace: String,
    /// Its address
    #[arg(long)]
    address: String,
    /// `key=value`
    #[arg(long = "label")]
    labels: Vec<String>,
    /// Where its proxy asks
    #[arg(long, default_value = "/run/hawser/proxy.sock")]
    socket: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> Result<()> {
    let channel = channel(&args).await?;
    let token = std::fs::read_to_string(&args.token).with_context(|| args.token.display().to_string())?;
    let secrets = Arc::new(Secrets::ask(&channel, token.trim()).await.context("no certificate")?);
    let listener = UnixListener::bind(&args.socket).with_context(|| args.socket.display().to_string())?;
    let ads = Ads { channel, token: token.trim().to_owned(), secrets, args: Arc::new(args) };
    crate::ready();
    let service = AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(LARGEST);
    Ok(Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener)).await?)
}

/// A channel to discovery that connects again when it is lost.
async fn channel(args: &Args) -> Result<Channel> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(&args.roots)? {
        roots.add(root?)?;
    }
    let verifier = Arc::new(IsDiscovery { identity: args.identity.clone(), roots, provider: provider.clone() });
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
    let address = args.discovery.clone();
    let connect = tower::service_fn(move |_| {
        let (tls, address) = (tls.clone(), address.clone());
        async move {
            let tcp = TcpStream::connect(&address).await?;
            let name = ServerName::try_from("discovery").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    let endpoint = Endpoint::from_static("http://discovery").connect_timeout(PATIENCE);
    Ok(endpoint.connect_with_connector(connect).await?)
}

fn bearer<T>(token: &str, message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let shown = MetadataValue::try_from(format!("Bearer {token}"));
    request.metadata_mut().insert("authorization", shown.map_err(|_| Status::unauthenticated("no token"))?);
    Ok(request)
}

/// The pod's certificate, its key, and the mesh's roots.
#[derive(Debug)]
struct Secrets {
    chain: String,
    key: String,
    roots: String,
}

impl Secrets {
    /// Asks for a certificate; whose it is the token says, not the request.
    async fn ask(channel: &Channel, token: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::new(Vec::new())?.serialize_request(&key)?.pem()?;
        let request = IstioCertificateRequest { csr, ..IstioCertificateRequest::default() };
        let mut signer = IstioCertificateServiceClient::new(channel.clone());
        let mut chain = signer.create_certificate(bearer(token, request)?).await?.into_inner().cert_chain;
        let roots = chain.pop().context("a chain ends with a root")?;
        Ok(Self { chain: chain.concat(), key: key.serialize_pem(), roots })
    }
}

impl Source for Secrets {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource> {
        let inline = |text: &str| DataSource { specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())) };
        let kind = match name {
            _ if *ty != TypeUrl::SECRET => return None,
            SECRET_ROOT => Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(&self.roots)),
                ..CertificateValidationContext::default()
            }),
            SECRET_DEFAULT => Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(inline(&self.chain)),
                private_key: Some(inline(&self.key)),
            }),
            _ => return None,
        };
        let secret = Secret { name: name.to_owned(), r#type: Some(kind) };
        let version = Version::from("1".to_owned());
        Some(Resource { name: name.into(), version, body: Bytes::from(secret.encode_to_vec()) })
    }

    fn names(&self, _: &TypeUrl) -> Vec<Arc<str>> {
        vec![SECRET_ROOT.into(), SECRET_DEFAULT.into()]
    }

    fn closure(&self, _: &TypeUrl, _: &str) -> Vec<(TypeUrl, Arc<str>)> {
        Vec::new()
    }
}

/// The proxy's stream, and discovery's behind it.
struct Ads {
    channel: Channel,
    token: String,
    secrets: Arc<Secrets>,
    args: Arc<Args>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (out, answers) = mpsc::channel(QUEUE);
        let (say, said) = mpsc::channel(QUEUE);
        let mut discovery =
            AggregatedDiscoveryServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        let (upstream, secrets, args) =
            (bearer(&self.token, ReceiverStream::new(said))?, self.secrets.clone(), self.args.clone());
        tokio::spawn(async move {
            let down = out.clone();
            let ended = async {
                tokio::select! {
                    ended = up(request.into_inner(), &args, &secrets, &say, &out) => ended,
                    // Discovery answers a stream when it has heard something on it.
                    ended = async {
                        let mut heard = discovery.delta_aggregated_resources(upstream).await?.into_inner();
                        while let Some(response) = heard.message().await? {
                            let _ = out.send(Ok(response)).await;
                        }
                        Ok(())
                    } => ended,
                }
            };
            let ended: Result<(), Status> = ended.await;
            let why = ended.err().unwrap_or_else(|| Status::unavailable("discovery's stream ended"));
            let _ = down.send(Err(why)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// Hands requests on, the first one with the pod's node; those for secrets are answered here.
async fn up(
    mut requests: Streaming<DeltaDiscoveryRequest>,
    args: &Args,
    secrets: &Secrets,
    say: &mpsc::Sender<DeltaDiscoveryRequest>,
    out: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) -> Result<(), Status> {
    let mut sds = DeltaServer::new(Limits::default(), Closure::Off);
    let mut node = Node::default();
    while let Some(request) = requests.next().await {
        let mut request = request?;
        if let Some(own) = request.node.take() {
            node = named(own, args);
        }
        request.node = Some(node.clone());
        if TypeUrl::from(request.type_url.as_str()) == TypeUrl::SECRET {
            let answers = sds.on_request(request, secrets, Instant::now());
            for answer in answers.map_err(|error| Status::resource_exhausted(error.to_string()))? {
                let _ = out.send(Ok(answer)).await;
            }
        } else if say.send(request).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The node of the pod; its dialect is the proxy's.
fn named(mut node: Node, args: &Args) -> Node {
    let text = |value: &str| prost_types::Value { kind: Some(Kind::StringValue(value.to_owned())) };
    let (namespace, pod) = (&args.namespace, &args.name);
    node.id = format!("sidecar~{}~{pod}.{namespace}~{namespace}.svc.cluster.local", args.address);
    let labels = args.labels.iter().filter_map(|label| label.split_once('='));
    let labels = labels.map(|(key, value)| (key.to_owned(), text(value))).collect();
    let labels = prost_types::Value { kind: Some(Kind::StructValue(prost_types::Struct { fields: labels })) };
    let fields = &mut node.metadata.get_or_insert_default().fields;
    fields.insert(metadata::NAMESPACE.to_owned(), text(namespace));
    fields.insert(metadata::LABELS.to_owned(), labels);
    node
}

/// Whether a server is discovery.
#[derive(Debug)]
struct IsDiscovery {
    identity: String,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for IsDiscovery {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, rest, now, algorithms)?;
        let read = webpki::EndEntityCert::try_from(leaf).map_err(|error| rustls::Error::General(error.to_string()))?;
        if !read.valid_uri_names().eq([self.identity.as_str()]) {
            return Err(rustls::Error::General("it is not discovery".to_owned()));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
