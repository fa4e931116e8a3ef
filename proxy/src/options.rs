//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::listen::Side;

/// The data plane of Hawser. The host's agent starts it and hands it what it needs.
#[derive(Clone, Debug, Parser)]
#[command(name = "hawser-proxy", version)]
pub struct Options {
    /// Directory with the agent's sockets
    #[arg(long, env = "HAWSER_RUN_DIR", default_value = "/run/hawser")]
    pub run_dir: PathBuf,
    /// Threads that serve connections; one a core by default
    #[arg(long)]
    pub workers: Option<usize>,
    /// Listen here instead of on the agent's sockets: outbound=ADDRESS:PORT or inbound=ADDRESS:PORT
    #[arg(long, value_parser = bind)]
    pub bind: Vec<(Side, SocketAddr)>,
    /// Metrics, configuration, drain
    #[arg(long, default_value_t = SocketAddr::from(([127, 0, 0, 1], hawser_api::names::ports::PROXY_ADMIN)))]
    pub admin: SocketAddr,
    /// Readiness
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], hawser_api::names::ports::READINESS)))]
    pub readiness: SocketAddr,
    /// How long connections may end themselves after SIGTERM
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub drain_time: Duration,
    /// The most connections of a worker
    #[arg(long, default_value_t = 50_000)]
    pub max_connections: usize,
    /// Write a line for each request
    #[arg(long)]
    pub access_log: bool,
}

fn bind(text: &str) -> Result<(Side, SocketAddr), String> {
    let (side, address) = text.split_once('=').ok_or("expected outbound=ADDRESS:PORT or inbound=ADDRESS:PORT")?;
    let side = match side {
        "outbound" => Side::Outbound,
        "inbound" => Side::Inbound,
        other => return Err(format!("{other:?} is neither outbound nor inbound")),
    };
    Ok((side, address.parse().map_err(|_| format!("{address:?} is not ADDRESS:PORT"))?))
}

/// `30s`, `500ms`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| format!("{text:?} is no duration: try 30s"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("{text:?} is no duration: try 30s")),
    }
}
