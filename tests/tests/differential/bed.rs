//! The bed of all cases: one discovery, a host with hawser-proxy, an Envoy on the same xDS, servers, callers.
//!
//! In: the cases. Out: [`Bed`], which plays any of them on either side, many at once. Every case has a service and ports of
//! its own, so that none sees another's requests or connections. The Envoy runs in a network of its own beside the host's
//! agent, from which it takes configuration and identity as hawser-proxy does, each in its own dialect.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::envoy::{Mode, Upstream, bootstrap};
use hawser_tests::mesh::{Member, Mesh, PROXY_USER, has_users};
use hawser_tests::testbeds::Testbed;
use hawser_tests::{Host, Lab, Process, wait};
use rustls::{ClientConfig, ServerConfig};

use crate::authz::Authz;
use crate::case::{At, Case, Servers, Speaks, Via};
use crate::net::{LIMIT, MARK, Net};
use crate::seen::Seen;
use crate::server::{Lane, Requests, Serving};
use crate::sockets;
use crate::stream::Stream;
use crate::tables::custom;
use crate::text::host;
use crate::tls::Pki;
use crate::{PROBE, SIDES, Side, client, http2, mtls};

/// Ports of services' servers begin here, four to a case.
const SERVERS: u16 = 20_000;
/// Ports of the workload behind the proxies begin here. It has as many as a workload may: cases share them, one after the
/// other.
const INBOUND: u16 = 8_000;
/// Those that speak HTTP/1.1; those of HTTP/2 follow.
const INBOUND_HTTP1: u16 = 48;
const INBOUND_HTTP2: u16 = 8;
/// Those of TCP follow them.
const INBOUND_TCP: u16 = 4;
/// Where callers are, and the first server of each service.
const NEAR: &str = "r1/z1";
/// Where other servers are.
const FAR: &str = "r2/z1";
/// First word of a line of the access log that is ours.
const LOG: &str = "diff ";
/// A machine with much to do may take its time for a first byte.
const SETTINGS: &str = "protocolDetectionTimeout: 3s\ntrustDomainAliases: [old.test]\naccessLogFormat: \"diff %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %RESPONSE_CODE% %RESPONSE_FLAGS% \
                      %PROTOCOL% %REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% sent %BYTES_SENT%";

/// A case with its place in the bed.
#[derive(Clone)]
pub(crate) struct Placed {
    /// The case.
    pub(crate) case: &'static Case,
    /// Its name in configurations.
    pub(crate) name: String,
    number: u16,
    /// Which of the workload's ports.
    pub(crate) port: u16,
    /// What its servers see.
    pub(crate) requests: Arc<Requests>,
    /// TLS of its servers.
    tls: Option<Arc<ServerConfig>>,
}

/// All that runs. The lab goes last.
pub(crate) struct Bed {
    envoy: Process,
    mesh: Mesh,
    policies: PathBuf,
    ours: Member,
    caller: Member,
    hosts: [Host; 2],
    nets: Nets,
    lanes: BTreeMap<u16, Lane>,
    authz: Authz,
    /// Of who calls over mTLS, by identity; of the caller's own host by none.
    mutual: BTreeMap<&'static str, Arc<ClientConfig>>,
    log: PathBuf,
    _lab: Lab,
}

struct Nets {
    sides: [Net; 2],
    servers: Net,
    caller: Net,
}

/// Gives each case its place.
pub(crate) fn place(cases: impl IntoIterator<Item = &'static Case>) -> Vec<Placed> {
    let placed = |(number, case): (usize, &'static Case)| {
        let number = u16::try_from(number).expect("there are fewer cases");
        let port = INBOUND
            + match case.protocol {
                "HTTP2" => INBOUND_HTTP1 + number % INBOUND_HTTP2,
                "TCP" => INBOUND_HTTP1 + INBOUND_HTTP2 + number % INBOUND_TCP,
                _ => number % INBOUND_HTTP1,
            };
        Placed { case, name: format!("c{number}"), number, port, requests: Arc::default(), tls: None }
    };
    cases.into_iter().enumerate().map(placed).collect()
}

