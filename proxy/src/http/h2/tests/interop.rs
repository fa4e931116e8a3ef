//! With the h2 crate at the other end.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Request, Response};

use super::*;

/// A client of theirs at a server of ours.
async fn their_client(window: u32) -> h2::client::SendRequest<Bytes> {
    let (near, far) = tokio::io::duplex(20_000);
    let serving = serve(stream(far), Limits::default(), Rc::new(Site), progress());
    tokio::task::spawn_local(async move { drop(serving.await) });
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
    let (send, connection) = builder.handshake(near).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    send.ready().await.unwrap()
}

async fn drain(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        all.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len()).unwrap();
    }
    Ok((all, body.trailers().await?))
}

async fn pour(mut to: h2::SendStream<Bytes>, body: Vec<u8>, trailers: Option<HeaderMap>) -> Result<(), h2::Error> {
    let mut rest = Bytes::from(body);
    while !rest.is_empty() {
        to.reserve_capacity(rest.len());
        let n = poll_fn(|cx| to.poll_capacity(cx)).await.ok_or(h2::Reason::CANCEL)??;
        to.send_data(rest.split_to(n.min(rest.len())), false)?;
    }
    match trailers {
        Some(trailers) => to.send_trailers(trailers),
        None => to.send_data(Bytes::new(), true),
    }
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://a.b{path}")).header("x-a", "1").body(()).unwrap()
}

#[test]
fn their_client_is_served_heads_bodies_and_trailers() {
    run(async {
        for window in [65_535, 300, 1 << 20] {
            let mut client = their_client(window).await;
            let (response, _) = client.send_request(request("GET", "/x"), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!((response.status().as_u16(), &response.headers()["x-path"]), (200, &"/x".parse().unwrap()));
            for path in ["/echo", "/stream"] {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "7".parse().unwrap());
                let (response, to) = client.send_request(request("POST", path), false).unwrap();
                let body = noise(300_000);
                let pouring = pour(to, body.clone(), Some(trailers.clone()));
                let (poured, got) = tokio::join!(pouring, async { drain(response.await.unwrap().into_body()).await });
                poured.unwrap();
                let (got, theirs) = got.unwrap();
                assert!(got == body);
                assert_eq!(theirs, Some(trailers));
            }
            let (response, _) = client.send_request(request("GET", "/large"), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.headers()["content-length"], "1048576");
            assert!(drain(response.into_body()).await.unwrap().0 == noise(1 << 20));
        }
    });
}

#[test]
fn their_client_may_ask_a_hundred_things_at_a_time() {
    run(async {
        let client = their_client(65_535).await;
        let mut tasks = Vec::new();
        for n in 0..100_usize {
            let mut client = client.clone();
            tasks.push(tokio::task::spawn_local(async move {
                let (response, to) = client.send_request(request("POST", "/stream"), false).unwrap();
                let body = noise(n * 700);
                let (poured, got) =
                    tokio::join!(pour(to, body.clone(), None), async { drain(response.await?.into_body()).await });
                poured.unwrap();
                assert!(got.unwrap().0 == body);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn their_client_hears_of_resets_and_resets_itself() {
    run(async {
        let mut client = their_client(65_535).await;
        let (response, _) = client.send_request(request("GET", "/reset"), true).unwrap();
        assert_eq!(response.await.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
        let (response, to) = client.send_request(request("POST", "/early"), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 403);
        drop(to);
        for _ in 0..90 {
            let (response, mut to) = client.send_request(request("POST", "/echo"), false).unwrap();
            to.send_reset(h2::Reason::CANCEL);
            drop(response);
            client = client.ready().await.unwrap();
        }
        let (response, _) = client.send_request(request("GET", "/y"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

/// A client of ours at a server of theirs, which echoes.
fn their_server(pipe: usize, window: u32, streams: u32) -> Connection {
    let (near, far) = tokio::io::duplex(pipe);
    tokio::task::spawn_local(async move {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(window).max_concurrent_streams(streams).enable_connect_protocol();
        let mut connection = builder.handshake::<_, Bytes>(far).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::task::spawn_local(async move {
                if request.uri().path() == "/reset" {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    return;
                }
                let mut response = Response::new(());
                *response.headers_mut() = request.headers().clone();
                let to = respond.send_response(response, false).unwrap();
                let (body, trailers) = drain(request.into_body()).await.unwrap();
                pour(to, body, trailers).await.unwrap();
            });
        }
    });
    let (connection, driver) = connect(stream(near), Limits::default(), true);
    tokio::task::spawn_local(async move { drop(driver.await) });
    connection
}

#[test]
fn their_server_serves_our_client_whatever_its_windows() {
    run(async {
        for (pipe, window) in [(1000, 65_535), (1 << 20, 200), (100_000, 1 << 20)] {
            let connection = their_server(pipe, window, 100);
            let body = noise(200_000);
            let mut stream = connection.open().unwrap();
            let mut request = post("/x");
            request.fields.push(b"x-b", &[b'v'; 30_000]);
            stream.request(&request, Length::Unknown).unwrap();
            let response = head(&mut stream).await.unwrap();
            assert_eq!(response.fields.get("x-b").unwrap().len(), 30_000);
            let mut trailers = Fields::default();
            trailers.push(b"x-t", b"2");
            send(&mut stream, &body, false).await.unwrap();
            stream.finish(Some(&trailers)).unwrap();
            let (got, trailers) = collect(&mut stream).await.unwrap();
            assert!(got == body);
            assert_eq!(trailers.unwrap().get("x-t"), Some(&b"2"[..]));
        }
    });
}

#[test]
fn their_server_limits_and_refuses_our_client() {
    run(async {
        let connection = their_server(1 << 16, 65_535, 3);
        let mut stream = connection.open().unwrap();
        stream.request(&get("/reset"), Length::None).unwrap();
        assert_eq!(head(&mut stream).await.unwrap_err(), Broken::Refused);
        assert_eq!(stream.reset_code(), Some(Code::REFUSED_STREAM));
        drop(stream);
        assert!(connection.takes_extended_connect());
        let mut streams: Vec<_> = (0..3).map(|_| connection.open().unwrap()).collect();
        assert!(!connection.has_room());
        assert_eq!(connection.open().unwrap_err(), Broken::Refused);
        for stream in &mut streams {
            stream.request(&get("/x"), Length::None).unwrap();
            assert_eq!(head(stream).await.unwrap().status, 200);
            assert_eq!(collect(stream).await.unwrap().0, b"");
        }
        drop(streams);
        assert!(connection.has_room());
    });
}
