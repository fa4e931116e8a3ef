//! What one call meets, from its caller to the server.
//!
//! In: the caller, where it calls and what it asks for. Out: an outcome and the steps that lead to it. The steps end where the
//! call does.

use std::borrow::Cow;
use std::net::IpAddr;

use hawser_api::hostname::Hostname;
use hawser_api::names::OutboundCluster;
use hawser_api::proto::admin::{ObjectRef, WhyEndpoint, WhyResponse, WhyStep};
use hawser_api::proto::cluster::Cluster;
use hawser_api::proto::listener::{FilterChain, Listener};
use hawser_api::proto::route::{Route, RouteConfiguration, VirtualHost, route};
use hawser_mesh::Protocol;
use hawser_routing::{Asked, Domains, RequestMatch, Seen, Transport, choose};
use hawser_xds::TypeUrl;

use super::resource::{Serves, chains, clusters, get, tunnel};
use super::upstream::{Target, describe, foreign_tls, targets, tls};
use super::verdict::{Arriving, Said};
use super::words::{action, chain_match, route_match, shares, total};
use super::{Unexplained, callee, client_of, find, reference};
use crate::compiler::{Compiler, Sight};
use crate::registry::model::Member;
use crate::registry::{ServiceState, Snapshot, resolve};
use crate::view::{Class, Client};

/// The most header fields of a call.
const MOST_HEADERS: usize = 100;

/// A call, as it was asked about.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// A workload, a group, a host.
    pub from: String,
    /// `host:port`.
    pub to: String,
    /// Empty is GET.
    pub method: String,
    /// With its query; empty is `/`.
    pub path: String,
    /// `name: value`.
    pub headers: Vec<String>,
}

/// Explains a call.
///
/// # Errors
/// If the call can't be understood, or there is no such caller.
pub fn why(compiler: &Compiler, snapshot: &Snapshot, call: &Call) -> Result<WhyResponse, Unexplained> {
    let caller = caller(snapshot, &call.from)?;
    let (host, port) = target(&call.to)?;
    let client = client_of(caller);
    let request = Request::new(call, &host, port)?;
    let mut journey = Journey {
        compiler,
        snapshot,
        sight: Sight::new(compiler, &client, snapshot),
        client: &client,
        caller,
        request: &request,
        requests: false,
        answer: WhyResponse::default(),
    };
    journey.says_caller();
    let outcome = journey.travel(&host, port, &request);
    journey.answer.outcome = outcome.to_owned();
    Ok(journey.answer)
}

fn caller<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Member, Unexplained> {
    let none = || {
        Unexplained::NotFound(format!(
            "there is no workload {name:?}: `hawser get workloads` lists them, as namespace/name"
        ))
    };
    find::workloads(snapshot, name).first().map(|member| &***member).ok_or_else(none)
}

fn target(text: &str) -> Result<(String, u16), Unexplained> {
    let invalid = || Unexplained::Invalid(format!("{text:?} is no host:port, such as reviews.default:9080"));
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
    if host.is_empty() || host.len() > 253 { Err(invalid()) } else { Ok((host, port)) }
}

/// A request as routes and policies look at it.
pub(super) struct Request {
    host: String,
    path: String,
    query: Option<String>,
    method: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn new(call: &Call, host: &str, port: u16) -> Result<Self, Unexplained> {
        let invalid = |text: String| Err(Unexplained::Invalid(text));
        let path = if call.path.is_empty() { "/" } else { &call.path };
        if !path.starts_with('/') || path.len() > 8192 {
            return invalid(format!("path {path:?} does not begin with a slash, or is longer than 8192 bytes"));
        }
        if call.headers.len() > MOST_HEADERS {
            return invalid(format!("{} header fields: at most {MOST_HEADERS} are looked at", call.headers.len()));
        }
        let mut headers = Vec::new();
        for text in &call.headers {
            match text.split_once(':') {
                Some((name, value)) if !name.trim().is_empty() => {
                    headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                }
                _ => return invalid(format!("header {text:?} is not written as `name: value`")),
            }
        }
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
        let named = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
        let authority = if port == 80 { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Self {
            host: named.unwrap_or(authority),
            path: path.to_owned(),
            query,
            method: if call.method.is_empty() { "GET".to_owned() } else { call.method.to_ascii_uppercase() },
            headers,
        })
    }
}

