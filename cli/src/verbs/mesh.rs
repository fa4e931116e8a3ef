//! `hawser proxy-status`, `register`, `deregister`, `hosts`, `backup`: the rest of what discovery is asked.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hawser_api::proto::admin::{
    BackupRequest, DeregisterRequest, ProxyInfo, ProxyStatusRequest, RegisterRequest, RevokeHostRequest,
};
use serde::Serialize;

use super::call;
use crate::args::{Deregister, Hosts, Register};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Format, Row, joined, time};
use crate::{connect, exit, terminal};

pub(super) async fn proxy_status(socket: Option<&Path>, format: Format) -> Outcome {
    let answer = connect::admin(socket).await?.proxy_status(call(ProxyStatusRequest {})).await?.into_inner();
    let rows: Vec<Proxy> = answer.proxies.into_iter().map(Proxy::of).collect();
    output::list(format, &rows)?;
    for (proxy, kind) in rows.iter().flat_map(|p| p.types.iter().map(move |t| (p, t))) {
        if format == Format::Table && !kind.last_nack.is_empty() {
            terminal::warn(&format!("{} refused {}: {}", proxy.node_id, kind.name, kind.last_nack));
        }
    }
    Ok(exit::OK)
}

pub(super) async fn register(socket: Option<&Path>, format: Format, register: Register) -> Outcome {
    let request = RegisterRequest {
        service: register.service,
        namespace: register.namespace,
        address: register.address.clone(),
        ports: register.ports,
        labels: register.labels.into_iter().collect(),
        service_account: register.service_account.unwrap_or_default(),
        weight: register.weight,
        locality: super::locality(register.locality.as_deref()),
    };
    let answer = connect::admin(socket).await?.register(call(request)).await?.into_inner();
    for warning in &answer.warnings {
        terminal::warn(warning);
    }
    if format != Format::Table {
        output::value(format, &Instance { service: answer.host, address: register.address })?;
        return Ok(exit::OK);
    }
    output::text(&format!("{} registered at {}\n", answer.host, register.address))?;
    Ok(exit::OK)
}

/// What was registered by hand, or is no more.
#[derive(Serialize)]
struct Instance {
    service: String,
    address: String,
}

pub(super) async fn deregister(socket: Option<&Path>, format: Format, deregister: Deregister) -> Outcome {
    let Deregister { service, address, namespace } = deregister;
    let request =
        DeregisterRequest { service: service.clone(), namespace: namespace.clone(), address: address.clone() };
    let answer = connect::admin(socket).await?.deregister(call(request)).await?.into_inner();
    if answer.removed == 0 {
        let text = format!("{namespace}/{service} has no instance at {address} that was registered by hand");
        return Err(Failure::new(exit::NOT_FOUND, text).hint("hawser get workloads shows where each one comes from"));
    }
    if format != Format::Table {
        output::value(format, &Instance { service: format!("{namespace}/{service}"), address })?;
        return Ok(exit::OK);
    }
    output::text(&format!("{namespace}/{service} at {address} deregistered\n"))?;
    Ok(exit::OK)
}

pub(super) async fn hosts(socket: Option<&Path>, format: Format, verb: Hosts) -> Outcome {
    match verb {
        Hosts::List => super::get::hosts(socket, format, None, None).await,
        Hosts::Revoke { instance_id } => {
            let request = RevokeHostRequest { instance_id: instance_id.clone() };
            connect::admin(socket).await?.revoke_host(call(request)).await?;
            eprintln!("host {instance_id} revoked");
            Ok(exit::OK)
        }
    }
}

/// Writes beside the file and renames, so that a backup that exists is whole.
pub(super) async fn backup(socket: Option<&Path>, file: &Path) -> Outcome {
    let mut stream = connect::admin(socket).await?.backup(BackupRequest {}).await?.into_inner();
    if file.as_os_str() == "-" {
        let mut out = std::io::stdout();
        while let Some(chunk) = stream.message().await? {
            out.write_all(&chunk.data)?;
        }
        out.flush()?;
        return Ok(exit::OK);
    }
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let named = |e: std::io::Error| Failure::new(exit::FAILURE, format!("{}: {e}", file.display()));
    let mut out =
        (OpenOptions::new().write(true).create(true).truncate(true).mode(0o600)).open(&partial).map_err(named)?;
    let mut size = 0;
    while let Some(chunk) = stream.message().await? {
        size += chunk.data.len();
        out.write_all(&chunk.data).map_err(named)?;
    }
    out.sync_all().map_err(named)?;
    fs::rename(&partial, file).map_err(named)?;
    eprintln!("{} written, {size} bytes", file.display());
    Ok(exit::OK)
}

#[derive(Serialize)]
struct Proxy {
    node_id: String,
    class: String,
    mode: String,
    identity: String,
    peer: String,
    connected: Option<String>,
    types: Vec<Kind>,
    #[serde(skip)]
    since: String,
}

#[derive(Serialize)]
struct Kind {
    name: String,
    type_url: String,
    resources: u32,
    state: String,
    last_nack: String,
    last_ack: Option<String>,
}

impl Proxy {
    fn of(p: ProxyInfo) -> Self {
        let types = p.types.into_iter().map(|t| Kind {
            name: t.type_url.rsplit(['.', '/']).next().unwrap_or_default().to_owned(),
            type_url: t.type_url,
            resources: t.resources,
            state: t.state,
            last_nack: t.last_nack,
            last_ack: time::text(t.last_ack),
        });
        Self {
            types: types.collect(),
            since: time::relative(p.connected),
            node_id: p.node_id,
            class: p.class,
            mode: p.mode,
            identity: p.identity,
            peer: p.peer,
            connected: time::text(p.connected),
        }
    }
}

impl Row for Proxy {
    const TITLES: &'static [&'static str] = &["NODE", "CLASS", "MODE", "PEER", "CONNECTED", "RESOURCES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.node_id.clone(),
            self.class.clone(),
            self.mode.clone(),
            self.peer.clone(),
            self.since.clone(),
            joined(self.types.iter().map(|t| format!("{}={} {}", t.name, t.resources, t.state))),
        ]
    }
}
