//! Our streams with rustls at the other end.

mod foreign;
mod openssl;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::handshake::{Established, connect, serve};
use super::testing::Pki;
use crate::stream::{Plain, Stream};

fn name() -> ServerName<'static> {
    "outbound_.80_._.reviews".try_into().unwrap()
}

/// Two ends of a wire that cuts what it carries into random pieces.
fn wire(mut seed: u64) -> (DuplexStream, DuplexStream) {
    let ((left, a), (b, right)) = (duplex(1 << 16), duplex(1 << 16));
    let (a, b) = (tokio::io::split(a), tokio::io::split(b));
    let mut carry = |from, to| {
        seed += 1;
        tokio::spawn(cut(from, to, seed));
    };
    carry(Box::new(a.0) as Box<dyn AsyncRead + Send + Unpin>, Box::new(b.1) as Box<dyn AsyncWrite + Send + Unpin>);
    carry(Box::new(b.0), Box::new(a.1));
    (left, right)
}

async fn cut(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    mut to: Box<dyn AsyncWrite + Send + Unpin>,
    mut seed: u64,
) -> io::Result<()> {
    let mut bytes = vec![0; 100_000];
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let most = [1, 3, 17, 500, 3000, 16_406, 40_000, 100_000][(seed >> 60) as usize % 8];
        let n = from.read(&mut bytes[..most]).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..n]).await?;
    }
}

async fn our_client(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    wire: (DuplexStream, DuplexStream),
) -> (Established, server::TlsStream<DuplexStream>) {
    let (ours, theirs) = wire;
    let accept = TlsAcceptor::from(server);
    let (ours, theirs) = tokio::join!(connect(client, name(), Plain::memory(ours)), accept.accept(theirs));
    (ours.unwrap(), theirs.unwrap())
}

async fn our_server(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    wire: (DuplexStream, DuplexStream),
) -> (Established, client::TlsStream<DuplexStream>) {
    let (ours, theirs) = wire;
    let connector = TlsConnector::from(client);
    let (ours, theirs) = tokio::join!(serve(server, Plain::memory(ours)), connector.connect(name(), theirs));
    (ours.unwrap(), theirs.unwrap())
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 253) as u8).collect()
}

/// Says a lot both ways at once, and good-bye.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(ours: Stream, theirs: S) {
    let (to_us, to_them) = (bytes(700_001), bytes(500_003));
    let (mut our_read, mut our_write) = tokio::io::split(ours);
    let (mut their_read, mut their_write) = tokio::io::split(theirs);
    let (mut heard, mut they_heard) = (Vec::new(), Vec::new());
    let say = async {
        let mut left = &to_them[..];
        let mut n = 1;
        while !left.is_empty() {
            let (a, b) = (n.min(left.len()), (2 * n).min(left.len()));
            let done = our_write.write_vectored(&[IoSlice::new(&left[..a]), IoSlice::new(&left[a..b])]).await?;
            left = &left[done..];
            n = n * 3 % 70_001;
        }
        our_write.shutdown().await
    };
    let they_say = async {
        for part in to_us.chunks(33_333) {
            their_write.write_all(part).await?;
            their_write.flush().await?;
        }
        their_write.shutdown().await
    };
    let all = async {
        tokio::try_join!(say, they_say, our_read.read_to_end(&mut heard), their_read.read_to_end(&mut they_heard))
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap().unwrap();
    assert!(heard == to_us && they_heard == to_them);
}

#[tokio::test]
async fn both_roles_and_every_suite_carry_bytes_whole_however_they_are_cut() {
    let pki = Pki::new();
    let suites = [
        (&TLS13, Some(TLS13_AES_128_GCM_SHA256)),
        (&TLS13, Some(TLS13_AES_256_GCM_SHA384)),
        (&TLS13, Some(TLS13_CHACHA20_POLY1305_SHA256)),
        (&TLS12, None),
    ];
    for (round, (version, suite)) in suites.into_iter().enumerate() {
        for seed in 0..3 {
            let (client, server) = pki.configs(version, suite);
            let (client, server) = (Arc::new(client), Arc::new(server));
            let seed = round as u64 * 100 + seed * 2;
            let (ours, theirs) = our_client(client.clone(), server.clone(), wire(seed)).await;
            assert_eq!(ours.protocol.as_deref(), Some(&b"two"[..]));
            assert_eq!(ours.certificate.as_ref(), Some(&pki.leaf));
            assert_eq!(format!("{:?}", ours.stream).contains("Legacy"), suite.is_none());
            converse(ours.stream, theirs).await;
            let (ours, theirs) = our_server(client, server, wire(seed + 1)).await;
            assert_eq!(ours.protocol.as_deref(), Some(&b"two"[..]));
            assert_eq!(ours.certificate.as_ref(), Some(&pki.leaf));
            converse(ours.stream, theirs).await;
        }
    }
}

