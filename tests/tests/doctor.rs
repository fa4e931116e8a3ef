//! `hawser doctor` on hosts that are well and on hosts that are not, and joins that fail without leaving a trace.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_api::token::JoinToken;
use hawser_tests::isolation::isolated_with_users;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, Seen, programs, wait};
use serde_json::Value;

const UNFIT: i32 = 8;
const SOON: Duration = Duration::from_secs(10);
/// What a doctor may take, with all that is dead around it.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a doctor said.
struct Said {
    seen: Seen,
    findings: Vec<Value>,
}

impl Said {
    fn of(member: &Member, more: &[&str]) -> Result<Self> {
        let began = Instant::now();
        let seen = member.hawser(&[&["doctor", "-o", "json"][..], more].concat())?;
        let took = began.elapsed();
        ensure!(took < PATIENCE, "it took {took:?}");
        let findings = serde_json::from_str(&seen.out).with_context(|| format!("{seen:?}"))?;
        let said = Self { seen, findings };
        let failed = said.findings.iter().any(|finding| finding["verdict"] == "failure");
        ensure!(said.seen.code == if failed { UNFIT } else { 0 }, "{:?}", said.seen);
        for finding in said.findings.iter().filter(|f| f["verdict"] == "failure" || f["verdict"] == "warning") {
            ensure!(finding["cure"].as_str().is_some_and(|cure| cure.len() > 8), "no cure: {finding}");
        }
        Ok(said)
    }

    /// The verdicts of a check.
    fn verdicts(&self, check: &str) -> Vec<&str> {
        self.findings.iter().filter(|f| f["check"] == check).filter_map(|f| f["verdict"].as_str()).collect()
    }

    /// Each of these checks has nothing but this verdict.
    fn all(&self, verdict: &str, checks: &[&str]) -> Result<()> {
        for check in checks {
            let verdicts = self.verdicts(check);
            let same = !verdicts.is_empty() && verdicts.iter().all(|v| *v == verdict);
            ensure!(same, "{check} is not {verdict}: {:#?}", self.findings);
        }
        Ok(())
    }

    /// One of a check's findings has this verdict and these words.
    fn has(&self, check: &str, verdict: &str, words: &[&str]) -> Result<()> {
        let is = |f: &&Value| {
            let sentence = f["sentence"].as_str().unwrap_or_default();
            f["check"] == check && f["verdict"] == verdict && words.iter().all(|word| sentence.contains(word))
        };
        ensure!(self.findings.iter().any(|f| is(&f)), "no {verdict} of {check} with {words:?}: {:#?}", self.findings);
        Ok(())
    }

    fn no_failure(&self) -> Result<()> {
        ensure!(self.seen.code == 0, "{:#?}", self.findings);
        Ok(())
    }
}

/// A mesh, a host with an application that has not joined, and a token for it.
fn candidate(lab: &mut Lab) -> Result<(Mesh, Member, String)> {
    let mesh = Mesh::start(lab)?;
    let mut vm = Member::new(lab, "vm")?;
    vm.bookinfo("details", "v1", "")?;
    let token = mesh.token("default/details", &["http=9080"], 1, &[])?;
    Ok((mesh, vm, token))
}

#[test]
fn a_healthy_host_is_told_so_before_and_after_it_joins() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let (_mesh, vm, token) = candidate(&mut lab)?;
        let before = traces(&vm)?;

        let said = Said::of(&vm, &[])?;
        said.no_failure()?;
        said.all("ok", &["kernel", "nft", "ports", "names", "routes", "conntrack", "disk", "proxy"])?;
        said.all("unknown", &["discovery", "inbound"])?;
        let file = vm.host.disk().join("token");
        std::fs::write(&file, &token)?;
        let said = Said::of(&vm, &["--token-file", &file.display().to_string()])?;
        said.no_failure()?;
        said.all("ok", &["discovery", "clock", "routes"])?;
        ensure!(traces(&vm)? == before, "it left something: {:#?}", traces(&vm)?);

        vm.join(&token)?;
        let mut last = None;
        wait::for_true("the member is well", SOON, || {
            last = Said::of(&vm, &[]).ok();
            last.as_ref().is_some_and(|said| said.seen.ok())
        })
        .with_context(|| format!("{:#?}", last.as_ref().map(|said| said.findings.clone())))?;
        let said = Said::of(&vm, &[])?;
        let checks =
            ["lease", "certificates", "proxy", "redirection", "ports", "discovery", "clock", "routes", "inbound"];
        said.all("ok", &checks)?;
        let table = vm.hawser(&["doctor"])?;
        ensure!(table.ok() && table.out.contains("ok       lease"), "{table:?}");
        Ok(())
    });
}

