//! Envoy's authorization service over gRPC.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use hawser_api::proto::core::header_value_option::HeaderAppendAction;
use hawser_api::proto::core::{Address, HeaderValueOption, Metadata, SocketAddress, address, socket_address};
use hawser_api::proto::envoy::service::auth::v3 as proto;
use http::Method;
use prost::Message as _;
use proto::attribute_context::{HttpRequest, Peer, Request};
use proto::check_response::HttpResponse;

use super::changes::Impossible;
use super::{Asking, Change, Changes, No, Question, Said, Yes, text};
use crate::config::guard::authz::Authz;
use crate::http::message::{Known, Length, RequestHead, ResponseHead, Version};

const PATH: &[u8] = b"/envoy.service.auth.v3.Authorization/Check";
/// Whoever asks says by it whether it has told all of a body.
pub(super) const PART: &str = "x-envoy-auth-partial-body";

/// The request that asks.
pub(super) fn ask(authz: &Authz, authority: &str, question: &Question<'_>) -> Asking {
    let message = proto::CheckRequest { attributes: Some(attributes(authz, question)) };
    let mut head = RequestHead::new(Method::POST, Version::Http2);
    head.set_authority(authority.as_bytes());
    head.set_path(PATH);
    head.length = Length::Unknown;
    head.fields.push_known(Known::ContentType, b"application/grpc");
    head.fields.push_known(Known::Te, b"trailers");
    // Eight digits at most.
    let timeout = format!("{}m", authz.timeout.as_millis().min(99_999_999));
    head.fields.push(b"grpc-timeout", timeout.as_bytes());
    let mut body = vec![0; 5];
    message.encode(&mut body).unwrap_or_default();
    let length = u32::try_from(body.len() - 5).unwrap_or(u32::MAX);
    body[1..5].copy_from_slice(&length.to_be_bytes());
    Asking { head, body, grpc: true }
}

fn attributes(authz: &Authz, question: &Question<'_>) -> proto::AttributeContext {
    let facts = question.facts;
    let request = facts.request.map(|head| request(authz, head, question));
    // The name that a connection asks for says where it goes; requests say it themselves.
    let service = facts.server_name.filter(|_| request.is_none()).unwrap_or_default();
    let route = request.is_some().then(Metadata::default);
    proto::AttributeContext {
        source: Some(Peer {
            address: question.from.map(address),
            service: String::new(),
            principal: facts.peer.unwrap_or_default().to_owned(),
        }),
        destination: Some(Peer {
            address: Some(address(facts.to)),
            service: service.to_owned(),
            principal: question.own.unwrap_or_default().to_owned(),
        }),
        request,
        metadata_context: Some(Metadata::default()),
        route_metadata_context: route,
    }
}

fn request(authz: &Authz, head: &RequestHead, question: &Question<'_>) -> Request {
    let since = question.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (body, raw_body) = match (question.body, authz.body) {
        (Some(told), Some(body)) if body.raw => (String::new(), told.bytes.to_vec()),
        (Some(told), _) => (text(told.bytes), Vec::new()),
        (None, _) => Default::default(),
    };
    let http = HttpRequest {
        id: rand::random::<u64>().to_string(),
        method: head.method.as_str().to_owned(),
        headers: headers(authz, head, question),
        path: head.path().to_owned(),
        host: head.authority().to_owned(),
        scheme: scheme(question).to_owned(),
        size: question.body.map_or(0, |told| i64::try_from(told.came).unwrap_or(i64::MAX)),
        protocol: match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
        .to_owned(),
        body,
        raw_body,
    };
    let time = prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    };
    Request { time: Some(time), http: Some(http) }
}

