//! Redirection: what of the host's traffic goes through the proxy, as one nftables table and a few routes.
//!
//! An [`Intent`] comes in; `table inet hawser` and the routes of protocol 157 come out, and nothing else on the host is
//! changed, or read but for what `doctor` tells of it. Intent to ruleset is pure (`compile`), so is each rendering (`json`, `text`) and each difference
//! (`changes`); [`Redirection`] is the shell around them. The intent is on disk before the kernel sees it: whatever
//! kills the agent, a restarted one can finish, repeat or undo. Connections that are established stay so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::names::ports;
use tokio::time::{Instant, sleep_until};

pub(crate) use self::conntrack::usage as tracked;
pub use self::errand::errand;
pub use self::intent::{
    Capture, Dns, Exclusion, Exempt, Inbound, InboundMode, Intent, Mark, OWN_MARK, OnProxyFailure, Outbound, Scope,
    Target,
};
pub use self::nft::{NftError, probe};
pub(crate) use self::nft::{chains, table_of_others, version as nft_version};
pub use self::pending::{Pending, TIMER, guard};
pub use self::routes::RouteError;
pub(crate) use self::routes::{Foreign, others as other_routes};
use self::saved::{Loaded, Saved, Store};
pub use self::watch::{Event, Watch};

mod changes;
mod compile;
mod conntrack;
mod errand;
pub mod intent;
mod json;
mod netlink;
mod nft;
mod pending;
mod routes;
mod ruleset;
mod saved;
mod source;
mod strays;
mod text;
mod watch;

/// How long a leave waits for captured connections, unless told otherwise.
pub const GRACE: Duration = Duration::from_secs(30);

/// What [`Redirection::check`] says of a table that is not there.
pub const MISSING: &str = "table inet hawser is missing";

/// Why redirection could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The firewall.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The routes.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The state on disk.
    #[error("redirection's state in {0} can't be read or written")]
    State(PathBuf, #[source] io::Error),
    /// It asks for what may not be.
    #[error("redirection refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// The commit was undone before it was confirmed.
    #[error("redirection was not confirmed in time and has been rolled back; join again")]
    RolledBack,
    /// There is none to change.
    #[error("redirection is not installed")]
    NotInstalled,
}

/// The host's redirection.
#[derive(Debug)]
pub struct Redirection {
    store: Store,
    dir: PathBuf,
    guard: Option<PathBuf>,
    /// What is loaded, as far as we know; `None` is read from disk again.
    known: Option<Arc<Saved>>,
    inbound_released: bool,
    /// Connections to applications that are older than capture; none before we have looked.
    older: Option<BTreeSet<strays::Stray>>,
}

/// What a change left out, in sentences: ranges that may not be captured, groups that do not exist yet.
pub type Notes = Vec<String>;

/// How redirection is, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it is meant to be there.
    pub installed: bool,
    /// Virtual and wide ranges.
    pub ranges: Vec<String>,
    /// Targets outside them.
    pub targets: usize,
    /// Declared inbound ports: `10.0.0.1:9080 reviews`.
    pub inbound: Vec<String>,
    /// What becomes of inbound connections without a proxy.
    pub on_proxy_failure: OnProxyFailure,
    /// Packets by counter: `outbound`, `inbound`, `forwarded` and `names` count connections; `closed`, `dropped` and
    /// `refused` packets.
    pub counters: BTreeMap<String, u64>,
    /// Entries of the kernel's connection table and its limit.
    pub conntrack: Option<(u64, u64)>,
}

/// What [`Redirection::recover`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// No redirection.
    Nothing,
    /// This is loaded, or was before a reboot: apply it.
    Installed(Box<Intent>),
    /// A commit that nobody confirmed was undone; this is what was before.
    RolledBack(Option<Box<Intent>>),
    /// A removal that was cut short was finished.
    Removed,
}

