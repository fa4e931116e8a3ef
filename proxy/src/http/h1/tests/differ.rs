//! The same bytes to this codec and to hyper. Where they differ, the row says why.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::*;

/// What became of a connection: each answer's status, with what was understood if it is 200.
type Outcome = Vec<String>;

fn outcome(answer: &str) -> Outcome {
    let answers = answer.split("HTTP/1.").skip(1).map(|one| {
        let (head, body) = one.split_once("\r\n\r\n").unwrap_or((one, ""));
        let status = head.get(2..5).unwrap_or_default();
        if status == "200" { format!("200 {body}") } else { status.to_owned() }
    });
    answers.collect()
}

/// Ours: method, path and body are shown as hyper's service below shows them.
struct Show;

impl Handler for Show {
    async fn handle<S: Server>(self: Rc<Self>, head: RequestHead, server: &mut S) -> Then {
        match receive(server).await {
            Ok((body, _)) => {
                let text = format!("{} {} [{}]", head.method, head.path(), show(&body));
                answer(server, 200, Length::Exact(text.len() as u64), text.as_bytes()).await.unwrap();
            }
            // Of a body that is no HTTP hyper's service says nothing either.
            Err(_) => server.abort(),
        }
        Then::Next
    }
}

async fn ours(bytes: &[u8]) -> Outcome {
    let (client, end) = duplex(1 << 20);
    let serving =
        serve(Stream::plain(Plain::memory(end)), Limits::default(), Rc::new(Show), Progress::new(Rc::default()));
    exchange(client, bytes, serving).await
}

async fn hypers(bytes: &[u8]) -> Outcome {
    let (client, end) = duplex(1 << 20);
    let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path_and_query().map_or("", |p| p.as_str());
        let text = format!("{} {path} [{}]", head.method, show(&body));
        Ok::<_, hyper::Error>(http::Response::new(Full::<bytes::Bytes>::from(text)))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.auto_date_header(false).half_close(true);
    exchange(client, bytes, builder.serve_connection(TokioIo::new(end), service)).await
}

async fn exchange<T>(client: DuplexStream, bytes: &[u8], serving: impl Future<Output = T>) -> Outcome {
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut answer = Vec::new();
    let talking = async {
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
        let _ = reader.read_to_end(&mut answer).await;
        Ok::<_, Infallible>(())
    };
    let _ = tokio::join!(serving, talking);
    outcome(&show(&answer))
}

/// Rows, line ends written as `|`: what we make of it, and why hyper makes something else of it, if it does.
async fn check(rows: &[(&str, &[&str], &str)]) {
    for (text, expected, why) in rows {
        let bytes = text.replace('|', "\r\n").replace('¶', "\n").replace('®', "\r").replace('Ø', "\0");
        let (ours, hypers) = (ours(bytes.as_bytes()).await, hypers(bytes.as_bytes()).await);
        assert_eq!(ours, *expected, "{text}");
        assert_eq!(ours == hypers, why.is_empty(), "{text}: hyper makes {hypers:?} of it; {why}");
    }
}

#[tokio::test]
async fn good_requests() {
    check(&[
        ("GET / HTTP/1.1|Host: a||", &["200 GET / []"], ""),
        ("GET /a?b HTTP/1.1|Host: a||GET /c HTTP/1.1|Host: a||", &["200 GET /a?b []", "200 GET /c []"], ""),
        ("||GET / HTTP/1.1|Host: a||", &["200 GET / []"], ""),
        ("GET / HTTP/1.1¶Host: a¶¶", &["200 GET / []"], ""),
        ("GET / HTTP/1.0||", &["200 GET / []"], ""),
        ("GET / HTTP/1.0||GET / HTTP/1.0||", &["200 GET / []"], ""),
        ("GET / HTTP/1.1|Host: a|Connection: close||GET / HTTP/1.1|Host: a||", &["200 GET / []"], ""),
        ("POST / HTTP/1.1|Host: a|Content-Length: 3||abc", &["200 POST / [abc]"], ""),
        (
            "POST / HTTP/1.1|Host: a|Content-Length: 3||abcGET / HTTP/1.1|Host: a||",
            &["200 POST / [abc]", "200 GET / []"],
            "",
        ),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0||", &["200 POST / [abc]"], ""),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;x=y|abc|0|T: 1||", &["200 POST / [abc]"], ""),
        (
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: Chunked||0||GET / HTTP/1.1|Host: a||",
            &["200 POST / []", "200 GET / []"],
            "",
        ),
        ("GET http://b/c HTTP/1.1|Host: a||", &["200 GET /c []"], ""),
        ("OPTIONS * HTTP/1.1|Host: a||", &["200 OPTIONS * []"], ""),
        ("PURGE / HTTP/1.1|Host: a||", &["200 PURGE / []"], ""),
    ])
    .await;
}

#[tokio::test]
async fn bad_requests() {
    check(&[
        ("GE(T / HTTP/1.1|Host: a||", &["400"], ""),
        ("GET  / HTTP/1.1|Host: a||", &["400"], ""),
        ("GET / HTTP/1.1|Host : a||", &["400"], ""),
        ("GET / HTTP/1.1|Host: a|X: 1| folded||", &["400"], ""),
        ("GET / HTTP/1.1|Host: a|X: a®b||", &["400"], ""),
        ("GET / HTTP/1.1|Host: a|X: Ø||", &["400"], ""),
        ("GET / HTTP/1.1|Host: a|: 1||", &["400"], ""),
        ("POST / HTTP/1.1|Host: a|Content-Length: x||", &["400"], ""),
        ("POST / HTTP/1.1|Host: a|Content-Length: +3||abc", &["400"], ""),
        ("POST / HTTP/1.1|Host: a|Content-Length: 3|Content-Length: 4||abc", &["400"], ""),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, gzip||", &["400"], ""),
        ("POST / HTTP/1.0|Transfer-Encoding: chunked||0||", &["400"], ""),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||g|abc|0||", &[], ""),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abcd|0||", &[], ""),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;x¶abc|0||", &[], ""),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5||abc", &[], ""),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|", &[], ""),
        ("GET / HTTP/1.1|Host: a|", &[], ""),
    ])
    .await;
}

#[tokio::test]
async fn requests_that_hyper_takes_otherwise() {
    let two_lengths = "two lengths: hyper believes the chunks (RFC 9112, 6.1 allows it); a server behind us may not";
    let host = "hyper leaves the host to its user";
    let coding = "the coding is not known to us, so its length is not either; hyper looks at `chunked` alone";
    check(&[
        ("POST / HTTP/1.1|Host: a|Content-Length: 3|Transfer-Encoding: chunked||0||", &["400"], two_lengths),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 3||0||", &["400"], two_lengths),
        ("GET / HTTP/1.1||", &["400"], host),
        ("GET / HTTP/1.1|Host: a|Host: b||", &["400"], host),
        ("GET / HTTP/1.1|Host: a b||", &["400"], host),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||", &["501"], coding),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||", &["400"], coding),
        ("GET /a#b HTTP/1.1|Host: a||", &["400"], "a fragment is never sent (RFC 9112, 3.2); hyper cuts it off"),
        ("GET * HTTP/1.1|Host: a||", &["400"], "`*` belongs to OPTIONS; hyper does not look at the method"),
        ("GET / HTTP/2.0|Host: a||", &["505"], "hyper answers any malformed head with 400"),
        ("POST / HTTP/1.1|Host: a|Expect: x|Content-Length: 1||a", &["417"], "hyper overlooks other expectations"),
    ])
    .await;
}
