//! Servers that speak first, to clients that wait for them.

use std::time::Duration;

use hawser_api::proto::listener::FilterChainMatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::ads::{Ads, World};
use crate::net::{CALLEE, Proxy, at};
use crate::resources::Pki;
use crate::world::{self, By, Speaks};

/// Whoever waits for this long has waited for first bytes that will not come.
const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(400);

pub(crate) async fn story() {
    let listener = TcpListener::bind(at(CALLEE, 3306)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"220 hello").await.unwrap();
                let mut asked = [0; 4];
                stream.read_exact(&mut asked).await.unwrap();
                stream.write_all(&asked).await.unwrap();
            });
        }
    });
    let pki = Pki::new();
    let (caller_dir, callee_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut caller = World::default();
    pki.secrets(&mut caller, "caller");
    world::upstream(&mut caller, "db", at(CALLEE, 3306), By::Mesh { hawser: true });
    // Declared TCP: nothing to look at, whatever the time-out says.
    let tcp = world::to("db", FilterChainMatch::default());
    world::outbound(&mut caller, "240.240.0.3_3306", vec![tcp.clone()], None, LONG, &["db"]);
    // Undeclared: HTTP is looked for.
    let http = FilterChainMatch {
        transport_protocol: "raw_buffer".into(),
        application_protocols: vec!["http/1.1".into(), "h2c".into()],
        ..Default::default()
    };
    let sniffing = vec![world::to("db", http)];
    world::outbound(&mut caller, "240.240.0.3_25", sniffing, Some(tcp), SHORT, &["db"]);
    let callee = |detect| {
        let mut world = World::default();
        pki.secrets(&mut world, "reviews");
        world::inbound(&mut world, &[(3306, Speaks::Tcp)], detect);
        world
    };
    let _caller_ads = Ads::start(caller_dir.path(), caller);
    let callee_ads = Ads::start(callee_dir.path(), callee(LONG));
    let _caller = Proxy::start(caller_dir.path(), &["--bind", "outbound=0.0.0.0:15001"], 15000).await;
    let _callee = Proxy::start(callee_dir.path(), &["--bind", "inbound=0.0.0.0:15006"], 15100).await;

    assert!(greeted("240.240.0.3:3306").await < LONG / 2, "declared, over mTLS: no wait at either end");
    let waited = greeted("240.240.0.3:25").await;
    assert!(waited >= SHORT && waited < LONG / 2, "undeclared: {waited:?}");

    // In plaintext at a permissive port the client might be about to begin TLS: that is waited for, and no longer.
    callee_ads.set(callee(SHORT));
    let mut waited = Duration::MAX;
    crate::apps::eventually(async || {
        waited = greeted(&format!("{CALLEE}:3306")).await;
        waited < LONG / 2
    })
    .await;
    assert!(waited >= SHORT, "{waited:?}");
}

/// How long it takes to hear the server's greeting; then it answers.
async fn greeted(to: &str) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut said = [0; 9];
    timeout(LONG * 2, stream.read_exact(&mut said)).await.expect("greeted").unwrap();
    assert_eq!(&said, b"220 hello");
    let waited = began.elapsed();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
    waited
}