impl Request {
    /// All values of a field; `name` is lower case.
    pub(super) fn values<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The path without its query.
    pub(super) fn path_alone(&self) -> &str {
        &self.path
    }
}

impl Asked<String> for Request {
    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn method(&self) -> &str {
        &self.method
    }

    fn field(&self, name: &String) -> Option<Cow<'_, str>> {
        let values: Vec<&str> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(",").into())
    }
}

struct Journey<'a> {
    compiler: &'a Compiler,
    snapshot: &'a Snapshot,
    sight: Sight<'a>,
    client: &'a Client,
    caller: &'a Member,
    request: &'a Request,
    /// Whether it is requests that are carried, not connections.
    requests: bool,
    answer: WhyResponse,
}

impl<'a> Journey<'a> {
    fn step(&mut self, what: &str, name: impl Into<String>, says: impl Into<String>, decided_by: Vec<ObjectRef>) {
        self.answer.steps.push(WhyStep { what: what.to_owned(), name: name.into(), says: says.into(), decided_by });
    }

    fn says_caller(&mut self) {
        let identity = self.caller.workload.identity.as_ref().map(ToString::to_string).unwrap_or_default();
        let says = format!("{} proxy, {identity}", self.client.class.as_str());
        self.step("caller", self.caller.workload.key.to_string(), says, Vec::new());
    }

    fn travel(&mut self, host: &str, port: u16, request: &Request) -> &'static str {
        let Some(state) = self.service(host, port) else {
            let says =
                "no service that this caller sees has that name and port: the call goes out as if there were no mesh";
            self.step("service", format!("{host}:{port}"), says, Vec::new());
            return "outside";
        };
        let addresses = state.service.dialled();
        let protocol = state.service.port(port).map_or(Protocol::Auto, |p| p.protocol);
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let says = format!(
            "{} on port {port}, at {}{}",
            protocol.as_str(),
            if list.is_empty() { "no address".to_owned() } else { list.join(", ") },
            self.one_of_several(state),
        );
        let name = state.service.host.to_string();
        self.step("service", name.clone(), says, Vec::new());