/// Cases that must be played one after the other, together.
pub(crate) fn queues(cases: &[Placed]) -> Vec<Vec<Placed>> {
    let mut all = Vec::new();
    let mut by_port = BTreeMap::<u16, Vec<Placed>>::new();
    for placed in cases {
        match placed.case.via {
            Via::Outbound => all.push(vec![placed.clone()]),
            Via::Inbound | Via::Mutual => by_port.entry(placed.port).or_default().push(placed.clone()),
        }
    }
    // Long ones first.
    by_port.into_values().chain(all).collect()
}

impl Bed {
    /// Starts it all, with the configuration of these cases; `log` is what lines of the log end with.
    pub(crate) fn start(cases: &[Placed], log_tail: &str) -> Result<Self> {
        let testbed = Testbed::provide()?;
        let mut lab = Lab::new()?;
        let settings = lab.work().join("mesh.yaml");
        let log = lab.work().join("access.log");
        std::fs::write(&log, "")?;
        std::fs::set_permissions(&log, PermissionsExt::from_mode(0o666))?;
        let text = format!("accessLogFile: {}\n{SETTINGS}{log_tail}\\n\"\n{}", log.display(), custom::PROVIDERS);
        std::fs::write(&settings, text)?;
        std::fs::set_permissions(&settings, PermissionsExt::from_mode(0o644))?;
        let mesh = Mesh::start_with(&mut lab, &["--mesh-config", &settings.display().to_string()])?;
        let ours = Member::new(&mut lab, "ours")?;
        let http = |i: u16| match i {
            0..INBOUND_HTTP1 => "http",
            i if i < INBOUND_HTTP1 + INBOUND_HTTP2 => "http2",
            _ => "tcp",
        };
        let declared = |i: u16| format!("{}-{i}={}", http(i), INBOUND + i);
        let ports: Vec<String> = (0..INBOUND_HTTP1 + INBOUND_HTTP2 + INBOUND_TCP).map(declared).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let token = mesh.token("default/server", &ports, 1, &["--label", "app=server"])?;
        let seen = ours.hawser(&["join", &token, "--locality", NEAR])?;
        ensure!(seen.ok(), "join ended with {}:\n{}{}", seen.code, seen.out, seen.err);
        let caller = Member::new(&mut lab, "caller")?;
        caller.join(&mesh.token("default/caller", &["http=9080"], 1, &[])?)?;
        let theirs = lab.host("envoy")?;
        let servers = lab.host("servers")?;
        let nets = Nets {
            sides: [Net::of(&ours.host)?, Net::of(&theirs)?],
            servers: Net::of(&servers)?,
            caller: Net::of(&caller.host)?,
        };
        let pki = Pki::new(&lab.work().join("tls"))?;
        let files = lab.work().join("tls").display().to_string();
        mesh.apply(&configuration(cases, servers.v4()).replace("{tls}", &files))?;
        let at = |port| nets.servers.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let authz = Authz::start(at(9001)?, at(9000)?, theirs.v4().into())?;
        capture(&theirs, servers.v4())?;
        for host in [&ours.host, &theirs] {
            close(host)?;
        }
        let envoy = envoy(&testbed, &ours, &theirs)?;
        let mut mutual = BTreeMap::from([("", mtls::config(&caller.state_dir())?)]);
        for identity in cases.iter().map(|placed| placed.case.identity).filter(|identity| !identity.is_empty()) {
            mutual.insert(identity, mtls::signed(&mesh.data_dir(), identity)?);
        }
        let hosts = [theirs, servers];
        let lanes = BTreeMap::new();
        let mut bed = Self {
            envoy,
            policies: lab.work().join("policies.yaml"),
            mesh,
            ours,
            caller,
            hosts,
            nets,
            lanes,
            authz,
            mutual,
            log,
            _lab: lab,
        };
        for case in cases {
            let tls = pki.server(case.case.tls, &case.name, !case.case.asks_for.is_empty())?;
            bed.listen(&Placed { tls, ..case.clone() })?;
        }
        bed.ready(cases)?;
        Ok(bed)
    }

