//! Unary calls as gRPC clients make them: HTTP/2 without TLS, a small message each way, the status in trailers.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LOST, Load, Pace, Seen, TELLS, Tally, WARM};
use crate::bodies;

/// Bytes of the message of a call.
pub(crate) const ASKED: u8 = 32;
/// Bytes of the message of its answer.
pub(crate) const ANSWERED: u8 = 64;

pub(super) fn run(load: Load, target: SocketAddr, span: Duration, tells: bool) -> anyhow::Result<()> {
    crate::alone(async {
        let mut connections = open(load, target).await?;
        drive(load, target, &mut connections, WARM, false).await?;
        super::told_to_begin()?;
        let seen = drive(load, target, &mut connections, span, tells).await?;
        super::tell(seen)
    })
}

/// A short load from this process.
#[cfg(test)]
pub(super) async fn once(load: Load, target: SocketAddr) -> anyhow::Result<Seen> {
    let mut connections = open(load, target).await?;
    drive(load, target, &mut connections, Duration::from_millis(load.millis.into()), false).await
}

async fn open(load: Load, target: SocketAddr) -> anyhow::Result<Vec<SendRequest<Bytes>>> {
    let mut connections = vec![];
    for _ in 0..load.connections {
        connections.push(connect(target).await?);
    }
    Ok(connections)
}

async fn connect(target: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let work = async {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = h2::client::handshake(stream).await?;
        tokio::task::spawn_local(connection);
        anyhow::Ok(client)
    };
    timeout(LOST, work).await.context("no connection in 10 s")?
}

async fn drive(
    load: Load,
    target: SocketAddr,
    connections: &mut [SendRequest<Bytes>],
    span: Duration,
    tells: bool,
) -> anyhow::Result<Seen> {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let start = Instant::now();
    let count = connections.len() * load.streams as usize;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..count {
        let client = connections[index % connections.len()].clone();
        let pace = Pace::new(start, load.rate, index, count);
        tasks.spawn_local(sender(target, client, pace, start + span, tally.clone()));
    }
    let mut told = tokio::time::interval_at(tokio::time::Instant::now() + TELLS, TELLS);
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(ended) => ended?,
                None => break,
            },
            _ = told.tick(), if tells => {
                let seen = tally.borrow_mut().so_far();
                super::say(&serde_json::to_string(&seen)?)?;
            }
        }
    }
    let tally = Rc::try_unwrap(tally).map_err(|_| anyhow::anyhow!("a call goes on"))?;
    Ok(tally.into_inner().finish())
}

async fn sender(
    target: SocketAddr,
    mut client: SendRequest<Bytes>,
    mut pace: Pace,
    end: Instant,
    tally: Rc<RefCell<Tally>>,
) {
    let asked = Bytes::from(bodies::grpc(ASKED));
    let expected = bodies::grpc(ANSWERED);
    while pace.next < end && Instant::now() < end + LOST {
        if pace.next > Instant::now() {
            tokio::time::sleep_until(pace.next.into()).await;
        }
        // A connection that its other side gave up politely takes no new calls.
        match client.clone().ready().await {
            Ok(ready) => client = ready,
            Err(_) => match connect(target).await {
                Ok(fresh) => client = fresh,
                Err(error) => tally.borrow_mut().bad(format_args!("connecting: {error:#}")),
            },
        }
        let due = pace.sent(Instant::now());
        let outcome = timeout(LOST, call(&mut client, asked.clone(), &expected)).await;
        let now = Instant::now();
        pace.answered(now);
        match outcome {
            Ok(Ok(())) => tally.borrow_mut().good(now.saturating_duration_since(due)),
            Ok(Err(error)) => {
                tally.borrow_mut().bad(format_args!("{error:#}"));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(_) => tally.borrow_mut().bad("no answer in 10 s"),
        }
    }
}

async fn call(client: &mut SendRequest<Bytes>, asked: Bytes, expected: &[u8]) -> anyhow::Result<()> {
    let request = Request::post(format!("http://{}/bench.Bench/Call", crate::mesh::SERVICE))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "hawser-bench/1")
        .header("x-group", "none")
        .body(())?;
    let (response, mut body) = client.send_request(request, false)?;
    body.send_data(asked, true)?;
    let response = response.await?;
    anyhow::ensure!(response.status() == 200, "status {}", response.status());
    let mut body = response.into_body();
    let mut found = Vec::with_capacity(expected.len());
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        found.extend_from_slice(&data);
    }
    let trailers: Option<HeaderMap> = body.trailers().await?;
    let status = trailers.as_ref().and_then(|t| t.get("grpc-status")).and_then(|s| s.to_str().ok());
    anyhow::ensure!(status == Some("0"), "grpc-status {status:?}");
    anyhow::ensure!(found == expected, "another message: {} bytes for {}", found.len(), expected.len());
    Ok(())
}
