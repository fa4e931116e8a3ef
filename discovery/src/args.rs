//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use hawser_api::identity::TrustDomain;
use ipnet::IpNet;

use crate::identity::{LONGEST_LIFE, SHORTEST_LIFE};

/// The core of the mesh: registries in, xDS, identities and leases out.
#[derive(Debug, Parser)]
#[command(name = "hawser-discovery", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
}

/// What the program does besides serving.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a consistent copy of the data directory, the CA's key included, to a file or to stdout
    Backup(Backup),
    /// Put a copy into a data directory that has none
    Restore(Restore),
}

/// Flags of `backup`.
#[derive(Debug, ClapArgs)]
pub struct Backup {
    /// The data directory; while hawser-discovery runs on it, the copy is taken through its admin socket
    #[arg(long, default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// Where to write it (0600); stdout if this is not given
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    /// The admin socket of the hawser-discovery that runs
    #[arg(long, default_value = ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
}

/// Flags of `restore`.
#[derive(Debug, ClapArgs)]
pub struct Restore {
    /// The data directory
    #[arg(long, default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// The copy; stdin if this is not given
    #[arg(long, short)]
    pub input: Option<PathBuf>,
}

const DATA_DIR: &str = "/var/lib/hawser-discovery";
const ADMIN_SOCKET: &str = "/run/hawser-discovery/admin.sock";

/// How to serve.
#[derive(Debug, ClapArgs)]
pub struct Serve {
    /// Store and CA; made if it is missing
    #[arg(long, env = "HAWSER_DATA_DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// A directory of YAML with Istio resources, watched
    #[arg(long, env = "HAWSER_CONFIG_DIR")]
    pub config_dir: Option<PathBuf>,
    /// A file of registries of other systems: Kubernetes, Consul, target lists, DNS; read at start, /etc/hawser/registries.yaml if
    /// it exists and this is not given
    #[arg(long, env = "HAWSER_REGISTRIES")]
    pub registries: Option<PathBuf>,
    /// A file of Istio's MeshConfig keys, read at start
    #[arg(long, env = "HAWSER_MESH_CONFIG")]
    pub mesh_config: Option<PathBuf>,
    /// An intermediate CA in the layout of Istio's cacerts: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem
    #[arg(long, env = "HAWSER_CA_DIR")]
    pub ca_dir: Option<PathBuf>,
    /// TLS: xDS, certificates, hosts
    #[arg(long, default_value = "[::]:15012")]
    pub listen_tls: SocketAddr,
    /// Plaintext xDS; a loopback address
    #[arg(long, default_value = "127.0.0.1:15010")]
    pub listen_plaintext: SocketAddr,
    /// Metrics and health; debug pages for this host alone
    #[arg(long, default_value = "[::]:15014")]
    pub listen_http: SocketAddr,
    /// The Unix socket of administrators
    #[arg(long, default_value = ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// host:port of the TLS port as hosts reach it, for join tokens; may be given several times; found by the default
    /// route otherwise
    #[arg(long, env = "HAWSER_ADVERTISE")]
    pub advertise: Vec<String>,
    /// Trust domain of every identity; fixed at the first start
    #[arg(long, env = "HAWSER_TRUST_DOMAIN")]
    pub trust_domain: Option<TrustDomain>,
    /// How long a silent host stays in
    #[arg(long, default_value = "5s", value_parser = lease)]
    pub lease: Duration,
    /// Life of certificates, renewed at half of it: 1m to 90d
    #[arg(long, default_value = "24h", value_parser = life)]
    pub certificate_life: Duration,
    /// How long a host may be off after its certificates ended, and still come back by its key
    #[arg(long, default_value = "30d", value_parser = humantime)]
    pub rejoin_window: Duration,
    /// How often the keys of issuers of tokens are fetched again (jwksUri of a RequestAuthentication)
    #[arg(long, default_value = "20m", value_parser = refresh)]
    pub jwks_refresh: Duration,
    /// Range of virtual addresses; one of each family
    #[arg(long, default_values = hawser_api::names::DEFAULT_VIRTUAL_RANGES)]
    pub virtual_range: Vec<IpNet>,
    /// What becomes of a host's declared ports while its proxy is down: `closed` or `open`
    #[arg(long, default_value = "closed", value_parser = ["closed", "open"])]
    pub on_proxy_failure: String,
}

fn humantime(text: &str) -> Result<Duration, String> {
    text.parse::<::humantime::Duration>().map(Duration::from).map_err(|e| e.to_string())
}

fn life(text: &str) -> Result<Duration, String> {
    let life = humantime(text)?;
    if (SHORTEST_LIFE..=LONGEST_LIFE).contains(&life) { Ok(life) } else { Err("a certificate lives 1m to 90d".into()) }
}

fn refresh(text: &str) -> Result<Duration, String> {
    let time = humantime(text)?;
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(86_400));
    if (shortest..=longest).contains(&time) { Ok(time) } else { Err("keys are fetched again after 1s to 1d".into()) }
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = humantime(text)?;
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(600));
    if (shortest..=longest).contains(&lease) { Ok(lease) } else { Err("a lease takes 1s to 10m".into()) }
}