#[tokio::test]
async fn both_ends_may_be_ours() {
    let (client, server) = Pki::new().configs(&TLS13, None);
    let (left, right) = wire(7);
    let (a, b) = tokio::join!(
        connect(Arc::new(client), name(), Plain::memory(left)),
        serve(Arc::new(server), Plain::memory(right))
    );
    converse(a.unwrap().stream, b.unwrap().stream).await;
}

#[tokio::test]
async fn tickets_resume_on_both_sides_with_the_same_identity() {
    let pki = Pki::new();
    let (client, server) = pki.configs(&TLS13, None);
    let (client, server) = (Arc::new(client), Arc::new(server));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (mut ours, mut theirs) = our_client(client.clone(), server.clone(), duplex(1 << 16)).await;
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(kind), "as a client");
        assert_eq!(ours.certificate.as_ref(), Some(&pki.leaf));
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(ours.stream.read_u8().await.unwrap(), b'x');
    }
    let (client, server) = pki.configs(&TLS13, None);
    let (client, server) = (Arc::new(client), Arc::new(server));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (mut ours, mut theirs) = our_server(client.clone(), server.clone(), duplex(1 << 16)).await;
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(kind), "as a server");
        assert_eq!(ours.certificate.as_ref(), Some(&pki.leaf));
        ours.stream.write_all(b"x").await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn keys_are_renewed_when_the_other_end_asks() {
    let (client, server) = Pki::new().configs(&TLS13, None);
    let (mut ours, mut theirs) = our_client(Arc::new(client), Arc::new(server), duplex(1 << 16)).await;
    for round in 0..40u8 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(&[round; 100]).await.unwrap();
        let mut heard = [0; 100];
        ours.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [round; 100]);
        ours.stream.write_all(&[round; 100]).await.unwrap();
        ours.stream.flush().await.unwrap();
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [round; 100]);
    }
}

#[tokio::test]
async fn what_comes_with_the_last_words_of_the_handshake_is_not_lost() {
    for version in [&TLS13, &TLS12] {
        let (client, mut server) = Pki::new().configs(version, None);
        // No ticket: the server has nothing to say after the client's last words.
        server.ticketer = Arc::new(rustls_no_tickets::None);
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let (ours, mut theirs) = duplex(1 << 16);
        let mut rustls = rustls::ClientConnection::new(Arc::new(client), name()).unwrap();
        let client = async {
            let (mut out, mut buf) = (Vec::new(), vec![0; 1 << 16]);
            rustls.write_tls(&mut out).unwrap();
            theirs.write_all(&out).await.unwrap();
            while rustls.is_handshaking() {
                let n = theirs.read(&mut buf).await.unwrap();
                assert!(n > 0);
                let mut read = &buf[..n];
                while !read.is_empty() {
                    rustls.read_tls(&mut read).unwrap();
                    rustls.process_new_packets().unwrap();
                }
                out.clear();
                if !rustls.is_handshaking() {
                    io::Write::write_all(&mut rustls.writer(), b"at once").unwrap();
                    rustls.send_close_notify();
                }
                while rustls.wants_write() {
                    rustls.write_tls(&mut out).unwrap();
                }
                theirs.write_all(&out).await.unwrap();
            }
            theirs
        };
        let (ours, _theirs) = tokio::join!(serve(Arc::new(server), Plain::memory(ours)), client);
        let mut heard = Vec::new();
        ours.unwrap().stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"at once");
    }
}

#[tokio::test]
async fn a_client_that_speaks_first_says_its_last_words_with_its_first() {
    for (protocol, waits) in [("hawser-h2", true), ("istio-h2", true), ("h2", false), ("istio", false)] {
        let (mut client, mut server) = Pki::new().configs(&TLS13, None);
        client.alpn_protocols = vec![protocol.into()];
        server.alpn_protocols = vec![protocol.into()];
        let (ours, theirs) = duplex(1 << 16);
        let mut serving = Box::pin(serve(Arc::new(server), Plain::memory(theirs)));
        let connecting = connect(Arc::new(client), name(), Plain::memory(ours));
        let mut ours = tokio::select! {
            biased;
            ours = connecting => ours.unwrap(),
            _ = &mut serving => panic!("{protocol}: the server is done before the client"),
        };
        let done = futures_util::poll!(&mut serving);
        assert_eq!(done.is_pending(), waits, "{protocol}");
        ours.stream.write_all(b"first").await.unwrap();
        let mut theirs = match done {
            std::task::Poll::Ready(done) => done.unwrap(),
            std::task::Poll::Pending => serving.await.unwrap(),
        };
        let mut heard = [0; 5];
        theirs.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, *b"first", "{protocol}");
        theirs.stream.write_all(b"answer").await.unwrap();
        theirs.stream.flush().await.unwrap();
        let mut heard = [0; 6];
        ours.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, *b"answer", "{protocol}");
    }
}

