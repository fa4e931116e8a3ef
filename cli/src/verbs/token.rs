//! `hawser token`: what lets hosts join.

mod via_kubernetes;

use std::path::Path;

use hawser_api::proto::admin::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, TokenInfo};
use jiff::Timestamp;
use serde::Serialize;

use super::call;
use crate::args::{Token, TokenCreate};
use crate::failure::Outcome;
use crate::output::{self, Format, Row, time};
use crate::{connect, exit, input, terminal};

pub(super) async fn run(socket: Option<&Path>, format: Format, verb: Token) -> Outcome {
    match verb {
        Token::Create(create) => self::create(socket, format, create).await,
        Token::List => list(socket, format, None, None).await,
        Token::Revoke { id } => {
            connect::admin(socket).await?.revoke_token(call(RevokeTokenRequest { id: id.clone() })).await?;
            eprintln!("token {id} revoked");
            Ok(exit::OK)
        }
    }
}

async fn create(socket: Option<&Path>, format: Format, create: TokenCreate) -> Outcome {
    if create.via.via_kubernetes {
        return via_kubernetes::create(format, create).await;
    }
    let (namespace, group) = input::namespaced(&create.group);
    let request = CreateTokenRequest {
        namespace,
        group,
        ports: create.ports,
        ttl: prost_types::Duration::try_from(create.ttl).ok(),
        uses: create.uses,
        service_account: create.service_account.unwrap_or_default(),
        source_cidrs: create.sources,
        labels: create.labels.into_iter().collect(),
    };
    let answer = connect::admin(socket).await?.create_token(call(request)).await?.into_inner();
    for warning in &answer.warnings {
        terminal::warn(warning);
    }
    match format {
        Format::Table => {
            output::text(&format!("{}\n", answer.token))?;
            if let Some(info) = answer.info {
                let uses = if info.uses == 1 { "1 host".to_owned() } else { format!("{} hosts", info.uses) };
                let (group, end) = (format!("{}/{}", info.namespace, info.group), time::relative(info.expires));
                eprintln!("token {} lets {uses} join {group}; it expires {end}", info.id);
            }
        }
        _ => {
            #[derive(Serialize)]
            struct Created {
                token: String,
                #[serde(flatten)]
                info: View,
            }
            output::value(format, &Created { token: answer.token, info: View::of(answer.info.unwrap_or_default()) })?;
        }
    }
    Ok(exit::OK)
}

/// Tokens, also as `hawser get tokens`.
pub(super) async fn list(
    socket: Option<&Path>,
    format: Format,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Outcome {
    let answer = connect::admin(socket).await?.list_tokens(call(ListTokensRequest {})).await?.into_inner();
    let rows = answer.tokens.into_iter().map(View::of).filter(|v| namespace.is_none_or(|n| v.namespace == n));
    super::get::show(format, rows.collect(), name, |v| v.id.clone())
}

#[derive(Serialize)]
struct View {
    id: String,
    namespace: String,
    group: String,
    service_account: String,
    /// `valid`, `expired`, `used-up`, `revoked`.
    state: &'static str,
    uses: u32,
    used: u32,
    created: Option<String>,
    expires: Option<String>,
    sources: Vec<String>,
    #[serde(skip)]
    expires_at: Option<prost_types::Timestamp>,
}

impl View {
    fn of(t: TokenInfo) -> Self {
        let expired = t.expires.is_some_and(|e| e.seconds <= Timestamp::now().as_second());
        let state = match () {
            () if t.revoked => "revoked",
            () if expired => "expired",
            () if t.used >= t.uses => "used-up",
            () => "valid",
        };
        Self {
            id: t.id,
            namespace: t.namespace,
            group: t.group,
            service_account: t.service_account,
            state,
            uses: t.uses,
            used: t.used,
            created: time::text(t.created),
            expires: time::text(t.expires),
            sources: t.source_cidrs,
            expires_at: t.expires,
        }
    }
}

impl Row for View {
    const TITLES: &'static [&'static str] = &["ID", "NAMESPACE", "GROUP", "STATE", "USED", "EXPIRES", "SOURCES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.namespace.clone(),
            self.group.clone(),
            self.state.to_owned(),
            format!("{}/{}", self.used, self.uses),
            time::relative(self.expires_at),
            output::joined(&self.sources),
        ]
    }
}
