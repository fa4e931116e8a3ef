//! Asks what the machine wants to know, and tells what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::sync::{mpsc, watch};

use super::lines::Lines;
use super::machine::{Change, Do, Limits, Machine};
use super::{Failure, absent};
use crate::access::Access;
use crate::wire::{Item, Line, Page};

/// Objects of one page.
const PAGE: usize = 500;
/// Largest page, and longest time that one may take.
const MOST: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(60);
/// Longest time until a watch is answered with its head.
const HEAD: Duration = Duration::from_secs(30);
/// How long a watch is asked for, in seconds: not all end together.
const LIFE: std::ops::Range<u64> = 240..300;

/// What is told of a kind.
#[derive(Debug)]
pub(crate) enum Said<T> {
    /// What became of its objects.
    Change(Change<T>),
    /// It can't be followed now, since when, and why. Told again when the reason changes.
    Fails(Instant, Failure),
    /// It can again.
    Speaks,
}

/// Where a kind is.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// Paths, the best first: one for each version of the group.
    pub(crate) places: Vec<String>,
    /// Further parameters, such as `labelSelector=…`; empty if none.
    pub(crate) query: String,
}

impl Watched {
    pub(crate) fn at(place: &str) -> Self {
        Self { places: vec![place.to_owned()], query: String::new() }
    }
}

/// What all watches of a cluster are told. Numbers that count: one that differs from the last says that it happened.
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    /// Connections are not to be trusted: ask anew.
    pub(crate) reconnect: watch::Receiver<u64>,
    /// A kind that was absent came: others may have come too.
    pub(crate) arrived: Arc<watch::Sender<u64>>,
}

/// Follows a kind until nobody listens any more.
pub(crate) async fn run<T: Item, M>(
    access: Arc<Access>,
    watched: Watched,
    limits: Limits,
    mut waker: Waker,
    listener: mpsc::Sender<M>,
    wrap: impl Fn(Said<T>) -> M,
) {
    let mut machine: Machine<T> = Machine::new(limits);
    let mut told: Option<Failure> = None;
    let mut arrived = waker.arrived.subscribe();
    loop {
        let mut said = Vec::new();
        match (machine.trouble(), &told) {
            (Some((since, failure)), told_of) if told_of.as_ref() != Some(failure) => {
                said.push(Said::Fails(*since, failure.clone()));
                told = Some(failure.clone());
            }
            (None, Some(_)) => {
                said.push(Said::Speaks);
                told = None;
            }
            _ => {}
        }
        for said in said {
            if listener.send(wrap(said)).await.is_err() {
                return;
            }
        }
        let was_absent = machine.is_absent();
        match machine.next(Instant::now()) {
            Do::Wait(at) => tokio::select! {
                () = listener.closed() => return,
                () = tokio::time::sleep_until(at.into()) => {}
                Ok(()) = waker.reconnect.changed() => machine.hurry(),
                Ok(()) = arrived.changed() => if was_absent { machine.hurry() },
            },
            Do::List { place, token, cached } => {
                let path = list_path(&watched, place, token.as_deref(), cached);
                let change = tokio::select! {
                    () = listener.closed() => return,
                    page = page(&access, &path, T::METADATA_ONLY) => page.map(|(page, bytes)| {
                        machine.weigh(bytes);
                        machine.page(page, Instant::now())
                    }),
                };
                if !tell(change, &mut machine, &listener, &wrap).await {
                    return;
                }
            }
            Do::Confirm => {
                let change = tokio::select! {
                    () = listener.closed() => return,
                    absent = absent::confirm(&access, &watched.places) => absent.map(|()| machine.confirmed(Instant::now())),
                };
                if !tell(change, &mut machine, &listener, &wrap).await {
                    return;
                }
            }
            Do::Stream { place, cached } => {
                let path = stream_path(&watched, place, cached);
                if !follow(&access, &path, &mut machine, &mut waker, &listener, &wrap, &mut told).await {
                    return;
                }
            }
            Do::Watch { place, version } => {
                let path = watch_path(&watched, place, &format!("resourceVersion={version}"));
                if !follow(&access, &path, &mut machine, &mut waker, &listener, &wrap, &mut told).await {
                    return;
                }
            }
        }
        if was_absent && !machine.is_absent() {
            waker.arrived.send_modify(|count| *count += 1);
        }
    }
}

/// Tells what came of a question; `false` if nobody listens any more.
async fn tell<T: Item, M>(
    change: Result<Option<Change<T>>, Failure>,
    machine: &mut Machine<T>,
    listener: &mpsc::Sender<M>,
    wrap: &impl Fn(Said<T>) -> M,
) -> bool {
    match change {
        Ok(Some(change)) => listener.send(wrap(Said::Change(change))).await.is_ok(),
        Ok(None) => true,
        Err(failure) => {
            machine.failed(failure, Instant::now());
            true
        }
    }
}