mod rustls_no_tickets {
    /// Gives no ticket.
    #[derive(Debug)]
    pub(super) struct None;

    impl rustls::server::ProducesTickets for None {
        fn enabled(&self) -> bool {
            false
        }
        fn lifetime(&self) -> u32 {
            0
        }
        fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
            Option::None
        }
        fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
            Option::None
        }
    }
}

#[tokio::test]
async fn one_end_may_close_and_the_other_goes_on() {
    for version in [&TLS13, &TLS12] {
        let (client, server) = Pki::new().configs(version, None);
        let (mut ours, mut theirs) = our_client(Arc::new(client), Arc::new(server), duplex(1 << 16)).await;
        ours.stream.shutdown().await.unwrap();
        assert_eq!(ours.stream.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(theirs.read(&mut [0; 10]).await.unwrap(), 0);
        theirs.write_all(b"answer").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut heard = Vec::new();
        ours.stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"answer");
        assert_eq!(ours.stream.read(&mut [0; 10]).await.unwrap(), 0, "the end stays the end");
    }
}

#[tokio::test]
async fn an_end_without_a_good_bye_is_an_error_after_the_data() {
    let (client, server) = Pki::new().configs(&TLS13, None);
    let (mut ours, mut theirs) = our_client(Arc::new(client), Arc::new(server), duplex(1 << 16)).await;
    theirs.write_all(b"half a").await.unwrap();
    theirs.flush().await.unwrap();
    drop(theirs);
    let mut heard = [0; 6];
    ours.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(ours.stream.read(&mut [0; 10]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn bytes_of_a_stranger_end_it_and_the_peer_is_told() {
    let (client, server) = Pki::new().configs(&TLS13, None);
    let (mut ours, theirs) = our_client(Arc::new(client), Arc::new(server), duplex(1 << 16)).await;
    let (mut io, mut rustls) = theirs.into_inner();
    let mut good = Vec::new();
    io::Write::write_all(&mut rustls.writer(), b"good").unwrap();
    while rustls.wants_write() {
        rustls.write_tls(&mut good).unwrap();
    }
    io.write_all(&good).await.unwrap();
    io.write_all(&[23, 3, 3, 0, 30]).await.unwrap();
    io.write_all(&[7; 30]).await.unwrap();
    let mut heard = [0; 4];
    ours.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"good");
    for _ in 0..2 {
        assert_eq!(ours.stream.read(&mut [0; 10]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    assert_eq!(ours.stream.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let mut answer = vec![0; 1000];
    let n = io.read(&mut answer).await.unwrap();
    rustls.read_tls(&mut &answer[..n]).unwrap();
    let told = rustls.process_new_packets().unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

#[tokio::test]
async fn a_handshake_that_fails_says_why() {
    let (client, _) = Pki::new().configs(&TLS13, None);
    let (_, server) = Pki::new().configs(&TLS13, None);
    let (ours, theirs) = duplex(1 << 16);
    let accept = TlsAcceptor::from(Arc::new(server));
    let (ours, theirs) = tokio::join!(connect(Arc::new(client), name(), Plain::memory(ours)), accept.accept(theirs));
    assert_eq!(ours.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(theirs.unwrap_err().to_string().contains("received fatal alert"));
}

#[tokio::test]
async fn a_refusal_of_our_certificate_is_heard() {
    let (client, _) = Pki::new().configs(&TLS13, None);
    let (mut roots_of, server) = Pki::new().configs(&TLS13, None);
    // The client trusts the server, which does not trust the client.
    roots_of.client_auth_cert_resolver = client.client_auth_cert_resolver;
    let (ours, theirs) = duplex(1 << 16);
    let accept = TlsAcceptor::from(Arc::new(server));
    let (ours, theirs) = tokio::join!(connect(Arc::new(roots_of), name(), Plain::memory(ours)), accept.accept(theirs));
    assert!(theirs.is_err());
    let error = ours.unwrap().stream.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_reader_that_waits_holds_what_it_must_and_loses_nothing() {
    let (client, server) = Pki::new().configs(&TLS13, None);
    let (mut ours, mut theirs) = our_client(Arc::new(client), Arc::new(server), duplex(1 << 20)).await;
    let said = bytes(200_000);
    theirs.write_all(&said).await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut heard = Vec::new();
    loop {
        std::future::poll_fn(|cx| ours.stream.poll_fill(cx)).await.unwrap();
        ours.stream.settle();
        let mut slices = [IoSlice::new(&[]); Stream::SLICES];
        let count = ours.stream.slices(&mut slices);
        if count == 0 {
            break;
        }
        let all = slices[..count].iter().flat_map(|s| s.iter().copied()).collect::<Vec<u8>>();
        let n = all.len().min(7_777);
        heard.extend_from_slice(&all[..n]);
        ours.stream.consumed(n);
        ours.stream.settle();
    }
    assert!(heard == said);
}
