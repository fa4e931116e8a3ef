//! Joining: fast, repeatable, and refused with a sentence and a code of its own for each reason.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_api::token::JoinToken;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, Seen, isolated, wait};

const DETAILS: &str = "details.default.svc.cluster.local";
const URL: &str = "http://details.default.svc.cluster.local:9080/details/0";

#[test]
fn a_join_serves_its_first_mtls_request_within_three_seconds() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let _details = Member::joined(&mut lab, &mesh, "details", "details", "v1")?;
        let mut page = Member::new(&mut lab, "page")?;
        page.bookinfo("productpage", "v1", "")?;
        let token = mesh.token("default/productpage", &["http=9080"], 1, &[])?;

        let capture = lab.capture("join")?;
        let start = Instant::now();
        page.join(&token)?;
        wait::for_true("the first answer", Duration::from_secs(10), || {
            page.host.curl(&["--fail", "--max-time", "1", URL]).is_ok_and(|s| s.ok())
        })?;
        let took = start.elapsed();
        let tls = capture.stop()?.tls_on(9080);
        ensure!(tls.application_records > 0, "it was not encrypted: {tls:?}");
        ensure!(took < Duration::from_secs(3), "it took {took:?}");
        Ok(())
    });
}

#[test]
fn a_second_join_and_one_whose_answer_was_lost_are_harmless() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let mut vm = Member::new(&mut lab, "vm")?;
        let token = mesh.token("default/details", &["http=9080"], 1, &[])?;

        // The agent dies at different moments of the join; its answer is lost.
        for pause in [5, 40, 120] {
            let mut asked = vm.host.spawn("lost-join", &["hawser", "join", &token])?;
            wait::between_looks(Duration::from_millis(pause));
            vm.kill_agent();
            asked.wait(Duration::from_secs(10))?;
            vm.start_agent()?;
        }
        vm.join(&token)?;
        let first = vm.json(&["status"])?["host"]["instance_id"].clone();
        vm.join(&token)?;
        let second = vm.json(&["status"])?["host"]["instance_id"].clone();
        ensure!(first.is_string() && first == second, "{first} became {second}");
        let tokens = mesh.json(&["get", "tokens"])?;
        ensure!(tokens[0]["used"] == 1, "a use belongs to a host key: {tokens:#}");
        let hosts = mesh.json(&["get", "hosts"])?;
        ensure!(hosts.as_array().is_some_and(|h| h.len() == 1), "{hosts:#}");
        Ok(())
    });
}

#[test]
fn every_refusal_has_its_sentence_and_its_code() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let vm = Member::new(&mut lab, "vm")?;
        let group = |more: &[&str]| mesh.token("default/details", &["http=9080"], 1, more);
        let mut sentences = Vec::new();
        let mut refused = |what: &str, code: i32, seen: Seen| -> Result<()> {
            ensure!(seen.code == code, "{what}: exit code {} instead of {code}:\n{}", seen.code, seen.err);
            let sentence = seen.err.lines().find(|l| l.starts_with("error: ")).unwrap_or_default().to_owned();
            ensure!(sentence.len() > 20, "{what} has no sentence: {}", seen.err);
            ensure!(seen.err.contains("hint: "), "{what} has no hint: {}", seen.err);
            ensure!(!sentences.contains(&sentence), "{what} shares its sentence: {sentence}");
            sentences.push(sentence);
            Ok(())
        };

        let expired = group(&["--ttl", "1s"])?;
        let expires = Instant::now() + Duration::from_secs(2);
        let mut unknown: JoinToken = group(&[])?.parse()?;
        let last = if unknown.id.ends_with('x') { 'y' } else { 'x' };
        unknown.id.replace_range(unknown.id.len() - 1.., &last.to_string());
        refused("unknown", 10, vm.hawser(&["join", &unknown.reveal()])?)?;

        let mut wrong_secret: JoinToken = group(&[])?.parse()?;
        wrong_secret.secret = wrong_secret.secret.chars().rev().collect();
        let seen = vm.hawser(&["join", &wrong_secret.reveal()])?;
        ensure!(seen.code == 10, "a wrong secret is an unknown token: {} {}", seen.code, seen.err);

        let revoked = group(&[])?;
        let id = revoked.parse::<JoinToken>()?.id;
        ensure!(mesh.hawser(&["token", "revoke", &id])?.ok());
        refused("revoked", 13, vm.hawser(&["join", &revoked])?)?;

        let elsewhere = group(&["--source", "10.99.0.0/16"])?;
        refused("source", 14, vm.hawser(&["join", &elsewhere])?)?;

        wait::for_true("the token expires", Duration::from_secs(5), || Instant::now() > expires)?;
        refused("expired", 11, vm.hawser(&["join", &expired])?)?;

        let once = group(&[])?;
        let other = Member::new(&mut lab, "other")?;
        other.join(&once)?;
        refused("used up", 12, vm.hawser(&["join", &once])?)?;

        let mut nowhere: JoinToken = group(&[])?.parse()?;
        nowhere.addresses = vec![format!("{}:15012", vm.host.v4())];
        refused("unreachable", 24, vm.hawser(&["join", &nowhere.reveal()])?)?;

        let seen = vm.hawser(&["join", &once[..once.len() - 9]])?;
        ensure!(seen.code == 4 && seen.err.contains("damaged"), "{seen:?}");
        let state = vm.json(&["status"])?["host"]["state"].clone();
        ensure!(state == "idle", "nothing of the refused joins is left: {state}");
        Ok(())
    });
}

