//! An authorization service that is sent the request's own head, and answers with a status.

use super::changes::Impossible;
use super::{Asking, Change, No, Question, Said, Yes, grpc};
use crate::config::guard::authz::{Authz, OverHttp};
use crate::http::message::{Known, Length, RequestHead, ResponseHead, Version};

/// Where a consent says which fields of the request go.
const REMOVE: &str = "x-envoy-auth-headers-to-remove";
/// Fields of a refusal that a client gets in any case.
const ALWAYS: [&str; 2] = ["www-authenticate", "location"];

/// The request that asks.
pub(super) fn ask(authz: &Authz, http: &OverHttp, question: &Question<'_>) -> Asking {
    let Some(asked) = question.facts.request else {
        // Nobody asks so about a connection: the configuration does not allow it.
        return Asking { head: RequestHead::new(http::Method::GET, Version::Http11), body: Vec::new(), grpc: false };
    };
    let mut head = RequestHead::new(asked.method.clone(), Version::Http11);
    head.set_authority(asked.authority().as_bytes());
    head.set_path(format!("{}{}", http.prefix, asked.path()).as_bytes());
    let body = match (question.body, authz.body) {
        (Some(told), Some(_)) => told.bytes.to_vec(),
        _ => Vec::new(),
    };
    head.length = Length::Exact(body.len() as u64);
    for field in asked.fields.iter() {
        let Ok(name) = std::str::from_utf8(field.name) else { continue };
        let told = authz.fields.as_ref().is_some_and(|names| names.matches(name));
        let told = name == "authorization" || told && name != grpc::PART && !is_own(name);
        if told && head.fields.get(name).is_none() {
            // Several of one name are told as one.
            let all = asked.fields.all(name).collect::<Vec<_>>().join(&b","[..]);
            head.fields.push(field.name, &all);
        }
    }
    if let Some(told) = question.body {
        head.fields.push(grpc::PART.as_bytes(), told.part.to_string().as_bytes());
    }
    for (name, value) in &http.adds {
        head.fields.set(name.as_str(), value.as_bytes());
    }
    Asking { head, body, grpc: false }
}

/// What belongs to the client's own connection.
fn is_own(name: &str) -> bool {
    crate::config::guard::authz::FRAMING.contains(&name)
}

/// What a response comes to.
pub(super) fn hear(http: &OverHttp, head: &ResponseHead, body: &[u8]) -> Said {
    let heard = match head.status {
        500.. => return Said::Nothing(None),
        200 => yes(http, head).map(|yes| Said::Yes(Box::new(yes))),
        status => no(http, head, body).map(|no| Said::No(Box::new(No { status, ..no }))),
    };
    heard.unwrap_or(Said::Nonsense)
}

fn yes(http: &OverHttp, head: &ResponseHead) -> Result<Yes, Impossible> {
    let mut yes = Yes::default();
    for field in head.fields.iter() {
        let Ok(name) = std::str::from_utf8(field.name) else { continue };
        if name == REMOVE {
            continue;
        }
        if http.to_upstream.matches(name) {
            yes.request.push(name, field.value, Change::Set)?;
        }
        if http.to_client_on_success.matches(name) {
            yes.response.push(name, field.value, Change::Add)?;
        }
    }
    for list in head.fields.all(REMOVE) {
        list.split(|b| *b == b',').filter_map(|n| std::str::from_utf8(n).ok()).for_each(|n| yes.request.remove(n));
    }
    Ok(yes)
}

fn no(http: &OverHttp, head: &ResponseHead, body: &[u8]) -> Result<No, Impossible> {
    let mut no = No { body: body.to_vec(), ..No::default() };
    for field in head.fields.iter().filter(|field| field.known != Known::Date) {
        let Ok(name) = std::str::from_utf8(field.name) else { continue };
        let told = http.to_client.as_ref().is_none_or(|names| names.matches(name) || ALWAYS.contains(&name));
        if told && name != REMOVE {
            no.fields.push(name, field.value, Change::Add)?;
        }
    }
    Ok(no)
}
