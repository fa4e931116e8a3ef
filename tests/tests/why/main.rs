//! `hawser why` and `hawser proxy-config` over a mesh: what they say is what becomes of requests.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::testbeds::Testbed;
use hawser_tests::{Lab, isolated, programs, wait};
use serde_json::Value;

const HOST: &str = "details.default.svc.cluster.local";
const TO: &str = "details.default.svc.cluster.local:9080";
const LONG: Duration = Duration::from_secs(20);

/// What leads each request elsewhere.
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details, namespace: default}
spec:
  hosts: [details]
  http:
  - {match: [{uri: {prefix: /private}}], directResponse: {status: 403}}
  - {match: [{uri: {exact: /old}}], redirect: {uri: /new}}
  - {match: [{uri: {prefix: /d}, headers: {end-user: {exact: jason}}}], route: [{destination: {host: details, subset: none}}]}
  - {match: [{uri: {regex: '/x[0-9]+'}, method: {exact: POST}}], route: [{destination: {host: details, subset: absent}}]}
  - {match: [{uri: {prefix: /d}}, {queryParams: {debug: {exact: 'yes'}}}], route: [{destination: {host: details}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details, namespace: default}
spec:
  host: details
  subsets: [{name: none, labels: {version: none}}]
";
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                      metadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n";
const PLAINTEXT: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                         metadata: {name: details, namespace: default}\n\
                         spec: {host: details, trafficPolicy: {tls: {mode: DISABLE}}}\n";

/// A request, what `why` says of it, and the status that it gets.
struct Case {
    args: &'static [&'static str],
    outcome: &'static str,
    status: &'static str,
}

const CASES: [Case; 9] = [
    Case { args: &["--path", "/details/0"], outcome: "served", status: "200" },
    Case { args: &["--path", "/private/x"], outcome: "answered", status: "403" },
    Case { args: &["--path", "/old"], outcome: "redirected", status: "301" },
    Case { args: &["--path", "/older"], outcome: "no-route", status: "404" },
    Case { args: &["--path", "/details/0", "--header", "End-User: jason"], outcome: "no-endpoint", status: "503" },
    Case { args: &["--path", "/details/0", "--header", "end-user: jasonx"], outcome: "served", status: "200" },
    Case { args: &["--path", "/x12", "--method", "POST"], outcome: "no-endpoint", status: "503" },
    Case { args: &["--path", "/x12"], outcome: "no-route", status: "404" },
    Case { args: &["--path", "/y?debug=yes"], outcome: "served", status: "200" },
];

fn why(mesh: &Mesh, from: &str, to: &str, more: &[&str]) -> Result<(i32, Value)> {
    let mut args = vec!["why", "--from", from, "--to", to, "-o", "json"];
    args.extend(more);
    let seen = mesh.hawser(&args)?;
    let value = serde_json::from_str(&seen.out).with_context(|| format!("{args:?}: {seen:?}"))?;
    Ok((seen.code, value))
}

/// The status that a request of the same words gets.
fn status(caller: &Member, more: &[&str]) -> Result<String> {
    let mut path = "/";
    let mut args = vec!["-4", "--output", "/dev/null", "--write-out", "%{http_code}"];
    for pair in more.chunks(2) {
        match pair {
            ["--path", value] => path = value,
            ["--method", value] => args.extend(["--request", value]),
            ["--header", value] => args.extend(["--header", value]),
            _ => {}
        }
    }
    let url = format!("http://{TO}{path}");
    args.push(&url);
    let seen = caller.host.curl(&args)?;
    ensure!(seen.ok(), "{args:?}: {seen:?}");
    Ok(seen.out)
}

/// Waits until a caller goes by the rules.
fn rules_count(mesh: &Mesh, member: &Member) -> Result<()> {
    let mut last = None;
    wait::for_true(&format!("the rules count for {}", member.host.name()), LONG, || {
        let seen = status(member, &["--path", "/private"]);
        let counts = seen.as_ref().is_ok_and(|status| status == "403");
        last = Some(seen);
        counts
    })
    .with_context(|| {
        let said = mesh.hawser(&["why", "--from", member.host.name(), "--to", TO, "--path", "/private"]);
        let log = member.agent.as_ref().map(hawser_tests::Process::log).unwrap_or_default();
        format!("{last:?}: {said:#?}\n{}", hawser_tests::process::tail(&log))
    })
}

fn agree(mesh: &Mesh, caller: &Member, from: &str) -> Result<()> {
    for case in &CASES {
        let (code, said) = why(mesh, from, TO, case.args)?;
        ensure!(said["outcome"] == case.outcome, "{from} {:?}: {said:#}", case.args);
        let served = matches!(case.outcome, "served" | "answered" | "redirected");
        ensure!(code == if served { 0 } else { 7 }, "{:?} ended with {code}", case.args);
        let status = status(caller, case.args)?;
        ensure!(status == case.status, "{from} {:?} got {status}: {said:#}", case.args);
        let route = step(&said, "route")?;
        ensure!(route["decided_by"][0] == "VirtualService default/details", "{said:#}");
    }
    Ok(())
}

fn step<'a>(said: &'a Value, what: &str) -> Result<&'a Value> {
    let found = said["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["what"] == what));
    found.with_context(|| format!("no step {what}: {said:#}"))
}