#[test]
fn a_cloned_host_is_refused_and_the_original_goes_on_and_told_the_cure() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let original = Member::joined(&mut lab, &mesh, "original", "details", "v1")?;
        mesh.healthy(DETAILS, 1, Duration::from_secs(10))?;

        let host = lab.host("clone")?;
        let copy = host.disk().join("state");
        host.ok(&["cp", "-a", &original.state_dir().display().to_string(), &copy.display().to_string()])?;
        let clone = Member::on(host)?;
        let mut last = None;
        wait::for_true("the clone is told", Duration::from_secs(15), || {
            last = clone.hawser(&["status"]).ok();
            last.as_ref().is_some_and(|s| s.err.contains("copied") && s.err.contains("leave --force"))
        })
        .with_context(|| format!("{last:?}"))?;
        let token = mesh.token("default/details", &["http=9080"], 1, &[])?;
        let seen = clone.hawser(&["join", &token])?;
        ensure!(seen.code == 15, "the clone's join ends with its own code: {} {}", seen.code, seen.err);
        ensure!(original.json(&["status"])?["host"]["discovery_state"] == "connected", "the original goes on");

        ensure!(clone.hawser(&["leave", "--force"])?.ok(), "the cure works");
        clone.join(&token)?;
        mesh.healthy("details.default.svc.cluster.local", 2, Duration::from_secs(10))
            .context("the original and what was its clone")?;
        Ok(())
    });
}

#[test]
fn an_impostor_never_sees_the_secret() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let member = Member::joined(&mut lab, &mesh, "member", "details", "v1")?;
        let vm = Member::new(&mut lab, "vm")?;
        let mut token: JoinToken = mesh.token("default/details", &["http=9080"], 1, &[])?.parse()?;
        token.addresses = vec![format!("{}:15012", member.host.v4())];
        let secret = token.secret.clone();
        let dir = member.host.disk().display().to_string();

        // Another root.
        let own = format!(
            "cd {dir} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj / \
             -addext 'subjectAltName=critical,URI:spiffe://cluster.local/hawser/discovery' -keyout fake.key -out fake.pem"
        );
        member.host.ok(&["sh", "-c", &own])?;
        // The same root, but a workload's identity.
        let (key, chain) = workload_files(&member)?;
        for (name, key, chain) in
            [("other-root", format!("{dir}/fake.key"), format!("{dir}/fake.pem")), ("workload", key, chain)]
        {
            let args = [
                "openssl",
                "s_server",
                "-accept",
                "15012",
                "-cert",
                &chain,
                "-cert_chain",
                &chain,
                "-key",
                &key,
                "-alpn",
                "h2",
            ];
            let mut server = member.host.spawn(name, &args)?;
            server.says("ACCEPT", Duration::from_secs(5))?;
            let seen = vm.hawser(&["join", &token.reveal()])?;
            ensure!(seen.code == 23, "{name}: exit code {}: {}", seen.code, seen.err);
            let heard = server.log();
            ensure!(!heard.contains(&secret), "{name} saw the secret");
            ensure!(heard.len() > 6, "{name} was never asked");
        }
        Ok(())
    });
}

/// Files of the workload's key and chain in the agent's state.
fn workload_files(member: &Member) -> Result<(String, String)> {
    let list = format!("grep -rlE 'BEGIN (EC )?PRIVATE KEY' {}/workloads", member.state_dir().display());
    let keys = member.host.ok(&["sh", "-c", &list])?;
    let key = keys.lines().next().context("the agent keeps the workload's key")?.to_owned();
    let dir = std::path::Path::new(&key).parent().context("a file has a directory")?;
    let list = format!("grep -rl 'BEGIN CERTIFICATE' {}", dir.display());
    let chain = member.host.ok(&["sh", "-c", &list])?.lines().next().context("and its chain")?.to_owned();
    Ok((key, chain))
}

#[test]
fn joining_works_with_a_plugged_in_intermediate() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let dir = lab.work().join("cacerts");
        std::fs::create_dir_all(&dir)?;
        let ca = "basicConstraints=critical,CA:TRUE";
        let script = format!(
            "cd {} && openssl ecparam -name prime256v1 -genkey -noout -out root.key && \
             openssl req -x509 -new -key root.key -days 30 -subj /O=corp -addext keyUsage=critical,keyCertSign,cRLSign -out root-cert.pem && \
             openssl ecparam -name prime256v1 -genkey -noout -out ca-key.pem && \
             openssl req -new -key ca-key.pem -subj '/O=corp mesh' -out ca.csr && \
             printf '{ca}\\nkeyUsage=critical,keyCertSign,cRLSign\\nsubjectKeyIdentifier=hash\\n' > ext && \
             openssl x509 -req -in ca.csr -CA root-cert.pem -CAkey root.key -CAcreateserial -days 20 -extfile ext -out ca-cert.pem && \
             cat ca-cert.pem root-cert.pem > cert-chain.pem && rm root.key && chmod -R a+rX . && chmod 644 ca-key.pem",
            dir.display()
        );
        lab.wire().ok(&["sh", "-c", &script])?;
        if hawser_tests::mesh::has_users() {
            let user = hawser_tests::mesh::DISCOVERY_USER;
            lab.wire().ok(&["chown", "-R", &format!("{user}:{user}"), &dir.display().to_string()])?;
            lab.wire().ok(&["chmod", "600", &dir.join("ca-key.pem").display().to_string()])?;
        }
        let mesh = Mesh::start_with(&mut lab, &["--ca-dir", &dir.display().to_string()])?;
        let _details = Member::joined(&mut lab, &mesh, "details", "details", "v1")?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "ratings", "v1")?;
        wait::for_true("it answers over mTLS", Duration::from_secs(10), || {
            caller.host.curl(&["--fail", "--max-time", "1", URL]).is_ok_and(|s| s.ok())
        })?;
        Ok(())
    });
}
