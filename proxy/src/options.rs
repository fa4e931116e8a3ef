//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::access_log::{AccessLog, AccessLogs, Filter, Format};
use crate::listen::Entrance;

/// The data plane of Hawser. The host's agent starts it and hands it what it needs.
#[derive(Clone, Debug, Parser)]
#[command(name = "hawser-proxy", version)]
pub struct Options {
    /// Directory with the agent's sockets
    #[arg(long, env = "HAWSER_RUN_DIR", default_value = "/run/hawser")]
    pub run_dir: PathBuf,
    /// Start a proxy that takes over from the one that runs here, and end when it has; connections that began before stay with the
    /// former one until they end
    #[arg(long, conflicts_with = "bind")]
    pub take_over: bool,
    /// The one that takes over; its stdin leads to whoever started it
    #[arg(long, hide = true, conflicts_with_all = ["take_over", "bind"])]
    pub successor: bool,
    /// Threads that serve connections; one a core by default
    #[arg(long)]
    pub workers: Option<usize>,
    /// Listen here instead of on the agent's sockets: outbound=ADDRESS:PORT, inbound=... or hbone=...
    #[arg(long, value_parser = bind)]
    pub bind: Vec<(Entrance, SocketAddr)>,
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
    /// Whether TCP connections to other hawser-proxies share connections, as tunnels
    #[arg(long, value_enum, env = "HAWSER_TCP_TUNNELS", default_value = "on")]
    pub tcp_tunnels: Switch,
    /// Which requests make a line on stdout, instead of what the configuration says
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "on")]
    pub access_log: Option<AccessLogMode>,
    /// What such a line is, in Istio's format
    #[arg(long, value_enum, default_value = "text", requires = "access_log")]
    pub access_log_format: AccessLogFormat,
    /// MiB of memory above which requests are answered 503; by default four fifths of the control group's limit
    #[arg(long)]
    pub max_memory: Option<u64>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// Which requests make a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogMode {
    /// None
    Off,
    /// Those with a status of 500 or above, a response flag, or a gRPC status that is not OK
    Errors,
    /// All
    On,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// Text
    Text,
    /// A JSON object
    Json,
}

impl Options {
    /// Which access logs count.
    pub fn access_logs(&self) -> AccessLogs {
        let filter = match self.access_log {
            None => return AccessLogs::configured(),
            Some(AccessLogMode::Off) => return AccessLogs::off(),
            Some(AccessLogMode::Errors) => Filter::Errors,
            Some(AccessLogMode::On) => Filter::All,
        };
        let format = match self.access_log_format {
            AccessLogFormat::Text => Format::istio_text(),
            AccessLogFormat::Json => Format::istio_json(),
        };
        AccessLogs::instead(AccessLog { filter, format: Arc::new(format), file: "/dev/stdout".into() })
    }
}

fn bind(text: &str) -> Result<(Entrance, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("expected outbound=ADDRESS:PORT, inbound=... or hbone=...")?;
    let entrance = Entrance::parse(name).ok_or_else(|| format!("{name:?} is none of outbound, inbound, hbone"))?;
    Ok((entrance, address.parse().map_err(|_| format!("{address:?} is not ADDRESS:PORT"))?))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(arguments: &[&str]) -> Option<usize> {
        let options = Options::try_parse_from([&["hawser-proxy"], arguments].concat()).ok()?;
        let configured = [Arc::new(AccessLog {
            filter: Filter::All,
            format: Arc::new(Format::envoy_text()),
            file: "configured".into(),
        })];
        let logs = options.access_logs();
        let logs = logs.of(&configured);
        Some(if logs.iter().any(|l| &*l.file == "configured") { 100 } else { logs.len() })
    }

    #[test]
    fn the_command_line_goes_before_the_configuration_of_access_logs() {
        assert_eq!(logs(&[]), Some(100));
        assert_eq!(logs(&["--access-log", "off"]), Some(0));
        assert_eq!(logs(&["--access-log=errors"]), Some(1));
        assert_eq!(logs(&["--access-log", "--workers", "1"]), Some(1), "without a word it is on");
        assert_eq!(logs(&["--access-log", "on", "--access-log-format", "json"]), Some(1));
        assert_eq!(logs(&["--access-log-format", "json"]), None);
        assert_eq!(logs(&["--access-log", "some"]), None);
    }
}
