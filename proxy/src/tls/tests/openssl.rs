//! Our streams with OpenSSL at the other end, which renews keys when it is told to.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::name;
use crate::stream::{Plain, Stream};
use crate::tls::handshake::{connect, serve};
use crate::tls::testing::Pki;

const SUITES: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const SOON: Duration = Duration::from_secs(20);

struct Openssl {
    _child: Child,
    _files: tempfile::TempDir,
    says: ChildStdin,
    hears: Lines<BufReader<ChildStdout>>,
}

impl Openssl {
    /// None where there is no such program.
    fn start(pki: &Pki, arguments: &[&str]) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        for (name, pem) in ["root.pem", "cert.pem", "key.pem"].iter().zip(&pki.pem) {
            std::fs::write(files.path().join(name), pem).unwrap();
        }
        let mut command = Command::new("openssl");
        command.args(arguments).args(["-cert", "cert.pem", "-key", "key.pem", "-CAfile", "root.pem"]);
        command.current_dir(files.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().ok()?;
        let (says, hears) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { _child: child, _files: files, says, hears: BufReader::new(hears).lines() })
    }

    async fn say(&mut self, line: &str) {
        self.says.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self, expected: &str) {
        let until = async { while !self.hears.next_line().await.unwrap().expect("it goes on").contains(expected) {} };
        tokio::time::timeout(SOON, until).await.expect("it is heard");
    }
}

/// The same connection once more, to look at.
fn twice(tcp: TcpStream) -> (TcpStream, TcpStream) {
    let tcp = tcp.into_std().unwrap();
    let again = tcp.try_clone().unwrap();
    (TcpStream::from_std(tcp).unwrap(), TcpStream::from_std(again).unwrap())
}

async fn line<S: AsyncRead + Unpin>(stream: &mut S, expected: &str) {
    let mut bytes = vec![0; expected.len() + 1];
    tokio::time::timeout(SOON, stream.read_exact(&mut bytes)).await.expect("it comes").unwrap();
    assert_eq!(bytes, format!("{expected}\n").as_bytes());
}

/// Both talk, while OpenSSL renews its keys and asks for ours.
async fn talk(ours: &mut Stream, wire: &TcpStream, openssl: &mut Openssl, renews: bool) {
    for (round, command) in ["K", "k", "K", "K", "k"].into_iter().enumerate() {
        openssl.say(&format!("to you {round}")).await;
        line(ours, &format!("to you {round}")).await;
        ours.write_all(format!("back {round}\n").as_bytes()).await.unwrap();
        ours.flush().await.unwrap();
        openssl.hear(&format!("back {round}")).await;
        if renews {
            openssl.say(command).await;
            // What it reads together with a command is lost, so nothing follows before the command has had its effect.
            tokio::time::timeout(SOON, wire.peek(&mut [0])).await.expect("it renews").unwrap();
        }
    }
    // The other end is told, and ends its direction too.
    ours.shutdown().await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, ours.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn our_client_and_its_server_renew_keys_in_every_suite() {
    for suite in SUITES {
        let pki = Pki::new();
        let (client, _) = pki.configs(&TLS13, None);
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let accept = format!("127.0.0.1:{port}");
        let arguments = ["s_server", "-accept", &accept, "-ciphersuites", suite, "-Verify", "1", "-naccept", "1"];
        let Some(mut openssl) = Openssl::start(&pki, &arguments) else { return };
        openssl.hear("ACCEPT").await;
        let (tcp, wire) = twice(TcpStream::connect(&accept).await.unwrap());
        let made = connect(Arc::new(client), name(), Plain::tcp(tcp)).await.unwrap();
        let mut ours = made.stream;
        talk(&mut ours, &wire, &mut openssl, true).await;
    }
}

#[tokio::test]
async fn our_server_and_its_client_renew_keys_in_every_suite() {
    for suite in SUITES.map(Some).into_iter().chain([None]) {
        let pki = Pki::new();
        let (_, server) = pki.configs(if suite.is_some() { &TLS13 } else { &TLS12 }, None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let mut arguments = vec!["s_client", "-connect", &to, "-servername", "reviews"];
        arguments.extend(suite.iter().flat_map(|s| ["-ciphersuites", s]));
        let Some(mut openssl) = Openssl::start(&pki, &arguments) else { return };
        let (tcp, wire) = twice(listener.accept().await.unwrap().0);
        let mut ours = serve(Arc::new(server), Plain::tcp(tcp)).await.unwrap().stream;
        // It reads no commands before it has written its own report.
        openssl.hear("Verify return code").await;
        talk(&mut ours, &wire, &mut openssl, suite.is_some()).await;
    }
}
