//! Security policies: a set of them is applied, requests are made through both proxies, the set is taken away.
//!
//! In: sets with what is tried under each. Out: what was seen, in which both must agree: answers, what came through, and what
//! the access log says of who refused. Sets come one after the other, as each is about the same workload.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::{isolated, wait};

use crate::bed::{self, Bed, Placed};
use crate::case::{Case, case};
use crate::message::{Body, Head};
use crate::seen::difference;
use crate::stream::{Ended, Stream};
use crate::{SIDES, Side, client, tables, tokens};

/// Policies, and what is tried under them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    /// What is tried; unique.
    pub(crate) name: &'static str,
    /// Istio's resources. `{caller}` is an address; `{0.host}` is the host of the first try, and so on; names in braces of [`tokens`] are keys.
    pub(crate) yaml: &'static str,
    /// Requests and connections.
    pub(crate) tries: &'static [Case],
}

/// What the log says beside the usual.
const LOG: &str = " details %RESPONSE_CODE_DETAILS% ended %CONNECTION_TERMINATION_DETAILS% \
                   audit %DYNAMIC_METADATA(envoy.common:access_log_hint)% \
                   ext %DYNAMIC_METADATA(envoy.filters.http.ext_authz:word)% \
                   %DYNAMIC_METADATA(envoy.filters.http.ext_authz:inner:deep)% \
                   asked %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_ext_authz_shadow_effective_policy_id)% \
                   deny %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_effective_policy_id)% \
                   %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_engine_result)% \
                   allow %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_allow_shadow_effective_policy_id)% \
                   %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_allow_shadow_engine_result)%";
/// What is refused as long as a set is there, so that its arrival is seen. To servers and logs it is a probe.
const MARKER: &str = concat!("/still-there", "/policies");

#[test]
fn operations_that_envoy_refuses_are_refused() {
    play(|set| set.name.starts_with("rules[].to"));
}

#[test]
fn callers_without_certificates_are_refused_as_envoy_does() {
    play(|set| set.name.starts_with("mtls.mode"));
}

#[test]
fn policies_refuse_what_envoy_refuses() {
    // The others have tests of their own.
    play(|set| !set.name.starts_with("rules[].to") && !set.name.starts_with("mtls.mode"));
}

pub(crate) fn play(wanted: impl Fn(&Set) -> bool) {
    isolated(|| {
        let only = std::env::var("HAWSER_CASES").ok();
        let named = |words: &String, set: &Set| words.split('|').any(|words| set.name.contains(words));
        let chosen = tables::sets().filter(|set| only.as_ref().is_none_or(|words| named(words, set)));
        let sets: Vec<&Set> = chosen.filter(|set| wanted(set)).collect();
        ensure!(!sets.is_empty(), "no set has such a name");
        let tokens = tokens::Tokens::new()?;
        let tries = sets.iter().flat_map(|set| set.tries).map(|case| tokens.written(case));
        let placed = bed::place([tables::OUTBOUND, tables::INBOUND].into_iter().chain(tries));
        let bed = Bed::start(&placed, LOG)?;
        let (probe, mut rest) = (&placed[1], &placed[2..]);
        let (mut played, mut refused) = (Vec::new(), Vec::new());
        let mut began = BTreeMap::new();
        for set in &sets {
            let (own, others) = rest.split_at(set.tries.len());
            rest = others;
            let yaml =
                format!("{}\n---\n{}", tokens.replaced(set.yaml).replace("{caller}", &bed.caller()), marker(probe));
            let yaml = bed.written(&yaml, own);
            bed.apply(&yaml).with_context(|| set.name.to_owned())?;
            if let Err(why) = until(&bed, probe, MARKER, 403) {
                refused.push(format!("=== {}: {why:#}\n{}\n", set.name, bed.envoy_log()));
                bed.delete()?;
                continue;
            }
            for one in own {
                for side in SIDES {
                    let (seen, from) = bed.play(one, side)?;
                    began.insert((played.len(), side as usize), from);
                    played.push((set.name, one.clone(), side, seen));
                }
            }
            bed.delete()?;
            // Another set may refuse the marker too, for a reason of its own.
            until(&bed, probe, MARKER, 200).with_context(|| format!("after {}", set.name))?;
        }
        let log = bed.log(&placed)?;
        let mut wrong: Vec<String> = refused;
        for (at, pair) in played.chunks_exact_mut(2).enumerate() {
            let mut lines = Vec::new();
            for (index, (_, one, side, seen)) in pair.iter_mut().enumerate() {
                for request in one.requests.of(*side) {
                    request.lines.into_iter().for_each(|line| seen.server(line));
                }
                let from = began[&(at * 2 + index, *side as usize)];
                Bed::log_of(&log, from).into_iter().filter(|l| !l.contains(crate::PROBE)).for_each(|l| seen.log(l));
                lines.push(seen.lines(&bed.names(one, *side)));
            }
            let (set, one, ..) = &pair[0];
            if only.is_some() {
                eprintln!("=== {set}: {}\n{}", one.case.name, lines[Side::Envoy as usize].join("\n"));
            }
            let found = difference(&lines[0], &lines[1]);
            let meant: Vec<&str> = one.case.kept.iter().flat_map(|k| k.exactly.lines()).map(str::trim).collect();
            if found != meant {
                wrong.push(format!("=== {set}: {} ({})\n{}\n", one.case.name, one.name, found.join("\n")));
            }
        }
        eprintln!("{} sets, {} tries", sets.len(), played.len() / 2);
        ensure!(wrong.is_empty(), "{} of {} tries:\n\n{}", wrong.len(), played.len() / 2, wrong.join("\n"));
        Ok(())
    });
}