/// Follows one watch to its end; `false` if nobody listens any more.
async fn follow<T: Item, M>(
    access: &Access,
    path: &str,
    machine: &mut Machine<T>,
    waker: &mut Waker,
    listener: &mpsc::Sender<M>,
    wrap: &impl Fn(Said<T>) -> M,
    told: &mut Option<Failure>,
) -> bool {
    let answer = tokio::select! {
        () = listener.closed() => return false,
        answer = tokio::time::timeout(HEAD, access.get(path, T::METADATA_ONLY.then_some("PartialObjectMetadata"))) => {
            answer.unwrap_or_else(|_| Err(Failure::Unreachable("no answer in time".to_owned())))
        }
    };
    let mut body: Body = match answer {
        Ok(body) => body,
        Err(failure) => {
            access.failed(&failure);
            machine.failed(failure, Instant::now());
            return true;
        }
    };
    machine.started();
    let mut lines = Lines::default();
    loop {
        if machine.trouble().is_none() && told.take().is_some() && listener.send(wrap(Said::Speaks)).await.is_err() {
            return false;
        }
        let frame = tokio::select! {
            () = listener.closed() => return false,
            Ok(()) = waker.reconnect.changed() => {
                machine.ended(Instant::now());
                return true;
            }
            frame = tokio::time::timeout(machine.patience(), body.frame()) => frame,
        };
        match frame {
            Err(_) => {
                machine.silent();
                return true;
            }
            // In order, or cut: the watch goes on from its version.
            Ok(None | Some(Err(_))) => {
                machine.ended(Instant::now());
                return true;
            }
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                machine.weigh(data.len());
                lines.push(&data);
            }
        }
        loop {
            let line = match lines.next() {
                Ok(None) => break,
                Ok(Some(line)) => Line::parse(&line).map_err(|error| error.to_string()),
                Err(_) => Err("a line of a watch is longer than 8 MiB".to_owned()),
            };
            let (change, over) = match line {
                Ok(line) => {
                    let over = matches!(line, Line::Error(_));
                    (machine.line(line, Instant::now()), over)
                }
                Err(why) => {
                    machine.failed(Failure::Unreadable(why), Instant::now());
                    (None, true)
                }
            };
            if let Some(change) = change
                && listener.send(wrap(Said::Change(change))).await.is_err()
            {
                return false;
            }
            if over || machine.gave_up() {
                return true;
            }
        }
    }
}

/// A page, and how long it is.
async fn page<T: Item>(access: &Access, path: &str, metadata: bool) -> Result<(Page<T>, usize), Failure> {
    let read = async {
        let body = access.get(path, metadata.then_some("PartialObjectMetadataList")).await?;
        let bytes = whole(body, MOST).await?;
        let page = serde_json::from_slice(&bytes).map_err(|error| Failure::Unreadable(error.to_string()))?;
        Ok((page, bytes.len()))
    };
    let read = tokio::time::timeout(LONGEST, read).await;
    let read = read.unwrap_or_else(|_| Err(Failure::Unreachable("no list in time".to_owned())));
    read.inspect_err(|failure| access.failed(failure))
}

/// A body that is not larger than `most`.
pub(crate) async fn whole(body: Body, most: usize) -> Result<Bytes, Failure> {
    match http_body_util::Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::Unreadable(format!("an answer is larger than {} MiB", most >> 20)))
        }
        Err(error) => Err(Failure::Unreachable(format!("the answer broke off: {error}"))),
    }
}

fn path(watched: &Watched, place: usize) -> String {
    let place = watched.places.get(place).or(watched.places.first()).map(String::as_str).unwrap_or_default();
    let more = if watched.query.is_empty() { String::new() } else { format!("{}&", watched.query) };
    format!("{place}?{more}")
}

fn list_path(watched: &Watched, place: usize, token: Option<&str>, cached: bool) -> String {
    let path = path(watched, place);
    match token {
        // Base64 for URLs: nothing in it has to be escaped.
        Some(token) => format!("{path}limit={PAGE}&continue={token}"),
        None if cached => format!("{path}resourceVersion=0"),
        None => format!("{path}limit={PAGE}"),
    }
}

fn stream_path(watched: &Watched, place: usize, cached: bool) -> String {
    let version = if cached { "&resourceVersion=0" } else { "" };
    watch_path(watched, place, &format!("sendInitialEvents=true&resourceVersionMatch=NotOlderThan{version}"))
}

fn watch_path(watched: &Watched, place: usize, from: &str) -> String {
    let (path, life) = (path(watched, place), rand::random_range(LIFE));
    format!("{path}watch=true&{from}&allowWatchBookmarks=true&timeoutSeconds={life}")
}
