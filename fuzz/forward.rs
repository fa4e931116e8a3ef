//! Messages on their way through the proxy: what a stranger said in one HTTP, as an endpoint reads it in another.
//!
//! In: a byte that says from where to where, then a client's or a server's bytes. Out: how many messages were sent on.
//! Invariant: what is written holds one message, which says what was understood, and nothing behind it. HTTP/1 is read by
//! a reader of its own here, which knows RFC 9112 and none of the proxy's code.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use hawser_proxy::config::Filter;
use hawser_proxy::http::channel::{Broken, Channel, Client, Handler, Server, Then};
use hawser_proxy::http::message::{Fields, Length, RequestHead, ResponseHead, Version};
use hawser_proxy::http::progress::Progress;
use hawser_proxy::http::{Connection, between, h1, h2};
use hawser_proxy::listen::Side;
use hawser_proxy::stream::{Plain, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::http1::{moment, received};
use super::wire1;

/// They come by HTTP/2.
const FROM_HTTP2: u8 = 1;
/// They go by HTTP/2.
const TO_HTTP2: u8 = 2;
/// The request that a response answers is HEAD.
const HEAD: u8 = 4;
/// The client that asked speaks HTTP/1.0.
const OLD: u8 = 8;

/// Room for all that is written at once.
const PIPE: usize = 4 << 20;
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Requests.
pub(crate) fn request(bytes: &[u8]) -> usize {
    let Some((kind, bytes)) = bytes.split_first() else { return 0 };
    moment(async {
        let onward = Rc::new(Onward {
            connection: connection(),
            http1: kind & TO_HTTP2 == 0,
            begun: Cell::new(0),
            sent: Cell::new(0),
        });
        let (client, server) = tokio::io::duplex(PIPE);
        let (stream, progress) = (Stream::plain(Plain::memory(server)), Progress::new(Rc::default()));
        let (mut reader, mut writer) = tokio::io::split(client);
        let writing = async {
            if kind & FROM_HTTP2 != 0 {
                let _ = writer.write_all(GREETING).await;
            }
            let _ = writer.write_all(bytes).await;
            // Whoever goes away at once is not served.
            let mut quiet = 0;
            while quiet < 32 {
                tokio::task::yield_now().await;
                quiet = if onward.begun.get() == 0 { quiet + 1 } else { 0 };
            }
            let _ = writer.shutdown().await;
        };
        let serving = async {
            if kind & FROM_HTTP2 != 0 {
                let limits = h2::Limits { fields: 100, ..h2::Limits::default() };
                let _ = h2::serve(stream, limits, onward.clone(), progress).await;
            } else {
                let _ = h1::serve(stream, h1::Limits::default(), onward.clone(), progress).await;
            }
        };
        let mut answer = Vec::new();
        let _ = tokio::join!(serving, writing, reader.read_to_end(&mut answer));
        // What panics in a task of its own is not heard here.
        assert_eq!(onward.begun.get(), 0, "a request was given up");
        onward.sent.get()
    })
}

/// Sends on what it is asked, and looks at what was written.
struct Onward {
    connection: Rc<Connection>,
    http1: bool,
    /// Requests that are being looked at.
    begun: Cell<usize>,
    sent: Cell<usize>,
}

impl Handler for Onward {
    async fn handle<S: Server>(self: Rc<Self>, mut head: RequestHead, server: &mut S) -> Then {
        let message = received(server).await;
        self.begun.set(self.begun.get() + 1);
        let switches = between::request(&self.connection, &mut head, self.http1);
        match (message, switches) {
            (Ok((body, trailers)), Ok(switches)) => {
                if let Length::Exact(n) = head.length {
                    assert_eq!(n, body.len() as u64);
                }
                // What follows is no body, and waits until both ends have agreed.
                let tunnel = switches && (head.version == Version::Http2 || !self.http1);
                let (body, trailers) = if tunnel { (Vec::new(), Fields::default()) } else { (body, trailers) };
                head.length = if tunnel { Length::None } else { head.length };
                if self.http1 {
                    to_http1(&head, &body, &trailers, switches).await;
                } else {
                    to_http2(&head, &body, &trailers).await;
                }
                self.sent.set(self.sent.get() + 1);
                let _ = server.respond(&ResponseHead::new(204));
                let _ = server.finish(None);
            }
            (Ok(_), Err(status)) => {
                assert!((400..500).contains(&status), "{status}");
                let _ = server.respond(&ResponseHead::new(status));
                let _ = server.finish(None);
            }
            (Err(_), _) => server.abort(),
        }
        self.begun.set(self.begun.get() - 1);
        Then::Next
    }
}

async fn to_http1(head: &RequestHead, body: &[u8], trailers: &Fields, switches: bool) {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut client = h1::Http1::new(Stream::plain(Plain::memory(near)));
    if client.request(head, head.length).is_err() {
        // A target that is no single word has nowhere to be written.
        return;
    }
    send(&mut client, body, trailers).await.expect("a body as it was announced");
    drop(client);
    let wire = all(far).await;
    let read = wire1::request(&wire);
    assert_eq!(read.line, [head.method.as_str(), head.path(), "HTTP/1.1"]);
    assert_eq!(read.host, [head.authority().as_bytes()]);
    assert_eq!(read.fields, list(&head.fields));
    assert_eq!(read.body, body);
    if read.is_chunked {
        assert_eq!(read.trailers, list(trailers));
    }
    let is_own = |name: &[u8]| matches!(name, b"connection" | b"upgrade");
    assert!(switches || !read.fields.iter().any(|(name, _)| is_own(name)));
    stays_here(&read.fields);
    stays_here(&read.trailers);
}

async fn to_http2(head: &RequestHead, body: &[u8], trailers: &Fields) {
    // Nothing but HTTP/1.0 leaves a host out, and no HTTP/2 knows that.
    if head.authority().is_empty() {
        return;
    }
    let asking = |mut stream: h2::ClientStream| async move {
        stream.request(head, head.length)?;
        send(&mut stream, body, trailers).await?;
        poll_fn(|cx| stream.poll_response(cx)).await
    };
    let answering = |read: RequestHead, mut stream: h2::ServerStream| async move {
        let whole = received(&mut stream).await?;
        stream.respond(&ResponseHead::new(204))?;
        Ok((read, whole))
    };
    let (_, (read, (read_body, read_trailers))) = over_http2(asking, answering).await.expect("a good request");
    assert_eq!((read.method.as_str(), read.path()), (head.method.as_str(), head.path()));
    assert_eq!((read.authority(), read.protocol()), (head.authority(), head.protocol()));
    assert_eq!(joined(list(&read.fields)), joined(list(&head.fields)));
    assert_eq!((read_body, list(&read_trailers)), (body.to_vec(), list(trailers)));
    stays_here(&list(&read.fields));
    stays_here(&list(&read_trailers));
}

/// Responses, to a client of HTTP/1 or HTTP/2; whether there was one.
pub(crate) fn response(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    moment(async {
        let mut asked =
            RequestHead::new(if kind & HEAD != 0 { "HEAD" } else { "GET" }.parse().expect("a method"), Version::Http11);
        asked.set_authority(b"a");
        asked.set_path(b"/");
        let said = match kind & FROM_HTTP2 != 0 {
            true => said_by_http2(&asked, bytes).await,
            false => said_by_http1(&asked, bytes).await,
        };
        let Ok((mut head, whole)) = said else { return false };
        between::response(&mut head);
        // Only who has asked for it gets another protocol.
        if head.status == 101 {
            return false;
        }
        stays_here(&list(&head.fields));
        match kind & TO_HTTP2 != 0 {
            true => answer_http2(&asked, &head, whole).await,
            false => answer_http1(&asked, kind & OLD != 0, head, whole).await,
        }
        true
    })
}

type Whole = Result<(Vec<u8>, Fields), Broken>;

async fn said_by_http1(asked: &RequestHead, bytes: &[u8]) -> Result<(ResponseHead, Whole), Broken> {
    let (near, mut far) = tokio::io::duplex(PIPE);
    let mut client = h1::Http1::new(Stream::plain(Plain::memory(near)));
    let _ = far.write_all(bytes).await;
    let _ = far.shutdown().await;
    client.request(asked, Length::None)?;
    let head = answer_of(&mut client).await?;
    Ok((head, received(&mut client).await))
}

async fn said_by_http2(asked: &RequestHead, bytes: &[u8]) -> Result<(ResponseHead, Whole), Broken> {
    let (near, mut far) = tokio::io::duplex(PIPE);
    let _ = far.write_all(&GREETING[24..]).await;
    let _ = far.write_all(bytes).await;
    let _ = far.shutdown().await;
    let (connection, driver) = h2::connect(Stream::plain(Plain::memory(near)), h2::Limits::default(), true);
    let asking = async move {
        let mut stream = connection.open()?;
        stream.request(asked, Length::None)?;
        let head = answer_of(&mut stream).await?;
        Ok((head, received(&mut stream).await))
    };
    tokio::join!(asking, driver).0
}

async fn answer_of(client: &mut impl Client) -> Result<ResponseHead, Broken> {
    loop {
        let head = poll_fn(|cx| client.poll_response(cx)).await?;
        if head.status >= 200 || head.status == 101 {
            return Ok(head);
        }
    }
}

async fn answer_http1(asked: &RequestHead, old: bool, head: ResponseHead, whole: Whole) {
    let (mut client, server) = tokio::io::duplex(PIPE);
    let version = if old { "1.0" } else { "1.1" };
    let request = format!("{} / HTTP/{version}\r\nhost: a\r\n\r\n", asked.method);
    client.write_all(request.as_bytes()).await.expect("room");
    client.shutdown().await.expect("an open pipe");
    let (length, expected) = (head.length, (list(&head.fields), head.status, whole.clone()));
    let answering = Rc::new(Answering(RefCell::new(Some((head, whole)))));
    let (stream, progress) = (Stream::plain(Plain::memory(server)), Progress::new(Rc::default()));
    let _ = h1::serve(stream, h1::Limits::default(), answering, progress).await;
    let wire = all(client).await;

    let (fields, status, whole) = expected;
    let bodiless = asked.method == "HEAD" || matches!(status, 204 | 304);
    // Nothing was announced, and nothing is missing.
    let empty = bodiless || length == Length::Exact(0);
    match (wire1::response(&wire, bodiless), whole) {
        (Some(read), Ok((body, trailers))) => {
            assert_eq!(read.line[1], status.to_string());
            let own = |(name, value): &(Vec<u8>, Vec<u8>)| {
                name == b"connection" && (value == b"close" || value == b"keep-alive")
            };
            let read_fields: Vec<_> = read.fields.into_iter().filter(|field| !own(field)).collect();
            assert_eq!(read_fields, fields);
            assert_eq!(read.body, if bodiless { Vec::new() } else { body });
            if read.is_chunked && !bodiless {
                assert_eq!(read.trailers, list(&trailers));
            }
        }
        (None, Ok(_)) => panic!("no whole response: {:?}", String::from_utf8_lossy(&wire)),
        // Without a length the connection's end is the body's: it is reset, which memory can't show.
        (read, Err(_)) => assert!(old || empty || read.is_none(), "half an answer looks whole"),
    }
}

/// Answers the one request with this.
struct Answering(RefCell<Option<(ResponseHead, Whole)>>);

impl Handler for Answering {
    async fn handle<S: Server>(self: Rc<Self>, _: RequestHead, server: &mut S) -> Then {
        let Some((head, whole)) = self.0.borrow_mut().take() else { return Then::Next };
        let _ = received(server).await;
        if answer(server, &head, &whole).await.is_err() || whole.is_err() {
            server.abort();
        }
        Then::Next
    }
}

async fn answer<S: Server>(server: &mut S, head: &ResponseHead, whole: &Whole) -> Result<(), Broken> {
    server.respond(head)?;
    match whole {
        Ok((body, trailers)) => send(server, body, trailers).await,
        Err(_) => poll_fn(|cx| server.poll_flush(cx)).await,
    }
}

async fn answer_http2(asked: &RequestHead, head: &ResponseHead, whole: Whole) {
    let broken = whole.is_err();
    let asking = |mut stream: h2::ClientStream| async move {
        stream.request(asked, Length::None)?;
        let head = answer_of(&mut stream).await?;
        Ok((head, received(&mut stream).await?))
    };
    let sent = &whole;
    let answering = |_, mut stream: h2::ServerStream| async move { answer(&mut stream, head, sent).await };
    match over_http2(asking, answering).await {
        Ok(((read, (body, trailers)), ())) => {
            let (sent, sent_trailers) = whole.unwrap_or_default();
            assert!(
                !broken
                    || asked.method == "HEAD"
                    || matches!(head.status, 204 | 304)
                    || head.length == Length::Exact(0),
                "half an answer looks whole"
            );
            assert_eq!((read.status, list(&read.fields)), (head.status, list(&head.fields)));
            if body.is_empty() {
                return;
            }
            assert_eq!((body, list(&trailers)), (sent, list(&sent_trailers)));
        }
        Err(why) => assert!(broken, "{why}: {head:?}"),
    }
}

/// One exchange over a connection of HTTP/2, both ends ours.
async fn over_http2<A, B, F, G>(
    asking: impl FnOnce(h2::ClientStream) -> F,
    answering: impl FnOnce(RequestHead, h2::ServerStream) -> G,
) -> Result<(A, B), Broken>
where
    F: Future<Output = Result<A, Broken>>,
    G: Future<Output = Result<B, Broken>>,
{
    let (near, far) = tokio::io::duplex(PIPE);
    // What is added on the way may be more than what was taken.
    let limits = h2::Limits { fields: 250, head: 128 << 10, ..h2::Limits::default() };
    let (connection, driver) = h2::connect(Stream::plain(Plain::memory(near)), limits, true);
    let (sender, mut came) = tokio::sync::mpsc::unbounded_channel();
    let give = move |head, stream| drop(sender.send((head, stream)));
    let accepting = h2::accept(Stream::plain(Plain::memory(far)), limits, Progress::new(Rc::default()), give);
    let answering = async {
        let (head, stream) = came.recv().await.ok_or(Broken::Gone)?;
        answering(head, stream).await
    };
    let asking = asking(connection.open()?);
    let exchange = async { tokio::try_join!(asking, answering) };
    tokio::select! {
        done = exchange => done,
        _ = async { tokio::join!(driver, accepting) } => Err(Broken::Gone),
    }
}

/// Sends a whole body.
async fn send<C: Channel>(channel: &mut C, mut body: &[u8], trailers: &Fields) -> Result<(), Broken> {
    let last = trailers.is_empty();
    while !body.is_empty() {
        let taken = poll_fn(|cx| match channel.poll_data(cx, body, last) {
            Poll::Pending => channel.poll_flush(cx).map(|flushed| flushed.map(|()| 0)),
            taken => taken,
        });
        body = &body[taken.await?..];
    }
    channel.finish(Some(trailers).filter(|trailers| !trailers.is_empty()))?;
    poll_fn(|cx| channel.poll_flush(cx)).await
}

async fn all(mut pipe: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).await.expect("a pipe in memory");
    bytes
}