#[test]
fn a_change_closes_what_it_forbids_and_nothing_else() {
    isolated(|| {
        let tcp: &'static Case = Box::leak(Box::new(case("TCP", "").inbound().port("TCP")));
        let placed = bed::place([tables::OUTBOUND, tables::INBOUND, tcp, tcp]);
        let bed = Bed::start(&placed, "")?;
        let [_, probe, one, other] = placed.as_slice() else { unreachable!("four were placed") };
        let peers = |mode: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                 metadata: {{name: p, namespace: default}}\nspec: {{mtls: {{mode: {mode}}}}}\n---\n{}",
                marker(probe)
            )
        };
        let denied = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: default}}\n\
             spec: {{action: DENY, rules: [{{from: [{{source: {{principals: ['*']}}}}], \
             to: [{{operation: {{ports: ['{}']}}}}]}}]}}\n---\n{}",
            one.port,
            marker(probe)
        );
        for (policies, on, good, bad) in [(peers("STRICT"), one, true, false), (denied, one, false, true)] {
            let open = |on: &Placed, mutual| -> Result<_> {
                let mut stream = bed.connect(on, Side::Ours, mutual)?.0;
                served(&mut stream)?;
                Ok(stream)
            };
            let (mut stays, mut goes) = (open(on, good)?, open(on, bad)?);
            let mut elsewhere = open(other, true)?;
            bed.apply(&policies)?;
            until(&bed, probe, MARKER, 403)?;
            ensure!(goes.fill() == Err(Ended::Closed), "what is forbidden now goes on:\n{policies}");
            served(&mut stays).with_context(|| format!("what is not forbidden is closed:\n{policies}"))?;
            served(&mut elsewhere).with_context(|| format!("another port's is closed:\n{policies}"))?;
            bed.delete()?;
            until(&bed, probe, MARKER, 200)?;
            served(&mut stays).context("a policy that goes closes nothing")?;
        }
        Ok(())
    });
}

/// Whether a connection that is carried still is.
fn served(stream: &mut Stream) -> Result<()> {
    stream.write(b"GET /still-there HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let head = Head::read(stream).map_err(|ended| anyhow::anyhow!("{ended:?}"))?;
    Body::read(stream, &head, true);
    ensure!(head.status() == 200, "{}", head.first);
    Ok(())
}

#[test]
fn no_two_sets_have_one_name_and_each_tries_something() {
    let mut names = std::collections::BTreeSet::new();
    for set in tables::sets() {
        assert!(names.insert(set.name) && !set.tries.is_empty(), "{}", set.name);
    }
}

fn marker(probe: &Placed) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a-marker, namespace: default}}\n\
         spec: {{selector: {{matchLabels: {{app: server}}}}, action: DENY, \
         rules: [{{to: [{{operation: {{paths: [{MARKER}], ports: ['{}']}}}}]}}]}}\n",
        // Without the port it would deny all of TCP, which has no paths.
        probe.port
    )
}

