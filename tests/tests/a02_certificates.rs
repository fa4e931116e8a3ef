//! Certificates field by field, as openssl reads them; where keys are and what they open; renewal and rejoin.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh, PROXY_USER, has_users};
use hawser_tests::{Host, Lab, Seen, isolated, wait};

const URL: &str = "http://details.default.svc.cluster.local:9080/";

#[test]
fn certificates_say_what_the_design_says() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let vm = Member::joined(&mut lab, &mesh, "vm", "details", "v1")?;
        let stranger = lab.host("stranger")?;
        let instance = vm.json(&["status"])?["host"]["instance_id"].as_str().context("instance id")?.to_owned();

        let workload = served(&stranger, &format!("{}:9080", vm.host.v4()), &["-alpn", "istio"])?;
        let text = fields(&stranger, &workload[0], "spiffe://cluster.local/ns/default/sa/default")?;
        ensure!(text.contains("TLS Web Server Authentication, TLS Web Client Authentication"), "{text}");
        ensure!(text.contains("prime256v1"), "P-256: {text}");
        lives(&stranger, &workload[0], 24 * 3600)?;

        let host = std::fs::read_to_string(vm.state_dir().join("host.pem"))?;
        let text = fields(&stranger, &host, &format!("spiffe://cluster.local/hawser/host/{instance}"))?;
        ensure!(text.contains("TLS Web Client Authentication") && !text.contains("Server Auth"), "{text}");

        let discovery = served(&stranger, &mesh.address(), &["-alpn", "h2"])?;
        fields(&stranger, &discovery[0], "spiffe://cluster.local/hawser/discovery")?;
        ensure!(discovery.len() >= 2, "the whole chain is served, root included");
        let root = discovery.last().context("a root")?;
        let read = openssl(&stranger, &["x509", "-noout", "-subject", "-issuer"], root)?;
        let sides: Vec<_> = read.lines().filter_map(|l| l.split_once('=')).map(|(_, name)| name.trim()).collect();
        ensure!(sides.len() == 2 && sides[0] == sides[1], "the last one is the root: {read}");

        let file = stranger.disk().join("root.pem");
        std::fs::write(&file, root)?;
        for leaf in [&workload[0], &host, &discovery[0]] {
            let seen = openssl(&stranger, &["verify", "-CAfile", &file.display().to_string()], leaf)?;
            ensure!(seen.contains("OK"), "{seen}");
        }
        Ok(())
    });
}

#[test]
fn keys_stay_where_they_were_made() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let vm = Member::joined(&mut lab, &mesh, "vm", "details", "v1")?;
        // The secret number of the host key, as it would have to stand in whatever it was copied to.
        let show =
            format!("openssl pkey -in {}/host.key -noout -text | sed -n '/priv:/,/pub:/p'", vm.state_dir().display());
        let shown = vm.host.ok(&["sh", "-c", &show])?;
        let digits: String = shown.lines().filter(|l| !l.contains("p")).collect();
        let digits: String = digits.chars().filter(char::is_ascii_hexdigit).collect();
        let secret: Vec<u8> =
            (0..digits.len() / 2).filter_map(|i| u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok()).collect();
        ensure!(secret.len() >= 32, "the host key: {shown}");
        let secret = &secret[secret.len() - 32..];
        for dir in [mesh.data_dir(), mesh.config_dir()] {
            for file in std::fs::read_dir(dir)?.flatten().filter(|f| f.path().is_file()) {
                let bytes = std::fs::read(file.path())?;
                ensure!(!bytes.windows(32).any(|w| w == secret), "{:?} holds the host's key", file.path());
            }
        }
        if has_users() {
            let user = PROXY_USER.to_string();
            let dirs = format!("{} /run/hawser", vm.host.disk().display());
            let look = format!("grep -rlE 'PRIVATE KEY' {dirs} 2>/dev/null; true");
            let found =
                vm.host.ok(&["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "sh", "-c", &look])?;
            ensure!(found.is_empty(), "the proxy's user can read a key: {found}");
        }
        Ok(())
    });
}