    /// Text of a set with what is its cases' own: `{0.host}` is the first one's `{host}`.
    pub(crate) fn written(&self, text: &str, cases: &[Placed]) -> String {
        let mut text = text.to_owned();
        for (index, placed) in cases.iter().enumerate() {
            let socket = ("{socket}", self.socket(placed).display().to_string());
            for (word, value) in placed.words(self.hosts[1].v4()).into_iter().chain([socket]) {
                text = text.replace(&format!("{{{index}.{}", &word[1..]), &value);
            }
        }
        text
    }

    /// Where a case has a Unix socket.
    fn socket(&self, placed: &Placed) -> PathBuf {
        self.log.with_file_name(format!("{}.sock", placed.name))
    }

    /// A program of a side's own host that listens there.
    pub(crate) fn listen_at(&self, side: Side, at: SocketAddr) -> Result<TcpListener> {
        self.nets.sides[side as usize].listen(at)
    }

    /// A connection of a side's own host.
    pub(crate) fn open_at(&self, side: Side, at: SocketAddr) -> Result<Stream> {
        Ok(Stream::plain(self.nets.sides[side as usize].connect(at)?))
    }

    /// What hawser-proxy says of itself.
    pub(crate) fn proxy_log(&self) -> String {
        self.ours.agent_log()
    }

    /// The address of who calls from outside.
    pub(crate) fn caller(&self) -> String {
        self.caller.host.v4().to_string()
    }

    /// What Envoy says of itself.
    pub(crate) fn envoy_log(&self) -> String {
        self.envoy.log().lines().rev().take(6).collect::<Vec<_>>().join("\n")
    }

    /// Applies policies.
    pub(crate) fn apply(&self, yaml: &str) -> Result<()> {
        std::fs::write(&self.policies, yaml)?;
        std::fs::set_permissions(&self.policies, PermissionsExt::from_mode(0o644))?;
        self.mesh.apply(yaml).map(drop)
    }

    /// Takes the last ones away.
    pub(crate) fn delete(&self) -> Result<()> {
        let seen = self.mesh.hawser(&["delete", "-f", &self.policies.display().to_string()])?;
        ensure!(seen.ok(), "{}", seen.err);
        Ok(())
    }

    fn address(&self, side: Side) -> Ipv4Addr {
        match side {
            Side::Ours => self.ours.host.v4(),
            Side::Envoy => self.hosts[0].v4(),
        }
    }

    /// What is not the same in every run, or on both sides, and its name.
    pub(crate) fn names(&self, placed: &Placed, side: Side) -> Vec<(String, &'static str)> {
        vec![
            (host(&placed.name), "HOST"),
            (format!(".{}.test", placed.name), ".NAME.test"),
            (placed.address().to_string(), "ADDRESS"),
            (self.address(side).to_string(), "PROXY"),
            (placed.server(0).to_string(), "PORT1"),
            (placed.server(1).to_string(), "PORT2"),
            (self.hosts[1].v4().to_string(), "SERVERS"),
        ]
    }

