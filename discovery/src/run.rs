//! From flags to a running discovery: every part made, joined and started, in the order in which they need each other.

mod advertise;
mod copies;
mod exports;
mod memory;
mod mesh_config;
mod minting;
mod registries;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use hawser_api::identity::TrustDomain;
use hawser_api::names::DEFAULT_DOMAIN;
use hawser_api::proto::admin::admin_server::AdminServer;
use hawser_api::proto::host::MeshSettings;
use hawser_api::proto::host::host_server::HostServer;
use hawser_api::proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use hawser_daemon::readiness::{Guard, Readiness};
use hawser_daemon::{Service, drain};
use hawser_mesh::{Publisher, RegistryAdapter, RegistryId};
use hawser_registry_files::FilesAdapter;
use ipnet::IpNet;
use parking_lot::Mutex;
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::net::TcpListener;
use tonic::service::Routes;

pub use copies::{backup, restore};

use crate::admin::{AdminService, ApiSource, Parts};
use crate::ads;
use crate::args::Serve;
use crate::hosts::{self, HostService, Hosts};
use crate::identity::accounts::{Accounts, DEFAULT_AUDIENCE};
use crate::identity::{Authority, CertificateService, Serving, Signer};
use crate::keys::Keeper;
use crate::metrics::Metrics;
use crate::page;
use crate::registry::{self, EventSender, Settings, Snapshots, VirtualRanges};
use crate::server::{AdminSocket, Limits, TlsServer, serve_page, serve_plaintext};
use crate::sources::{RegistryMetrics, Sources};
use crate::store::{Addresses, Store, StoreError};

/// Largest message of a host: a join with 64 certificate requests.
const HOST_MESSAGE: usize = 256 << 10;
/// Largest message of the certificate service.
const CSR_MESSAGE: usize = 32 << 10;
/// Largest message of an administrator: an apply.
const ADMIN_MESSAGE: usize = 64 << 20;
/// What is left of a drain after this is dropped.
const DRAIN: Duration = Duration::from_secs(10);