pub(super) fn list(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// Cookies in one field, behind the others.
fn joined(mut fields: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let crumbs: Vec<Vec<u8>> = fields.extract_if(.., |(name, _)| name == b"cookie").map(|(_, value)| value).collect();
    if !crumbs.is_empty() {
        let crumbs: Vec<_> = crumbs.into_iter().filter(|crumb| !crumb.is_empty()).collect();
        fields.push((b"cookie".to_vec(), crumbs.join(&b"; "[..])));
    }
    fields
}

/// What belongs to one connection does not go on.
fn stays_here(fields: &[(Vec<u8>, Vec<u8>)]) {
    for (name, value) in fields {
        let own: [&[u8]; 5] = [b"keep-alive", b"proxy-connection", b"transfer-encoding", b"content-length", b"host"];
        assert!(!own.contains(&&name[..]), "{}", String::from_utf8_lossy(name));
        assert!(name != b"te" || value == b"trailers");
        assert!(name != b"x-hawser-protocol" && name != b"x-forwarded-client-cert");
    }
}

/// A connection as those of the other targets, of a listener whose every request is answered.
fn connection() -> Rc<Connection> {
    let worker = super::worker();
    let config = worker.config();
    let chain = config.inbound.as_ref().expect("a listener").chains[0].clone();
    let Filter::Http(spec) = &chain.filter else { panic!("a chain of HTTP") };
    let spec = Arc::clone(spec);
    Rc::new(Connection {
        worker,
        spec,
        chain,
        id: 1,
        server_name: None,
        side: Side::Inbound,
        to: ([10, 0, 0, 1], 80).into(),
        from: Some(([10, 0, 0, 2], 4711).into()),
        bound: false,
        peer: None,
        secure: false,
        client_cert: String::new(),
        hawser: false,
        used: None,
        flow: None,
    })
}
