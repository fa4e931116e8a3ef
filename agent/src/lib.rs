//! The host's part of the mesh: identity, redirection, name resolution, health, lease, and the relay to the proxy.
//!
//! In: discovery's word, over one connection. Out: a host whose declared ports are served and whose calls are carried
//! by the proxy; nothing else on it changes. A library with a thin program on top, so that tests reach every part by
//! its public door. Invariant: private keys never leave this process, except a workload's to the local proxy's memory.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod api;
mod capture;
mod config;
mod credential;
mod discovery;
mod dns;
mod doctor;
#[doc(hidden)]
pub mod doors;
mod health;
mod host;
mod identity;
mod join;
mod mark;
mod member;
mod metrics;
pub mod redirect;
mod refusal;
mod relay;
mod report;
mod session;
mod state;
mod status;
mod supervise;

use anyhow::Context as _;

pub use config::Args;
use config::Config;
pub use doctor::errand as doctor_errand;
use hawser_daemon::Service;
use host::Host;
use state::StateDir;
use tokio_util::task::AbortOnDropHandle;

/// Runs the agent until it is told to stop. Traffic goes on without it: proxy and redirection stay.
///
/// # Errors
/// If its file, its directories or its sockets can't be used.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(&args)?;
    let state = StateDir::open(&config.state_dir)?;
    state::make_dir(&config.run_dir, 0o755)?;
    let service = Service::default();
    let _live = AbortOnDropHandle::new(tokio::spawn(service.clone().live()));
    let host = Host::open(config.clone(), state.clone()).await?;
    let socket = config.run_dir.join("agent.sock");
    let api = api::serve(&socket, host.clone()).with_context(|| socket.display().to_string())?;
    let _metrics = AbortOnDropHandle::new(tokio::spawn(metrics::serve(host.clone())));
    let _report = AbortOnDropHandle::new(tokio::spawn(report::run(host.clone(), service.clone())));
    let _join = AbortOnDropHandle::new(tokio::spawn(credential::join(host.clone(), state)));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state = host.phase().as_str(), "agent is up");
    tokio::select! {
        signal = hawser_daemon::shutdown_signal() => tracing::info!(signal = signal?, "stopping; proxy and redirection stay"),
        ended = api => ended.context("the agent's socket")??,
    }
    service.stopping("proxy and redirection stay");
    host.stop().await;
    Ok(())
}