/// A process that was killed has let go of its files after this.
const LETS_GO: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If a part can't be started, in words that say which and why.
pub async fn serve(args: Serve) -> anyhow::Result<()> {
    let started = SystemTime::now();
    let readiness = Readiness::new();
    let starting = readiness.guard("start");
    let service = Service::default();
    tokio::spawn(service.clone().live());
    let (trigger, drain) = drain::channel();
    if !args.listen_plaintext.ip().is_loopback() {
        let address = args.listen_plaintext;
        bail!("--listen-plaintext {address}: xDS without TLS is served on a loopback address only");
    }

    let mesh_config = mesh_config::read(args.mesh_config.as_deref())?;
    let store = open(&args.data_dir).await.with_context(|| format!("--data-dir {}", args.data_dir.display()))?;
    let trust_domain = trust_domain(&store, args.trust_domain.as_ref(), mesh_config.trust_domain.as_ref()).await?;
    let signer = match &args.ca_dir {
        Some(dir) => Signer::plugged(dir, started).context("--ca-dir")?,
        None => Signer::own(&args.data_dir, &trust_domain, started).context("the CA in the data directory")?,
    };
    let authority = Arc::new(Authority::new(trust_domain.clone(), signer).with_life(args.certificate_life));

    let metrics = Metrics::default();
    let mut metrics_registry = MetricsRegistry::default();
    metrics.register(&mut metrics_registry);

    let mut settings = Settings::new(trust_domain.clone());
    settings.virtual_ranges = virtual_ranges(&args.virtual_range)?;
    mesh_config.apply(&mut settings);
    let files = args.config_dir.as_ref().map(FilesAdapter::new);
    let mut expected: Vec<RegistryId> = vec![ApiSource::id(), hosts::registry_id()];
    expected.extend(files.as_ref().map(FilesAdapter::id));
    let outside = registries::read(args.registries.as_deref())?;
    expected.extend(outside.ids(&args.data_dir));
    let waiting: Vec<(RegistryId, Guard)> =
        expected.iter().map(|id| (id.clone(), readiness.guard(format!("registry {id}")))).collect();
    let book = Box::new(Addresses::new(store.clone()));
    let (keeper, keys) = Keeper::load(store.clone(), args.jwks_refresh)?;
    let (events, snapshots) = registry::spawn_with_keys(settings.clone(), expected, book, keys)?;
    drain.spawn(keeper.run(snapshots.clone(), drain.clone()));
    tokio::spawn(memory::give_back(snapshots.clone()));

    let hosts = Hosts::load(
        host_settings(&args, &settings),
        store.clone(),
        authority.clone(),
        snapshots.clone(),
        metrics.clone(),
    )?;
    let ads = ads::Server::new(snapshots.clone(), Arc::new(hosts.clone()));
    let source = ApiSource::new(events.clone());

    // Doors: bound before anything runs, so that a taken port is an error and not a surprise.
    let tls_listener = bind(args.listen_tls, "--listen-tls").await?;
    let plaintext_listener = bind(args.listen_plaintext, "--listen-plaintext").await?;
    let http_listener = bind(args.listen_http, "--listen-http").await?;
    let admin_socket = AdminSocket::bind(&args.admin_socket)
        .with_context(|| format!("--admin-socket {}", args.admin_socket.display()))?;

    let serving = Serving::new(&authority)?;
    let tls = Arc::new(serving.tls()?);
    drain.spawn(serving.run(authority.clone(), drain.clone()));
    drain.spawn(hosts.clone().run(Publisher::new(hosts::registry_id(), events.clone()), drain.clone()));
    source.start(&store, &settings).await?;
    if let Some(files) = files {
        tokio::spawn(follow(files, events.clone(), drain.clone()));
    }
    let sources = Sources::default();
    let accounts = Accounts::new(DEFAULT_AUDIENCE);
    ads.trust(accounts.clone());
    let minting = minting::Minting::default();
    outside.start(registries::Started {
        settings: &settings,
        data_dir: &args.data_dir,
        discovery_selectors: &mesh_config.discovery_selectors,
        interest: ads.interest(),
        sources: &sources,
        accounts: &accounts,
        minting: &minting,
        snapshots: &snapshots,
        events,
        drain: drain.clone(),
    });
    let host_service =
        HostServer::new(HostService::new(hosts.clone(), ads.clone())).max_decoding_message_size(HOST_MESSAGE);
    let certificates = IstioCertificateServiceServer::new(CertificateService::new(
        authority.clone(),
        accounts.clone(),
        metrics.clone(),
    ))
    .max_decoding_message_size(CSR_MESSAGE);
    let secure =
        Routes::new(host_service).add_service(certificates).add_service(ads.service()).prepare().into_axum_router();
    let plaintext = Routes::new(ads.service()).prepare().into_axum_router();
    let admin = AdminService::new(Parts {
        store,
        authority: authority.clone(),
        hosts: hosts.clone(),
        ads: ads.clone(),
        snapshots: snapshots.clone(),
        settings,
        source,
        sources: sources.clone(),
        readiness: readiness.clone(),
        advertise: advertise::addresses(&args)?,
        started,
        rejoin_window: args.rejoin_window,
    });
    minting.begin(admin.clone());
    let admin =
        Routes::new(AdminServer::new(admin).max_decoding_message_size(ADMIN_MESSAGE)).prepare().into_axum_router();
    ads.metrics().register(&mut metrics_registry);
    metrics_registry.register_collector(Box::new(RegistryMetrics::new(snapshots.clone(), sources)));
    let metrics_page = Arc::new(Mutex::new(metrics_registry));
    let page = page::router(metrics_page, readiness.clone(), snapshots.clone(), ads.clone());

    let limits = Limits::default();
    let server = TlsServer::new(tls, trust_domain, hosts.clone(), metrics, limits, secure);
    tokio::spawn(server.run(tls_listener, drain.clone()));
    tokio::spawn(serve_plaintext(plaintext_listener, plaintext, limits, drain.clone()));
    tokio::spawn(admin_socket.run(admin, drain.clone()));
    tokio::spawn(serve_page(http_listener, page, drain.clone()));

    drain.spawn(ready(waiting, snapshots));
    drop(starting);
    tokio::spawn(service.clone().follow(readiness));
    tracing::info!(tls = %args.listen_tls, page = %args.listen_http, version = env!("CARGO_PKG_VERSION"), "discovery serves");

    let signal = hawser_daemon::shutdown_signal().await?;
    tracing::info!(signal, "discovery ends");
    service.stopping("connections end");
    if !trigger.drain(DRAIN).await {
        tracing::warn!("some connections were cut");
    }
    Ok(())
}

