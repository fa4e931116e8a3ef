//! gRPC from HTTP/2 to HTTP/2.

use bytes::Bytes;
use http::{Request, Response};

use crate::wire::{Server, collect, trailers};
use crate::world::{Setup, run};

fn call() -> Request<()> {
    Request::post("http://a.b/s/m")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

fn message() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

#[test]
fn messages_of_a_server_arrive_as_they_are_sent() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let (answer, _) = client.send_request(call(), true).unwrap();
        let (request, mut respond) = requests.recv().await.unwrap();
        assert_eq!(request.headers()["te"], "trailers");
        let mut up = respond.send_response(message(), false).unwrap();
        let mut down = answer.await.unwrap().into_body();
        for text in [&b"one"[..], b"two", b"three"] {
            up.send_data(Bytes::from_static(text), false).unwrap();
            assert_eq!(down.data().await.unwrap().unwrap(), text);
        }
        up.send_trailers(trailers("grpc-status", "0")).unwrap();
        let (rest, end) = collect(&mut down).await;
        assert!(rest.is_empty());
        assert_eq!(end["grpc-status"], "0");
    });
}

#[test]
fn both_ends_talk_in_turn() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let (answer, mut say) = client.send_request(call(), false).unwrap();
        let (request, mut respond) = requests.recv().await.unwrap();
        let (mut heard, mut reply) = (request.into_body(), respond.send_response(message(), false).unwrap());
        let mut down = answer.await.unwrap().into_body();
        for text in [&b"one"[..], b"two", b"three"] {
            say.send_data(Bytes::from_static(text), false).unwrap();
            let echo = heard.data().await.unwrap().unwrap();
            reply.send_data(echo, false).unwrap();
            assert_eq!(down.data().await.unwrap().unwrap(), text);
        }
        say.send_data(Bytes::new(), true).unwrap();
        assert!(heard.data().await.is_none_or(|last| last.unwrap().is_empty()));
        reply.send_trailers(trailers("grpc-status", "0")).unwrap();
        assert_eq!(collect(&mut down).await.1["grpc-status"], "0");
    });
}

#[test]
fn an_error_in_the_head_ends_the_call() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let (answer, _say) = client.send_request(call(), false).unwrap();
        let (_request, mut respond) = requests.recv().await.unwrap();
        let mut error = message();
        error.headers_mut().insert("grpc-status", "5".parse().unwrap());
        respond.send_response(error, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert!(answer.body().is_end_stream() || collect(&mut answer.into_body()).await.0.is_empty());
    });
}

#[test]
fn without_an_endpoint_a_call_ends_with_an_error_in_its_head() {
    run(async {
        let world = Setup::to(&[]).http2().start();
        let mut client = world.http2().await;
        let (answer, _) = client.send_request(call(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
        world.counted("UH").await;
    });
}
