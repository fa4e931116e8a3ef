//! What no honest program sends: no crash, bounded memory, clear errors, and honest callers are served all the while.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, Process, isolated, programs, wait};

const URL: &str = "http://details.default.svc.cluster.local:9080/";
/// Nobody may grow past this, whatever is sent.
const MOST_MEMORY_KB: u64 = 400_000;

#[test]
fn hostile_documents_are_refused_with_a_reason_and_change_nothing() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start(&mut lab)?;
        mesh.apply(&bookinfo("destination-rules.yaml")?)?;
        let before = mesh.json(&["get", "config"])?;
        let documents = documents()?;
        ensure!(documents.len() >= 200, "{} documents", documents.len());
        let mut refused = 0;
        for (number, document) in documents.iter().enumerate() {
            let seen = mesh.hawser_with_input(&["apply", "--dry-run", "-f", "-"], document)?;
            ensure!(matches!(seen.code, 0 | 4), "document {number}: code {}: {}\n{document}", seen.code, seen.err);
            if seen.code == 4 {
                refused += 1;
                ensure!(seen.err.contains("stdin"), "document {number}: no file in: {}", seen.err);
                ensure!(seen.err.len() < 20_000, "document {number}: {} bytes of error", seen.err.len());
            }
            let checked = mesh.hawser_with_input(&["validate", "-f", "-"], document)?;
            ensure!(
                checked.code == seen.code,
                "document {number}: validate says {}, apply {}",
                checked.code,
                seen.code
            );
        }
        ensure!(refused > 150, "only {refused} were refused");
        ensure!(mesh.json(&["get", "config"])? == before, "nothing changed");
        let memory = memory(mesh.discovery()?)?;
        ensure!(memory < MOST_MEMORY_KB, "discovery holds {memory} kB");
        Ok(())
    });
}

#[test]
fn hostile_bytes_on_every_port_hurt_nobody_else() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start(&mut lab)?;
        let server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "productpage", "v1")?;
        let stranger = lab.host("stranger")?;
        wait::for_true("it answers", Duration::from_secs(10), || {
            caller.host.curl(&["--fail", URL]).is_ok_and(|s| s.ok())
        })?;
        let proxies = (server.proxies(), caller.proxies());
        ensure!(!proxies.0.is_empty() && !proxies.1.is_empty(), "{proxies:?}");
        let discovery = mesh.discovery()?.pid();

        let load = caller.load(URL, 20, &["--workers", "2", "--fresh"])?;
        let (inbound, control) = (format!("{}:9080", server.host.v4()), mesh.address());
        let outbound = "details.default.svc.cluster.local:9080";
        for kind in ["tls", "http", "http2", "noise"] {
            for (host, address) in [(&stranger, inbound.as_str()), (&stranger, &control), (&caller.host, outbound)] {
                host.ok(&["hawser-lab", "hostile", address, "--kind", kind, "--count", "60", "--seed", "7"])?;
            }
            for port in ["15010", "15014"] {
                let address = format!("127.0.0.1:{port}");
                mesh.control.ok(&[
                    "hawser-lab",
                    "hostile",
                    &address,
                    "--kind",
                    kind,
                    "--count",
                    "60",
                    "--seed",
                    "9",
                ])?;
            }
        }
        load.stop()?.all_ok()?;
        ensure!(proxies == (server.proxies(), caller.proxies()), "a proxy died");
        ensure!(mesh.discovery()?.pid() == discovery && mesh.discovery()?.is_running(), "discovery died");
        for log in [mesh.discovery()?.log(), agent_log(&server), agent_log(&caller)] {
            ensure!(!log.contains("panicked"), "somebody panicked:\n{log}");
        }
        let memory = memory(mesh.discovery()?)?;
        ensure!(memory < MOST_MEMORY_KB, "discovery holds {memory} kB");
        Ok(())
    });
}

fn agent_log(member: &Member) -> String {
    member.agent.as_ref().map(Process::log).unwrap_or_default()
}

/// Resident memory in kB.
fn memory(process: &Process) -> Result<u64> {
    let pid = process.pid().context("it runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("it has memory")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

fn bookinfo(file: &str) -> Result<String> {
    Ok(std::fs::read_to_string(programs::source_root().join("tests/bookinfo").join(file))?)
}

/// Documents that are almost right, and some that are meant to do harm.
fn documents() -> Result<Vec<String>> {
    let mut documents: Vec<String> = HARM.iter().map(|d| (*d).to_owned()).collect();
    documents.push("[".repeat(100_000));
    documents.push("a: ".repeat(20_000));
    documents.push(format!("apiVersion: v1\nkind: {}\n", "x".repeat(500_000)));
    documents.push("- ".repeat(50_000));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let item = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", item.trim_end_matches(", ")));
    }
    documents.push(bomb);
    let files = [
        bookinfo("destination-rules.yaml")?,
        bookinfo("reviews-service.yaml")?,
        bookinfo("virtual-service-reviews-90-10.yaml")?,
        bookinfo("virtual-service-reviews-jason-v2.yaml")?,
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut dice = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (limit.max(1) as u64)).unwrap_or_default()
    };
    for round in 0..200 {
        let mut lines: Vec<String> = files[round % files.len()].lines().map(str::to_owned).collect();
        let at = dice(lines.len());
        match round % 5 {
            0 => lines[at].insert_str(0, "  "),
            1 => lines.insert(at, format!("{}surprise: 1", " ".repeat(dice(8)))),
            2 => lines[at] = lines[at].replace(':', ": {} #"),
            3 => lines[at] = format!("{}: [1, two, {{three: 4}}]", lines[at].split(':').next().unwrap_or("x")),
            _ => lines.truncate(at),
        }
        documents.push(lines.join("\n") + "\n");
    }
    Ok(documents)
}

const HARM: [&str; 12] = [
    "\u{0}",
    "%YAML 9.9\n---\n",
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n",
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ../../etc, namespace: default}\nspec: {hosts: [a]}\n",
    "apiVersion: networking.istio.io/v1\nkind: Teapot\nmetadata: {name: a}\nspec: {}\n",
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: 'a b c'}\n",
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.b], ports: [{number: 99999, name: http, protocol: HTTP}], resolution: STATIC}\n",
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{match: [{uri: {regex: '(a+)+$((('}}], route: [{destination: {host: a}}]}]}\n",
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{route: [{destination: {host: a}, weight: -5}]}]}\n",
    "!!python/object/apply:os.system ['true']\n",
    "a: !!binary aGVsbG8=\nb: *missing\n",
    "{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"Sidecar\", \"metadata\": {\"name\": 7}, \"spec\": []}\n",
];
