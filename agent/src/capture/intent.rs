//! From what the agent knows to what is redirected. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hawser_api::names::ports;
use hawser_api::proto::host::{Record, Traffic, Workload, workload};
use ipnet::IpNet;

use crate::config::{self, Config, ProxyKind};
use crate::redirect::{
    Capture, Dns, Exclusion, Exempt, Inbound, InboundMode, Intent, Mark, OWN_MARK, OnProxyFailure, Outbound, Scope,
    Target,
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
        let traffic = workload.traffic.clone().unwrap_or_default();
        for port in &workload.ports {
            let Ok(port) = u16::try_from(port.port) else { continue };
            if !is_left_alone(config, &traffic, port) {
                intent.inbound.insert(Inbound { address: None, port, workload: workload.id.clone() });
            }
        }
        intent.exempt.interfaces.extend(traffic.exclude_interfaces.iter().cloned());
        let exclusion = exclusion(&traffic);
        if exclusion != Exclusion::default() {
            intent.exclusions.insert(workload.id.clone(), exclusion);
        }
        if let Some(scope) = scope(workload).filter(|_| !captures_nothing(&traffic)) {
            let port = outbound_port(workload);
            intent.outbound.insert(Outbound { scope, port, workload: workload.id.clone() });
        }
    }
    widen(&mut intent.capture, record);
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
    Exempt {
        uids,
        marks,
        cgroups: file.cgroups.clone(),
        gids: file.gids.clone(),
        interfaces: file.interfaces.clone(),
        to: Exclusion { nets: file.cidrs.clone(), ports: file.ports.clone() },
    }
}

/// Whether a declared port stays the application's own.
fn is_left_alone(config: &Config, traffic: &Traffic, port: u16) -> bool {
    let of_file = config.file.exempt.inbound_ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
    let port = u32::from(port);
    let not_included = traffic.include_inbound_ports.as_ref().is_some_and(|only| !only.ports.contains(&port));
    of_file || not_included || traffic.exclude_inbound_ports.contains(&port)
}

/// Where a workload's calls are left alone.
fn exclusion(traffic: &Traffic) -> Exclusion {
    Exclusion {
        nets: nets(&traffic.exclude_outbound_ranges),
        ports: ports_of(&traffic.exclude_outbound_ports).map(|port| (port, port)).collect(),
    }
}

/// Whether a workload asks for no outbound capture at all.
fn captures_nothing(traffic: &Traffic) -> bool {
    let none = traffic.include_outbound_ranges.as_ref().is_some_and(|only| only.ranges.is_empty());
    none && traffic.include_outbound_ports.is_empty()
}

/// Adds what workloads want captured besides, and leaves out what none of them wants.
fn widen(capture: &mut Capture, record: &Record) {
    let traffic: Vec<Traffic> = record.workloads.iter().map(|w| w.traffic.clone().unwrap_or_default()).collect();
    let mut included = BTreeSet::new();
    for ranges in traffic.iter().filter_map(|t| t.include_outbound_ranges.as_ref()) {
        included.extend(nets(&ranges.ranges));
    }
    if !traffic.is_empty() && traffic.iter().all(|t| t.include_outbound_ranges.is_some()) {
        capture.targets.retain(|target| included.iter().any(|range| range.contains(&target.net)));
        capture.wide_ranges.clear();
    }
    capture.wide_ranges.extend(included);
    for port in traffic.iter().flat_map(|t| ports_of(&t.include_outbound_ports)) {
        capture.targets.extend(everywhere().map(|net| Target { net, port }));
    }
}

/// All addresses, in halves: a target is never everything.
fn everywhere() -> impl Iterator<Item = IpNet> {
    ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].into_iter().filter_map(|half| half.parse().ok())
}

fn nets(texts: &[String]) -> BTreeSet<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn ports_of(ports: &[u32]) -> impl Iterator<Item = u16> {
    ports.iter().filter_map(|port| u16::try_from(*port).ok()).filter(|port| *port != 0)
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
    fn a_group_and_the_file_leave_alone_what_they_name() {
        let ports = [9080, 9081, 9082].map(|port| Port { port, ..Port::default() }).into();
        let traffic = Traffic {
            exclude_inbound_ports: vec![9081],
            exclude_outbound_ports: vec![25],
            exclude_outbound_ranges: vec!["10.9.0.0/16".into()],
            include_outbound_ports: vec![443],
            exclude_interfaces: vec!["eth1".into()],
            ..Traffic::default()
        };
        let mut workload = Workload { id: "w".into(), ports, traffic: Some(traffic), ..Workload::default() };
        let mut config = config();
        config.file.exempt.inbound_ports.insert((9082, 9090));
        config.file.exempt.ports.insert((5432, 5432));
        let made = |workload: &Workload, captured: Option<Capture>| {
            let record = Record { workloads: vec![workload.clone()], ..Record::default() };
            intent(&config, &record, captured, &[])
        };
        let all = made(&workload, None);
        assert_eq!(all.refusals(), Vec::<String>::new());
        assert_eq!(all.inbound.iter().map(|i| i.port).collect::<Vec<_>>(), [9080]);
        assert_eq!(all.exclusions["w"].ports, [(25, 25)].into());
        assert_eq!(all.exclusions["w"].nets.len(), 1);
        assert_eq!((all.exempt.to.ports.len(), all.exempt.interfaces.len()), (1, 1));
        assert_eq!(all.capture.targets.len(), 4, "port 443 of anybody");

        // Only these destinations, and only these of the mesh's.
        let target = |net: &str| Target { net: net.parse().unwrap(), port: 80 };
        let captured = Capture { targets: [target("10.1.0.1/32"), target("11.1.0.1/32")].into(), ..Capture::default() };
        let ranges = |ranges: &[&str]| {
            let ranges = ranges.iter().map(|r| (*r).to_owned()).collect();
            let only = Some(hawser_api::proto::host::traffic::Ranges { ranges });
            Some(Traffic { include_outbound_ranges: only, ..Traffic::default() })
        };
        workload.traffic = ranges(&["10.0.0.0/8"]);
        let some = made(&workload, Some(captured.clone())).capture;
        assert_eq!((some.targets, some.wide_ranges.len()), ([target("10.1.0.1/32")].into(), 1));
        workload.traffic = ranges(&[]);
        assert!(made(&workload, Some(captured)).outbound.is_empty(), "nothing at all");
        let only = Some(hawser_api::proto::host::traffic::Ports { ports: vec![9081] });
        workload.traffic = Some(Traffic { include_inbound_ports: only, ..Traffic::default() });
        assert_eq!(made(&workload, None).inbound.first().map(|i| i.port), Some(9081));
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
