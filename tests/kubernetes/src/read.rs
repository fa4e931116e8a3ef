//! Reading: one object, or a list in pages, as it is or as it was.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ask::{Asked, Want};
use crate::faults::Moment;
use crate::kinds::Place;
use crate::refusal::{Cause, Refusal};
use crate::reply::Reply;
use crate::selector::{Fields, Labels};
use crate::server::{Found, Server};
use crate::store::{Entry, Form, Store, TooOld};

/// What is chosen of a kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
}

impl Chosen {
    pub(crate) fn read(found: &Found, asked: &Asked) -> Result<Self, Refusal> {
        let labels = asked.query.given("labelSelector").unwrap_or_default();
        let labels =
            Labels::parse(labels).map_err(|why| Refusal::bad_request(format!("unable to parse requirement: {why}")))?;
        let fields = asked.query.given("fieldSelector").unwrap_or_default();
        let fields = Fields::parse(fields, &found.kind.name).map_err(Refusal::bad_request)?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn fits(&self, entry: &Entry) -> bool {
        if let Some(name) = self.fields.name()
            && name != entry.name
        {
            return false;
        }
        (self.labels.is_empty() || self.labels.fits(&entry.labels()))
            && (self.fields.is_empty() || self.fields.fits(&entry.value()))
    }
}

/// One object.
pub(crate) fn get(server: &Server, found: &Found, asked: &Asked, moment: &Moment) -> Result<Reply, Refusal> {
    let want = asked.want()?;
    let name = found.name.clone().unwrap_or_default();
    let store = server.store();
    let place = &found.kind.place;
    let entry = match server.faults.stale(moment, store.version()) {
        Some(version) => {
            let was = store.list_at(place, found.namespace.as_deref(), version).unwrap_or_default();
            was.into_iter().find(|e| e.name == name)
        }
        None => store.get(place, found.namespace(), &name),
    };
    drop(store);
    let entry = entry.ok_or_else(|| Refusal::not_found(place, &name))?;
    Ok(Reply::object(200, &entry, found, want).warned(&read_warnings(place)))
}

/// What is said whenever a kind is read.
fn read_warnings(place: &Place) -> Vec<String> {
    let old = *place == Place::new("", "endpoints");
    old.then(|| "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned())
        .into_iter()
        .collect()
}

/// A list; a version that is not reached is waited for.
pub(crate) async fn list_waiting(
    server: &Arc<Server>,
    found: &Found,
    asked: &Asked,
    moment: &Moment,
) -> Result<Reply, Refusal> {
    let page = Page::read(asked)?;
    if let Some(version) = page.at_least.or(page.exact) {
        reached(server, version).await?;
    }
    list(server, found, asked, moment, &page)
}

/// Waits until a version is reached; not for ever.
pub(crate) async fn reached(server: &Server, version: u64) -> Result<(), Refusal> {
    let end = Instant::now() + server.timing.future;
    let mut changes = server.store().subscribe();
    while server.store().version() < version {
        let changed = tokio::time::timeout_at(end, changes.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return Err(Refusal::too_large_version(version, server.store().version()));
        }
    }
    Ok(())
}

/// What a query says of versions and pages.
#[derive(Clone, Debug, Default)]
struct Page {
    limit: usize,
    token: Option<Token>,
    exact: Option<u64>,
    at_least: Option<u64>,
}

/// Where a list goes on: as of this version, after this key. No version: as it is.
#[derive(Clone, Debug)]
struct Token {
    version: Option<u64>,
    start: String,
}

impl Token {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        // What can be read of it is read, as the real server does it.
        let text = text.trim_end_matches('=');
        let whole = text.get(..text.len() / 4 * 4).unwrap_or_default();
        let bytes = BASE64.decode(text).or_else(|_| BASE64.decode(whole));
        let bytes = bytes.map_err(|e| bad(&e.to_string()))?;
        let first = bytes.first().copied().unwrap_or(b' ');
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|_| bad(&format!("invalid character '{}' looking for beginning of value", char::from(first))))?;
        let version = value["rv"].as_i64().unwrap_or_default();
        let start = value["start"].as_str().unwrap_or_default().to_owned();
        Ok(Self { version: u64::try_from(version).ok(), start })
    }

    fn write(version: i64, start: &str) -> String {
        // The order of the keys is the real server's, so that tokens are equal.
        let start = Value::from(start);
        BASE64.encode(format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{version},\"start\":{start}}}"))
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))
}

/// A version in a query that is no number, in the words of the real server.
pub(crate) fn bad_version(text: &str) -> Option<String> {
    number(text).err().map(|why| format!("resourceVersion: Invalid value: \"{text}\": {why}"))
}