impl Redirection {
    /// Redirection whose state is kept in this directory.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            store: Store::new(state_dir),
            dir: state_dir.to_owned(),
            guard: std::env::current_exe().ok(),
            known: None,
            inbound_released: false,
            older: None,
        }
    }

    /// The program that undoes an unconfirmed commit if we die: run as `<program> redirect-guard <state dir> <seconds>`
    /// it must call [`guard`]. Our own program unless told otherwise.
    pub fn with_guard(self, program: PathBuf) -> Self {
        Self { guard: Some(program), ..self }
    }

    /// Settles what an earlier run left undone. The first call of a started agent.
    pub async fn recover(&mut self) -> Result<Recovered, RedirectError> {
        if let Some(waiting) = self.store.claim().map_err(|e| self.state_error(e))? {
            self.go_back(waiting.previous.clone()).await?;
            return Ok(Recovered::RolledBack(waiting.previous.map(Box::new)));
        }
        match self.saved()? {
            None => Ok(Recovered::Nothing),
            Some(saved) if saved.removing => {
                self.remove(Duration::ZERO).await?;
                Ok(Recovered::Removed)
            }
            Some(saved) => Ok(Recovered::Installed(Box::new(saved.intent.clone()))),
        }
    }

    /// Loads what was saved, for the boot: before the network is up and long before the agent.
    pub async fn restore(&mut self) -> Result<Notes, RedirectError> {
        match self.recover().await? {
            Recovered::Installed(intent) => self.apply(&intent).await,
            _ => Ok(Notes::new()),
        }
    }

    /// Makes the kernel agree with the intent: in one transaction, and not at all where it agrees already.
    pub async fn apply(&mut self, intent: &Intent) -> Result<Notes, RedirectError> {
        let refusals = intent.refusals();
        if !refusals.is_empty() {
            return Err(RedirectError::Refused(refusals));
        }
        let (intent, mut notes) = admissible(intent);
        self.remember_older(&intent).await?;
        let ruleset = compile::ruleset(&intent);
        let plan = plan_of(&ruleset);
        let same = match self.saved()? {
            Some(saved) if !saved.removing && saved.loaded.as_ref().is_some_and(|l| l.plan == plan) => {
                self.check().await?.is_empty().then_some(saved)
            }
            _ => None,
        };
        match same {
            Some(old) => {
                let loaded = old.loaded.clone();
                self.save_if_room(Saved { intent: intent.clone(), removing: false, loaded })?;
                let from = compile::sets(&old.intent);
                let changes = [changes::between(&from, &ruleset.sets), changes::renewals(&ruleset.sets)].concat();
                nft::load_json(&json::change_sets(&changes)).await?;
            }
            None => {
                self.save(Saved { intent: intent.clone(), removing: false, loaded: None })?;
                load(&ruleset).await?;
                let listing = nft::list_rules().await?.unwrap_or_default();
                self.save(Saved { intent: intent.clone(), removing: false, loaded: Some(Loaded { plan, listing }) })?;
            }
        }
        self.inbound_released = false;
        notes.extend(routes::set(&intent.capture.virtual_ranges).await?);
        notes.extend(source::set(intent.envoy_uid.is_some()).await?);
        Ok(notes)
    }

    /// Changes what is captured outbound; sends only the difference.
    pub async fn update_capture(&mut self, capture: &Capture) -> Result<Notes, RedirectError> {
        let saved = self.installed()?;
        let (intent, mut notes) = admissible(&Intent { capture: capture.clone(), ..saved.intent.clone() });
        if intent.capture == saved.intent.capture {
            return Ok(notes);
        }
        let changes = changes::between(&compile::sets(&saved.intent), &compile::sets(&intent));
        let virtual_ranges = intent.capture.virtual_ranges.clone();
        self.save_if_room(Saved { intent: intent.clone(), removing: false, loaded: saved.loaded.clone() })?;
        if let Err(error) = nft::load_json(&json::change_sets(&changes)).await {
            // Somebody changed the table behind our back: say it whole.
            tracing::warn!(%error, "capture could not be changed in place, loading the whole table");
            return self.apply(&intent).await;
        }
        notes.extend(routes::set(&virtual_ranges).await?);
        Ok(notes)
    }

    /// Lets name capture live on for another timeout. To be called about every 2 s for the default of 5 s.
    pub async fn renew_dns(&mut self) -> Result<(), RedirectError> {
        let saved = self.installed()?;
        let renewals = changes::renewals(&compile::expiring(&saved.intent));
        Ok(nft::load_json(&json::change_sets(&renewals)).await?)
    }

    /// Ends name capture at once, flows of look-ups included, and begins it again with the next
    /// [`renew_dns`](Self::renew_dns) or [`apply`](Self::apply).
    pub async fn suspend_dns(&mut self) -> Result<(), RedirectError> {
        let saved = self.installed()?;
        let empty = compile::expiring_sets().map(json::SetChange::empty);
        nft::load_json(&json::change_sets(&empty)).await?;
        forget_lookups(saved.intent.dns.as_ref().map_or(ports::DNS, |dns| dns.port)).await;
        Ok(())
    }

    /// With `false`, new inbound connections go to the application itself until called with `true`. For
    /// `onProxyFailure: open` while a listener of ours outlives the proxy; refused when it is `closed`.
    pub async fn take_inbound(&mut self, take: bool) -> Result<(), RedirectError> {
        let saved = self.installed()?;
        if !take && saved.intent.on_proxy_failure == OnProxyFailure::Closed {
            return Err(RedirectError::Refused(vec![
                "inbound ports are closed while the proxy is down: set onProxyFailure: open".into(),
            ]));
        }
        let sets = compile::sets(&saved.intent);
        let change = |name| {
            let add = sets.get(name).filter(|_| take).map(|set| set.elements.clone()).unwrap_or_default();
            json::SetChange { set: name, flush: true, remove: BTreeSet::new(), add }
        };
        nft::load_json(&json::change_sets(&compile::inbound_sets().map(change))).await?;
        self.inbound_released = !take;
        Ok(())
    }

    /// How what is loaded differs from what should be; empty if it does not.
    pub async fn check(&mut self) -> Result<Vec<String>, RedirectError> {
        let saved = self.saved()?;
        let Some(listing) = nft::list_rules().await? else {
            return Ok(saved.map(|_| MISSING.to_owned()).into_iter().collect());
        };
        let Some(saved) = saved else {
            return Ok(vec!["table inet hawser is there, but nothing was asked for".into()]);
        };
        let Some(loaded) = &saved.loaded else { return Ok(vec!["the last load was cut short".into()]) };
        let mut differences = changes::rules(&loaded.listing, &listing);
        if loaded.plan != plan_of(&compile::ruleset(&saved.intent)) {
            differences.push("the table was loaded by another version of this program".into());
        }
        let mut sets = compile::sets(&saved.intent);
        if self.inbound_released {
            sets.retain(|name, _| !compile::inbound_sets().contains(name));
        }
        if let Some(json) = nft::list_json().await? {
            differences.extend(changes::elements(&sets, &json));
        }
        let (have, want) = (routes::current().await?, &saved.intent.capture.virtual_ranges);
        let missing = want.difference(&have).filter(|net| net.addr().is_ipv4() || has_ipv6());
        differences.extend(missing.map(|net| format!("route to {net} is missing")));
        differences.extend(have.difference(want).map(|net| format!("route to {net} is not asked for")));
        differences.truncate(100);
        Ok(differences)
    }

    /// Whether there is to be redirection: what was asked for is on disk and is not being taken down.
    pub fn is_wanted(&mut self) -> bool {
        self.installed().is_ok()
    }

    /// Puts back what was last asked for, whole and in one transaction, whatever others made of it; as it was, released
    /// inbound ports and all. Nothing while nothing is installed.
    pub async fn restore_now(&mut self) -> Result<Notes, RedirectError> {
        let Some(saved) = self.saved()?.filter(|saved| !saved.removing) else { return Ok(Notes::new()) };
        let (intent, mut notes) = admissible(&saved.intent);
        let mut ruleset = compile::ruleset(&intent);
        let plan = plan_of(&ruleset);
        if self.inbound_released {
            for set in compile::inbound_sets() {
                ruleset.sets.entry(set).and_modify(|set| set.elements.clear());
            }
        }
        load(&ruleset).await?;
        self.end_strays(&intent).await;
        forget_begun(&intent).await;
        let listing = nft::list_rules().await?.unwrap_or_default();
        self.save(Saved { intent: intent.clone(), removing: false, loaded: Some(Loaded { plan, listing }) })?;
        notes.extend(routes::set(&intent.capture.virtual_ranges).await?);
        notes.extend(source::set(intent.envoy_uid.is_some()).await?);
        Ok(notes)
    }

    /// Remembers which connections to ports that are captured from now on are older than that.
    async fn remember_older(&mut self, intent: &Intent) -> Result<(), RedirectError> {
        let known = self.saved()?.filter(|_| self.older.is_some());
        let captured = known.map(|saved| saved.intent.inbound.clone()).unwrap_or_default();
        let new: BTreeSet<Inbound> = intent.inbound.difference(&captured).cloned().collect();
        if !new.is_empty()
            && let Some(found) = past_the_proxy(&new).await
        {
            self.older.get_or_insert_default().extend(found);
        }
        Ok(())
    }

    /// Ends connections that came past the proxy while the table was away, where ports are closed without it.
    async fn end_strays(&self, intent: &Intent) {
        let closed = intent.on_proxy_failure == OnProxyFailure::Closed && intent.inbound_mode == InboundMode::Tproxy;
        let Some(older) = self.older.clone().filter(|_| closed) else { return };
        let Some(now) = past_the_proxy(&intent.inbound).await else { return };
        match tokio::task::spawn_blocking(move || strays::end(&older, &now)).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(ended)) => tracing::warn!(ended, "connections had come past the proxy while the table was away"),
            Ok(Err(error)) => tracing::warn!(%error, "connections that came past the proxy can't be ended"),
        }
    }

    /// What applying this would load: routes and rules, for people.
    pub fn plan(&self, intent: &Intent) -> String {
        let (intent, notes) = admissible(intent);
        let mut out = String::new();
        for line in intent.refusals().iter().chain(&notes) {
            out.push_str(&format!("# {line}\n"));
        }
        for route in routes::describe(&intent.capture.virtual_ranges) {
            out.push_str(&format!("# route {route}\n"));
        }
        out + &text::render(&compile::ruleset(&intent))
    }

    /// What is loaded: routes and rules, for people.
    pub async fn show(&self) -> Result<String, RedirectError> {
        let mut out = String::new();
        for route in routes::describe(&routes::current().await?) {
            out.push_str(&format!("# route {route}\n"));
        }
        Ok(out + &nft::list_text().await?.unwrap_or_else(|| "# table inet hawser is not loaded\n".into()))
    }

    /// Ends capture, waits until no captured connection is left or the grace is over, and takes away table, routes and
    /// state. Does what it can even if a part fails. Returns how many captured connections were left.
    pub async fn remove(&mut self, grace: Duration) -> Result<usize, RedirectError> {
        let saved = self.saved()?;
        let had_source = saved.as_ref().is_some_and(|s| s.intent.envoy_uid.is_some());
        let dns_port = saved.as_ref().and_then(|s| s.intent.dns.as_ref()).map_or(ports::DNS, |dns| dns.port);
        if let Some(saved) = saved.filter(|s| !s.removing) {
            self.save(Saved { removing: true, ..Saved::clone(&saved) })?;
        }
        let mut left = 0;
        if nft::list_rules().await?.is_some() {
            let emptied: Vec<_> = compile::capturing_sets().into_iter().map(json::SetChange::empty).collect();
            if let Err(error) = nft::load_json(&json::change_sets(&emptied)).await {
                tracing::warn!(%error, "sets could not be emptied, removing the table as it is");
            }
            forget_lookups(dns_port).await;
            left = wait_for_captured(Instant::now() + grace).await;
        }
        let removed_routes = routes::set(&BTreeSet::new()).await;
        let removed_source = if had_source { source::set(false).await } else { Ok(Vec::new()) };
        nft::load_json(&json::delete()).await?;
        removed_routes?;
        removed_source?;
        self.known = None;
        self.store.clear().map_err(|e| self.state_error(e))?;
        Ok(left)
    }

    /// How it is.
    pub async fn status(&mut self) -> Result<Status, RedirectError> {
        let counters = nft::list_counters().await?.map(|json| counters(&json)).unwrap_or_default();
        let conntrack = conntrack::usage();
        let Some(saved) = self.saved()? else { return Ok(Status { counters, conntrack, ..Status::default() }) };
        let intent = &saved.intent;
        let ranges = intent.capture.virtual_ranges.iter().chain(&intent.capture.wide_ranges);
        let inbound = intent.inbound.iter().map(|i| {
            let address = i.address.map_or("*".into(), |a| if a.is_ipv6() { format!("[{a}]") } else { a.to_string() });
            format!("{address}:{} {}", i.port, i.workload)
        });
        Ok(Status {
            installed: !saved.removing,
            ranges: ranges.map(ToString::to_string).collect(),
            targets: intent.capture.targets.len(),
            inbound: inbound.collect(),
            on_proxy_failure: intent.on_proxy_failure,
            counters,
            conntrack,
        })
    }

    /// Back to what was before, or to nothing.
    async fn go_back(&mut self, previous: Option<Intent>) -> Result<(), RedirectError> {
        self.known = None;
        match previous {
            Some(intent) => self.apply(&intent).await.map(drop),
            None => self.remove(Duration::ZERO).await.map(drop),
        }
    }

    fn saved(&mut self) -> Result<Option<Arc<Saved>>, RedirectError> {
        if self.known.is_none() {
            self.known = self.store.saved().map_err(|e| self.state_error(e))?.map(Arc::new);
        }
        Ok(self.known.clone())
    }

    fn installed(&mut self) -> Result<Arc<Saved>, RedirectError> {
        self.saved()?.filter(|saved| !saved.removing).ok_or(RedirectError::NotInstalled)
    }

    fn save(&mut self, saved: Saved) -> Result<(), RedirectError> {
        self.store.save(&saved).map_err(|e| self.state_error(e))?;
        self.known = Some(Arc::new(saved));
        Ok(())
    }

    /// The same for what changes nothing but sets: it counts though there is no room to keep it. A boot begins with what
    /// was kept last.
    fn save_if_room(&mut self, saved: Saved) -> Result<(), RedirectError> {
        if self.known.as_deref() == Some(&saved) {
            return Ok(());
        }
        match self.store.save(&saved) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(dir = %self.dir.display(), "the disk is full: what is captured is not kept for the next boot");
            }
            other => other.map_err(|e| self.state_error(e))?,
        }
        self.known = Some(Arc::new(saved));
        Ok(())
    }

    fn state_error(&self, error: io::Error) -> RedirectError {
        RedirectError::State(self.dir.clone(), error)
    }
}

