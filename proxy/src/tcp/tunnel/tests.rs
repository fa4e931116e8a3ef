use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::message::Fields;

const TO: &str = "10.0.0.1:9100";

/// Runs `client` against a server that echoes, refuses port 1, and says how the connection ended.
fn pair<F: Future<Output = ()>>(client: impl FnOnce(Connection, CancellationToken) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (ours, theirs) = tokio::io::duplex(4096);
        let until = CancellationToken::new();
        let end = until.clone();
        let served = tokio::task::spawn_local(async move {
            serve(Stream::plain(Plain::memory(theirs)), end.cancelled_owned(), |asked| {
                if asked.authority().ends_with(":1") {
                    return asked.refuse(404);
                }
                tokio::task::spawn_local(async move {
                    let mut tunnel = asked.accept().unwrap();
                    let mut all = Vec::new();
                    tunnel.read_to_end(&mut all).await.unwrap();
                    tunnel.write_all(&all).await.unwrap();
                    tunnel.shutdown().await.unwrap();
                });
            })
            .await
        });
        let connection = Connection::start(Stream::plain(Plain::memory(ours)), None);
        client(connection, until).await;
        let _ = served.await;
    });
}

#[test]
fn a_tunnel_carries_bytes_both_ways_and_ends_by_halves() {
    pair(|connection, _| async move {
        // More than any window.
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let tunnel = connection.open(TO.parse().unwrap(), &Fields::default()).await.unwrap();
        assert_eq!(connection.active(), 1);
        let (mut read, mut write) = tokio::io::split(tunnel);
        let send = async {
            write.write_all(&bytes).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (_, n) = tokio::join!(send, read.read_to_end(&mut back));
        assert_eq!(n.unwrap(), bytes.len());
        assert!(back == bytes);
        drop((read, write));
        assert_eq!(connection.active(), 0);
    });
}

#[test]
fn a_refused_tunnel_leaves_the_connection_as_it_was() {
    pair(|connection, _| async move {
        let refused = connection.open("10.0.0.1:1".parse().unwrap(), &Fields::default()).await;
        assert_eq!(refused.unwrap_err(), Refused::Status(404));
        assert!(connection.has_room() && connection.active() == 0);
        let mut tunnel = connection.open("[fd00::1]:9100".parse().unwrap(), &Fields::default()).await.unwrap();
        tunnel.write_all(b"hi").await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut back = Vec::new();
        tunnel.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"hi");
    });
}

#[test]
fn an_end_that_is_polite_lets_tunnels_end_and_adds_none() {
    pair(|connection, until| async move {
        let mut tunnel = connection.open(TO.parse().unwrap(), &Fields::default()).await.unwrap();
        until.cancel();
        // The other end has said so when it answers.
        tunnel.write_all(b"still there").await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut back = Vec::new();
        tunnel.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"still there");
        assert!(connection.open(TO.parse().unwrap(), &Fields::default()).await.is_err());
        assert!(connection.is_closed());
    });
}