/// Opens the store; waits a little for one that has just been killed and lets go of its file.
async fn open(dir: &Path) -> Result<Store, StoreError> {
    let deadline = tokio::time::Instant::now() + LETS_GO;
    loop {
        match Store::open(dir) {
            Err(StoreError::InUse(_)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

/// Gives up a registry's guard once a snapshot holds what it said.
async fn ready(mut waiting: Vec<(RegistryId, Guard)>, mut snapshots: Snapshots) {
    while !waiting.is_empty() {
        let snapshot = snapshots.borrow_and_update().clone();
        waiting.retain(|(id, _)| !snapshot.registries.iter().any(|r| r.id == *id && r.synced));
        if !waiting.is_empty() && snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Runs an adapter until the drain.
async fn follow(adapter: impl RegistryAdapter, events: EventSender, drain: drain::Watch) {
    let publisher = Publisher::new(adapter.id(), events);
    tokio::select! {
        () = drain.draining() => {}
        () = adapter.run(publisher) => {}
    }
}

/// The trust domain, fixed at the first start.
async fn trust_domain(
    store: &Store,
    flag: Option<&TrustDomain>,
    configured: Option<&TrustDomain>,
) -> anyhow::Result<TrustDomain> {
    if let (Some(flag), Some(configured)) = (flag, configured)
        && flag != configured
    {
        bail!("--trust-domain says {flag}, the mesh configuration says {configured}: leave one out");
    }
    let wanted = flag.or(configured);
    if let Some(fixed) = store.meta("trust_domain")? {
        let fixed: TrustDomain = fixed.parse()?;
        if let Some(wanted) = wanted.filter(|wanted| **wanted != fixed) {
            bail!(
                "the trust domain of this mesh is {fixed}, fixed at its first start, and every identity carries it: \
                 {wanted} needs a new data directory"
            );
        }
        return Ok(fixed);
    }
    let new = match wanted {
        Some(wanted) => wanted.clone(),
        None => DEFAULT_DOMAIN.parse()?,
    };
    let text = new.to_string();
    store.write(move |txn| txn.put_meta("trust_domain", &text)).await.map_err(|e: StoreError| e)?;
    Ok(new)
}

fn virtual_ranges(ranges: &[IpNet]) -> anyhow::Result<VirtualRanges> {
    let mut chosen = VirtualRanges::default();
    let (mut v4, mut v6) = (0, 0);
    for range in ranges {
        match range.trunc() {
            IpNet::V4(net) => (chosen.v4, v4) = (net, v4 + 1),
            IpNet::V6(net) => (chosen.v6, v6) = (net, v6 + 1),
        }
    }
    if v4 > 1 || v6 > 1 {
        bail!("--virtual-range: one range of each family");
    }
    if chosen.v4.prefix_len() > 24 || chosen.v6.prefix_len() > 112 {
        bail!("--virtual-range: at least a /24 and a /112, or a mesh of some size has no room");
    }
    Ok(chosen)
}

fn host_settings(args: &Serve, settings: &Settings) -> hosts::Settings {
    let ranges = vec![IpNet::V4(settings.virtual_ranges.v4), IpNet::V6(settings.virtual_ranges.v6)];
    let mesh = MeshSettings {
        domain: settings.domain.clone(),
        virtual_ranges: ranges.iter().map(ToString::to_string).collect(),
        on_proxy_failure: args.on_proxy_failure.clone(),
        rejoin_window: prost_types::Duration::try_from(args.rejoin_window).ok(),
    };
    hosts::Settings {
        lease: args.lease,
        rejoin_window: args.rejoin_window,
        mesh: hosts::Mesh { trust_domain: settings.trust_domain.clone(), settings: mesh },
        virtual_ranges: ranges,
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        // A kernel without IPv6: every address is every IPv4 address.
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())).await
        }
        bound => bound,
    };
    bound.with_context(|| format!("{flag} {address}"))
}