#[test]
fn a_workload_certificate_of_a_joined_host_opens_nothing() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let vm = Member::joined(&mut lab, &mesh, "vm", "details", "v1")?;
        let state = vm.state_dir().display().to_string();
        let find = |what: &str| vm.host.ok(&["sh", "-c", &format!("grep -rlE '{what}' {state}/workloads")]);
        let key = find("PRIVATE KEY")?.trim().to_owned();
        let chain = find("BEGIN CERTIFICATE")?.trim().to_owned();
        let host = (format!("{state}/host.key"), format!("{state}/host.pem"));
        let call = |key: &str, chain: &str, method: &str| -> Result<String> {
            let url = format!("https://{}/{method}", mesh.address());
            // A message that holds nothing; for xDS, one that names its node.
            let node = "sidecar~10.77.0.2~x.default~default.svc.cluster.local";
            let body = if method.contains("Aggregated") {
                let (inner, id) = (node.len() + 2, node.len());
                format!("\\0\\0\\0\\0\\{:o}\\012\\{inner:o}\\012\\{id:o}{node}", inner + 2)
            } else {
                "\\0\\0\\0\\0\\0".to_owned()
            };
            let line = format!(
                "printf '{body}' | curl -sk --http2 --max-time 10 --key {key} --cert {chain} -D - -o /dev/null \
                 -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- {url} || true"
            );
            vm.host.ok(&["sh", "-c", &line])
        };
        let refused = |answer: &str| answer.contains("grpc-status: 7") || answer.contains("grpc-status: 16");
        for method in [
            "hawser.host.v1.Host/Sign",
            "hawser.host.v1.Host/Session",
            "istio.v1.auth.IstioCertificateService/CreateCertificate",
            "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        ] {
            let answer = call(&key, &chain, method)?;
            ensure!(refused(&answer), "{method} is open to a workload: {answer}");
        }
        let answer = call(&host.0, &host.1, "hawser.host.v1.Host/Sign")?;
        ensure!(answer.contains("grpc-status: ") && !refused(&answer), "the host itself may: {answer}");
        Ok(())
    });
}

#[test]
fn renewal_under_load_loses_no_request_and_expired_hosts_come_back() {
    isolated(|| {
        let mut lab = Lab::new()?;
        // The shortest life there is: renewed after half of it.
        let mesh = Mesh::start_with(&mut lab, &["--certificate-life", "60s"])?;
        let mut server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "ratings", "v1")?;
        wait::for_true("it answers", Duration::from_secs(10), || {
            caller.host.curl(&["--fail", URL]).is_ok_and(|s| s.ok())
        })?;
        let serials = |m: &Member| -> Result<[String; 2]> {
            let status = m.json(&["status"])?;
            let serial = |v: &serde_json::Value| v["serial"].as_str().unwrap_or_default().to_owned();
            let host = &status["host"];
            Ok([serial(&host["certificate"]), serial(&host["workloads"][0]["certificate"])])
        };
        let before = [serials(&server)?, serials(&caller)?];
        let load = caller.load(URL, 50, &["--workers", "4"])?;
        let fresh = caller.load(URL, 20, &["--workers", "2", "--fresh"])?;
        wait::for_true("both hosts renewed everything", Duration::from_secs(50), || {
            let now = [serials(&server), serials(&caller)];
            now.iter()
                .zip(&before)
                .all(|(now, before)| now.as_ref().is_ok_and(|now| now.iter().zip(before).all(|(a, b)| a != b)))
        })?;
        load.stop()?.all_ok()?;
        fresh.stop()?.all_ok()?;

        server.power_off(&lab);
        let old = std::fs::read_to_string(server.state_dir().join("host.pem"))?;
        let expired = || -> Result<Seen> {
            caller.host.run_with_input(&["openssl", "x509", "-noout", "-checkend", "0"], Some(&old))
        };
        wait::for_true("its certificates expire", Duration::from_secs(70), || expired().is_ok_and(|s| s.code == 1))?;
        lab.power_on(&mut server.host)?;
        server.bookinfo("details", "v1", "")?;
        server.start_agent()?;
        wait::for_true("it comes back by its host key", Duration::from_secs(15), || {
            caller.host.curl(&["--fail", "--max-time", "1", URL]).is_ok_and(|s| s.ok())
        })
        .with_context(|| format!("{:?}", server.hawser(&["status"])))?;
        Ok(())
    });
}

