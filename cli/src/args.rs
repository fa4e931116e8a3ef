//! The command line as a type.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hawser_api::proto::admin::NamedPort;

use crate::input;
use crate::output::Format;

/// A service mesh for virtual machines and bare metal.
#[derive(Debug, Parser)]
#[command(name = "hawser", version, disable_help_subcommand = true, max_term_width = 110)]
#[command(after_help = "`hawser help exit-codes` lists the exit codes.")]
pub(crate) struct Cli {
    /// Unix socket of the agent or of discovery [env: HAWSER_AGENT_SOCKET, HAWSER_ADMIN_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// How listings are written
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// The same as --output json
    #[arg(long, global = true, conflicts_with = "output")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Join tokens: make, list, revoke (control host)
    #[command(subcommand)]
    Token(Token),
    /// Make this host a member of the mesh
    Join(Join),
    /// Take this host out of the mesh and put everything back
    Leave(Leave),
    /// What this host needs before it joins, and what is wrong with one that is joined; changes nothing
    Doctor(Doctor),
    /// How this host and, on a control host, discovery are
    Status(Status),
    /// List what the mesh holds (control host)
    Get(Get),
    /// Which proxies are connected, and what they acknowledged (control host)
    ProxyStatus,
    /// What a proxy is given, one kind of it (control host)
    ProxyConfig(ProxyConfig),
    /// What a call would meet, and what decides it (control host)
    Why(Why),
    /// Register an instance on a host that runs no agent (control host)
    Register(Register),
    /// Take out an instance that was registered by hand (control host)
    Deregister(Deregister),
    /// Apply resources, all or none (control host)
    Apply(Apply),
    /// Delete resources (control host)
    Delete(Delete),
    /// Check resources without a server
    Validate(Files),
    /// What a Kubernetes cluster needs to run discovery: manifests, printed
    #[command(subcommand)]
    Manifest(Manifest),
    /// Redirection of this host: what it would be, is, and whether both agree
    #[command(subcommand)]
    Redirect(Redirect),
    /// Write a consistent copy of discovery's store (control host)
    Backup {
        /// File to write, or `-` for stdout
        file: PathBuf,
    },
    /// Registries that services come from: how they are; accept a loss (control host)
    Registries {
        /// List them, if nothing is said
        #[command(subcommand)]
        verb: Option<Registries>,
    },
    /// Joined hosts: list, revoke (control host)
    #[command(subcommand)]
    Hosts(Hosts),
    /// The CA's roots: list them, put a new one in place (control host)
    Ca {
        /// List them, if nothing is said
        #[command(subcommand)]
        verb: Option<Ca>,
    },
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print versions, the daemons' too where they answer
    Version,
    /// Help on a verb, or on `exit-codes`
    Help {
        /// Verb, or `exit-codes`
        topic: Vec<String>,
    },
}

/// `hawser manifest`.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifest {
    /// Print everything, for `kubectl apply -f -`
    Generate(Generate),
    /// Print only the definitions of Istio's kinds and ours
    Crds(Present),
}

/// Definitions that are not to be touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Present {
    /// What `kubectl get crd -o name` says, in a file or `-` for stdin: kinds that are there are left as they are
    #[arg(long, value_name = "FILE")]
    pub(crate) present: Option<PathBuf>,
}

/// `hawser manifest generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) definitions: Present,
    /// Leave out the definitions of Istio's kinds
    #[arg(long, conflicts_with = "present")]
    pub(crate) without_crds: bool,
    /// Only what a discovery that runs elsewhere needs: kinds, an account and its rights
    #[arg(long, conflicts_with_all = ["image", "advertise", "storage"])]
    pub(crate) outside: bool,
    /// Where discovery runs, or its account is
    #[arg(long, default_value = "hawser-system")]
    pub(crate) namespace: String,
    /// Its image
    #[arg(long, default_value = concat!("hawser-discovery:", env!("CARGO_PKG_VERSION")))]
    pub(crate) image: String,
    /// host:port at which hosts outside of the cluster reach discovery, for join tokens; may be given several times
    #[arg(long)]
    pub(crate) advertise: Vec<String>,
    /// Trust domain of every identity; fixed at the first start
    #[arg(long, default_value = "cluster.local")]
    pub(crate) trust_domain: String,
    /// Room for its store
    #[arg(long, default_value = "1Gi")]
    pub(crate) storage: String,
    /// Let it read the secrets of the root namespace, which name further clusters
    #[arg(long)]
    pub(crate) remote_clusters: bool,
}

/// `hawser token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; prints it alone on stdout, once
    Create(TokenCreate),
    /// List tokens
    List,
    /// Make a token useless
    Revoke {
        /// Its id, from `hawser token list`
        id: String,
    },
}

/// `hawser token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// WorkloadGroup whose instances may join: [namespace/]name
    #[arg(long)]
    pub(crate) group: String,
    /// Port of the group, name=number; makes the group if it is missing
    #[arg(long = "port", value_parser = input::port, value_name = "NAME=PORT")]
    pub(crate) ports: Vec<NamedPort>,
    /// How long it lets hosts join
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// How many hosts may join with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: u32,
    /// Service account of the workload
    #[arg(long, value_name = "NAME")]
    pub(crate) service_account: Option<String>,
    /// Only hosts in this CIDR may join
    #[arg(long = "source", value_name = "CIDR")]
    pub(crate) sources: Vec<String>,
    /// Label of the group, if it is made
    #[arg(long = "label", value_parser = input::label, value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// Where the token is asked for, if not at discovery's socket.
