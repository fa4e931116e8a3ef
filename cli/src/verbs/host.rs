//! `hawser join`, `leave`, `redirect`: what is asked of this host's agent.

use std::path::Path;
use std::time::Duration;

use hawser_api::proto::agent::redirect_request::Verb;
use hawser_api::proto::agent::{JoinHostRequest, LeaveHostRequest, Progress, RedirectRequest};
use hawser_api::proto::host::HostAddress;
use hawser_api::token::JoinToken;
use serde::Serialize;
use tonic::Streaming;

use super::call;
use crate::args::{Join, Leave, Redirect};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Format};
use crate::terminal::{self, Steps};
use crate::{connect, exit, input};

/// Longest silence between two steps.
const SILENCE: Duration = Duration::from_secs(120);

pub(super) async fn join(socket: Option<&Path>, format: Format, join: Join) -> Outcome {
    let token = input::token(join.token, join.token_file.as_deref(), std::env::var("HAWSER_TOKEN").ok())?;
    // A damaged token is told before anything is asked.
    let parsed: JoinToken = token.parse().map_err(|e| Failure::new(exit::INVALID, format!("{e}")))?;
    let request = JoinHostRequest {
        token,
        addresses: join.addresses.iter().map(|a| address(a)).collect(),
        locality: super::locality(join.locality.as_deref()),
    };
    let mut agent = connect::agent(socket).await?;
    let steps = Steps::new(&format!("joining {} at {}", parsed.trust_domain, parsed.addresses.join(", ")));
    follow(agent.join(request).await?.into_inner(), &steps, "join").await?;
    drop(steps);
    super::status::host(&mut agent, format).await?;
    Ok(exit::OK)
}

pub(super) async fn leave(socket: Option<&Path>, format: Format, leave: Leave) -> Outcome {
    let mut agent = connect::agent(socket).await?;
    let drain = prost_types::Duration::try_from(leave.drain).ok();
    let steps = Steps::new("leaving");
    let request = LeaveHostRequest { force: leave.force, drain };
    follow(agent.leave(request).await?.into_inner(), &steps, "leave").await?;
    drop(steps);
    if format != Format::Table {
        super::status::host(&mut agent, format).await?;
    }
    Ok(exit::OK)
}

/// Says each step until the last; an end before that is a failure.
async fn follow(mut stream: Streaming<Progress>, steps: &Steps, verb: &str) -> Outcome<()> {
    loop {
        let message = tokio::time::timeout(SILENCE, stream.message()).await.map_err(|_| {
            Failure::new(exit::FAILURE, format!("the agent said nothing for {} seconds", SILENCE.as_secs()))
                .hint("hawser status shows how far it came")
        })??;
        let Some(progress) = message else {
            return Err(Failure::new(exit::FAILURE, format!("the agent ended before the {verb} was done"))
                .hint(format!("run it again: a second {verb} goes on where the first one ended")));
        };
        let elapsed = progress.elapsed.and_then(|d| Duration::try_from(d).ok());
        let after = elapsed.map(|d| format!(" ({} ms)", d.as_millis())).unwrap_or_default();
        steps.step(&progress.step, &format!("{}{after}", progress.message));
        if progress.done {
            return Ok(());
        }
    }
}

pub(super) async fn redirect(socket: Option<&Path>, format: Format, verb: Redirect) -> Outcome {
    let asked = match verb {
        Redirect::Plan => Verb::Plan,
        Redirect::Show => Verb::Show,
        Redirect::Check => Verb::Check,
    };
    let mut agent = connect::agent(socket).await?;
    let answer = agent.redirect(call(RedirectRequest { verb: asked.into() })).await?.into_inner();
    let differs = asked == Verb::Check && !answer.differences.is_empty();
    if format != Format::Table {
        #[derive(Serialize)]
        struct Shown {
            text: String,
            differences: Vec<String>,
        }
        output::value(format, &Shown { text: answer.text, differences: answer.differences })?;
    } else if asked == Verb::Check {
        for difference in &answer.differences {
            output::text(&format!("{difference}\n"))?;
        }
        if !differs {
            output::text("what is loaded is what should be\n")?;
        }
    } else {
        output::text(&answer.text)?;
        if !answer.text.ends_with('\n') {
            output::text("\n")?;
        }
    }
    if differs {
        terminal::warn("redirection is not what it should be; the agent repairs it within seconds, or says why not");
        return Ok(exit::DIFFERS);
    }
    Ok(exit::OK)
}

fn address(text: &str) -> HostAddress {
    let (address, network) = text.split_once('@').unwrap_or((text, ""));
    HostAddress { address: address.to_owned(), network: network.to_owned() }
}
