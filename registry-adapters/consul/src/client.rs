//! Consul's HTTP API, as far as it is read.
//!
//! In: what to ask. Out: the body with what its headers say, or why there is none. Tries each server that may know
//! better; the rules of that are in [`servers`], what a status means in [`failure`]. Invariant: every answer is bounded
//! in size and in time, and the token is in no message.

mod failure;
mod headers;
mod servers;
mod tls;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use reqwest::Url;

pub(crate) use self::failure::Failure;
pub(crate) use self::headers::Meta;
use self::servers::Servers;
pub(crate) use self::token::Token;
use crate::map::Scope;
use crate::settings::{Settings, SettingsError};

/// Time for what a server does besides waiting for a change.
const SLACK: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// A server that is at its limit of connections hangs up within this.
const REFUSES: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Largest answer, and the most of answers that are on their way at once.
const MAX_BODY: usize = 64 << 20;
const MAX_BODIES: usize = 256 << 20;
/// Largest text of a refusal that is read.
const MAX_REFUSAL: usize = 4096;
/// Queries on one connection of HTTP/2; servers take 100 or 250.
const STREAMS: usize = 100;
/// Connections of HTTP/2 for queries that wait, besides the one for everything else.
const LANES: usize = 20;
/// Idle connections that are kept.
const IDLE: usize = 4;
/// For so long; what a server counts is also what is idle.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// What to ask.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Below `/v1/`, one element a segment.
    pub(crate) path: Vec<Arc<str>>,
    /// Wait until something is newer than this.
    pub(crate) index: Option<u64>,
    /// Any server may answer; else the leader does.
    pub(crate) stale: bool,
    /// It is about the datacenter, partition and namespace that are followed.
    pub(crate) scoped: bool,
    /// Which of the services' own queries this is, counted from 0.
    pub(crate) slot: Option<usize>,
}

/// A body, and what its headers say.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) meta: Meta,
    pub(crate) body: Bytes,
}

/// Asks the servers of one Consul.
#[derive(Debug)]
pub(crate) struct Client {
    settings: Arc<Settings>,
    urls: Vec<Url>,
    servers: Mutex<Servers>,
    token: Arc<Token>,
    lanes: Mutex<Lanes>,
    /// Bytes of answers that are on their way.
    held: AtomicUsize,
}

/// Connections, and what they are made with.
#[derive(Debug)]
struct Lanes {
    tls: Option<tls::Tls>,
    /// When its files were changed.
    stamps: tls::Stamps,
    clients: Vec<Option<reqwest::Client>>,
}

impl Lanes {
    fn new(tls: Option<tls::Tls>, stamps: tls::Stamps) -> Self {
        Self { tls, stamps, clients: (0..=LANES).map(|_| None).collect() }
    }
}

impl Client {
    /// A client for these settings; connects to nothing yet.
    ///
    /// # Errors
    /// If files of the settings can't be used.
    pub(crate) fn new(settings: Arc<Settings>, token: Arc<Token>) -> Result<Self, SettingsError> {
        let mut urls = Vec::new();
        for (index, server) in settings.servers.iter().enumerate() {
            let url = Url::parse(server)
                .map_err(|error| SettingsError { field: format!("servers[{index}]"), message: error.to_string() })?;
            urls.push(url);
        }
        let stamps = tls::stamps(&settings);
        let tls = urls.iter().any(|url| url.scheme() == "https").then(|| tls::Tls::read(&settings)).transpose()?;
        let mut servers = Servers::new(urls.len());
        let plain = urls.iter().enumerate().filter(|(_, url)| url.scheme() != "https");
        plain.for_each(|(server, _)| servers.speaks(server, false));
        Ok(Self {
            servers: Mutex::new(servers),
            urls,
            token,
            lanes: Mutex::new(first_lane(tls, stamps)?),
            held: AtomicUsize::new(0),
            settings,
        })
    }