#[test]
fn a_port_that_is_taken_stops_a_join_before_anything_is_changed() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let (mesh, vm, token) = candidate(&mut lab)?;
        let mut other = vm.host.spawn("other", &["hawser-lab", "echo", "--port", "15001"])?;
        other.says("ready", SOON)?;
        let before = traces(&vm)?;

        Said::of(&vm, &[])?.has("ports", "failure", &["15001", "user root"])?;
        let seen = vm.hawser(&["join", &token])?;
        ensure!(seen.code == 32 && seen.err.contains("15001") && seen.err.contains("ss -Hlntp"), "{seen:?}");
        ensure!(traces(&vm)? == before, "the join left something: {:#?}", traces(&vm)?);
        ensure!(mesh.json(&["get", "hosts"])? == serde_json::json!([]), "discovery was not asked");
        ensure!(mesh.json(&["get", "tokens"])?[0]["used"] == 0, "no use was spent");

        // What only some need is a warning, which a join tells and goes on.
        drop(other);
        let mut other = vm.host.spawn("hbone", &["hawser-lab", "echo", "--port", "15008"])?;
        other.says("ready", SOON)?;
        Said::of(&vm, &[])?.has("ports", "warning", &["15008"])?;
        let seen = vm.join(&token)?;
        ensure!(seen.err.contains("warning: ") && seen.err.contains("15008"), "{seen:?}");
        Ok(())
    });
}

#[test]
fn routes_and_addresses_in_the_virtual_ranges_are_told() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start_with(&mut lab, &["--virtual-range", "240.50.0.0/16", "--virtual-range", "2001:2::/48"])?;
        let vm = Member::new(&mut lab, "vm")?;
        let token = mesh.token("default/details", &["http=9080"], 2, &[])?;

        // Where discovery can be asked, its word counts; else what is usual.
        vm.host.ok(&["ip", "route", "add", "240.240.9.0/24", "via", hawser_tests::lab::GATEWAY])?;
        Said::of(&vm, &[])?.has("routes", "warning", &["240.240.9.0/24", "eth0"])?;
        Said::of(&vm, &[&token])?.all("ok", &["routes"])?;
        vm.host.ok(&["ip", "route", "del", "240.240.9.0/24"])?;

        vm.host.ok(&["ip", "route", "add", "240.50.7.0/24", "via", hawser_tests::lab::GATEWAY])?;
        Said::of(&vm, &[&token])?.has("routes", "failure", &["240.50.7.0/24", "240.50.0.0/16"])?;
        let seen = vm.hawser(&["join", &token])?;
        ensure!(seen.code == 32 && seen.err.contains("--virtual-range"), "{seen:?}");
        vm.host.ok(&["ip", "route", "del", "240.50.7.0/24"])?;

        // Of a wider network the mesh takes a part.
        vm.host.ok(&["ip", "route", "add", "240.0.0.0/4", "via", hawser_tests::lab::GATEWAY])?;
        Said::of(&vm, &[&token])?.has("routes", "warning", &["240.0.0.0/4", "240.50.0.0/16"])?;
        vm.join(&token)?;
        vm.host.ok(&["ip", "route", "del", "240.0.0.0/4"])?;
        vm.host.ok(&["ip", "addr", "add", "240.50.1.2/32", "dev", "eth0"])?;
        Said::of(&vm, &[])?.has("routes", "failure", &["240.50.1.2", "eth0"])?;
        Ok(())
    });
}