    /// Starts the servers of a case.
    fn listen(&mut self, placed: &Placed) -> Result<()> {
        if placed.case.via != Via::Outbound {
            if !self.lanes.contains_key(&placed.port) {
                let lane = Lane::new(placed.serving());
                for side in SIDES {
                    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, placed.port));
                    lane.listen(self.nets.sides[side as usize].listen(at)?, 0, move |_| side);
                }
                self.lanes.insert(placed.port, lane);
            }
            if placed.case.at == At::Socket {
                let to = SocketAddr::from((Ipv4Addr::LOCALHOST, placed.port));
                sockets::serve(&self.nets.sides, &self.socket(placed), &placed.name, to)?;
            }
            return Ok(());
        }
        let lane = Lane::new(placed.serving());
        let theirs = IpAddr::from(self.address(Side::Envoy));
        for (number, there) in placed.case.servers.all().iter().enumerate() {
            if *there {
                let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, placed.server(number)));
                let side = move |peer| if peer == theirs { Side::Envoy } else { Side::Ours };
                lane.listen(self.nets.servers.listen(at)?, number, side);
            }
        }
        Ok(())
    }

    /// Waits until both proxies have the configuration of the last case on each way in.
    fn ready(&self, cases: &[Placed]) -> Result<()> {
        let mut wanted: Vec<&Placed> = [true, false]
            .into_iter()
            .filter_map(|outbound| cases.iter().rfind(|p| (p.case.via == Via::Outbound) == outbound && p.answers()))
            .collect();
        wanted.dedup_by_key(|p| p.number);
        for placed in wanted {
            for side in SIDES {
                let send = format!("GET {PROBE} HTTP/1.1\nhost: {{host}}\n\n");
                let mut last = Vec::new();
                wait::for_true("a proxy has its configuration", Duration::from_secs(60), || {
                    let Ok((stream, _)) = self.connect(placed, side, false) else { return false };
                    let seen = client::play(stream, &send, &placed.name, 1, false);
                    last = seen.lines(&[]);
                    last.first().is_some_and(|line| line.contains(" 200 "))
                })
                .with_context(|| format!("{side:?}, {}: {last:#?}\n{}", placed.case.name, self.envoy.log()))?;
            }
        }
        Ok(())
    }

    /// Plays a case through one of the proxies. With what was seen: from where, for the log.
    pub(crate) fn play(&self, placed: &Placed, side: Side) -> Result<(Seen, SocketAddr)> {
        let case = placed.case;
        self.authz.serve(placed.requests.clone());
        if let Some(lane) = self.lanes.get(&placed.port).filter(|_| case.via != Via::Outbound) {
            lane.serve(placed.serving());
        }
        let (stream, from) = self.connect(placed, side, case.via == Via::Mutual)?;
        let seen = match case.speaks {
            Speaks::Http1 => {
                // Whether a proxy has seen that its server closed must not depend on who is faster.
                let closes = case.serve.iter().any(|text| text.contains("{close}") || text.contains("{reset}"));
                client::play(stream, case.send, &placed.name, case.answers, closes)
            }
            Speaks::Http2 => http2::play(stream, case.send, &placed.name),
        };
        if case.arrive > 0 {
            let there = || placed.requests.of(side).iter().filter(|r| r.whole).count() >= case.arrive;
            // That one is missing is seen by comparing.
            let _ = wait::for_true("all requests are there", crate::net::LIMIT, there);
        }
        Ok((seen, from))
    }

    pub(crate) fn connect(&self, placed: &Placed, side: Side, mutual: bool) -> Result<(Stream, SocketAddr)> {
        let own = placed.case.at == At::Own;
        let stream = match placed.case.via {
            Via::Outbound if own => bound(&self.nets.sides[side as usize], (Ipv4Addr::LOCALHOST, placed.server(0)))?,
            Via::Outbound => self.nets.sides[side as usize].connect(placed.goes(self.hosts[1].v4()))?,
            Via::Inbound | Via::Mutual if own => bound(&self.nets.caller, (self.address(side), placed.server(0)))?,
            Via::Inbound | Via::Mutual => self.nets.caller.connect((self.address(side), placed.port).into())?,
        };
        let from = stream.local_addr()?;
        let stream = if mutual {
            let config = self.mutual.get(placed.case.identity).context("it has a certificate")?;
            Stream::tls(stream, mtls::speaking(config, placed.case.speaks), "workload.mesh".to_owned())?
        } else if !placed.case.asks_for.is_empty() {
            let name = placed.case.asks_for.replace("{host}", &host(&placed.name)).replace("{name}", &placed.name);
            Stream::tls(stream, mtls::anybody()?, name)?
        } else {
            Stream::plain(stream)
        };
        Ok((stream, from))
    }

    /// What the access logs say of connections from `from`, line by line.
    pub(crate) fn log_of(log: &str, from: SocketAddr) -> Vec<String> {
        let prefix = format!("{LOG}{from} ");
        log.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The access log of both, when all that was logged until now is in it.
    pub(crate) fn log(&self, cases: &[Placed]) -> Result<String> {
        let read = || std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        for side in SIDES {
            let Some(placed) = cases.iter().find(|p| p.case.via == Via::Outbound) else { break };
            let (stream, from) = self.connect(placed, side, false)?;
            client::play(stream, "GET /last HTTP/1.1\nhost: {host}\n\n", &placed.name, 1, false);
            let written = || !Self::log_of(&read(), from).is_empty();
            wait::for_true("the last line of the log", Duration::from_secs(10), written)?;
        }
        Ok(read())
    }
}