#[test]
fn why_agrees_with_what_becomes_of_requests() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "ratings", "v1")?;
        let envoy = Member::with_envoy(&mut lab, &mesh, &Testbed::provide()?, "envoy", "reviews")?;
        mesh.healthy(HOST, 1, LONG)?;
        mesh.apply(RULES)?;
        for member in [&caller, &envoy] {
            rules_count(&mesh, member)?;
        }
        agree(&mesh, &caller, "default/ratings")?;
        agree(&mesh, &envoy, "envoy")?;

        let (_, said) = why(&mesh, "caller", TO, &["--path", "/d"])?;
        ensure!(said["endpoints"][0]["address"] == format!("{}:9080", server.host.v4()), "{said:#}");
        ensure!(said["endpoints"][0]["mtls"] == true, "{said:#}");
        ensure!(
            step(&said, "callee")?["says"].as_str().is_some_and(|s| s.contains("takes mTLS (PERMISSIVE)")),
            "{said:#}"
        );

        // mTLS only: taken, and by whose word.
        mesh.apply(STRICT)?;
        let (code, said) = why(&mesh, "caller", TO, &["--path", "/d"])?;
        let callee = step(&said, "callee")?;
        ensure!(code == 0 && callee["decided_by"][0] == "PeerAuthentication istio-system/default", "{said:#}");
        let plain = format!("http://{}:9080/d", server.host.v4());
        let stranger = lab.host("stranger")?;
        wait::for_true("strict counts", LONG, || {
            stranger.curl(&["--fail", "--max-time", "1", &plain]).is_ok_and(|seen| !seen.ok())
        })?;
        ensure!(status(&caller, &["--path", "/d"])? == "200");

        // A rule that speaks plaintext to it is refused, and so is the request.
        mesh.hawser(&["delete", "VirtualService", "details"])?;
        mesh.apply(PLAINTEXT)?;
        wait::for_true("plaintext is refused", LONG, || {
            status(&caller, &["--path", "/d"]).is_ok_and(|status| status == "503")
        })?;
        let (code, said) = why(&mesh, "caller", TO, &["--path", "/d"])?;
        ensure!(code == 7 && said["outcome"] == "refused", "{said:#}");
        ensure!(step(&said, "mtls")?["decided_by"][0] == "DestinationRule default/details", "{said:#}");
        ensure!(
            step(&said, "callee")?["says"].as_str().is_some_and(|s| s.contains("does not take plaintext")),
            "{said:#}"
        );

        // Short names, names of nobody, callers that do not exist.
        ensure!(why(&mesh, "caller", "details:9080", &[])?.1["steps"][1]["name"] == HOST);
        ensure!(why(&mesh, "caller", "details.default:9080", &[])?.1["steps"][1]["name"] == HOST);
        let (code, said) = why(&mesh, "caller", "example.org:443", &[])?;
        ensure!(code == 0 && said["outcome"] == "outside", "{said:#}");
        let unknown = mesh.hawser(&["why", "--from", "default/nobody", "--to", TO])?;
        ensure!(unknown.code == 5 && unknown.err.contains("hint:"), "{unknown:?}");
        for bad in [&["--to", "details"][..], &["--to", TO, "--path", "x"], &["--to", TO, "--header", "nonsense"]] {
            let mut args = vec!["why", "--from", "caller"];
            args.extend(bad);
            ensure!(mesh.hawser(&args)?.code == 4, "{args:?}");
        }
        Ok(())
    });
}

