//! A large cluster as a registry: what discovery takes for it, how long it takes, and how soon a pod's readiness counts.
//!
//! In: how many pods and services. Out: memory and time of the first sync, and the time from a pod's readiness to the first
//! answer that each caller had from it. The API server is the double that is held against recordings of a real one; discovery,
//! agents and proxies are the real ones. It fails if a limit is passed.

use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use hawser_tests::http::{Connection, Url};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Host, Lab, Process, wait};

use crate::tool::{Tool, me};

/// How large the cluster is, and how often a pod turns.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    #[arg(long, default_value_t = 2_000)]
    services: usize,
    /// Hosts with a proxy each that call the pod that turns
    #[arg(long, default_value_t = 3)]
    callers: usize,
    /// How often it turns
    #[arg(long, default_value_t = 50)]
    turns: usize,
}

/// Memory of discovery, in MB.
const MEMORY: f64 = 150.0;
/// From discovery's start to its first snapshot.
const SYNC: Duration = Duration::from_secs(10);
/// From the API server's event to the first request by it, of 99 in 100.
const READINESS: Duration = Duration::from_millis(250);

const NAME: &str = "turning";
const URL: &str = "http://turning.default.svc.cluster.local:9080/ratings/0";
const CONTROL: &str = "127.0.0.1:9090";
const BETWEEN: Duration = Duration::from_millis(700);
const LIMIT: Duration = Duration::from_secs(20);

/// Runs it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "this makes network namespaces: run it as root");
    let mut lab = Lab::new()?;
    let (cluster, _double) = cluster(&mut lab, args)?;
    let pods = [pod(&mut lab, &cluster, "a")?, pod(&mut lab, &cluster, "b")?];
    let file = cluster.disk().join("registries.yaml");
    let kubeconfig = cluster.disk().join("kubeconfig");
    std::fs::write(
        &file,
        format!(
            "registries:\n- name: main\n  kubernetes: {{kubeconfig: {kubeconfig:?}, remoteClusters: {{disabled: true}}}}\n"
        ),
    )?;
    let start = Instant::now();
    let mut mesh = Mesh::start_with(&mut lab, &["--registries", &file.display().to_string()])?;
    let known = || mesh.metric("hawser_registry_workloads").is_ok_and(|n| n >= (args.pods + pods.len()) as f64);
    wait::for_true("all pods are known", Duration::from_secs(60), known)?;
    let sync = start.elapsed();
    let discovery = mesh.discovery()?.pid().context("discovery has ended")?;
    let first = memory(discovery)?;
    say(&format!(
        "{} pods, {} services: known {:.2} s after discovery's start",
        args.pods,
        args.services,
        sync.as_secs_f64()
    ));
    let (callers, mut watchers) = callers(&mut lab, &mesh, args.callers)?;
    let mut times = vec![];
    for _ in 0..args.turns {
        times.extend(turn(&cluster, &mut watchers)?);
    }
    times.sort();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied().unwrap_or_default();
    let (median, most) = (at(50), at(99));
    say(&format!(
        "a pod's readiness to the first answer from it, {} callers: median {:.1} ms, 99 of 100 {:.1} ms, longest {:.1} ms",
        callers.len(),
        millis(median),
        millis(most),
        millis(at(100))
    ));
    let last = memory(discovery)?;
    say(&format!(
        "discovery: {:.1} MB after its first sync, {:.1} MB at the end, {:.1} MB at most",
        first.0, last.0, last.1
    ));
    anyhow::ensure!(last.1 < MEMORY, "discovery took {:.1} MB, more than {MEMORY}", last.1);
    anyhow::ensure!(sync < SYNC, "the first sync took {sync:?}, more than {SYNC:?}");
    anyhow::ensure!(most < READINESS, "a pod's readiness took {most:?}, more than {READINESS:?}");
    Ok(())
}

