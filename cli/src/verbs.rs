//! The verbs, by whom they ask: `host` the agent, the others discovery.

mod ca;
mod config;
mod doctor;
mod explain;
mod get;
mod host;
mod manifest;
mod mesh;
mod registries;
mod status;
mod token;

use std::time::Duration;

use clap::CommandFactory as _;
use hawser_api::proto::host::{HelloRequest, Locality};
use tonic::Request;

use crate::args::{Cli, Verb};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::{connect, terminal};

/// Longest wait for an answer that comes in one piece.
const ANSWER: Duration = Duration::from_secs(30);

/// Runs the command.
pub(crate) async fn run(cli: Cli) -> Outcome {
    let socket = cli.socket.as_deref();
    let format = if cli.json { output::Format::Json } else { cli.output };
    match cli.verb {
        Verb::Token(token) => token::run(socket, format, token).await,
        Verb::Join(join) => host::join(socket, format, join).await,
        Verb::Doctor(doctor) => doctor::run(socket, format, doctor).await,
        Verb::Leave(leave) => host::leave(socket, format, leave).await,
        Verb::Redirect(verb) => host::redirect(socket, format, verb).await,
        Verb::Status(status) => status::run(socket, format, status.of).await,
        Verb::Get(get) => get::run(socket, format, get).await,
        Verb::ProxyStatus => mesh::proxy_status(socket, format).await,
        Verb::ProxyConfig(config) => explain::proxy_config(socket, format, config).await,
        Verb::Why(why) => explain::why(socket, format, why).await,
        Verb::Register(register) => mesh::register(socket, format, register).await,
        Verb::Deregister(deregister) => mesh::deregister(socket, format, deregister).await,
        Verb::Backup { file } => mesh::backup(socket, &file).await,
        Verb::Registries { verb } => registries::run(socket, format, verb).await,
        Verb::Ca { verb } => ca::run(socket, format, verb.unwrap_or_default()).await,
        Verb::Hosts(hosts) => mesh::hosts(socket, format, hosts).await,
        Verb::Apply(apply) => config::apply(socket, format, apply).await,
        Verb::Delete(delete) => config::delete(socket, format, delete).await,
        Verb::Manifest(manifest) => manifest::run(format, &manifest),
        Verb::Validate(files) => config::validate(format, &files.files),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hawser", &mut std::io::stdout());
            Ok(exit::OK)
        }
        Verb::Version => version(socket, format).await,
        Verb::Help { topic } => help(&topic),
    }
}

/// A request that is answered in one piece, or not at all.
fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER);
    request
}

/// `region/zone/sub-zone`.
fn locality(text: Option<&str>) -> Option<Locality> {
    let mut parts = text?.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Some(Locality { region: next(), zone: next(), sub_zone: next() })
}

async fn version(socket: Option<&std::path::Path>, format: output::Format) -> Outcome {
    let mut lines = vec![("hawser", env!("CARGO_PKG_VERSION").to_owned())];
    let hello = || call(HelloRequest { version: env!("CARGO_PKG_VERSION").to_owned(), features: Vec::new() });
    if let Ok(mut agent) = connect::agent(socket).await
        && let Ok(answer) = agent.hello(hello()).await
    {
        lines.push(("hawser-agent", answer.into_inner().version));
    }
    if let Ok(mut admin) = connect::admin(socket).await
        && let Ok(answer) = admin.hello(hello()).await
    {
        lines.push(("hawser-discovery", answer.into_inner().version));
    }
    if lines.iter().any(|(_, v)| *v != lines[0].1) {
        terminal::warn("the versions differ");
    }
    if format == output::Format::Table {
        output::text(&output::pairs(&lines))?;
    } else {
        output::value(format, &lines.into_iter().collect::<std::collections::BTreeMap<_, _>>())?;
    }
    Ok(exit::OK)
}

fn help(topic: &[String]) -> Outcome {
    if topic == ["exit-codes"] {
        output::text(&exit::page())?;
        return Ok(exit::OK);
    }
    let mut command = Cli::command();
    command.build();
    let mut found = &mut command;
    for name in topic {
        found = found.find_subcommand_mut(name).ok_or_else(|| {
            Failure::new(exit::USAGE, format!("there is no help on {name:?}")).hint("hawser help lists the verbs")
        })?;
    }
    output::text(&found.render_long_help().to_string())?;
    Ok(exit::OK)
}
