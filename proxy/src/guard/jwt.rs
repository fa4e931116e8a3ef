//! Tokens of requests: found, verified, their claims handed on.
//!
//! In: the head of a request, the issuers whose tokens it may bring. Out: the claims of what it brought, or why it may not
//! pass; the head without the token, with the headers that are made of it. Pure: the time is passed in. Invariant: a header
//! that is made of claims never comes from a client.

mod place;
mod token;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Map, Value};

pub(crate) use self::token::Invalid;
use self::token::Token;
use crate::config::guard::jwt::{Jwt, Place, Provider, Requirement};
use crate::http::message::RequestHead;

/// Claims by the name under which policies find them.
pub(crate) type Claims = Map<String, Value>;

/// Checks the tokens of a request. `now` is in seconds since 1970.
pub(crate) fn check(jwt: &Jwt, head: &mut RequestHead, now: u64, claims: &mut Claims) -> Result<(), Invalid> {
    for provider in &jwt.providers {
        // What only we may say.
        let made = provider.claim_headers.iter().map(|(header, _)| header);
        let made = made.chain(Some(&provider.payload_header).filter(|name| !name.is_empty()));
        made.for_each(|name| {
            head.fields.remove(name);
        });
    }
    if jwt.preflight && is_preflight(head) {
        return Ok(());
    }
    let mut good = Vec::new();
    satisfies(jwt, &jwt.requires, head, now, &mut good)?;
    for Good { provider, place, token } in good {
        hand_on(provider, place, token, head, claims);
    }
    Ok(())
}

/// A verified token.
struct Good<'j> {
    provider: &'j Provider,
    place: &'j Place,
    token: Token,
}

fn satisfies<'j>(
    jwt: &'j Jwt,
    requires: &'j Requirement,
    head: &RequestHead,
    now: u64,
    good: &mut Vec<Good<'j>>,
) -> Result<(), Invalid> {
    match requires {
        Requirement::Provider(at) => {
            let Some(provider) = jwt.providers.get(*at) else { return Err(Invalid::Missing) };
            of_provider(provider, head, now, good)
        }
        Requirement::All(all) => all.iter().try_for_each(|one| satisfies(jwt, one, head, now, good)),
        Requirement::Any { any, missing } => {
            let mut why = Invalid::Missing;
            for one in any {
                let before = good.len();
                match satisfies(jwt, one, head, now, good) {
                    Ok(()) => return Ok(()),
                    Err(other) => {
                        good.truncate(before);
                        // What says most of what is wrong is told.
                        if why == Invalid::Missing || why == Invalid::Issuer && other != Invalid::Missing {
                            why = other;
                        }
                    }
                }
            }
            if *missing && why == Invalid::Missing { Ok(()) } else { Err(why) }
        }
    }
}

/// All tokens where those of a provider are must be good: one that is not could be taken for the one that is.
fn of_provider<'j>(
    provider: &'j Provider,
    head: &RequestHead,
    now: u64,
    good: &mut Vec<Good<'j>>,
) -> Result<(), Invalid> {
    let mut found = false;
    for place in &provider.places {
        let Some(text) = place::find(place, head) else { continue };
        found = true;
        let token = Token::verified(&text, provider, now)?;
        good.push(Good { provider, place, token });
    }
    if found { Ok(()) } else { Err(Invalid::Missing) }
}

fn hand_on(provider: &Provider, place: &Place, token: Token, head: &mut RequestHead, claims: &mut Claims) {
    if !provider.payload_header.is_empty() {
        let text = token.payload_text.trim_end_matches('=');
        head.fields.push_any_case(provider.payload_header.as_bytes(), text.as_bytes());
    }
    for (header, path) in &provider.claim_headers {
        let claim = path.iter().try_fold(&token.payload, |at, step| at.get(step.as_str()));
        let Some(text) = claim.and_then(header_value) else { continue };
        head.fields.push_any_case(header.as_bytes(), text.as_bytes());
    }
    if !provider.forward {
        place::remove(place, head);
    }
    if !provider.payload_name.is_empty() {
        let mut payload = token.payload;
        for name in &provider.spaced {
            if let Some(Value::String(text)) = payload.get(name) {
                let list = text.split(' ').filter(|word| !word.is_empty()).map(|word| Value::String(word.to_owned()));
                let list = Value::Array(list.collect());
                payload[name.as_str()] = list;
            }
        }
        claims.insert(provider.payload_name.clone(), payload);
    }
}

/// A claim as a header has it.
fn header_value(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        // Written as Envoy writes it.
        Value::Array(_) | Value::Object(_) => {
            STANDARD.encode(claim.to_string().replace('<', "\\u003c").replace('>', "\\u003e"))
        }
        Value::Null => return None,
    };
    // A claim may hold what no header does.
    text.bytes().all(|b| b >= 0x20 && b != 0x7f || b == b'\t').then_some(text)
}

fn is_preflight(head: &RequestHead) -> bool {
    let said = |name: &str| head.fields.get(name).is_some_and(|value| !value.is_empty());
    head.method == Method::OPTIONS && said("origin") && said("access-control-request-method")
}

#[cfg(test)]
mod tests;