impl Page {
    fn read(asked: &Asked) -> Result<Self, Refusal> {
        let query = &asked.query;
        let mut page = Self::default();
        if let Some(limit) = query.given("limit") {
            let parsed: i64 = limit
                .parse()
                .map_err(|_| Refusal::bad_request(format!("strconv.ParseInt: parsing \"{limit}\": invalid syntax")))?;
            page.limit = usize::try_from(parsed).unwrap_or(0);
        }
        let version = query.given("resourceVersion");
        let matching = query.given("resourceVersionMatch");
        if matching.is_some() && version.is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(forbidden_option("resourceVersionMatch", why));
        }
        page.token = query.given("continue").map(Token::parse).transpose()?;
        if let Some(text) = version {
            if let Some(why) = bad_version(text) {
                return Err(Refusal::bad_request(format!("invalid resource version: {why}")));
            }
            let version = number(text).unwrap_or_default();
            match matching {
                Some("Exact") => page.exact = Some(version),
                _ if page.token.is_none() => page.at_least = Some(version).filter(|v| *v > 0),
                _ => {}
            }
        }
        Ok(page)
    }
}

/// An option of a list that does not go with the others.
pub(crate) fn forbidden_option(field: &str, why: &str) -> Refusal {
    let cause = Cause::new("FieldValueForbidden", field, format!("Forbidden: {why}"));
    Refusal::invalid_as("meta.k8s.io", "ListOptions", "", &[cause])
}

fn list(server: &Server, found: &Found, asked: &Asked, moment: &Moment, page: &Page) -> Result<Reply, Refusal> {
    let want = asked.want()?;
    let chosen = Chosen::read(found, asked)?;
    let store = server.store();
    let stale = server.faults.stale(moment, store.version());
    let (version, entries) = as_of(&store, found, page, stale)?;
    drop(store);
    let mut entries: Vec<Arc<Entry>> = entries.into_iter().filter(|e| chosen.all() || chosen.fits(e)).collect();
    server.faults.lose(moment, &mut entries);
    if found.kind.namespaced && found.namespace.is_none() {
        // Keys are compared whole: `a-b/x` stands before `a/x`.
        entries.sort_by_cached_key(|e| key(found, e));
    }
    if let Some(token) = &page.token {
        entries.retain(|e| key(found, e).as_str() >= token.start.as_str());
    }
    let mut next = None;
    let mut remaining = None;
    if page.limit > 0 && entries.len() > page.limit {
        let left = entries.len() - page.limit;
        entries.truncate(page.limit);
        remaining = chosen.all().then_some(left);
        next = entries.last().map(|last| {
            let version = i64::try_from(version).unwrap_or(i64::MAX);
            Token::write(version, &format!("{}\0", key(found, last)))
        });
    }
    let body = write_list(found, want, version, &entries, next.as_deref(), remaining);
    let reply = Reply::json(200, body).warned(&read_warnings(&found.kind.place));
    Ok(server.faults.spoil(moment, reply))
}

/// Where an entry stands in the order of a list.
fn key(found: &Found, entry: &Entry) -> String {
    if found.namespace.is_some() || entry.namespace.is_empty() {
        format!("/{}", entry.name)
    } else {
        format!("/{}/{}", entry.namespace, entry.name)
    }
}

fn as_of(store: &Store, found: &Found, page: &Page, stale: Option<u64>) -> Result<(u64, Vec<Arc<Entry>>), Refusal> {
    let place = &found.kind.place;
    let namespace = found.namespace.as_deref();
    let wanted = match &page.token {
        Some(token) => token.version,
        None => page.exact.or(stale),
    };
    let Some(version) = wanted else { return Ok((store.version(), store.list(place, namespace))) };
    match store.list_at(place, namespace, version) {
        Ok(entries) => Ok((version, entries)),
        Err(TooOld(_)) if page.token.is_some() => {
            let start = page.token.as_ref().map(|t| t.start.clone()).unwrap_or_default();
            Err(Refusal::expired_token(&Token::write(-1, &start)))
        }
        Err(TooOld(oldest)) => Err(Refusal::expired(format!(
            "The resourceVersion for the provided list is too old. ({version} < {oldest})"
        ))),
    }
}

fn write_list(
    found: &Found,
    want: Want,
    version: u64,
    entries: &[Arc<Entry>],
    next: Option<&str>,
    remaining: Option<usize>,
) -> Vec<u8> {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some(next) = next {
        metadata["continue"] = next.into();
    } else if found.kind.custom && want == Want::Whole {
        metadata["continue"] = "".into();
    }
    if let Some(remaining) = remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let (kind, api_version, form) = match want {
        Want::Metadata => ("PartialObjectMetadataList", "meta.k8s.io/v1".to_owned(), Form::Metadata),
        Want::Whole if found.kind.custom => {
            let form = Form::Whole { api_version: found.api_version(), kind: found.kind.name.clone() };
            (found.kind.list.as_str(), found.api_version(), form)
        }
        Want::Whole => (found.kind.list.as_str(), found.api_version(), Form::Bare),
    };
    let mut out = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
        .into_bytes();
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        entry.write(&form, &mut out);
    }
    out.extend_from_slice(b"]}");
    out
}