#[test]
fn a_new_root_under_load_loses_no_request_and_a_host_that_was_off_meanwhile_comes_back() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start(&mut lab)?;
        let server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "ratings", "v1")?;
        let mut away = Member::joined(&mut lab, &mesh, "away", "reviews", "v1")?;
        let token = mesh.token("default/ratings", &["http=9080"], 1, &[])?;
        wait::for_true("it answers", Duration::from_secs(10), || {
            caller.host.curl(&["--fail", URL]).is_ok_and(|s| s.ok())
        })?;
        away.power_off(&lab);
        let before = [chain(&server)?, chain(&caller)?];
        let load = caller.load(URL, 50, &["--workers", "4"])?;
        let fresh = caller.load(URL, 20, &["--workers", "2", "--fresh"])?;
        for number in 1..=2 {
            let roots = mesh.json(&["ca", "rotate"])?;
            ensure!(roots.as_array().is_some_and(|roots| roots.len() == number + 1), "{roots}");
            ensure!(roots[0]["signing"] == true && roots[1]["trusted_until"].is_string(), "{roots}");
            wait::for_true("both hosts have certificates of the new root", Duration::from_secs(20), || {
                [&server, &caller]
                    .iter()
                    .all(|member| chain(member).is_ok_and(|pem| pem.matches("BEGIN CERTIFICATE").count() == number + 1))
            })?;
        }
        ensure!([chain(&server)?, chain(&caller)?].iter().zip(&before).all(|(now, before)| now != before), "new ones");
        load.stop()?.all_ok()?;
        fresh.stop()?.all_ok()?;

        // One start later it is as it was, for somebody with a token that names the first root alone, too.
        mesh.kill_discovery();
        mesh.start_discovery()?;
        ensure!(mesh.json(&["ca", "list"])?.as_array().is_some_and(|roots| roots.len() == 3), "all are trusted still");
        let new = Member::new(&mut lab, "new")?;
        let seen = new.join(&token)?;
        ensure!(seen.ok(), "{}{}", seen.out, seen.err);
        wait::for_true("the new host calls", Duration::from_secs(10), || {
            new.host.curl(&["--fail", "--max-time", "1", URL]).is_ok_and(|s| s.ok())
        })?;

        lab.power_on(&mut away.host)?;
        away.bookinfo("reviews", "v1", "")?;
        away.start_agent()?;
        let reviews = "http://reviews.default.svc.cluster.local:9080/";
        for from in [&caller, &new] {
            wait::for_true("the host that was off serves", Duration::from_secs(15), || {
                from.host.curl(&["--fail", "--max-time", "1", reviews]).is_ok_and(|s| s.ok())
            })
            .with_context(|| format!("{:?}", away.hawser(&["status"])))?;
        }
        wait::for_true("and calls", Duration::from_secs(15), || {
            away.host.curl(&["--fail", "--max-time", "1", URL]).is_ok_and(|s| s.ok())
        })
    });
}

/// The certificates of a member's workload, as they are on its disk.
fn chain(member: &Member) -> Result<String> {
    let line = format!("grep -rlZ 'BEGIN CERTIFICATE' {}/workloads | xargs -0 cat", member.state_dir().display());
    member.host.ok(&["sh", "-c", &line])
}

/// The chain that a TLS port serves.
fn served(from: &Host, address: &str, more: &[&str]) -> Result<Vec<String>> {
    let mut args = vec!["openssl", "s_client", "-showcerts", "-connect", address];
    args.extend(more);
    let seen = from.run_with_input(&args, Some(""))?;
    let mut chain = Vec::new();
    let mut rest = seen.out.as_str();
    while let Some((_, after)) = rest.split_once("-----BEGIN CERTIFICATE-----") {
        let (body, after) = after.split_once("-----END CERTIFICATE-----").context("a whole certificate")?;
        chain.push(format!("-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n"));
        rest = after;
    }
    // What s_client shows once more under "Server certificate" is the leaf.
    if chain.len() > 1 && chain.first() == chain.last() {
        chain.pop();
    }
    ensure!(!chain.is_empty(), "{address} serves no certificate: {}{}", seen.out, seen.err);
    Ok(chain)
}

/// What every certificate of the mesh has: an empty subject, one critical URI, no authority, valid now.
fn fields(from: &Host, pem: &str, uri: &str) -> Result<String> {
    let subject = openssl(from, &["x509", "-noout", "-subject"], pem)?;
    ensure!(subject.trim().trim_start_matches("subject=").trim().is_empty(), "the subject is not empty: {subject}");
    let text = openssl(from, &["x509", "-noout", "-text"], pem)?;
    let mut lines = text.lines().skip_while(|l| !l.contains("Subject Alternative Name"));
    ensure!(lines.next().is_some_and(|l| l.trim_end().ends_with("critical")), "the SAN is not critical: {text}");
    ensure!(lines.next().is_some_and(|l| l.trim() == format!("URI:{uri}")), "the SAN is not only {uri}: {text}");
    ensure!(!text.contains("CA:TRUE"), "{text}");
    openssl(from, &["x509", "-noout", "-checkend", "0"], pem)?;
    Ok(text)
}

/// Ends after about so many seconds, and began two minutes ago.
fn lives(from: &Host, pem: &str, seconds: u64) -> Result<()> {
    let long =
        from.run_with_input(&["openssl", "x509", "-noout", "-checkend", &(seconds - 120).to_string()], Some(pem))?;
    ensure!(long.code == 0, "it ends before {seconds} s");
    let longer =
        from.run_with_input(&["openssl", "x509", "-noout", "-checkend", &(seconds + 5).to_string()], Some(pem))?;
    ensure!(longer.code == 1, "it ends after {seconds} s");
    Ok(())
}

fn openssl(host: &Host, args: &[&str], input: &str) -> Result<String> {
    let mut all = vec!["openssl"];
    all.extend(args);
    let seen = host.run_with_input(&all, Some(input))?;
    ensure!(seen.ok(), "{args:?}: {}{}", seen.out, seen.err);
    Ok(seen.out)
}