impl Placed {
    /// The service's address.
    fn address(&self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(10, 96, high, low)
    }

    pub(crate) fn server(&self, number: usize) -> u16 {
        SERVERS + 4 * self.number + number as u16
    }

    fn serving(&self) -> Serving {
        Serving { case: self.case, name: self.name.clone(), requests: self.requests.clone(), tls: self.tls.clone() }
    }

    /// A range of addresses of its own.
    fn range(&self) -> [u8; 3] {
        let [high, low] = self.number.to_be_bytes();
        [10, 128 + high, low]
    }

    /// Where its client's connections go.
    fn goes(&self, servers: Ipv4Addr) -> SocketAddr {
        let [a, b, c] = self.range();
        match self.case.at {
            At::Address | At::Own | At::Socket => (self.address(), 80).into(),
            At::Server => (servers, self.server(0)).into(),
            At::Second => (servers, self.server(1)).into(),
            At::Range => (Ipv4Addr::new(a, b, c, 9), 80).into(),
        }
    }

    /// Text with what is the case's own in it.
    fn written(&self, text: &str, servers: Ipv4Addr) -> String {
        self.words(servers).iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
    }

    /// What is the case's own, by the word that stands for it.
    fn words(&self, servers: Ipv4Addr) -> Vec<(&'static str, String)> {
        let [a, b, c] = self.range();
        let named = format!("{}.ip.test", servers.to_string().replace('.', "-"));
        vec![
            ("{host}", host(&self.name)),
            ("{port}", self.port.to_string()),
            ("{name}", self.name.clone()),
            ("{v1}", subset(&self.name, 1)),
            ("{v2}", subset(&self.name, 2)),
            ("{address}", self.address().to_string()),
            ("{servers}", servers.to_string()),
            ("{named}", named),
            ("{port1}", self.server(0).to_string()),
            ("{port2}", self.server(1).to_string()),
            ("{range}", format!("{a}.{b}.{c}.0/24")),
        ]
    }

    /// Whether a plain request gets a plain answer.
    fn answers(&self) -> bool {
        let case = self.case;
        case.entry.is_empty()
            && case.servers == Servers::One
            && case.yaml.is_empty()
            && case.via != Via::Mutual
            && case.at == At::Address
            && case.protocol == "HTTP"
    }
}

impl Servers {
    /// Which of the endpoints listen.
    fn all(self) -> &'static [bool] {
        match self {
            Self::One => &[true],
            Self::Two => &[true, true],
            Self::Refusing => &[false],
            Self::Nobody => &[],
        }
    }
}

/// A connection to a listener that may not be bound yet.
fn bound(net: &Net, to: (Ipv4Addr, u16)) -> Result<TcpStream> {
    let began = Instant::now();
    loop {
        match net.connect(to.into()) {
            Err(_) if began.elapsed() < LIMIT => wait::between_looks(Duration::from_millis(20)),
            done => return done,
        }
    }
}

