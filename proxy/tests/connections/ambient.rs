//! The other side of HBONE, made of h2 and rustls alone: a client, and what stands before an ambient workload.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::net::{CALLEE, OWN, at};
use crate::resources::Pki;

/// What a client of an ambient mesh is like, for better or worse.
#[derive(Clone, Copy)]
pub(crate) struct Like {
    pub(crate) certificate: bool,
    pub(crate) alpn: &'static [&'static str],
}

/// As it should be.
pub(crate) const PROPER: Like = Like { certificate: true, alpn: &["h2"] };

/// Connects to the port of HBONE.
pub(crate) async fn connect(pki: &Pki, to: SocketAddr, like: Like) -> Result<SendRequest<Bytes>, String> {
    let tls = tls(pki, to, like).await?;
    let (mut client, mut connection) = h2::client::handshake(tls).await.map_err(|e| e.to_string())?;
    // The answer of a server that wants nothing to do with us comes after the handshake.
    let mut pong = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    pong.ping(h2::Ping::opaque()).await.map_err(|e| e.to_string())?;
    client = client.ready().await.map_err(|e| e.to_string())?;
    Ok(client)
}

/// A connection within TLS, whatever is spoken there.
pub(crate) async fn tls(pki: &Pki, to: SocketAddr, like: Like) -> Result<TlsStream<TcpStream>, String> {
    let builder = ClientConfig::builder_with_provider(hawser_daemon::tls_provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    let (chain, key) = credentials(pki, "caller");
    let mut config = match like.certificate {
        true => builder.with_client_auth_cert(chain, key).unwrap(),
        false => builder.with_no_client_auth(),
    };
    config.alpn_protocols = like.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config.enable_sni = false;
    let tcp = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
    let name = ServerName::IpAddress(to.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| e.to_string())
}

/// Asks for a tunnel; the answer's status, and the tunnel if there is one.
pub(crate) async fn tunnel(
    client: &SendRequest<Bytes>,
    method: Method,
    to: &str,
) -> (StatusCode, SendStream<Bytes>, RecvStream) {
    let request = Request::builder()
        .method(method.clone())
        .uri(if method == Method::CONNECT { to.to_owned() } else { format!("http://{to}/") })
        .header("baggage", "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,service.name=caller")
        .header("forwarded", "for=\"10.77.0.1:4711\"")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let mut client = client.clone().ready().await.unwrap();
    let (response, send) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let response = response.await.unwrap();
    (response.status(), send, response.into_body())
}

/// Sends bytes, reads what comes to its end; what is sent ends first if `finish`.
pub(crate) async fn exchange(
    bytes: &[u8],
    finish: bool,
    mut send: SendStream<Bytes>,
    mut receive: RecvStream,
) -> String {
    send.send_data(Bytes::copy_from_slice(bytes), finish).unwrap();
    let mut all = Vec::new();
    while let Some(data) = receive.data().await {
        let data = data.unwrap();
        receive.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    String::from_utf8(all).unwrap()
}

/// What stands before an ambient workload; connections that it took are counted.
pub(crate) fn serve(pki: &Pki, listener: TcpListener) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let (mut config, taken) = (server(pki), count.clone());
    Arc::get_mut(&mut config).unwrap().alpn_protocols = vec![b"h2".to_vec()];
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(tls) = TlsAcceptor::from(config.clone()).accept(stream).await else { continue };
            let session = tls.get_ref().1;
            assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
            assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
            assert_eq!(session.server_name(), None, "no name is sent");
            assert!(session.peer_certificates().is_some_and(|c| !c.is_empty()));
            taken.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(tls).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(one(request, respond));
                }
            });
        }
    });
    count
}

async fn one(request: Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    assert_eq!(request.method(), Method::CONNECT);
    let to: SocketAddr = request.uri().authority().unwrap().as_str().parse().unwrap();
    // The application is at another address in truth.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(at(OWN, 0)).unwrap();
    let Ok(mut stream) = socket.connect(at(CALLEE, to.port())).await else {
        let refused = Response::builder().status(503).body(()).unwrap();
        respond.send_response(refused, true).unwrap();
        return;
    };
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    let mut receive = request.into_body();
    let (mut read, mut write) = stream.split();
    let there = async {
        while let Some(Ok(data)) = receive.data().await {
            receive.flow_control().release_capacity(data.len()).unwrap();
            write.write_all(&data).await.unwrap();
        }
        let _ = write.shutdown().await;
    };
    let back = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let n = read.read(&mut buffer).await.unwrap_or_default();
            // The proxy may have gone with the test.
            if send.send_data(Bytes::copy_from_slice(&buffer[..n]), n == 0).is_err() || n == 0 {
                return;
            }
        }
    };
    tokio::join!(there, back);
}

/// TLS of a server that wants certificates of the mesh and offers no protocol.
pub(crate) fn server(pki: &Pki) -> Arc<ServerConfig> {
    let provider = hawser_daemon::tls_provider();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.root().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let (chain, key) = credentials(pki, "reviews");
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
}

fn credentials(pki: &Pki, account: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let (chain, key) = pki.issue(account);
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
    (chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
}

/// Takes any server: what is tested is whom the server takes.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        hawser_daemon::tls_provider().signature_verification_algorithms.supported_schemes()
    }
}
