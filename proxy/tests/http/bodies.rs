//! Bodies, both ways, in all framings.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::wire::{Server, collect, trailers};
use crate::world::{Setup, run};

const GET: &str = "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a.b\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n\
                       3\r\none\r\n3\r\ntwo\r\n0\r\nx-sum: 6\r\n\r\n";
const LARGE: usize = 5 << 20;

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send("PUT / HTTP/1.1\r\nhost: a.b\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
        assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
        client.send("body").await;
        let mut far = server.accept().await;
        let head = far.head().await;
        assert!(!head.contains("expect"), "{head}");
        assert_eq!(far.exact(4).await, "body");
        far.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 204 "));
    });
}

#[test]
fn chunks_and_trailers_pass_from_http1_to_http1() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(CHUNKED).await;
        let mut far = server.accept().await;
        assert!(far.head().await.contains("transfer-encoding: chunked\r\n"));
        assert_eq!(far.chunks().await, ("onetwo".to_owned(), "x-sum: 6\r\n".to_owned()));
        far.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\nx-sum: 5\r\n\r\n").await;
        assert!(client.head().await.contains("transfer-encoding: chunked\r\n"));
        assert_eq!(client.chunks().await, ("three".to_owned(), "x-sum: 5\r\n".to_owned()));
    });
}

#[test]
fn chunks_and_trailers_pass_from_http1_to_http2_and_back() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.client();
        client.send(CHUNKED).await;
        let (request, mut respond) = requests.recv().await.unwrap();
        let (body, sums) = collect(&mut request.into_body()).await;
        assert_eq!((&body[..], sums["x-sum"].to_str().unwrap()), (&b"onetwo"[..], "6"));
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data(Bytes::from_static(b"three"), false).unwrap();
        answer.send_trailers(trailers("x-sum", "5")).unwrap();
        assert!(client.head().await.contains("transfer-encoding: chunked\r\n"));
        assert_eq!(client.chunks().await, ("three".to_owned(), "x-sum: 5\r\n".to_owned()));
    });
}

#[test]
fn bodies_and_trailers_pass_from_http2_to_http1_and_back() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http1().start();
        let mut client = world.http2().await;
        let request = Request::post("http://a.b/").body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"one"), false).unwrap();
        body.send_trailers(trailers("x-sum", "3")).unwrap();
        let mut far = server.accept().await;
        assert!(far.head().await.contains("transfer-encoding: chunked\r\n"));
        assert_eq!(far.chunks().await, ("one".to_owned(), "x-sum: 3\r\n".to_owned()));
        far.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\nx-sum: 5\r\n\r\n").await;
        let answer = answer.await.unwrap();
        assert!(!answer.headers().contains_key("transfer-encoding"));
        let (body, sums) = collect(&mut answer.into_body()).await;
        assert_eq!((&body[..], sums["x-sum"].to_str().unwrap()), (&b"three"[..], "5"));
    });
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send("HEAD / HTTP/1.1\r\nhost: a.b\r\n\r\n").await;
        let mut far = server.accept().await;
        assert!(far.head().await.starts_with("head / "));
        far.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
        let answer = client.head().await;
        assert!(answer.contains("content-length: 5\r\n"), "{answer}");
        client.send(GET).await;
        far.head().await;
        far.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 204 ") && !answer.contains("content-length"), "{answer}");
        client.send(GET).await;
        far.head().await;
        far.send("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 9\r\n\r\n").await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 304 ") && answer.contains("etag: \"x\"\r\n"), "{answer}");
        client.send(GET).await;
        far.head().await;
        far.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        client.head().await;
        assert_eq!(client.exact(2).await, "ok");
    });
}

#[test]
fn an_answer_may_last_until_its_connection_ends() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 200 OK\r\n\r\nall of it").await;
        drop(far);
        assert!(client.head().await.contains("transfer-encoding: chunked\r\n"));
        assert_eq!(client.chunks().await.0, "all of it");
    });
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
        client.head().await;
        assert_eq!(client.exact(8).await, "3\r\none\r\n");
        drop(far);
        assert_eq!(client.rest().await, "", "no last chunk");
        world.counted("UPE").await;
    });
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let client = world.client().stream;
        let echo = async {
            let mut far = server.accept().await;
            far.head().await;
            far.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n")).await;
            let ahead = far.ahead();
            let (mut reader, mut writer) = far.stream.split();
            writer.write_all(&ahead).await.unwrap();
            let mut left = LARGE - ahead.len();
            let mut buffer = vec![0; 10_000];
            while left > 0 {
                let n = reader.read(&mut buffer).await.unwrap();
                assert!(n > 0);
                writer.write_all(&buffer[..n]).await.unwrap();
                left -= n;
            }
        };
        let (mut reader, mut writer) = tokio::io::split(client);
        let send = async {
            let head = format!("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: {LARGE}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
            for n in 0..LARGE / 1024 {
                writer.write_all(&[n as u8; 1024]).await.unwrap();
            }
        };
        let receive = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(reader.read_u8().await.unwrap());
            }
            let mut part = [0; 1024];
            for n in 0..LARGE / 1024 {
                reader.read_exact(&mut part).await.unwrap();
                assert!(part.iter().all(|byte| *byte == n as u8), "part {n}");
            }
        };
        tokio::join!(echo, send, receive);
    });
}