/// Waits until both proxies answer so.
fn until(bed: &Bed, probe: &Placed, path: &str, status: u16) -> Result<()> {
    for side in SIDES {
        let send = format!("GET {path} HTTP/1.1\nhost: {{host}}\n\n");
        let mut last = Vec::new();
        wait::for_true("both proxies have the policies", Duration::from_secs(60), || {
            // One of the two is let in, whatever the port takes.
            [false, true].into_iter().any(|mutual| {
                let Ok((stream, _)) = bed.connect(probe, side, mutual) else { return false };
                last = client::play(stream, &send, &probe.name, 1, false).lines(&[]);
                last.first().is_some_and(|line| line.contains(&format!(" {status} ")))
            })
        })
        .with_context(|| format!("{side:?}: {last:#?}"))?;
    }
    Ok(())
}

/// Names of the fields of a type, as its reader knows them.
fn fields<T: serde::de::DeserializeOwned>() -> Vec<String> {
    let error = serde_json::from_str::<T>(r#"{"?": 0}"#).err().expect("there is no such field").to_string();
    // "unknown field `?`, expected one of `a`, `b` at line 1 column 4"
    let names = error.split('`').skip(3).step_by(2).map(str::to_owned);
    let names: Vec<String> = names.filter(|name| !name.contains('_')).collect();
    assert!(!names.is_empty(), "{error}");
    names
}

#[test]
fn every_field_of_the_policies_stands_in_the_page_with_its_case() {
    use hawser_api::istio::authorization_policy as authorization;
    use hawser_api::istio::mesh_config::{ExtAuthzGrpc, ExtAuthzHttp, ExtAuthzRequestBody};
    use hawser_api::istio::request_authentication as tokens;
    use hawser_api::istio::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
    let page = std::fs::read_to_string(hawser_tests::programs::source_root().join("docs/configuration.md")).unwrap();
    let rows: BTreeMap<&str, (&str, &str)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.strip_suffix(" |")?.splitn(3, " | ");
            let (field, state, case) = (cells.next()?, cells.next()?, cells.next()?);
            Some((field.strip_suffix('`')?, (state, case)))
        })
        .collect();
    let mut wanted: Vec<String> = Vec::new();
    let mut add = |prefix: &str, names: Vec<String>| wanted.extend(names.into_iter().map(|n| format!("{prefix}{n}")));
    add("AuthorizationPolicy.", fields::<AuthorizationPolicy>());
    add("AuthorizationPolicy.rules[].", fields::<authorization::Rule>());
    add("AuthorizationPolicy.rules[].from[].source.", fields::<authorization::Source>());
    add("AuthorizationPolicy.rules[].to[].operation.", fields::<authorization::Operation>());
    add("AuthorizationPolicy.rules[].when[].", fields::<authorization::Condition>());
    add("RequestAuthentication.", fields::<RequestAuthentication>());
    add("RequestAuthentication.jwtRules[].", fields::<tokens::JwtRule>());
    add("PeerAuthentication.", fields::<PeerAuthentication>());
    add("ExtAuthzGrpc.", fields::<ExtAuthzGrpc>());
    add("ExtAuthzHttp.", fields::<ExtAuthzHttp>());
    add("ExtAuthzRequestBody.", fields::<ExtAuthzRequestBody>());
    let sets: BTreeMap<&str, &Set> = tables::sets().map(|set| (set.name, set)).collect();
    let mut wrong = Vec::new();
    for field in &wanted {
        match rows.get(field.as_str()) {
            None => wrong.push(format!("{field}: the page lacks it")),
            Some(("refused", _)) => {}
            Some(("honoured", case)) => {
                for name in case.split('`').skip(1).step_by(2) {
                    let test = name.starts_with("test ");
                    if !test && !sets.contains_key(name) {
                        wrong.push(format!("{field}: there is no set {name:?}"));
                    }
                }
                if !case.contains('`') {
                    wrong.push(format!("{field}: no case is named"));
                }
            }
            Some((state, _)) => wrong.push(format!("{field}: {state:?} is neither honoured nor refused")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(wanted.len() > 50, "only {} fields", wanted.len());
}