#[derive(Debug, Args)]
pub(crate) struct Via {
    /// Ask through a Kubernetes API server that discovery follows, with the rights that you have there; from anywhere
    #[arg(long)]
    pub(crate) via_kubernetes: bool,
    /// Its kubeconfig [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE", requires = "via_kubernetes")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Which of its contexts [default: the current one]
    #[arg(long, value_name = "NAME", requires = "via_kubernetes")]
    pub(crate) context: Option<String>,
}

/// `hawser join`.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The join token, or `-` to read it from stdin [env: HAWSER_TOKEN]
    #[arg(conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Address that others reach this host by, ip or ip@network; found by itself if absent
    #[arg(long = "address", value_name = "IP[@NETWORK]")]
    pub(crate) addresses: Vec<String>,
    /// Where this host is: region[/zone[/sub-zone]]
    #[arg(long)]
    pub(crate) locality: Option<String>,
}

/// `hawser doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A join token, or `-` to read it from stdin, to look at the way to its discovery too [env: HAWSER_TOKEN]
    #[arg(conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// `hawser leave`.
#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// Clean this host even if discovery can't be told
    #[arg(long)]
    pub(crate) force: bool,
    /// How long requests in flight may take to end
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,
}

/// `hawser status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only of the agent, or only of discovery
    #[arg(long, value_enum)]
    pub(crate) of: Option<Of>,
}

/// Whose status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    /// The agent's.
    Host,
    /// Discovery's.
    Discovery,
}

/// `hawser get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What
    #[arg(value_enum)]
    pub(crate) what: What,
    /// Only this one
    pub(crate) name: Option<String>,
    /// Only in this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Configuration of this kind only
    #[arg(long)]
    pub(crate) kind: Option<String>,
}

/// Listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Services.
    #[value(alias = "service", alias = "svc")]
    Services,
    /// Workloads, joined and registered.
    #[value(alias = "workload")]
    Workloads,
    /// Endpoints of service ports.
    #[value(alias = "endpoint")]
    Endpoints,
    /// Resources and what became of them.
    Config,
    /// Joined hosts.
    #[value(alias = "host")]
    Hosts,
    /// Join tokens.
    #[value(alias = "token")]
    Tokens,
}

/// `hawser proxy-config`.
#[derive(Debug, Args)]
pub(crate) struct ProxyConfig {
    /// What of it
    #[arg(value_enum)]
    pub(crate) kind: Given,
    /// Whose: a joined host's name or instance id, a workload (namespace/name), or a node id
    pub(crate) host: String,
}

/// What a proxy is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Given {
    /// Filter chains of its listeners.
    #[value(alias = "listener")]
    Listeners,
    /// Routes of its virtual hosts.
    #[value(alias = "route")]
    Routes,
    /// Clusters.
    #[value(alias = "cluster")]
    Clusters,
    /// Endpoints of its clusters.
    #[value(alias = "endpoint")]
    Endpoints,
    /// Certificates and roots that it uses.
    #[value(alias = "secret")]
    Secrets,
    /// What its own ports take.
    #[value(alias = "policy")]
    Policies,
}

/// `hawser why`.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Who calls: a workload or group (namespace/name), or a joined host
    #[arg(long, value_name = "WORKLOAD")]
    pub(crate) from: String,
    /// Where to
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) to: String,
    /// Method of the request
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// Path of the request, with its query
    #[arg(long, default_value = "/")]
    pub(crate) path: String,
    /// Header field of the request
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
}

/// `hawser register`.
#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The service's short name
    pub(crate) service: String,
    /// Address of the instance
    pub(crate) address: String,
    /// Namespace of the service
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Port, name=number
    #[arg(long = "port", value_parser = input::port, value_name = "NAME=PORT", required = true)]
    pub(crate) ports: Vec<NamedPort>,
    /// Label of the instance
    #[arg(long = "label", value_parser = input::label, value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<(String, String)>,
    /// Service account of the instance
    #[arg(long, value_name = "NAME")]
    pub(crate) service_account: Option<String>,
    /// Share of requests
    #[arg(long, default_value_t = 0)]
    pub(crate) weight: u32,
    /// Where it is: region[/zone[/sub-zone]]
    #[arg(long)]
    pub(crate) locality: Option<String>,
}

/// `hawser deregister`.
#[derive(Debug, Args)]
pub(crate) struct Deregister {
    /// The service's short name
    pub(crate) service: String,
    /// Address of the instance
    pub(crate) address: String,
    /// Namespace of the service
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

/// `-f`.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// File, directory, or `-` for stdin
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `hawser apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Say what would happen, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `hawser delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Resources named by these files
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with_all = ["kind", "name"])]
    pub(crate) files: Vec<PathBuf>,
    /// Kind of resource
    #[arg(required_unless_present = "files", requires = "name")]
    pub(crate) kind: Option<String>,
    /// Its name
    pub(crate) name: Option<String>,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

/// `hawser redirect`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Redirect {
    /// What it would be
    Plan,
    /// What is loaded
    Show,
    /// Whether what is loaded is what should be
    Check,
}

/// `hawser registries`.
#[derive(Debug, Subcommand)]
pub(crate) enum Registries {
    /// List registries
    List,
    /// Believe a registry that is frozen because it lost much at once: what it no longer says is removed
    Accept {
        /// Its name, from `hawser registries`
        name: String,
    },
}

/// `hawser ca`.
#[derive(Clone, Copy, Debug, Default, Subcommand)]
pub(crate) enum Ca {
    /// List the roots that members trust
    #[default]
    List,
    /// Sign with a new root from now on; the former one vouches for it, so nobody has to be visited
    Rotate,
}

/// `hawser hosts`.
#[derive(Debug, Subcommand)]
pub(crate) enum Hosts {
    /// List joined hosts
    List,
    /// Take a host's record away: it has to join anew
    Revoke {
        /// Its instance id, from `hawser hosts list`
        instance_id: String,
    },
}
