//! The client's end.

use http::Method;

use super::*;
use crate::http::channel::Client as _;
use crate::http::h1::Http1;
use crate::http::message::{Known, Version};

const CUT: Broken = Broken::Malformed("the connection ended within a response");

fn pair(pipe: usize) -> (Http1, DuplexStream) {
    let (end, server) = duplex(pipe);
    (Http1::new(Stream::plain(Plain::memory(end))), server)
}

fn get(method: Method) -> RequestHead {
    let mut head = RequestHead::new(method, Version::Http11);
    head.set_authority(b"h");
    head.set_path(b"/p");
    head
}

async fn response(client: &mut Http1) -> Result<ResponseHead, Broken> {
    poll_fn(|cx| client.poll_response(cx)).await
}

/// Sends a request without a body to a server that answers with `bytes` and closes.
async fn ask(head: &RequestHead, bytes: &[u8]) -> Result<(u16, Length, String, bool), Broken> {
    let (mut client, mut server) = pair(1 << 20);
    client.request(head, Length::None)?;
    server.write_all(bytes).await.unwrap();
    server.shutdown().await.unwrap();
    let head = response(&mut client).await?;
    let (body, trailers) = receive(&mut client).await?;
    Ok((head.status, head.length, show(&body) + &list(&trailers), client.is_reusable()))
}

#[tokio::test]
async fn a_request_goes_out_in_one_piece_and_its_response_comes_back() {
    let (mut client, mut server) = pair(4096);
    let mut head = get(Method::POST);
    head.fields.push(b"x-a", b"1");
    client.request(&head, Length::Exact(4)).unwrap();
    assert!(!client.was_sent());
    send(&mut client, b"body", true).await.unwrap();
    assert!(client.was_sent());
    let mut sent = vec![0; 300];
    let n = server.read(&mut sent).await.unwrap();
    assert_eq!(show(&sent[..n]), "POST /p HTTP/1.1\r\nhost: h\r\nx-a: 1\r\ncontent-length: 4\r\n\r\nbody");
    server
        .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        .await
        .unwrap();
    assert_eq!(response(&mut client).await.unwrap().status, 103);
    let head = response(&mut client).await.unwrap();
    assert_eq!((head.status, head.length), (200, Length::Exact(2)));
    assert!(!client.is_reusable());
    assert_eq!(receive(&mut client).await.unwrap().0, b"hi");
    assert!(client.is_reusable() && !client.is_stale());
    server.write_all(b"x").await.unwrap();
    assert!(client.is_stale());
}

#[tokio::test]
async fn a_server_that_closes_makes_an_idle_connection_stale() {
    let (mut client, server) = pair(4096);
    assert!(!client.is_stale());
    drop(server);
    assert!(client.is_stale());
}

#[tokio::test]
async fn bodies_end_as_they_are_framed() {
    let get = get(Method::GET);
    let ask = async |bytes: &str| ask(&get, bytes.as_bytes()).await;
    let exact = ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(exact, Ok((200, Length::Exact(2), "hi".into(), true)));
    let chunked = ask("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n").await;
    assert_eq!(chunked, Ok((200, Length::Unknown, "hix-t=1".into(), true)));
    let closed = ask("HTTP/1.1 200 OK\r\n\r\nhi").await;
    assert_eq!(closed, Ok((200, Length::Unknown, "hi".into(), false)));
    let old = ask("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(old, Ok((200, Length::Exact(0), String::new(), false)));
    let leaves = ask("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(leaves, Ok((200, Length::Exact(0), String::new(), false)));
    let none = ask("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(none, Ok((304, Length::Exact(5), String::new(), true)));
    assert_eq!(ask("HTTP/1.1 204 No Content\r\n\r\n").await, Ok((204, Length::None, String::new(), true)));
    assert_eq!(ask("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi").await, Err(CUT));
    assert_eq!(ask("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await, Err(CUT));
}

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() {
    let answer = ask(&get(Method::HEAD), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(answer, Ok((200, Length::Exact(5), String::new(), true)));
}

#[tokio::test]
async fn nothing_is_told_from_nonsense() {
    assert_eq!(ask(&get(Method::GET), b"").await, Err(Broken::Gone));
    assert!(matches!(ask(&get(Method::GET), b"SSH-2.0-x\r\n").await, Err(Broken::Malformed(_))));
    let uninvited = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    assert!(matches!(ask(&get(Method::GET), uninvited).await, Err(Broken::Malformed(_))));
}

#[tokio::test]
async fn an_upgrade_gives_the_stream_away() {
    let (mut client, mut server) = pair(4096);
    let mut head = get(Method::GET);
    head.fields.push_known(Known::Connection, b"upgrade");
    head.fields.push_known(Known::Upgrade, b"echo");
    client.request(&head, Length::None).unwrap();
    server.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nfirst").await.unwrap();
    assert_eq!(response(&mut client).await.unwrap().status, 101);
    assert!(client.has_switched() && !client.is_reusable());
    let mut first = [0; 5];
    client.into_stream().read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
}

#[tokio::test]
async fn a_response_may_come_before_the_body_is_sent() {
    let (mut client, mut server) = pair(64);
    client.request(&get(Method::POST), Length::Unknown).unwrap();
    let body = vec![b'x'; 100_000];
    let mut nobody_waits = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(sent) = client.poll_data(&mut nobody_waits, &body, false) {
        assert!(sent.unwrap() < body.len());
    }
    server.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(response(&mut client).await.unwrap().status, 413);
    assert!(!client.is_reusable());
}

#[tokio::test]
async fn big_bodies_in_chunks_arrive_through_tiny_pipes() {
    let body: Vec<u8> = (0..150_000u32).map(|i| i as u8).collect();
    let (mut client, server) = pair(1000);
    let echo = Rc::new(Echo::default());
    let serving = serve(Stream::plain(Plain::memory(server)), Limits::default(), echo, Progress::new(Rc::default()));
    let asking = async {
        client.request(&get(Method::POST), Length::Unknown).unwrap();
        send(&mut client, &body, true).await.unwrap();
        let head = response(&mut client).await.unwrap();
        let (answer, _) = receive(&mut client).await.unwrap();
        drop(client);
        (head.status, answer)
    };
    let (_, (status, answer)) = tokio::join!(serving, asking);
    assert_eq!(status, 200);
    assert_eq!(show(&answer), format!("POST h /p  [{}] ", show(&body)));
}