/// Connections of others to applications themselves, if the kernel tells.
async fn past_the_proxy(declared: &BTreeSet<Inbound>) -> Option<BTreeSet<strays::Stray>> {
    let declared = declared.clone();
    let found = tokio::task::spawn_blocking(move || strays::find_all(&declared, &own_addresses())).await.ok()?;
    found.inspect_err(|error| tracing::debug!(%error, "the kernel does not tell of connections")).ok()
}

async fn load(ruleset: &ruleset::Ruleset) -> Result<(), NftError> {
    if ruleset.needs_text() {
        nft::load_text(&text::replace(ruleset)).await
    } else {
        nft::load_json(&json::replace(ruleset)).await
    }
}

/// The part of an intent that this host can have, and what it can't.
fn admissible(intent: &Intent) -> (Intent, Notes) {
    let (capture, mut notes) = intent.capture.admissible(&own_addresses());
    let mut intent = Intent { capture, ..intent.clone() };
    let missing = |path: &str| !Path::new("/sys/fs/cgroup").join(path).is_dir();
    intent.outbound.retain(|outbound| match &outbound.scope {
        Scope::Cgroup(path) if missing(path) => {
            notes.push(format!(
                "workload {} has no control group {path} yet: start its unit and apply again",
                outbound.workload
            ));
            false
        }
        _ => true,
    });
    intent.exempt.cgroups.retain(|path| !missing(path));
    (intent, notes)
}