/// An API server with so much in it.
fn cluster(lab: &mut Lab, args: &Args) -> anyhow::Result<(Host, Process)> {
    let host = lab.host("cluster")?;
    let address = host.v4().to_string();
    let (listen, kubeconfig) = (format!("{address}:6443"), host.disk().join("kubeconfig").display().to_string());
    let flags = ["--listen", &listen, "--name", &address, "--kubeconfig", &kubeconfig];
    let more = ["--control", CONTROL, "--no-kubelet"];
    let mut double = host.spawn("kube", &[&["hawser-kube-double"], &flags[..], &more[..]].concat())?;
    double.says("ready", Duration::from_secs(10))?;
    let load = format!(r#"{{"pods": {}, "services": {}}}"#, args.pods, args.services);
    ask(&host, "generate", &load)?;
    Ok((host, double))
}

fn ask(cluster: &Host, what: &str, body: &str) -> anyhow::Result<String> {
    let url = format!("http://{CONTROL}/{what}");
    let seen = cluster.curl(&["--fail-with-body", "--max-time", "60", "--data-binary", body, &url])?;
    anyhow::ensure!(seen.ok(), "{what}: {}{}", seen.out, seen.err);
    Ok(seen.out)
}

/// A host that stands for a pod of the service, and its server.
fn pod(lab: &mut Lab, cluster: &Host, name: &str) -> anyhow::Result<(Host, Process)> {
    let host = lab.host(&format!("pod-{name}"))?;
    let mut server = host.spawn("server", &["hawser-bookinfo", "ratings", "--port", "8000", "--marker", name])?;
    server.says("ready", Duration::from_secs(5))?;
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {NAME}, namespace: default}}\n\
         spec: {{selector: {{app: {NAME}}}, ports: [{{name: http, port: 9080, targetPort: 8000}}]}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: {NAME}-{name}, namespace: default, labels: {{app: {NAME}}}}}\n\
         spec: {{nodeName: load-node-0, serviceAccountName: default, containers: [{{name: main, image: none}}]}}\n\
         status: {{phase: Running, podIP: {0}, podIPs: [{{ip: {0}}}], conditions: [{{type: Ready, status: 'True'}}]}}\n",
        host.v4()
    );
    ask(cluster, "apply", &yaml)?;
    Ok((host, server))
}

/// Joined hosts, and what watches on each of them.
fn callers(lab: &mut Lab, mesh: &Mesh, count: usize) -> anyhow::Result<(Vec<Member>, Vec<Tool>)> {
    let (mut callers, mut watchers) = (vec![], vec![]);
    for number in 0..count {
        let caller = Member::joined(lab, mesh, &format!("caller-{number}"), "productpage", "v1")?;
        wait::for_true("the service answers", 3 * LIMIT, || caller.host.curl(&["--fail", URL]).is_ok_and(|s| s.ok()))?;
        watchers.push(Tool::spawn(caller.host.command(&[
            me()?,
            "watch".to_owned(),
            URL.to_owned(),
            "pod-b".to_owned(),
        ]))?);
        callers.push(caller);
    }
    Ok((callers, watchers))
}

/// One of the pods is not ready, then ready; how long each caller waited for its first answer.
fn turn(cluster: &Host, watchers: &mut [Tool]) -> anyhow::Result<Vec<Duration>> {
    let ready = |status: &str| {
        let change = serde_json::json!({"kind": "Pod", "name": format!("default/{NAME}-b"),
            "change": {"status": {"conditions": [{"type": "Ready", "status": status}]}}});
        ask(cluster, "merge", &change.to_string())
    };
    ready("False")?;
    wait::between_looks(BETWEEN);
    for watcher in &mut *watchers {
        watcher.begin()?;
    }
    // Its answer comes after the event.
    let before = now()?;
    ready("True")?;
    watchers.iter_mut().map(|watcher| Ok(watcher.time()?.saturating_sub(before))).collect()
}

/// On a caller's host: for each line of input, the time of the next answer from that server.
pub(crate) fn watch(url: &str, host: &str) -> anyhow::Result<()> {
    let url = Url::parse(url)?;
    let mut connection = Connection::open(&url.host, url.port, LIMIT)?;
    crate::load::say("ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let (start, mut by) = (Instant::now(), String::new());
        while by.split('/').next() != Some(host) {
            anyhow::ensure!(start.elapsed() < LIMIT, "no answer from {host} in {LIMIT:?}, the last one from {by}");
            wait::between_looks(Duration::from_micros(500));
            by = connection.get(&url, &[])?.headers.remove("x-served-by").unwrap_or_default();
        }
        crate::load::say(&now()?.as_nanos().to_string())?;
    }
    Ok(())
}

/// A time that means the same to all processes.
fn now() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What a process has, and what it had at most, in MB.
fn memory(pid: i32) -> anyhow::Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("a process without memory")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        anyhow::Ok(kib * 1024.0 / 1e6)
    };
    Ok((line("VmRSS:")?, line("VmHWM:")?))
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}