        let Some((listener, at)) = self.listener(&addresses, port) else {
            self.step(
                "listener",
                format!("{host}:{port}"),
                "the caller has none for it: the call goes out as it is",
                Vec::new(),
            );
            return "outside";
        };
        // Where nothing is declared the first bytes decide; those of a request are HTTP's.
        let http = protocol.is_http() || protocol == Protocol::Auto;
        let application_tls = matches!(protocol, Protocol::Tls | Protocol::Https);
        let seen = Seen {
            port,
            address: at,
            transport: if application_tls { Transport::Tls } else { Transport::Raw },
            server_name: application_tls.then_some(name.as_str()),
            protocols: if http { smallvec::smallvec![&b"http/1.1"[..]] } else { smallvec::SmallVec::new() },
        };
        let all = chains(&listener);
        let chain: Option<&FilterChain> =
            choose(&all, &seen).map(|chosen| chosen.chain).or(listener.default_filter_chain.as_ref());
        let Some(chain) = chain else {
            self.step("listener", listener.name.clone(), "none of its chains takes such a connection", Vec::new());
            return "refused";
        };
        let matched = chain_match(chain.filter_chain_match.as_ref());
        match Serves::of(chain) {
            Serves::Http(routes, inline) => {
                self.requests = true;
                self.step(
                    "listener",
                    listener.name.clone(),
                    format!("{matched}: requests, by the routes {routes}"),
                    Vec::new(),
                );
                let table = inline.map(|routes| *routes).or_else(|| get(&self.sight, &TypeUrl::ROUTE, &routes));
                self.request(&routes, table, request)
            }
            Serves::Tcp(to) => {
                let decided = self.virtual_service_of(state, port, |rule| !rule.tcp.is_empty() || !rule.tls.is_empty());
                let onward = tunnel(chain).map(|tunnel| format!(", a {tunnel}")).unwrap_or_default();
                self.step(
                    "listener",
                    listener.name.clone(),
                    format!("{matched}: connections, to {}{onward}", shares(&to)),
                    decided,
                );
                self.forward(&to)
            }
            Serves::Other => {
                self.step("listener", listener.name.clone(), matched, Vec::new());
                "refused"
            }
        }
    }

    /// The service that a caller means by a name or an address.
    fn service(&self, host: &str, port: u16) -> Option<&'a ServiceState> {
        let sees = |state: &&ServiceState| state.service.port(port).is_some();
        if let Ok(address) = host.parse::<IpAddr>() {
            let all = self.snapshot.at_address(address).filter_map(|states| self.counting(states));
            return all.filter(sees).find(|state| state.service.dialled().contains(&address));
        }
        let domain = &self.snapshot.settings.domain;
        let whole = || resolve(host, &self.client.namespace, domain);
        let longer = || format!("{host}.svc.{domain}").parse::<Hostname>().ok();
        let longest =
            || host.strip_suffix(".svc").and_then(|rest| format!("{rest}.svc.{domain}").parse::<Hostname>().ok());
        let names = [whole(), longer(), longest()];
        let meant = |name: Hostname| self.snapshot.stands_for(&name).cloned().unwrap_or(name);
        let mut names = names.into_iter().flatten().map(meant);
        names.find_map(|name| self.counting(self.snapshot.definitions(&name)).filter(sees))
    }

    fn counting(&self, states: &'a [ServiceState]) -> Option<&'a ServiceState> {
        find::counting(self.snapshot, self.client, states)
    }

    /// Whose definition counts, where several namespaces have one.
    fn one_of_several(&self, state: &ServiceState) -> String {
        let all = self.snapshot.definitions(&state.service.host);
        let others: Vec<&str> = all
            .iter()
            .map(|other| &*other.service.namespace)
            .filter(|other| *other != &*state.service.namespace)
            .collect();
        let Some(said) = state.service.sources.first().filter(|_| !others.is_empty()) else { return String::new() };
        let said = if said.origin.is_empty() { said.registry.to_string() } else { said.origin.clone() };
        let own = state.service.namespace == self.client.namespace;
        let because = if own { "it is the caller's own" } else { "the caller's namespace has none that it sees" };
        let others = others.join(", ");
        format!(
            "; the definition of namespace {} counts ({said}), not that of {others}: {because}",
            state.service.namespace
        )
    }

    /// The listener that takes a connection to one of the addresses, and which one it is.
    fn listener(&self, addresses: &[IpAddr], port: u16) -> Option<(Listener, IpAddr)> {
        let by_address = addresses.iter().map(|at| (format!("{at}_{port}"), *at));
        let any = addresses.first().map(|at| (format!("0.0.0.0_{port}"), *at));
        let any = any.filter(|_| self.client.class == Class::Envoy);
        by_address.chain(any).find_map(|(name, at)| Some((get(&self.sight, &TypeUrl::LISTENER, &name)?, at)))
    }

    fn request(&mut self, name: &str, table: Option<RouteConfiguration>, request: &Request) -> &'static str {
        let Some(table) = table else {
            self.step("route", name, "there are no such routes: 404", Vec::new());
            return "no-route";
        };
        let Some(host) = virtual_host(&table, request) else {
            self.step("route", name, format!("no virtual host takes {}: 404", request.host), Vec::new());
            return "no-route";
        };
        let decided = self.rule_of(host);
        let Some((index, route)) = first(host, request) else {
            let says = format!("none of {} routes of {} matches: 404", host.routes.len(), host.name);
            self.step("route", name, says, decided);
            return "no-route";
        };
        let says = format!(
            "route {} of {}: {} -> {}",
            index + 1,
            host.name,
            route_match(route.r#match.as_ref()),
            action(route)
        );
        self.step("route", route.name.clone(), says, decided);
        match &route.action {
            Some(route::Action::Redirect(_)) => "redirected",
            Some(route::Action::DirectResponse(_)) => "answered",
            _ => self.forward(&clusters(route)),
        }
    }

    /// The VirtualService that the routes of a virtual host are from.
    fn rule_of(&self, host: &VirtualHost) -> Vec<ObjectRef> {
        let service = host.name.rsplit_once(':').and_then(|(name, _)| name.parse::<Hostname>().ok());
        match service.and_then(|name| self.counting(self.snapshot.definitions(&name))) {
            Some(state) => {
                let port = host.name.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default();
                self.virtual_service_of(state, port, |rule| !rule.http.is_empty())
            }
            None => Vec::new(),
        }
    }

    fn virtual_service_of(
        &self,
        state: &ServiceState,
        port: u16,
        fits: impl Fn(&hawser_api::istio::VirtualService) -> bool,
    ) -> Vec<ObjectRef> {
        let settings = &self.snapshot.settings;
        let scope = self.snapshot.rules.scope(&self.client.namespace, &self.client.labels, settings);
        let caller = (&*self.client.namespace, scope.as_deref());
        let found = state.virtual_service(caller, port, &settings.domain, fits);
        found.map(|(object, _)| reference(object)).into_iter().collect()
    }

    fn forward(&mut self, to: &[(String, u32)]) -> &'static str {
        let total = total(to);
        let mut all = None;
        for (name, weight) in to.iter().filter(|(_, weight)| *weight > 0) {
            let share = u32::try_from(u64::from(*weight) * 100 / total).unwrap_or(100);
            let one = self.cluster(name, share);
            // What some calls meet this one may meet: what is not served counts.
            all = Some(match all {
                None | Some("served") => one,
                Some(worse) => worse,
            });
        }
        all.unwrap_or("no-endpoint")
    }

    fn cluster(&mut self, name: &str, share: u32) -> &'static str {
        let parsed = OutboundCluster::parse(name);
        let state = parsed.as_ref().and_then(|parsed| self.counting(self.snapshot.definitions(&parsed.host)));
        let rule = state.and_then(|state| self.destination_of(state));
        let Some(cluster) = get::<Cluster>(&self.sight, &TypeUrl::CLUSTER, name) else {
            let says = match &parsed {
                Some(parsed) if !parsed.subset.is_empty() => {
                    format!("no DestinationRule makes subset {}: 503", parsed.subset)
                }
                _ => "there is no such service: 503".to_owned(),
            };
            self.step("cluster", name, says, rule.into_iter().collect());
            return "no-endpoint";
        };
        self.step(
            "cluster",
            name,
            format!("{share}% of calls; {}", describe(&cluster)),
            rule.iter().cloned().collect(),
        );
        if parsed.is_none() {
            return "served";
        }
        let all = targets(&self.sight, &cluster, state);
        let usable: Vec<&Target> = all.iter().filter(|target| target.takes_calls()).collect();
        let first = usable.iter().map(|target| target.priority).min().unwrap_or_default();
        let chosen: Vec<&Target> = usable.into_iter().filter(|target| target.priority == first).collect();
        let says = format!("{} of {} take calls", chosen.len(), all.len());
        self.step("endpoints", name, if chosen.is_empty() { format!("{says}: 503") } else { says }, Vec::new());
        for target in &chosen {
            self.answer.endpoints.push(WhyEndpoint {
                cluster: name.to_owned(),
                address: target.place(),
                workload: target.member.as_ref().map(|member| member.workload.key.to_string()).unwrap_or_default(),
                health: target.health.to_owned(),
                mtls: target.mtls,
                share,
            });
        }
        if chosen.is_empty() {
            return "no-endpoint";
        }
        self.security(&cluster, &chosen, rule)
    }

    /// How the caller speaks, and whether that is taken.
    fn security(&mut self, cluster: &Cluster, chosen: &[&Target], rule: Option<ObjectRef>) -> &'static str {
        let mutual = chosen.iter().filter(|target| target.mtls).count();
        let spoken = match (mutual, chosen.len() - mutual) {
            _ if foreign_tls(cluster) => "TLS".to_owned(),
            (_, 0) => "mTLS".to_owned(),
            (0, _) => "plaintext".to_owned(),
            (mutual, plain) => format!("mTLS to {mutual}, plaintext to {plain}"),
        };
        // A rule that says nothing of TLS leaves one of the matches to each endpoint.
        let decided = rule.filter(|_| cluster.transport_socket_matches.is_empty());
        self.step(
            "mtls",
            cluster.name.clone(),
            format!("the caller speaks {spoken} ({})", tls(cluster)),
            decided.into_iter().collect(),
        );
        let mut outcome = "served";
        let mut told = Vec::new();
        for target in chosen {
            let Some(member) = &target.member else { continue };
            let taken = callee::takes(self.compiler, self.snapshot, member, target, self.requests);
            if !taken.accepted {
                outcome = "refused";
            }
            let said = taken.chain.as_ref().map(|chain| self.policies(member, target, chain));
            if said.as_ref().is_some_and(|said| said.refused) {
                outcome = "refused";
            }
            let step = WhyStep {
                what: "callee".to_owned(),
                name: member.workload.key.to_string(),
                says: taken.says,
                decided_by: taken.decided_by,
            };
            told.push(step);
            told.extend(said.into_iter().flat_map(|said| said.steps));
        }
        told.dedup();
        self.answer.steps.extend(told);
        outcome
    }

    /// What the policies of a callee say.
    fn policies(&self, member: &Member, target: &Target, chain: &FilterChain) -> Said {
        let unknown = IpAddr::from([0, 0, 0, 0]);
        let from = self.caller.address(&self.client.network).and_then(|a| a.parse().ok()).unwrap_or(unknown);
        let identity = self.caller.workload.identity.as_ref().filter(|_| target.mtls);
        let arriving = Arriving {
            to: (target.address.parse().unwrap_or(unknown), target.port),
            from,
            peer: identity.map(ToString::to_string),
            request: Some(self.request).filter(|_| Serves::of(chain).is_http()),
        };
        callee::policies(self.snapshot, member, chain, &arriving)
    }

    fn destination_of(&self, state: &ServiceState) -> Option<ObjectRef> {
        let (client, root) = (self.client, &self.snapshot.settings.root_namespace);
        let found = state.rules.destination_by_name(&client.namespace, &client.labels, &state.service.namespace, root);
        found.map(|(object, _)| reference(object))
    }
}

fn virtual_host<'a>(table: &'a RouteConfiguration, request: &Request) -> Option<&'a VirtualHost> {
    let mut domains = Domains::new(table.ignore_port_in_host_matching);
    for (index, host) in table.virtual_hosts.iter().enumerate() {
        for domain in &host.domains {
            domains.add(domain, index).ok()?;
        }
    }
    table.virtual_hosts.get(domains.find(&request.host)?)
}

fn first<'a>(host: &'a VirtualHost, request: &Request) -> Option<(usize, &'a Route)> {
    host.routes.iter().enumerate().find(|(_, route)| {
        let matches = route.r#match.as_ref().map(|m| RequestMatch::new(m, str::to_owned));
        matches.is_some_and(|m| m.is_ok_and(|m| m.matches(request)))
    })
}