/// The ruleset without elements: what a load fixes until the next.
fn plan_of(ruleset: &ruleset::Ruleset) -> String {
    let mut ruleset = ruleset.clone();
    ruleset.sets.values_mut().for_each(|set| set.elements.clear());
    text::render(&ruleset)
}

fn own_addresses() -> Vec<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    addresses
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

fn has_ipv6() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    disabled.is_ok_and(|text| text.trim() == "0")
}

fn counters(listing: &serde_json::Value) -> BTreeMap<String, u64> {
    let objects = listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counter = |object: &serde_json::Value| {
        let counter = object.get("counter")?;
        Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?))
    };
    objects.iter().filter_map(counter).collect()
}

/// Waits until no captured connection is open; how many were at the end.
async fn wait_for_captured(deadline: Instant) -> usize {
    let ours = |flow: &conntrack::Flow| flow.protocol == conntrack::TCP && flow.open && is_listener(flow.led_to);
    loop {
        let open = tokio::task::spawn_blocking(move || conntrack::translated(ours)).await;
        let left = match open {
            Ok(Ok(flows)) => flows.len(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "open connections can't be counted, waiting the whole grace");
                usize::MAX
            }
            Err(_) => 0,
        };
        let now = Instant::now();
        if left == 0 || now >= deadline {
            return if left == usize::MAX { 0 } else { left };
        }
        sleep_until((now + Duration::from_millis(500)).min(deadline)).await;
    }
}