/// The services of all cases, and what these bring.
fn configuration(cases: &[Placed], servers: Ipv4Addr) -> String {
    let mut all = custom::SERVICE.replace("{servers}", &servers.to_string());
    for placed in cases {
        let (name, case) = (&placed.name, placed.case);
        if !case.entry.is_empty() {
            let _ = write!(
                all,
                "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {{name: {name}, namespace: default}}\nspec: {}\n",
                placed.written(case.entry, servers),
            );
        } else if case.via == Via::Outbound {
            let host = host(name);
            let _ = write!(
                all,
                "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {{name: {name}, namespace: default}}\nspec:\n  hosts: [{host}]\n  addresses: [{}]\n  \
                 location: MESH_INTERNAL\n  resolution: STATIC\n  \
                 ports: [{{number: 80, name: main, protocol: {}}}]\n  endpoints: [",
                placed.address(),
                case.protocol,
            );
            for number in 0..case.servers.all().len() {
                let (port, version) = (placed.server(number), number + 1);
                let _ = write!(
                    all,
                    "{{address: {servers}, ports: {{main: {port}}}, labels: {{version: v{version}}}, \
                         locality: {}}},",
                    if number == 0 { NEAR } else { FAR },
                );
            }
            all.push_str("]\n");
        }
        if !case.yaml.is_empty() {
            let _ = writeln!(all, "---\n{}", placed.written(case.yaml, servers));
        }
    }
    all
}

/// A destination of a route.
fn subset(name: &str, version: u8) -> String {
    format!("{{destination: {{host: {}, subset: v{version}}}}}", host(name))
}

/// Sends what clients send to the mesh into the Envoy, as a host's redirection does.
fn capture(host: &Host, servers: Ipv4Addr) -> Result<()> {
    let rules = format!(
        "table ip capture {{\n\
         chain out {{ type nat hook output priority -100;\n\
         meta mark {MARK} ip daddr {{ 10.96.0.0/16, 10.128.0.0/9, {servers} }} meta l4proto tcp redirect to :15001; }}\n\
         chain in {{ type nat hook prerouting priority -100;\n\
         iifname eth0 tcp dport 8000-9000 redirect to :15006; }}\n}}\n"
    );
    load(host, &rules)
}

/// There is nothing at the services' own addresses.
fn close(host: &Host) -> Result<()> {
    let rules = "table ip closed {\nchain out {\ntype filter hook output priority 0;\n\
                 ip daddr { 10.96.0.0/16, 10.128.0.0/9 } meta l4proto tcp reject with tcp reset;\n}\n}\n";
    load(host, rules)
}

fn load(host: &Host, rules: &str) -> Result<()> {
    let seen = host.run_with_input(&["nft", "-f", "-"], Some(rules))?;
    ensure!(seen.ok(), "{}", seen.err);
    Ok(())
}

/// An Envoy in the network of `network`, with everything else of the agent's host.
fn envoy(testbed: &Testbed, agent: &Member, network: &Host) -> Result<Process> {
    let host = &agent.host;
    let file = host.disk().join("envoy.json");
    std::fs::write(&file, bootstrap(host, "envoy", Mode::Delta, Upstream::Agent, Vec::new()).to_string())?;
    let mut command = Command::new("nsenter");
    command.args(["--target", &host.init().to_string(), "--mount", "--uts", "--pid"]);
    command.args([&format!("--net=/proc/{}/ns/net", network.init()), "--"]);
    if has_users() {
        let id = PROXY_USER.to_string();
        command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
    }
    command.args([&testbed.envoy(), "-c", &file.display().to_string()]);
    command.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "warn", "--file-flush-interval-msec", "100"]);
    // Chains that a change replaces are not kept for long: they would slow down the next change.
    command.args(["--drain-time-s", "1"]);
    Process::spawn("envoy", command, network.disk().join("envoy.log"), true)
}
