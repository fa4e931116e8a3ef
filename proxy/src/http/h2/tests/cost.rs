//! What heads cost, in a build that is optimised: `--release -- --ignored --nocapture cost`.

use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::*;
use crate::http::h2::hpack::{self, Decoder};
use crate::http::h2::state::{Side, State};

fn typical() -> (RequestHead, ResponseHead) {
    let mut request = get("/api/v1/items?page=2&size=50");
    for (name, value) in [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-encoding", "gzip, deflate, br"),
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "6f1c1f0a-7f0e-4b7e-9a3c-0f5d1c2b3a4d"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-envoy-attempt-count", "1"),
    ] {
        request.fields.push(name.as_bytes(), value.as_bytes());
    }
    let mut response = ResponseHead { length: Length::Exact(10), ..ResponseHead::new(200) };
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("server", "hawser"),
        ("x-envoy-upstream-service-time", "3"),
    ] {
        response.fields.push(name.as_bytes(), value.as_bytes());
    }
    (request, response)
}

fn time(name: &str, mut what: impl FnMut()) {
    let count = 200_000;
    let best = (0..7)
        .map(|_| {
            let begin = Instant::now();
            (0..count).for_each(|_| what());
            begin.elapsed().as_nanos() / count
        })
        .min();
    println!("{name}: {} ns", best.unwrap_or_default());
}

#[test]
#[ignore = "a measurement"]
fn cost_of_heads() {
    let (request, response) = typical();
    let mut block = Vec::new();
    time("encode request", || {
        block.clear();
        hpack::request(&mut block, &request, Length::None, false);
    });
    let mut decoder = Decoder::default();
    let bounds = crate::http::h2::head::Bounds { bytes: 60_000, fields: 100, refuse_underscores: false };
    time("decode request", || {
        let head = crate::http::h2::head::request(&mut decoder, &block, true, bounds).unwrap();
        std::hint::black_box(&head);
    });
    println!("{} bytes", block.len());
    time("encode response", || {
        block.clear();
        hpack::response(&mut block, &response);
    });
    time("decode response", || {
        let asked = crate::http::h2::head::Asked::Other;
        let head = crate::http::h2::head::response(&mut decoder, &block, false, asked, bounds).unwrap();
        std::hint::black_box(&head);
    });
    let cx = Context::from_waker(Waker::noop());
    let mut client = State::new(Side::Client { secure: false }, Limits::default(), || 0);
    let mut server = State::new(Side::Server, Limits::default(), || 0);
    let pass = |from: &mut State, to: &mut State| {
        to.receive(from.output());
        from.wrote(from.output().len());
    };
    pass(&mut client, &mut server);
    pass(&mut server, &mut client);
    pass(&mut client, &mut server);
    let mut body = Vec::new();
    time("a request and its response of 10 bytes, both ends", || {
        let key = client.open().unwrap();
        client.send_request(key, &request, Length::None).unwrap();
        pass(&mut client, &mut server);
        let (there, head) = server.accept().unwrap();
        std::hint::black_box(&head);
        server.send_response(there, &response).unwrap();
        assert!(matches!(server.send_data(there, b"0123456789", true, &cx), Poll::Ready(Ok(10))));
        server.release(there);
        pass(&mut server, &mut client);
        let Poll::Ready(Ok(head)) = client.take_response(key, &cx) else { panic!() };
        std::hint::black_box(&head);
        body.clear();
        assert!(client.take_body(key, &mut body, &cx).is_ready());
        client.consumed(key, 10);
        client.release(key);
    });
}
