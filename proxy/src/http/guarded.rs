//! Requests before their guards.
//!
//! In: a request whose head is checked. Out: what was taken of its body, if it may pass, or the answer that it gets. A refusal is
//! logged with who refuses.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::answer::{self, Answer};
use super::authz;
use super::channel::{Broken, Held, Server};
use super::connection::Connection;
use super::finish::Exchange;
use super::head::Shape;
use super::message::{Known, RequestHead};
use super::own::Refused;
use crate::access_log::Details;
use crate::config::{Config, Filter, Guard, HttpSpec};
use crate::guard::jwt::{self, Claims, Invalid};
use crate::guard::{Marks, Now, Verdict, decide, now};
use crate::listen::Side;

/// What a refusal says of a long path.
const LONGEST_PATH: usize = 256;

/// What becomes of a request.
pub(super) enum Guarded {
    /// It may pass; of its body this was taken.
    Passes(Option<Held>),
    /// Somebody refuses it.
    Refused(Box<Refused>),
    /// Its client has gone, or sent what is no HTTP.
    Gone(Broken),
}

/// Asks all guards of a request, one after the other.
pub(super) async fn guard<S: Server>(
    connection: &Rc<Connection>,
    config: &Arc<Config>,
    exchange: &mut Exchange,
    shape: &Shape,
    server: &mut S,
) -> Guarded {
    let Some(spec) = spec(connection, config) else {
        exchange.refused(Details::Denied("".into()));
        return Guarded::Refused(Box::new(answer::DENIED.into()));
    };
    let (mut marks, mut claims, mut held) = (Marks::default(), None, None);
    let mut refused = None;
    for guard in &spec.guards {
        let mut facts = connection.facts().request(&exchange.head, spec.remote_address);
        facts.claims = claims.as_ref();
        refused = match guard {
            Guard::Jwt(jwt) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
                let claims = claims.get_or_insert_with(Claims::new);
                jwt::check(jwt, &mut exchange.head, now, claims).err().map(|why| token(why, connection, &exchange.head))
            }
            Guard::Rbac(rbac) => match decide(rbac, &facts, &mut marks) {
                Verdict::Passes => None,
                Verdict::Denied(policy) => {
                    let policy = policy.cloned().unwrap_or_default();
                    Some((Some(Details::Denied(policy)), answer::DENIED.into()))
                }
            },
            Guard::Authz(authz) if !authz.is_asked(&marks) => None,
            Guard::Authz(authz) => {
                let about = authz::About { connection, config, shape, edge: spec.remote_address };
                match Box::pin(authz::ask(&about, authz, exchange, &mut held, &mut marks, server)).await {
                    authz::Verdict::Passes => None,
                    authz::Verdict::Refused(why, answer) => Some((why, *answer)),
                    authz::Verdict::Gone(why) => {
                        exchange.marks(marks);
                        return Guarded::Gone(why);
                    }
                }
            }
        };
        if refused.is_some() {
            break;
        }
    }
    exchange.marks(marks);
    let Some((why, answer)) = refused else { return Guarded::Passes(held) };
    if let Some(why) = why {
        exchange.refused(why);
    }
    Guarded::Refused(Box::new(answer))
}

/// A token that is not good.
fn token(why: Invalid, connection: &Connection, head: &RequestHead) -> (Option<Details>, Refused) {
    let forbidden = why == Invalid::Audience;
    let answer = if forbidden { answer::FORBIDDEN_TOKEN } else { answer::BAD_TOKEN };
    let mut refused = Refused::from(Answer { text: answer::Text::Whole(why.text()), ..answer });
    let proto = head.fields.known(Known::ForwardedProto).unwrap_or(if connection.secure { b"https" } else { b"http" });
    let proto = String::from_utf8_lossy(proto);
    let path = head.path().get(..LONGEST_PATH).unwrap_or(head.path());
    let error = if why == Invalid::Missing { "" } else { ", error=\"invalid_token\"" };
    let realm = format!("Bearer realm=\"{proto}://{}{path}\"{error}", head.authority());
    refused.fields.push(b"www-authenticate", realm.as_bytes());
    (Some(Details::Unauthenticated(why.text().into())), refused)
}

/// How the request is to be served now; `None` if it is not to be served any more.
fn spec<'c>(connection: &'c Connection, config: &'c Config) -> Option<&'c Arc<HttpSpec>> {
    if connection.side == Side::Outbound || !connection.chain.replaced.is_cancelled() {
        return Some(&connection.spec);
    }
    match now(config, &connection.chain, connection.to) {
        Now::Undeclared => Some(&connection.spec),
        Now::Chain(chain) => match &chain.filter {
            Filter::Http(spec) => Some(spec),
            Filter::Tcp(_) => None,
        },
        Now::Forbidden => None,
    }
}