fn scheme(question: &Question<'_>) -> &'static str {
    if question.secure { "https" } else { "http" }
}

/// All that a request's head says, as fields; several of one name are one.
pub(super) fn headers(authz: &Authz, head: &RequestHead, question: &Question<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::<String, String>::new();
    let mut add = |name: &str, value: &[u8]| {
        if name == PART || authz.fields.as_ref().is_some_and(|names| !names.matches(name)) {
            return;
        }
        match all.get_mut(name) {
            Some(before) => {
                before.push(',');
                before.push_str(&text(value));
            }
            None => drop(all.insert(name.to_owned(), text(value))),
        }
    };
    add(":authority", head.authority().as_bytes());
    add(":method", head.method.as_str().as_bytes());
    add(":path", head.path().as_bytes());
    add(":scheme", scheme(question).as_bytes());
    if let Length::Exact(length) = head.length {
        add("content-length", length.to_string().as_bytes());
    }
    for field in head.fields.iter() {
        if let Ok(name) = std::str::from_utf8(field.name) {
            add(name, field.value);
        }
    }
    if let Some(told) = question.body {
        all.insert(PART.to_owned(), told.part.to_string());
    }
    all
}

fn address(of: SocketAddr) -> Address {
    let socket = SocketAddress {
        protocol: 0,
        address: of.ip().to_canonical().to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(of.port().into())),
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}

/// What a response comes to.
pub(super) fn hear(head: &ResponseHead, body: &[u8], grpc_status: Option<u8>) -> Said {
    let said = head.fields.known(Known::GrpcStatus).and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    if head.status != 200 || grpc_status.or(said) != Some(0) {
        return Said::Nothing(None);
    }
    let Some(message) = message(body) else { return Said::Nothing(None) };
    match proto::CheckResponse::decode(message) {
        Ok(response) => decide(response).unwrap_or(Said::Nonsense),
        Err(_) => Said::Nothing(None),
    }
}

/// The one message of a body, not compressed.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    (prefix[0] == 0 && usize::try_from(length).ok()? == message.len()).then_some(message)
}

fn decide(response: proto::CheckResponse) -> Result<Said, Impossible> {
    let code = response.status.as_ref().map_or(0, |status| status.code);
    let metadata = match &response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok.dynamic_metadata.clone().or(response.dynamic_metadata),
        _ => response.dynamic_metadata,
    };
    let metadata = metadata.unwrap_or_default();
    if code == 0 {
        let mut yes = Yes { metadata, ..Yes::default() };
        if let Some(HttpResponse::OkResponse(ok)) = response.http_response {
            for option in &ok.headers {
                let Some(header) = &option.header else { continue };
                // As with Envoy, whatever action is said.
                let how = if option.append == Some(true) { Change::Join } else { Change::Set };
                yes.request.push(&header.key, header.value.as_bytes(), how)?;
            }
            changes(&ok.response_headers_to_add, &mut yes.response)?;
            ok.headers_to_remove.iter().for_each(|name| yes.request.remove(name));
            yes.query.extend(ok.query_parameters_to_set.into_iter().map(|p| (p.key, Some(p.value))));
            yes.query.extend(ok.query_parameters_to_remove.into_iter().map(|key| (key, None)));
        }
        return Ok(Said::Yes(Box::new(yes)));
    }
    let no = |denied: proto::DeniedHttpResponse, metadata| {
        let mut no = No { metadata, body: denied.body.into_bytes(), ..No::default() };
        let status = denied.status.map_or(0, |status| status.code);
        no.status = u16::try_from(status).ok().filter(|s| (200..600).contains(s)).unwrap_or(0);
        changes(&denied.headers, &mut no.fields)?;
        Ok(Box::new(no))
    };
    Ok(match response.http_response {
        Some(HttpResponse::ErrorResponse(error)) => Said::Nothing(Some(no(error, metadata)?)),
        Some(HttpResponse::DeniedResponse(denied)) => Said::No(no(denied, metadata)?),
        Some(HttpResponse::OkResponse(_)) | None => Said::No(Box::new(No { metadata, ..No::default() })),
    })
}

fn changes(options: &[HeaderValueOption], all: &mut Changes) -> Result<(), Impossible> {
    for option in options {
        let Some(header) = &option.header else { continue };
        let action = HeaderAppendAction::try_from(option.append_action);
        let how = match (option.append, action) {
            (Some(true), _) => Change::Add,
            (Some(false), _) => Change::Set,
            (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => Change::Add,
            (None, Ok(HeaderAppendAction::AddIfAbsent)) => Change::IfAbsent,
            (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => Change::Set,
            (None, Ok(HeaderAppendAction::OverwriteIfExists)) => Change::IfPresent,
            (None, Err(_)) => return Err(Impossible),
        };
        all.push(&header.key, header.value.as_bytes(), how)?;
    }
    Ok(())
}
