//! A path that a policy denies, and one that somebody is asked about who does not answer, asked for all the while: never open for
//! an instant.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_tests::mesh::{Load, LoadReport, Member, Mesh};
use hawser_tests::testbeds::Testbed;
use hawser_tests::{Lab, isolated, wait};

/// Where nobody listens there is no answer.
const PROVIDERS: &str =
    "extensionProviders:\n- {name: silent, envoyExtAuthzGrpc: {service: silent.test, port: 9001}}\n";
const HOST: &str = "details.default.svc.cluster.local";

fn policy(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {spec}\n---\n"
    )
}

#[test]
fn a_denied_path_is_never_open_through_starts_changes_and_restarts() {
    isolated(|| hammered(None));
}

#[test]
fn nor_is_it_with_an_envoy() {
    isolated(|| hammered(Some(&Testbed::provide()?)));
}

/// With a hawser-proxy, or an Envoy, on the host that is called.
fn hammered(envoy: Option<&Testbed>) -> Result<()> {
    let mut lab = Lab::new()?;
    let settings = lab.work().join("mesh.yaml");
    std::fs::write(&settings, PROVIDERS)?;
    std::fs::set_permissions(&settings, PermissionsExt::from_mode(0o644))?;
    let mut mesh = Mesh::start_with(&mut lab, &["--mesh-config", &settings.display().to_string()])?;
    let stranger = Member::new(&mut lab, "stranger")?;
    let authorization = |name: &str, spec: &str| policy("AuthorizationPolicy", name, "default", spec);
    let deny = authorization("deny", "{action: DENY, rules: [{to: [{operation: {paths: ['/details/secret*']}}]}]}");
    mesh.apply(&deny)?;
    mesh.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: silent, namespace: default}}\n\
             spec: {{hosts: [silent.test], location: MESH_INTERNAL, resolution: STATIC, \
             ports: [{{number: 9001, name: grpc, protocol: GRPC}}], endpoints: [{{address: {}}}]}}\n---\n{}",
        stranger.host.v4(),
        authorization(
            "ask",
            "{action: CUSTOM, provider: {name: silent}, rules: [{to: [{operation: {paths: ['/details/asked*']}}]}]}"
        )
    ))?;
    // From the first moment: the policies are there before the host is.
    let mut server = match envoy {
        Some(testbed) => Member::with_envoy(&mut lab, &mesh, testbed, "server", "details")?,
        None => Member::joined(&mut lab, &mesh, "server", "details", "v1")?,
    };
    let client = Member::joined(&mut lab, &mesh, "client", "ratings", "v1")?;
    let asked = format!("http://{}:9080/details/asked", server.host.v4());
    let asked = stranger.load(&asked, 100, &["--fresh", "--workers", "2", "--limit", "2000"])?;
    let secret = format!("http://{}:9080/details/secret", server.host.v4());
    let fresh = stranger.load(&secret, 100, &["--fresh", "--workers", "4", "--limit", "2000"])?;
    let kept = stranger.load(&secret, 100, &["--workers", "4", "--limit", "2000"])?;
    mesh.healthy(HOST, 1, Duration::from_secs(10))?;
    let through = client.load(&format!("http://{HOST}:9080/details/secret"), 100, &["--limit", "2000"])?;
    let url = format!("http://{}:9080/details/0", server.host.v4());
    let open = |wanted: bool| -> Result<()> {
        wait::for_true("what is not denied is as it should be", Duration::from_secs(30), || {
            let seen = stranger.host.curl(&["--max-time", "1", "-o", "/dev/null", "-w", "%{http_code}", &url]);
            seen.is_ok_and(|s| (s.out.trim() == "200") == wanted)
        })
    };
    open(true)?;
    // Other policies come and go, of every kind.
    let changes: [(String, bool); 6] = [
        (authorization("others", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"), true),
        (authorization("others", "{rules: []}"), false),
        (authorization("others", "{action: AUDIT, rules: [{}]}"), true),
        (policy("PeerAuthentication", "p", "default", "{mtls: {mode: STRICT}}"), false),
        (policy("PeerAuthentication", "p", "default", "{mtls: {mode: PERMISSIVE}}"), true),
        (authorization("more", "{action: DENY, rules: [{to: [{operation: {paths: [/nothing]}}]}]}"), true),
    ];
    for _ in 0..5 {
        for (yaml, is_open) in &changes {
            mesh.apply(yaml)?;
            open(*is_open)?;
        }
    }
    // Discovery goes and comes back.
    mesh.kill_discovery();
    open(true)?;
    mesh.start_discovery()?;
    mesh.apply(&authorization("after", "{rules: []}"))?;
    open(false)?;
    mesh.apply(&authorization("after", "{rules: [{}]}"))?;
    open(true)?;
    // The proxy, then the agent, then both at once: they start from what the host has kept.
    let program = if envoy.is_some() { "envoy" } else { "hawser-proxy" };
    kill(&server, program)?;
    open_again(&server, &stranger)?;
    server.kill_agent();
    server.start_agent()?;
    open_again(&server, &stranger)?;
    server.kill_agent();
    kill(&server, program)?;
    server.start_agent()?;
    open_again(&server, &stranger)?;
    // The same, a moment later (what is younger need not be on disk), while discovery is away, and what it says when it is back.
    wait::between_looks(Duration::from_secs(1));
    mesh.kill_discovery();
    server.kill_agent();
    kill(&server, program)?;
    server.start_agent()?;
    open_again(&server, &stranger)?;
    mesh.start_discovery()?;
    mesh.apply(&authorization("after", "{rules: []}"))?;
    open(false)?;
    mesh.apply(&authorization("after", "{rules: [{}]}"))?;
    open(true)?;
    for (name, load) in [("fresh", fresh), ("kept", kept), ("through the mesh", through), ("asked about", asked)] {
        never_open(name, load)?;
    }
    Ok(())
}

#[test]
fn the_name_that_was_asked_for_counts_within_the_host_too() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let client = Member::joined(&mut lab, &mesh, "client", "ratings", "v1")?;
        let status = |member: &Member, url: &str| -> String {
            let seen = member.host.curl(&["--max-time", "2", "-o", "/dev/null", "-w", "%{http_code}", url]);
            seen.map(|s| s.out.trim().to_owned()).unwrap_or_default()
        };
        let named = format!("http://{HOST}:9080/details/0");
        let plain = format!("http://{}:9080/details/0", server.host.v4());
        let are = |within: &str, over: &str| {
            wait::for_true(&format!("{within} within the host, {over} from another"), Duration::from_secs(20), || {
                status(&server, &named) == within && status(&client, &named) == over
            })
        };
        are("200", "200")?;
        let of = |action: &str, values: &str| {
            let rule = format!("{{action: {action}, rules: [{{when: [{{key: connection.sni, {values}}}]}}]}}");
            policy("AuthorizationPolicy", "named", "default", &rule)
        };
        mesh.apply(&of("DENY", "values: ['outbound_.9080_.*']"))?;
        are("403", "403")?;
        ensure!(status(&client, &plain) == "200", "who asks for no name is not meant");
        mesh.apply(&of("ALLOW", "values: ['outbound_.9080_.*']"))?;
        are("200", "200")?;
        ensure!(status(&client, &plain) == "403", "who asks for no name is not meant");
        Ok(())
    });
}

