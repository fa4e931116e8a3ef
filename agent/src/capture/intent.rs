//! From what the agent knows to what is redirected. Pure.

use std::net::IpAddr;

use hawser_api::names::ports;
use hawser_api::proto::host::{Record, Workload, workload};

use crate::config::{self, Config, ProxyKind};
use crate::redirect::{
    Capture, Dns, Exempt, Inbound, InboundMode, Intent, Mark, OWN_MARK, OnProxyFailure, Outbound, Scope,
};

/// The intent of a joined host.
pub(super) fn intent(config: &Config, record: &Record, captured: Option<Capture>, servers: &[IpAddr]) -> Intent {
    let mut intent = Intent {
        capture: captured.unwrap_or_else(|| virtual_ranges(record)),
        exempt: exempt(config),
        dns: Some(Dns::new(servers.iter().copied())),
        on_proxy_failure: on_proxy_failure(config, record),
        inbound_mode: inbound_mode(config),
        envoy_uid: (config.file.proxy == ProxyKind::Envoy).then_some(config.proxy_user.uid),
        ..Intent::default()
    };
    for workload in &record.workloads {
        for port in &workload.ports {
            let Ok(port) = u16::try_from(port.port) else { continue };
            intent.inbound.insert(Inbound { address: None, port, workload: workload.id.clone() });
        }
        if let Some(scope) = scope(workload) {
            let port = outbound_port(workload);
            intent.outbound.insert(Outbound { scope, port, workload: workload.id.clone() });
        }
    }
    let first = record.workloads.first().map_or(ports::OUTBOUND, outbound_port);
    for interface in &config.file.capture_interfaces {
        intent.capture_interfaces.insert(interface.clone(), first);
    }
    intent
}

/// An Envoy makes its sockets itself, and has no CAP_NET_RAW to make a transparent one.
fn inbound_mode(config: &Config) -> InboundMode {
    match config.file.proxy {
        ProxyKind::Hawser => InboundMode::Tproxy,
        ProxyKind::Envoy => InboundMode::Redirect,
    }
}

/// Until discovery has said more: the ranges of the record.
fn virtual_ranges(record: &Record) -> Capture {
    let ranges = record.mesh.iter().flat_map(|mesh| &mesh.virtual_ranges);
    Capture { virtual_ranges: ranges.filter_map(|range| range.parse().ok()).collect(), ..Capture::default() }
}

fn exempt(config: &Config) -> Exempt {
    let file = &config.file.exempt;
    // Root is everybody's user: whoever runs as root here is told by the mark.
    let own = [config.proxy_user.uid, nix::unistd::geteuid().as_raw()];
    let uids = own.into_iter().filter(|uid| *uid != 0).chain(file.uids.iter().copied()).collect();
    let whole = |value: &u32| Mark { value: *value, mask: u32::MAX };
    let marks = file.marks.iter().chain(&config.file.mark).map(whole).chain([OWN_MARK]).collect();
    Exempt { uids, marks, cgroups: file.cgroups.iter().cloned().collect() }
}

fn on_proxy_failure(config: &Config, record: &Record) -> OnProxyFailure {
    match (config.file.on_proxy_failure, record.mesh.as_ref().map(|mesh| mesh.on_proxy_failure.as_str())) {
        (Some(config::OnProxyFailure::Open), _) | (None, Some("open")) => OnProxyFailure::Open,
        _ => OnProxyFailure::Closed,
    }
}

fn scope(workload: &Workload) -> Option<Scope> {
    match &workload.scope {
        Some(workload::Scope::Unit(unit)) => Some(Scope::Cgroup(format!("system.slice/{unit}"))),
        Some(workload::Scope::User(user)) => {
            let uid = user.parse().ok().or_else(|| Some(nix::unistd::User::from_name(user).ok()??.uid.as_raw()));
            uid.map(Scope::User)
        }
        Some(workload::Scope::WholeHost(_)) | None => Some(Scope::Host),
    }
}

fn outbound_port(workload: &Workload) -> u16 {
    u16::try_from(workload.outbound_port).ok().filter(|port| *port != 0).unwrap_or(ports::OUTBOUND)
}

#[cfg(test)]
mod tests {
    use hawser_api::proto::host::{MeshSettings, Port};

    use super::*;
    use crate::config::{File, ProxyUser};

    fn config() -> Config {
        Config {
            state_dir: "/x".into(),
            run_dir: "/x".into(),
            proxy_binary: "/x".into(),
            proxy_user: ProxyUser { uid: 998, gid: 998 },
            external_proxy: false,
            file: File::default(),
        }
    }

    #[test]
    fn a_record_says_what_is_captured_and_the_proxy_never_is() {
        let port = Port { port: 9080, ..Port::default() };
        let workload =
            Workload { id: "reviews".into(), ports: vec![port], outbound_port: 15001, ..Workload::default() };
        let mesh = MeshSettings { virtual_ranges: vec!["240.240.0.0/16".into()], ..MeshSettings::default() };
        let record = Record { workloads: vec![workload], mesh: Some(mesh), ..Record::default() };
        let made = intent(&config(), &record, None, &["10.0.0.53".parse().unwrap()]);
        assert_eq!(made.refusals(), Vec::<String>::new());
        assert_eq!(made.inbound.first().unwrap().port, 9080);
        assert_eq!(made.outbound.first().unwrap().scope, Scope::Host);
        assert_eq!(made.capture.virtual_ranges.len(), 1);
        assert!(made.exempt.uids.contains(&998) && !made.exempt.uids.contains(&0));
        assert_eq!(made.on_proxy_failure, OnProxyFailure::Closed);
        // What discovery says wins over the record.
        assert!(intent(&config(), &record, Some(Capture::default()), &[]).capture.virtual_ranges.is_empty());
    }

    #[test]
    fn an_envoy_is_led_to_and_told_from_its_own_calls() {
        let mut config = config();
        assert_eq!(intent(&config, &Record::default(), None, &[]).envoy_uid, None);
        config.file.proxy = ProxyKind::Envoy;
        let made = intent(&config, &Record::default(), None, &[]);
        assert_eq!((made.inbound_mode, made.envoy_uid), (InboundMode::Redirect, Some(998)));
        assert_eq!((made.draining().inbound_mode, made.draining().envoy_uid), (InboundMode::Redirect, Some(998)));
    }

    #[test]
    fn the_host_s_own_file_decides_what_becomes_of_inbound_without_a_proxy() {
        let mesh = MeshSettings { on_proxy_failure: "open".into(), ..MeshSettings::default() };
        let record = Record { mesh: Some(mesh), ..Record::default() };
        let mut config = config();
        assert_eq!(on_proxy_failure(&config, &record), OnProxyFailure::Open);
        config.file.on_proxy_failure = Some(config::OnProxyFailure::Closed);
        assert_eq!(on_proxy_failure(&config, &record), OnProxyFailure::Closed);
    }
}