    /// Reads roots and certificates again if their files were changed. What can't be used leaves what there was.
    pub(crate) fn renew(&self) {
        let mut lanes = self.lanes.lock();
        let stamps = tls::stamps(&self.settings);
        if lanes.tls.is_none() || stamps == lanes.stamps {
            return;
        }
        lanes.stamps = stamps;
        match tls::Tls::read(&self.settings).and_then(|tls| first_lane(Some(tls), stamps)) {
            Ok(new) => {
                tracing::info!("certificates for consul were read again");
                *lanes = new;
            }
            Err(error) => tracing::warn!(%error, "certificates for consul can't be used, those before stay"),
        }
    }

    /// How many queries may wait at once, where HTTP/1.1 would allow `connections`.
    pub(crate) fn capacity(&self, connections: usize) -> usize {
        if self.servers.lock().speak_http2() { LANES * STREAMS } else { connections }
    }

    /// Asks, at as many servers as it takes.
    pub(crate) async fn ask(&self, scope: Option<&Scope>, question: &Question) -> Result<Answer, Failure> {
        let order = self.servers.lock().order(question.slot.unwrap_or_default(), Instant::now());
        let mut last = None;
        for server in order {
            match self.ask_one(server, scope, question).await {
                Ok(answer) => {
                    let old = question.stale && answer.meta.is_older_than(self.settings.max_age);
                    let mut servers = self.servers.lock();
                    if !old {
                        servers.answered(server);
                        return Ok(answer);
                    }
                    servers.is_behind(server, Instant::now());
                    last = Some(Ok(answer));
                }
                Err(failure) => {
                    let elsewhere = failure.may_differ_elsewhere();
                    if elsewhere {
                        self.servers.lock().failed(server, Instant::now());
                    }
                    // An answer, though an old one, tells more than a failure.
                    if last.is_none() || !elsewhere {
                        last = Some(Err(failure));
                    }
                    if !elsewhere {
                        break;
                    }
                }
            }
        }
        last.unwrap_or(Err(Failure::Unreachable("no server is known".to_owned())))
    }

    async fn ask_one(&self, server: usize, scope: Option<&Scope>, question: &Question) -> Result<Answer, Failure> {
        let url =
            self.url(server, scope, question).ok_or_else(|| Failure::Unreachable("no server is known".to_owned()))?;
        let wait = question.index.map(|_| self.settings.wait + self.settings.wait / 16).unwrap_or_default();
        let mut request = self.lane(question)?.get(url.clone()).timeout(wait + SLACK);
        if let Some(token) = self.token.header()? {
            request = request.header("x-consul-token", token);
        }
        let shown = || url.host_str().unwrap_or_default().to_owned();
        let asked = Instant::now();
        let response = request.send().await.map_err(|error| match Failure::of_transport(&shown(), &error) {
            // A server at its limit refuses at once; one that breaks off later has ended.
            Failure::Crowded(text) if asked.elapsed() > REFUSES => Failure::Unreachable(text),
            failure => failure,
        })?;
        self.servers.lock().speaks(server, response.version() == http::Version::HTTP_2);
        let meta = Meta::of(response.headers());
        let status = response.status();
        if !status.is_success() {
            let text = self.read(response, MAX_REFUSAL).await.unwrap_or_else(|_| Bytes::new());
            return Err(Failure::of_status(status.as_u16(), &String::from_utf8_lossy(&text)));
        }
        let body = self.read(response, MAX_BODY).await.map_err(|error| match error {
            Unread::TooLarge => Failure::TooLarge(MAX_BODY),
            Unread::TooMuch => Failure::TooMuch(MAX_BODIES),
            Unread::Transport(error) => Failure::of_transport(&shown(), &error),
        })?;
        Ok(Answer { meta, body })
    }