#[test]
fn what_a_join_can_do_without_does_not_stop_it() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let (_mesh, vm, token) = candidate(&mut lab)?;
        let mut token: JoinToken = token.parse()?;
        // An address where nobody is.
        let elsewhere = format!("{}:15021", vm.host.v4());
        token.addresses.insert(0, elsewhere.clone());
        // A port of ours, at an address that nothing of ours needs it at.
        let mut other = vm.host.spawn("other", &["openssl", "s_server", "-nocert", "-accept", "[::1]:15021"])?;
        other.says("ACCEPT", SOON)?;
        let resolver = vm.host.disk().join("resolv.conf");
        let text = std::fs::read_to_string(&resolver)?;
        std::fs::write(&resolver, "nameserver 203.0.113.7\n")?;

        let said = Said::of(&vm, &[&token.reveal()])?;
        said.no_failure()?;
        said.all("ok", &["ports"])?;
        said.has("names", "warning", &["203.0.113.7"])?;
        said.has("discovery", "warning", &[&elsewhere])?;
        let began = Instant::now();
        vm.join(&token.reveal())?;
        ensure!(began.elapsed() < Duration::from_secs(3), "dead name servers hold it up: {:?}", began.elapsed());
        std::fs::write(&resolver, text)?;
        Ok(())
    });
}

#[test]
fn a_small_table_of_connections_is_told() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let vm = Member::new(&mut lab, "vm")?;
        let script = "echo 512 > /run/most && mount --bind /run/most /proc/sys/net/netfilter/nf_conntrack_max";
        vm.host.ok(&["sh", "-ec", script])?;
        let said = Said::of(&vm, &[])?;
        said.has("conntrack", "warning", &["512"])?;
        said.no_failure()
    });
}

const DENY: &str = "
table inet firewall {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname \"lo\" accept
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp } accept
    tcp dport { 22, 9080 } accept
  }
}
";

#[test]
fn a_default_deny_chain_is_followed_for_the_declared_ports() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let (_mesh, vm, token) = candidate(&mut lab)?;
        let load = |rules: &str| -> Result<()> {
            let text = format!("table inet firewall\ndelete table inet firewall\n{rules}");
            let seen = vm.host.run_with_input(&["nft", "-f", "-"], Some(&text))?;
            ensure!(seen.ok(), "{}", seen.err);
            Ok(())
        };
        load(DENY)?;
        Said::of(&vm, &[])?.has("firewall", "warning", &["inet firewall", "only what it names"])?;

        vm.join(&token)?;
        let said = Said::of(&vm, &[])?;
        said.no_failure()?;
        said.has("inbound", "ok", &["9080"])?;

        load(&DENY.replace(", 9080", ""))?;
        let said = Said::of(&vm, &[])?;
        said.has("firewall", "failure", &["inet firewall", "9080"])?;
        said.has("inbound", "failure", &["9080"])
    });
}

#[test]
fn a_discovery_that_is_away_is_told_in_time() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start(&mut lab)?;
        let member = Member::joined(&mut lab, &mesh, "member", "details", "v1")?;
        let vm = Member::new(&mut lab, "vm")?;
        let token = mesh.token("default/details", &["http=9080"], 1, &[])?;
        let before = traces(&vm)?;
        mesh.kill_discovery();
        wait::for_true("the member notices", SOON, || {
            member.json(&["status"]).is_ok_and(|status| status["host"]["discovery_state"] != "connected")
        })?;

        let said = Said::of(&member, &[])?;
        said.has("discovery", "failure", &["15012"])?;
        said.all("failure", &["lease"])?;
        said.all("unknown", &["inbound"])?;
        said.all("ok", &["proxy", "redirection", "certificates"])?;
        Said::of(&vm, &[&token])?.has("discovery", "failure", &["15012"])?;

        // Silence too, not only a refusal.
        lab.cut(&mesh.control)?;
        Said::of(&vm, &[&token])?.has("discovery", "failure", &["can't be reached"])?;
        let seen = vm.hawser(&["join", &token])?;
        ensure!(seen.code == 24, "{seen:?}");
        ensure!(traces(&vm)? == before, "the join left something: {:#?}", traces(&vm)?);
        Ok(())
    });
}