/// Who may do what at the server.
const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: default}
spec:
  selector: {matchLabels: {app: details}}
  rules:
  - {from: [{source: {principals: ['cluster.local/ns/default/sa/default']}}], to: [{operation: {methods: [GET], paths: ['/details*']}}]}
  - {to: [{operation: {paths: ['/open/{**}']}}], when: [{key: 'request.headers[x-key]', values: ['k*']}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secrets, namespace: istio-system}
spec: {action: DENY, rules: [{to: [{operation: {paths: ['*/secret']}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec: {action: CUSTOM, provider: {name: nobody}, rules: [{to: [{operation: {paths: [/details/asked]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: trial, namespace: default, annotations: {istio.io/dry-run: 'true'}}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/details/0]}}]}]}
";

/// Requests, what `why` says of them, who decides it, and the status that they get.
const JUDGED: &[(&[&str], &str, &str, &str)] = &[
    (&["--path", "/details/1"], "served", "default/callers", "200"),
    (&["--path", "/details/1", "--method", "POST"], "refused", "-", "403"),
    (&["--path", "/other"], "refused", "-", "403"),
    (&["--path", "/details/secret"], "refused", "istio-system/secrets", "403"),
    (&["--path", "/details/asked?a=b"], "refused", "default/ask", "403"),
    (&["--path", "/open/a/b"], "refused", "-", "403"),
    (&["--path", "/open/a/b", "--header", "X-Key: k1"], "served", "default/callers", "200"),
    (&["--path", "/details/0"], "served", "default/callers", "200"),
];

#[test]
fn why_judges_policies_as_proxies_do() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let _server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "ratings", "v1")?;
        mesh.healthy(HOST, 1, LONG)?;
        mesh.apply(POLICIES)?;
        wait::for_true("policies count", LONG, || status(&caller, &["--path", "/other"]).is_ok_and(|s| s == "403"))?;
        for (args, outcome, by, wanted) in JUDGED {
            let (code, said) = why(&mesh, "caller", TO, args)?;
            ensure!(said["outcome"] == *outcome, "{args:?}: {said:#}");
            ensure!(code == if *outcome == "served" { 0 } else { 7 }, "{args:?} ended with {code}");
            let steps = said["steps"].as_array().context("there are steps")?;
            let last = steps.iter().rfind(|step| step["what"] == "policy").context("a policy has a say")?;
            let decided = last["decided_by"][0].as_str().map_or("-", |one| one.rsplit(' ').next().unwrap_or(one));
            ensure!(decided == *by, "{args:?}: {said:#}");
            let status = status(&caller, args)?;
            ensure!(status == *wanted, "{args:?} got {status}: {said:#}");
        }
        let (_, tried) = why(&mesh, "caller", TO, &["--path", "/details/0"])?;
        let trial = tried["steps"].as_array().is_some_and(|steps| {
            steps.iter().any(|s| s["decided_by"][0] == "AuthorizationPolicy default/trial" && s["what"] == "policy")
        });
        ensure!(trial, "{tried:#}");
        // In plaintext nobody has proved who calls.
        mesh.apply(PLAINTEXT)?;
        wait::for_true("the caller speaks plaintext", LONG, || {
            status(&caller, &["--path", "/details/1"]).is_ok_and(|status| status == "403")
        })?;
        let (_, said) = why(&mesh, "caller", TO, &["--path", "/details/1"])?;
        ensure!(said["outcome"] == "refused", "{said:#}");
        Ok(())
    });
}

#[test]
fn listings_say_what_proxies_hold() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let _server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "ratings", "v1")?;
        let envoy = Member::with_envoy(&mut lab, &mesh, &Testbed::provide()?, "envoy", "reviews")?;
        mesh.healthy(HOST, 1, LONG)?;
        mesh.apply(RULES)?;
        mesh.apply(STRICT)?;
        for member in [&caller, &envoy] {
            rules_count(&mesh, member)?;
        }
        for kind in ["listeners", "routes", "clusters", "endpoints", "secrets", "policies"] {
            for host in ["caller", "envoy"] {
                let seen = mesh.hawser(&["proxy-config", kind, host])?;
                ensure!(seen.ok(), "{kind} {host}: {seen:?}");
                snapshot(&format!("{kind}-{host}"), &seen.out)?;
            }
        }
        for (name, more) in [
            ("served", &["--path", "/details/0"][..]),
            ("no-endpoint", &["--path", "/details/0", "--header", "end-user: jason"]),
            ("no-route", &["--path", "/older"]),
        ] {
            let mut args = vec!["why", "--from", "default/ratings", "--to", "details:9080"];
            args.extend(more);
            snapshot(&format!("why-{name}"), &mesh.hawser(&args)?.out)?;
        }
        let listed = mesh.json(&["proxy-config", "endpoints", "default/ratings"])?;
        let all = listed.as_array().context("a list")?;
        ensure!(all.iter().any(|row| row["workload"].as_str().is_some_and(|w| w.contains("details-"))), "{listed:#}");
        let none = mesh.hawser(&["proxy-config", "routes", "nobody"])?;
        ensure!(none.code == 5 && none.err.contains("hint:"), "{none:?}");
        Ok(())
    });
}

/// Compares what was printed with what lies beside this file; ids and the width of columns differ from run to run.
fn snapshot(name: &str, printed: &str) -> Result<()> {
    let path: PathBuf = programs::source_root().join(format!("tests/tests/why/{name}.txt"));
    let made = plain(printed);
    if std::env::var_os("HAWSER_BLESS").is_some() {
        std::fs::write(&path, &made)?;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    ensure!(made == wanted, "{} is otherwise:\n{made}", path.display());
    Ok(())
}

fn plain(text: &str) -> String {
    let mut made = String::new();
    for line in text.lines() {
        let columns: Vec<String> =
            line.split("   ").filter(|c| !c.trim().is_empty()).map(|c| nameless(c.trim())).collect();
        made.push_str(&columns.join("   "));
        made.push('\n');
    }
    made
}

/// Without the ids of hosts: the eight hexadecimal digits that follow the name of a group.
fn nameless(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('-') {
        made.push_str(before);
        made.push('-');
        let id = after.get(..8).filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit()));
        let ends = after.as_bytes().get(8).is_none_or(|b| !b.is_ascii_alphanumeric());
        match id.filter(|_| ends) {
            Some(_) => {
                made.push_str("ID");
                rest = &after[8..];
            }
            None => rest = after,
        }
    }
    made + rest
}
