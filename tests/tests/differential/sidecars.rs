//! Sidecars are played as policies are: a set is applied, both proxies are asked, the set goes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_tests::{isolated, wait};

use crate::bed::{self, Bed, Placed};
use crate::{Side, client, policies, tables};

#[test]
fn a_sidecar_leaves_of_the_mesh_what_it_leaves_to_envoy() {
    policies::play(|set| set.name.starts_with("sidecar"));
}

/// A listener that can't be bound keeps no other from being bound, and is bound when its port is free; what is not asked for any
/// more is given up.
#[test]
fn a_port_that_another_program_has_is_bound_when_it_is_free() {
    isolated(|| {
        let cases = bed::place([tables::OUTBOUND, tables::LISTENED, tables::LISTENED]);
        let bed = Bed::start(&cases, "")?;
        let [_, taken, free] = cases.as_slice() else { unreachable!("three were placed") };
        let other = bed.listen_at(Side::Ours, SocketAddr::from((Ipv4Addr::LOCALHOST, taken.server(0))))?;
        let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a, namespace: default}\n\
                       spec: {workloadSelector: {labels: {app: server}}, egress: [\
                       {port: {number: {0.port1}, protocol: HTTP, name: http-0}, captureMode: NONE, hosts: ['./*']}, \
                       {port: {number: {1.port1}, protocol: HTTP, name: http-1}, captureMode: NONE, hosts: ['./*']}, \
                       {hosts: ['./*']}]}\n";
        bed.apply(&bed.written(sidecar, &cases[1..]))?;
        wait::for_true("the free port is bound", Duration::from_secs(20), || served(&bed, free).is_ok())?;
        ensure!(bed.proxy_log().contains("can't be bound"), "nobody was told:\n{}", bed.proxy_log());
        drop(other);
        wait::for_true("the other port is bound, too", Duration::from_secs(20), || served(&bed, taken).is_ok())?;
        bed.delete()?;
        let gone = || bed.open_at(Side::Ours, SocketAddr::from((Ipv4Addr::LOCALHOST, free.server(0)))).is_err();
        wait::for_true("what nobody asks for is given up", Duration::from_secs(20), gone)
    });
}

/// Whether the caller's own proxy answers at a listener that is bound.
fn served(bed: &Bed, placed: &Placed) -> Result<()> {
    let stream = bed.open_at(Side::Ours, SocketAddr::from((Ipv4Addr::LOCALHOST, placed.server(0))))?;
    let seen = client::play(stream, "GET / HTTP/1.1\nhost: {host}\n\n", &placed.name, 1, false).lines(&[]);
    ensure!(seen.first().is_some_and(|line| line.contains(" 200 ")), "{seen:?}");
    Ok(())
}