fn kill(server: &Member, program: &str) -> Result<()> {
    let found = server.host.run(&["pgrep", "-x", program])?;
    ensure!(!found.out.trim().is_empty(), "no {program} runs");
    for pid in found.out.split_whitespace() {
        server.host.run(&["kill", "-9", pid])?;
    }
    Ok(())
}

fn open_again(server: &Member, stranger: &Member) -> Result<()> {
    let url = format!("http://{}:9080/details/0", server.host.v4());
    wait::for_true("the host serves again", Duration::from_secs(30), || {
        let seen = stranger.host.curl(&["--fail", "--max-time", "1", "-o", "/dev/null", &url]);
        seen.is_ok_and(|s| s.ok())
    })
}

fn never_open(name: &str, load: Load) -> Result<()> {
    let LoadReport { requests, statuses, first, .. } = load.stop()?;
    let denied = statuses.get("403").copied().unwrap_or_default();
    eprintln!("{name}: {requests} requests, {statuses:?}");
    ensure!(denied > 200, "{name}: only {denied} of {requests} were denied by the policy: {statuses:?}");
    let let_in: Vec<_> = statuses.keys().filter(|s| s.starts_with('2') || *s == "404").collect();
    ensure!(let_in.is_empty(), "{name}: some were let in: {statuses:?}, first {first:#?}");
    Ok(())
}
