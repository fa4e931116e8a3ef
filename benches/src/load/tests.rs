//! The loader sees what is wrong with an answer, and only that.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::mesh::Door;
use crate::upstream;

/// Runs a load against a server on a thread of its own.
fn against<F>(kind: Kind, rate: u32, server: impl FnOnce(TcpListener) -> F + Send + 'static) -> Seen
where
    F: Future<Output = std::io::Result<()>> + 'static,
{
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        crate::alone(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let _ = send.send(listener.local_addr()?);
            Ok(server(listener).await?)
        })
    });
    let target = receive.recv().unwrap();
    let load = Load { kind, connections: 4, streams: 2, rate, millis: 200 };
    match kind {
        Kind::Bulk => bulk::send(target, Duration::from_millis(200)).unwrap(),
        Kind::Grpc => {
            let mut seen = None;
            crate::alone(async {
                seen = Some(grpc::once(load, target).await?);
                Ok(())
            })
            .unwrap();
            seen.unwrap()
        }
        _ => sockets::once(load, target).unwrap(),
    }
}

/// A server that gives every request of HTTP the same bytes, and ends the connection if these say so.
async fn always(listener: TcpListener, answer: &'static str) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await? > 0 {
                stream.write_all(answer.as_bytes()).await?;
                if answer.contains("cut") {
                    break;
                }
            }
            std::io::Result::Ok(())
        });
    }
}

#[test]
fn nothing_fails_at_the_server_itself() {
    for (kind, door) in [
        (Kind::Tiny, Door::Http),
        (Kind::Kilobyte, Door::Http),
        (Kind::TinyNew, Door::Fresh),
        (Kind::Grpc, Door::Grpc),
        (Kind::Message, Door::Tcp),
        (Kind::MessageNew, Door::Tcp),
        (Kind::Bulk, Door::Tcp),
    ] {
        let seen = against(kind, 0, move |listener| upstream::serve(door, listener));
        assert!(seen.failed == 0 && (seen.done > 0 || seen.bytes > 0), "{kind:?}: {seen:?}");
    }
}

#[test]
fn wrong_answers_fail() {
    for (answer, why) in [
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nok\n", "503"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "2 bytes for 3"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nkO\n", "another body"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ncut", "another body"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx: cut\r\n\r\n", "closed after"),
    ] {
        let seen = against(Kind::Tiny, 0, move |listener| always(listener, answer));
        assert!(seen.done == 0 && seen.failed > 0, "{answer}: {seen:?}");
        assert!(seen.first_failures.iter().all(|f| f.contains(why)), "{answer}: {seen:?}");
    }
}

#[test]
fn a_wrong_echo_and_a_damaged_stream_fail() {
    let echo = |listener| always(listener, "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm");
    assert!(against(Kind::Message, 0, echo).failed > 0);
    let short = |listener| always(listener, "262144 whole cut");
    assert!(against(Kind::Bulk, 0, short).failed > 0);
}

#[test]
fn a_call_without_its_trailers_fails() {
    let seen = against(Kind::Grpc, 0, |listener| async move {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(without_trailers(stream));
        }
    });
    assert!(seen.done == 0 && seen.first_failures.iter().any(|f| f.contains("grpc-status")), "{seen:?}");
}

async fn without_trailers(stream: tokio::net::TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(bytes::Bytes::from(bodies::grpc(grpc::ANSWERED)), true).unwrap();
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let seen = against(Kind::Tiny, 500, |listener| upstream::serve(Door::Http, listener));
    assert_eq!((seen.done, seen.failed), (100, 0));
}