    fn url(&self, server: usize, scope: Option<&Scope>, question: &Question) -> Option<Url> {
        let mut url = self.urls.get(server)?.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("v1").extend(question.path.iter().map(|s| &**s));
        }
        let mut query = url.query_pairs_mut();
        if let Some(scope) = scope.filter(|_| question.scoped) {
            if !scope.datacenter.is_empty() {
                query.append_pair("dc", &scope.datacenter);
            }
            if let Some(partition) = &scope.partition {
                query.append_pair("partition", partition);
            }
            if let Some(namespace) = &scope.namespace {
                query.append_pair("ns", namespace);
            }
            if let Some(peer) = &scope.peer {
                query.append_pair("peer", peer);
            }
        }
        if question.stale {
            query.append_key_only("stale");
        }
        if let Some(index) = question.index {
            query.append_pair("index", &index.to_string());
            query.append_pair("wait", &format!("{}s", self.settings.wait.as_secs()));
        }
        drop(query);
        if url.query() == Some("") {
            url.set_query(None);
        }
        Some(url)
    }

    /// Over HTTP/2 queries that wait have connections of their own: on a full one everything else would wait with them.
    fn lane(&self, question: &Question) -> Result<reqwest::Client, Failure> {
        let lane = match question.slot {
            Some(slot) if self.servers.lock().speak_http2() => 1 + (slot / STREAMS) % LANES,
            _ => 0,
        };
        let Lanes { tls, clients, .. } = &mut *self.lanes.lock();
        let lane = clients.get_mut(lane).ok_or_else(|| Failure::Unreachable("no lane".to_owned()))?;
        if let Some(client) = lane {
            return Ok(client.clone());
        }
        let made = make(tls.as_ref()).map_err(|error| Failure::Unreachable(error.to_string()))?;
        Ok(lane.insert(made).clone())
    }

    async fn read(&self, mut response: reqwest::Response, most: usize) -> Result<Bytes, Unread> {
        let mut whole: Option<BytesMut> = None;
        let mut first: Option<Bytes> = None;
        let mut held = Held { all: &self.held, size: 0 };
        while let Some(chunk) = response.chunk().await.map_err(Unread::Transport)? {
            if held.size.saturating_add(chunk.len()) > most {
                return Err(Unread::TooLarge);
            }
            if held.add(chunk.len()) > MAX_BODIES {
                return Err(Unread::TooMuch);
            }
            // Most answers are one piece, which needs no copy.
            match (&mut whole, first.take()) {
                (Some(whole), _) => whole.extend_from_slice(&chunk),
                (None, None) => first = Some(chunk),
                (None, Some(before)) => {
                    let mut both = BytesMut::with_capacity((before.len() + chunk.len()) * 2);
                    both.extend_from_slice(&before);
                    both.extend_from_slice(&chunk);
                    whole = Some(both);
                }
            }
        }
        Ok(whole.map(BytesMut::freeze).or(first).unwrap_or_default())
    }
}

/// What one answer that is on its way adds to all that are.
struct Held<'a> {
    all: &'a AtomicUsize,
    size: usize,
}

impl Held<'_> {
    /// All, with this.
    fn add(&mut self, more: usize) -> usize {
        self.size += more;
        self.all.fetch_add(more, Ordering::Relaxed) + more
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Lanes with the first client made, so that files that can't be used are known at once.
fn first_lane(tls: Option<tls::Tls>, stamps: tls::Stamps) -> Result<Lanes, SettingsError> {
    let made = make(tls.as_ref())
        .map_err(|error| SettingsError { field: "caFile, certFile, keyFile".to_owned(), message: deepest(&error) })?;
    let mut lanes = Lanes::new(tls, stamps);
    if let Some(lane) = lanes.clients.first_mut() {
        *lane = Some(made);
    }
    Ok(lanes)
}

fn make(tls: Option<&tls::Tls>) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("hawser/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .tcp_keepalive(KEEP_ALIVE)
        .tcp_user_timeout(KEEP_ALIVE * 2)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .http2_adaptive_window(true)
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE);
    if let Some(tls) = tls {
        builder = tls.apply(builder);
    }
    builder.build()
}

fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

enum Unread {
    TooLarge,
    TooMuch,
    Transport(reqwest::Error),
}