/// Forgets flows of look-ups that were led to the agent: a resolver that keeps its socket must not be led on.
async fn forget_lookups(port: u16) {
    let forgotten = tokio::task::spawn_blocking(move || {
        conntrack::translated(|flow| flow.protocol == conntrack::UDP && flow.led_to == port)?
            .iter()
            .try_for_each(conntrack::forget)
    });
    if let Ok(Err(error)) = forgotten.await {
        tracing::warn!(%error, "flows of name look-ups can't be forgotten, they end by themselves in 2 minutes");
    }
}

/// Forgets what the host began while the table was away: the kernel would go on not to translate it, however often it tries.
async fn forget_begun(intent: &Intent) {
    let (capture, dns) = (intent.capture.clone(), intent.dns.clone());
    let forgotten = tokio::task::spawn_blocking(move || {
        let servers = dns.map(|dns| dns.servers).unwrap_or_default();
        let ours = |flow: &conntrack::Flow| match flow.protocol {
            conntrack::TCP => flow.begun && capture.takes(flow.to),
            conntrack::UDP => flow.to.1 == 53 && servers.contains(&flow.to.0),
            _ => false,
        };
        conntrack::untranslated(ours)?.iter().try_for_each(conntrack::forget)
    });
    if let Ok(Err(error)) = forgotten.await {
        tracing::warn!(%error, "calls that began while the table was away can't be forgotten, they fail");
    }
}

fn is_listener(port: u16) -> bool {
    port == ports::INBOUND || port == ports::OUTBOUND || (ports::OUTBOUND_FIRST..=ports::OUTBOUND_LAST).contains(&port)
}
