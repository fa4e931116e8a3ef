//! What a hostile peer does with a connection: hides requests in bodies, sends without end, reads nothing.

use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWrite as _;

use super::*;
use crate::http::h1::buffers::READ;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// How many requests were served, and what was refused.
async fn served(bytes: &str) -> (usize, Vec<u16>) {
    let (answer, rejected) = talk_in(1 << 20, &[bytes.as_bytes()], Limits::default()).await;
    (answer.matches("HTTP/1.1 200").count(), rejected)
}

#[tokio::test]
async fn no_request_hides_in_a_body() {
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    let hidden = format!("0\r\n\r\n{GET}");
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding:\rchunked",
        "Transfer-Encoding\u{b}: chunked",
        "Transfer-Encoding : chunked",
        "X: X\rTransfer-Encoding: chunked",
        "X: X\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: 5\r\nContent-Length: +5",
        "Content-Length: \u{b}5",
        "Content-Length\u{0}: 5",
    ] {
        let (answered, rejected) = served(&post(fields, &hidden)).await;
        assert!(answered == 0 && rejected.len() == 1, "{fields}: {answered} {rejected:?}");
    }
    // A body that breaks off in the middle of its chunks takes the connection with it.
    for body in
        ["3\nabc\n0\n\n", "3\r\nabcX0\r\n\r\n", "3;\n\r\nabc\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "0\r\nX\n\r\n"]
    {
        let (answered, _) = served(&(post("Transfer-Encoding: chunked", body) + GET)).await;
        assert_eq!(answered, 0, "{body}");
    }
    assert_eq!(
        served(&(post("Transfer-Encoding: chunked", "1;a\r\nx\r\n0\r\nHost: b\r\n\r\n") + GET)).await,
        (2, vec![])
    );
    assert_eq!(served(&(post("Content-Length: 5", "GET /") + GET)).await, (2, vec![]));
}

#[tokio::test]
async fn what_is_no_request_is_told_so_and_closed() {
    let answer = talk(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (head, dated) = answer.split_once("date: ").unwrap();
    assert_eq!(head, "HTTP/1.1 400 Bad Request\r\n");
    assert!(dated.ends_with(" GMT\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"), "{dated}");
    let answer = talk(b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n").await;
    assert!(answer.ends_with("\r\nconnection: close\r\ncontent-length: 11\r\n\r\nBad Request"), "{answer}");
    assert!(talk(&[0x16, 3, 1, 2, 0, 1, 0, 1]).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(served(&format!("{GET}{GET}nonsense\r\n{GET}")).await, (2, vec![400]));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(100_000));
    assert_eq!(served(&long).await, (0, vec![431]));
}

#[tokio::test]
async fn empty_lines_between_requests_are_nothing() {
    assert_eq!(served(&format!("\r\n\r\n{GET}\r\n{GET}")).await, (2, vec![]));
    assert_eq!(served(&"\r\n".repeat(100_000)).await, (0, vec![]));
}

#[tokio::test]
async fn requests_come_cut_at_every_byte() {
    let two = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";
    let whole = talk(two.as_bytes()).await;
    assert!(whole.contains("[abc] t=1") && whole.contains("GET b /b"), "{whole}");
    for cut in 1..two.len() {
        let (a, b) = two.as_bytes().split_at(cut);
        assert_eq!(talk_in(1 << 20, &[a, b], Limits::default()).await.0, whole, "cut at {cut}");
    }
    let each: Vec<&[u8]> = two.as_bytes().chunks(1).collect();
    assert_eq!(talk_in(1, &each, Limits::default()).await.0, whole);
}

#[tokio::test]
async fn a_thousand_pipelined_requests_are_answered_in_turn() {
    let all: String = (0..1000).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let answer = talk(all.as_bytes()).await;
    let mut rest = answer.as_str();
    for i in 0..1000 {
        let at = rest.find(&format!("GET a /{i}  [] ")).unwrap();
        rest = &rest[at..];
    }
}

/// Writes `bytes` over and over until both ends are stuck; how many were taken.
async fn flood(mut client: DuplexStream, serving: impl Future<Output = std::io::Result<()>>, bytes: &[u8]) -> usize {
    let mut serving = std::pin::pin!(serving);
    let (mut sent, mut still) = (0, 0);
    let stuck = poll_fn(|cx| {
        while still < 3 {
            still += 1;
            assert!(serving.as_mut().poll(cx).is_pending());
            let rest = &bytes[sent % bytes.len()..];
            if let Poll::Ready(n) = Pin::new(&mut client).poll_write(cx, rest) {
                sent += n.unwrap();
                still = 0;
            }
        }
        Poll::Ready(())
    });
    tokio::task::unconstrained(stuck).await;
    sent
}

#[tokio::test]
async fn what_is_sent_ahead_is_bounded() {
    let (mut client, serving, echo, _progress) = server(100, Limits::default());
    client.write_all(b"GET /gone HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    // Nobody takes it: what waits for its turn waits in the pipe.
    let sent = flood(client, serving, &[b'x'; 10_000]).await;
    assert!(sent <= READ + 200, "{sent}");
    assert_eq!(echo.requests.get(), 1);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_read_from() {
    let (client, serving, echo, _progress) = server(1000, Limits::default());
    let request = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n{}", "x".repeat(5000));
    flood(client, serving, request.as_bytes()).await;
    assert_eq!(echo.requests.get(), 1);
}
