//! TLS that the application speaks itself, to real TLS servers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ads::{Ads, World};
use crate::net::{CALLEE, Proxy, at};
use crate::resources::Pki;
use crate::world::{self, By, Speaks};

const NAMES: [&str; 5] = ["a.example.com", "x.example.org", "*.example.org", "deep.example.org", "unknown.example.net"];
const DETECT: Duration = Duration::from_millis(300);

pub(crate) async fn story() {
    let certificate = Arc::new(Certificate::new());
    // Server a is reached through the callee's proxy, with TLS within mTLS; the others as they are.
    for (name, address) in [("a", at(CALLEE, 8443)), ("org", at("10.77.0.3", 8443)), ("deep", at("10.77.0.3", 8444))] {
        serve(name, TcpListener::bind(address).await.unwrap(), &certificate);
    }
    let pki = Pki::new();
    let (caller_dir, callee_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut caller = World::default();
    pki.secrets(&mut caller, "caller");
    world::upstream(&mut caller, "a", at(CALLEE, 8443), By::Mesh { hawser: true });
    world::upstream(&mut caller, "org", at("10.77.0.3", 8443), By::Plain);
    world::upstream(&mut caller, "deep", at("10.77.0.3", 8444), By::Plain);
    let chains = || {
        vec![
            world::to("a", world::names(&["a.example.com"])),
            world::to("org", world::names(&["*.example.org"])),
            world::to("deep", world::names(&["deep.example.org"])),
        ]
    };
    let all = ["a", "org", "deep"];
    world::outbound(&mut caller, "240.240.0.2_8443", chains(), None, DETECT, &all);
    let fallback = Some(world::to("org", Default::default()));
    world::outbound(&mut caller, "240.240.0.2_8444", chains(), fallback, DETECT, &all);
    let mut callee = World::default();
    pki.secrets(&mut callee, "reviews");
    world::inbound(&mut callee, &[(8443, Speaks::Tcp)], DETECT);
    let _ads = (Ads::start(caller_dir.path(), caller), Ads::start(callee_dir.path(), callee));
    let proxy = Proxy::start(caller_dir.path(), &["--bind", "outbound=0.0.0.0:15001"], 15000).await;
    let _callee = Proxy::start(callee_dir.path(), &["--bind", "inbound=0.0.0.0:15006"], 15100).await;

    for (name, server) in [("a.example.com", "a"), ("x.example.org", "org"), ("deep.example.org", "deep")] {
        assert_eq!(whole(&certificate, 8443, name).await.unwrap(), server, "{name}");
        assert_eq!(in_pieces(&certificate, 8443, name).await, server, "{name}, a few bytes at a time");
    }
    // A name that no chain has, and no name at all: closed, and counted as what it is.
    for name in ["unknown.example.net", "10.77.0.3"] {
        let before = proxy.metric(&["hawser_proxy_refused_connections_total", "no_chain"]).await;
        assert!(whole(&certificate, 8443, name).await.is_err(), "{name}");
        assert_eq!(proxy.metric(&["hawser_proxy_refused_connections_total", "no_chain"]).await, before + 1, "{name}");
    }
    // Unless there is a chain for the rest, which takes a client that says nothing too.
    for name in ["unknown.example.net", "10.77.0.3"] {
        assert_eq!(whole(&certificate, 8444, name).await.unwrap(), "org", "{name}");
    }
    assert_eq!(whole(&certificate, 8444, "deep.example.org").await.unwrap(), "deep");
}

/// A certificate for all names, and who trusts it.
struct Certificate {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Certificate {
    fn new() -> Self {
        let names = NAMES.iter().map(|n| (*n).to_owned()).chain(["10.77.0.3".to_owned()]).collect::<Vec<_>>();
        let key = KeyPair::generate().unwrap();
        let der: CertificateDer<'static> = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().into();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = hawser_daemon::tls_provider();
        let server =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![der.clone()], private).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }
}

/// Says its name to whoever asks, over TLS of its own.
fn serve(name: &'static str, listener: TcpListener, certificate: &Certificate) {
    let acceptor = TlsAcceptor::from(certificate.server.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                stream.write_all(name.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
}

async fn whole(certificate: &Certificate, port: u16, name: &str) -> io::Result<String> {
    let tcp = TcpStream::connect(("240.240.0.2", port)).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(certificate.client.clone()).connect(name, tcp).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

/// The same with a ClientHello of many packets.
async fn in_pieces(certificate: &Certificate, port: u16, name: &str) -> String {
    let mut tcp = TcpStream::connect(("240.240.0.2", port)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = ClientConnection::new(certificate.client.clone(), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    for piece in hello.chunks(41) {
        tcp.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut said = Vec::new();
    while tls.is_handshaking() || said.is_empty() {
        let mut out = Vec::new();
        tls.write_tls(&mut out).unwrap();
        tcp.write_all(&out).await.unwrap();
        let mut bytes = Vec::new();
        assert!(tcp.read_buf(&mut bytes).await.unwrap() > 0, "closed");
        tls.read_tls(&mut bytes.as_slice()).unwrap();
        let state = tls.process_new_packets().unwrap();
        said.resize(state.plaintext_bytes_to_read(), 0);
        io::Read::read_exact(&mut tls.reader(), &mut said).unwrap();
    }
    String::from_utf8(said).unwrap()
}