/// More than sockets hold.
const MUCH: usize = 64 << 20;

#[test]
fn a_server_waits_for_a_client_that_does_not_read() {
    for http2 in [false, true] {
        run(async {
            let server = Server::new().await;
            let world = Setup::to(&[server.at()]).http1().start();
            let mut plain = world.client();
            let mut multiplexed = world.http2().await;
            let mut answer = None;
            if http2 {
                answer = Some(multiplexed.send_request(Request::get("http://a.b/").body(()).unwrap(), true).unwrap().0);
            } else {
                plain.send(GET).await;
            }
            let mut far = server.accept().await;
            far.head().await;
            far.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n")).await;
            let block = vec![b'x'; 64 * 1024];
            let mut sent = 0;
            // What is not taken for so long is not taken at all.
            while let Ok(n) = tokio::time::timeout(Duration::from_millis(300), far.stream.write(&block)).await {
                sent += n.unwrap();
                assert!(sent < MUCH / 2, "all is taken, and nobody reads");
            }
            let rest = async {
                for n in (sent..MUCH).step_by(block.len()) {
                    far.stream.write_all(&block[..block.len().min(MUCH - n)]).await.unwrap();
                }
            };
            let read = async {
                let mut all = 0;
                if let Some(answer) = answer {
                    let mut body = answer.await.unwrap().into_body();
                    while let Some(bytes) = body.data().await {
                        let n = bytes.unwrap().len();
                        body.flow_control().release_capacity(n).unwrap();
                        all += n;
                    }
                } else {
                    plain.head().await;
                    while all < MUCH {
                        all += plain.exact((MUCH - all).min(64 * 1024)).await.len();
                    }
                }
                assert_eq!(all, MUCH);
            };
            tokio::join!(rest, read);
        });
    }
}

#[test]
fn a_client_waits_for_a_server_that_does_not_read() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http1().start();
        let mut client = world.http2().await;
        let (_answer, mut body) = client.send_request(Request::post("http://a.b/").body(()).unwrap(), false).unwrap();
        let mut far = server.accept().await;
        far.head().await;
        let mut sent = 0;
        loop {
            body.reserve_capacity(64 * 1024);
            let room = poll_fn(|cx| body.poll_capacity(cx));
            let Ok(room) = tokio::time::timeout(Duration::from_millis(300), room).await else { break };
            let n = room.unwrap().unwrap();
            body.send_data(Bytes::from(vec![0; n]), false).unwrap();
            sent += n;
            assert!(sent < MUCH, "all is taken, and nobody reads");
        }
    });
}

#[test]
fn an_answer_that_comes_before_the_body_is_handed_on() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(&format!("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: {MUCH}\r\n\r\nbegin")).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!").await;
        drop(far);
        let (mut reader, mut writer) = tokio::io::split(client.stream);
        let send = async {
            // It may be told at any time that nobody listens.
            while writer.write_all(&[0; 10_000]).await.is_ok() {}
        };
        let read = async {
            let mut answer = String::new();
            reader.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::select! {
            answer = read => answer,
            () = send => panic!("it ended before it was read"),
        };
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no!"), "{answer}");
    });
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client
            .send("POST /1 HTTP/1.1\r\nhost: a.b\r\ncontent-length: 3\r\n\r\noneGET /2 HTTP/1.1\r\nhost: a.b\r\n\r\n")
            .await;
        let mut far = server.accept().await;
        assert!(far.head().await.starts_with("post /1 "));
        assert_eq!(far.exact(3).await, "one");
        far.send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await;
        assert!(far.head().await.starts_with("get /2 "));
        far.send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2").await;
        for wanted in ["1", "2"] {
            client.head().await;
            assert_eq!(client.exact(1).await, wanted);
        }
    });
}

#[test]
fn an_early_answer_reaches_a_client_of_http2_that_still_sends() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http1().start();
        let mut client = world.http2().await;
        let (answer, mut body) = client.send_request(Request::post("http://a.b/").body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"begin"), false).unwrap();
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!").await;
        drop(far);
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(collect(&mut answer.into_body()).await.0, b"no!");
        // RFC 9113, 8.1: it need not send the rest.
        assert_eq!(poll_fn(|cx| body.poll_reset(cx)).await.unwrap(), h2::Reason::NO_ERROR);
    });
}

#[test]
fn hints_come_before_the_answer() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nconnection: x\r\n\r\n").await;
        let hints = client.head().await;
        assert!(hints.starts_with("http/1.1 103 ") && hints.contains("link: </a>\r\n"), "{hints}");
        assert!(!hints.contains("connection"), "{hints}");
        far.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 204 "));
    });
}