#[test]
fn a_clock_that_is_wrong_is_told_from_an_impostor() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let vm = Member::new(&mut lab, "vm")?;
        let later = lab.host("later")?;
        let mut token: JoinToken = mesh.token("default/details", &["http=9080"], 1, &[])?.parse()?;
        token.addresses = vec![format!("{}:15012", later.v4())];

        // Discovery as it would be seen by a host whose clock is behind: its certificate begins in the future.
        let root = std::fs::read_to_string(mesh.root_certificate())?;
        let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(mesh.data_dir().join("ca.key"))?)?;
        let issuer = rcgen::Issuer::from_ca_cert_pem(&root, key)?;
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
        params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://cluster.local/hawser/discovery".try_into()?)];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = rcgen::date_time_ymd(2120, 1, 1);
        params.not_after = rcgen::date_time_ymd(2120, 1, 2);
        let own = rcgen::KeyPair::generate()?;
        let dir = later.disk();
        std::fs::write(dir.join("leaf.pem"), params.signed_by(&own, &issuer)?.pem())?;
        std::fs::write(dir.join("leaf.key"), own.serialize_pem())?;
        std::fs::write(dir.join("root.pem"), &root)?;
        let path = |name: &str| dir.join(name).display().to_string();
        let (leaf, key, chain) = (path("leaf.pem"), path("leaf.key"), path("root.pem"));
        let args = ["openssl", "s_server", "-accept", "15012", "-cert", &leaf, "-key", &key, "-cert_chain", &chain];
        let mut server = later.spawn("server", &[&args[..], &["-alpn", "h2"]].concat())?;
        server.says("ACCEPT", SOON)?;

        let said = Said::of(&vm, &[&token.reveal()])?;
        said.has("clock", "failure", &["behind", "days"])?;
        ensure!(said.verdicts("discovery").is_empty(), "it is no impostor: {:#?}", said.findings);
        let seen = vm.hawser(&["join", &token.reveal()])?;
        ensure!(seen.code == 32 && seen.err.contains("clock"), "{seen:?}");
        Ok(())
    });
}

#[test]
fn a_join_that_fails_late_leaves_nothing_behind() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let (mesh, vm, token) = candidate(&mut lab)?;
        let before = traces(&vm)?;

        // A proxy that can be run, and ends at once.
        let proxy = programs::find("hawser-proxy")?.display().to_string();
        vm.host.ok(&["mount", "--bind", "/bin/false", &proxy])?;
        let seen = vm.hawser(&["join", &token])?;
        ensure!(seen.code == 29, "{seen:?}");
        let mut after = traces(&vm)?;
        after.state.retain(|file| file != "host.key");
        ensure!(after == before, "the join left something: {after:#?}");
        ensure!(mesh.json(&["get", "hosts"])? == serde_json::json!([]), "discovery has forgotten it");

        vm.host.ok(&["umount", &proxy])?;
        vm.join(&token)?;
        mesh.healthy("details.default.svc.cluster.local", 1, SOON)
    });
}

#[test]
fn without_an_agent_its_program_looks() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let mut vm = Member::new(&mut lab, "vm")?;
        let token = mesh.token("default/details", &["http=9080"], 1, &[])?;
        vm.kill_agent();
        let said = Said::of(&vm, &[&token])?;
        said.has("agent", "failure", &["hawser-agent is not running"])?;
        said.all("ok", &["kernel", "nft", "ports", "discovery", "clock"])
    });
}

/// Everything of a host that a join changes.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    state: Vec<String>,
    sockets: Vec<String>,
    tables: String,
    routes: String,
    listening: String,
}

fn traces(vm: &Member) -> Result<Traces> {
    Ok(Traces {
        state: names(&vm.state_dir())?,
        sockets: vm.host.ok(&["ls", "-A", "/run/hawser"])?.lines().map(str::to_owned).collect(),
        tables: vm.host.ok(&["nft", "list", "tables"])?,
        routes: vm.host.ok(&["sh", "-c", "ip route show table all proto 157; ip -6 route show table all proto 157"])?,
        listening: vm.host.ok(&["sh", "-c", "ss -Hlntu | awk '{print $1, $5}' | sort"])?,
    })
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
