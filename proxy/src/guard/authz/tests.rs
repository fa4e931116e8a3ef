//! Questions and answers without anybody who asks.

use hawser_api::any::pack;
use hawser_api::proto::core::{GrpcService, HeaderValue, HeaderValueOption, HttpUri, grpc_service, http_uri};
use hawser_api::proto::envoy::extensions::filters::http::ext_authz::v3 as config;
use hawser_api::proto::envoy::service::auth::v3 as proto;
use hawser_api::proto::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher, string_matcher::MatchPattern};
use hawser_api::proto::google::rpc;
use hawser_api::proto::http_connection_manager::{HttpFilter, http_filter};
use http::Method;
use prost::Message as _;
use proto::check_response::HttpResponse;

use super::*;
use crate::config::Guard;
use crate::http::message::{Known, Length, Version};
use crate::listen::Arrival;

fn authz(services: config::ext_authz::Services) -> Box<Authz> {
    let made = config::ExtAuthz {
        services: Some(services),
        with_request_body: Some(config::BufferSettings { max_request_bytes: 4, ..Default::default() }),
        ..config::ExtAuthz::default()
    };
    let filter = HttpFilter {
        name: "f".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(&made))),
        is_optional: false,
    };
    match Guard::of_http(&filter) {
        Ok(Some(Guard::Authz(authz))) => authz,
        other => panic!("{other:?}"),
    }
}

fn grpc() -> Box<Authz> {
    let to = grpc_service::EnvoyGrpc { cluster_name: "outbound|1||a".into(), authority: String::new() };
    let target_specifier = Some(grpc_service::TargetSpecifier::EnvoyGrpc(to));
    authz(config::ext_authz::Services::GrpcService(GrpcService { target_specifier, timeout: None }))
}

fn names(all: &[&str]) -> Option<ListStringMatcher> {
    let one = |name: &&str| StringMatcher {
        ignore_case: true,
        match_pattern: Some(match name.strip_suffix('*') {
            Some(start) => MatchPattern::Prefix(start.into()),
            None => MatchPattern::Exact((*name).into()),
        }),
    };
    Some(ListStringMatcher { patterns: all.iter().map(one).collect() })
}

fn over_http() -> Box<Authz> {
    authz(config::ext_authz::Services::HttpService(config::HttpService {
        server_uri: Some(HttpUri {
            http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster("c".into())),
            ..HttpUri::default()
        }),
        path_prefix: "/check".into(),
        authorization_request: None,
        authorization_response: Some(config::AuthorizationResponse {
            allowed_upstream_headers: names(&["x-user*", "content-length", ":path"]),
            allowed_client_headers: names(&["x-why"]),
            allowed_client_headers_on_success: names(&["x-ok"]),
        }),
    }))
}

fn head() -> RequestHead {
    let mut head = RequestHead::new(Method::POST, Version::Http11);
    head.set_authority(b"a.test");
    head.set_path(b"/a?b=c");
    head.length = Length::Exact(6);
    for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "\u{ff}"), ("x-envoy-auth-partial-body", "forged")] {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head.fields.push(b"x-c", b"\xffa");
    head.fields.push(b"authorization", b"secret");
    head
}

fn asked(authz: &Authz, head: &RequestHead) -> Asking {
    let (to, from) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:1234".parse().unwrap());
    let facts =
        Facts::of(Arrival { to, peer: Some(from), bound: false }, None, Some("spiffe://caller")).request(head, true);
    let body = Some(Told { bytes: b"abcd", part: true, came: 6 });
    let (own, began) = (Some("spiffe://own"), SystemTime::UNIX_EPOCH);
    ask(authz, &Question { facts: &facts, from: Some(from), own, secure: true, began, body })
}

#[test]
fn over_grpc_all_is_told_and_nothing_forged() {
    let asking = asked(&grpc(), &head());
    assert_eq!(
        (asking.head.path(), asking.head.authority()),
        ("/envoy.service.auth.v3.Authorization/Check", "outbound_.1_._.a")
    );
    assert_eq!(asking.head.fields.get("grpc-timeout"), Some(&b"200m"[..]));
    let length = u32::from_be_bytes(asking.body[1..5].try_into().unwrap());
    assert_eq!((asking.body[0], length as usize), (0, asking.body.len() - 5));
    let request = proto::CheckRequest::decode(&asking.body[5..]).unwrap();
    let attributes = request.attributes.unwrap();
    assert_eq!(attributes.source.unwrap().principal, "spiffe://caller");
    assert_eq!(attributes.destination.unwrap().principal, "spiffe://own");
    let http = attributes.request.unwrap().http.unwrap();
    assert_eq!(
        (http.path.as_str(), http.scheme.as_str(), http.size, http.body.as_str()),
        ("/a?b=c", "https", 6, "abcd")
    );
    for (name, is) in [
        (":path", Some("/a?b=c")),
        ("x-a", Some("1,2")),
        ("x-b", Some("\u{ff}")),
        ("x-c", Some("!a")),
        ("content-length", Some("6")),
        ("x-envoy-auth-partial-body", Some("true")),
        ("x-none", None),
    ] {
        assert_eq!(http.headers.get(name).map(String::as_str), is, "{name}");
    }
}

#[test]
fn over_http_little_is_told() {
    let asking = asked(&over_http(), &head());
    assert_eq!(
        (asking.head.method.as_str(), asking.head.path(), asking.head.authority()),
        ("POST", "/check/a?b=c", "a.test")
    );
    let names: Vec<_> = asking.head.fields.iter().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
    assert_eq!(names, ["authorization", "x-envoy-auth-partial-body"]);
    assert_eq!(asking.head.fields.get("x-envoy-auth-partial-body"), Some(&b"true"[..]));
    assert_eq!((asking.head.length, asking.body.as_slice()), (Length::Exact(4), &b"abcd"[..]));
}

fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new(status);
    fields.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
    head
}

/// What an answer over gRPC comes to.
fn said(answer: proto::CheckResponse) -> Said {
    let message = answer.encode_to_vec();
    let body = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    hear(&grpc(), &response(200, &[]), &body, Some(0))
}

fn option(key: &str, value: &str) -> HeaderValueOption {
    let header = Some(HeaderValue { key: key.into(), value: value.into() });
    HeaderValueOption { header, append: None, append_action: 2 }
}

#[test]
fn what_is_no_whole_answer_is_none() {
    let good = [0, 0, 0, 0, 0];
    assert!(matches!(hear(&grpc(), &response(200, &[]), &good, Some(0)), Said::Yes(_)));
    for (status, body, grpc_status) in [
        (503, &good[..], Some(0)),
        (200, &good[..], None),
        (200, &good[..], Some(13)),
        (200, &[], Some(0)),
        (200, &[0, 0, 0, 0][..], Some(0)),
        (200, &[1, 0, 0, 0, 0][..], Some(0)),
        (200, &[0, 0, 0, 0, 1][..], Some(0)),
        (200, &[0, 0, 0, 0, 1, 0xff][..], Some(0)),
        (200, &[0, 0xff, 0xff, 0xff, 0xff][..], Some(0)),
    ] {
        let said = hear(&grpc(), &response(status, &[]), body, grpc_status);
        assert!(matches!(said, Said::Nothing(None)), "{status} {body:?} {grpc_status:?}: {said:?}");
    }
    let head = response(200, &[("grpc-status", "7")]);
    assert!(matches!(hear(&grpc(), &head, &good, None), Said::Nothing(None)));
    for status in [500, 503, 599] {
        assert!(matches!(hear(&over_http(), &response(status, &[]), b"", None), Said::Nothing(None)));
    }
}

#[test]
fn what_is_said_may_frame_nothing_and_must_be_a_field() {
    let ok = |headers: Vec<HeaderValueOption>| proto::CheckResponse {
        http_response: Some(HttpResponse::OkResponse(proto::OkHttpResponse { headers, ..Default::default() })),
        ..proto::CheckResponse::default()
    };
    let framing = ok(vec![option("Content-Length", "9"), option("transfer-encoding", "chunked"), option("x-a", "3")]);
    let Said::Yes(yes) = said(framing) else { panic!("it may pass") };
    let mut head = head();
    yes.request.request(&mut head);
    assert_eq!(head.fields.get("content-length").or(head.fields.get("transfer-encoding")), None);
    assert_eq!(head.fields.all("x-a").collect::<Vec<_>>(), [b"3"]);
    for bad in [
        option("x-a", "1\r\nx-b: 2"),
        option("x a", "1"),
        option("", "1"),
        option(":path", "nowhere"),
        option(":path", "/a HTTP/1.1\r\n"),
        option(":method", "CONNECT"),
        option(":authority", "a b"),
        option(":protocol", "websocket"),
    ] {
        let said = said(ok(vec![bad.clone()]));
        assert!(matches!(said, Said::Nonsense), "{bad:?}: {said:?}");
    }
}

#[test]
fn a_refusal_says_what_the_client_is_told() {
    let denied = proto::DeniedHttpResponse {
        status: Some(hawser_api::proto::envoy::r#type::v3::HttpStatus { code: 401 }),
        headers: vec![option("x-why", "because")],
        body: "no".into(),
    };
    let no = proto::CheckResponse {
        status: Some(rpc::Status { code: 7, ..rpc::Status::default() }),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
        dynamic_metadata: None,
    };
    let Said::No(no) = said(no) else { panic!("it may not pass") };
    let mut fields = crate::http::message::Fields::default();
    no.fields.replace(&mut fields, &[]);
    assert_eq!((no.status, no.body.as_slice(), fields.get("x-why")), (401, &b"no"[..], Some(&b"because"[..])));
    // What allows, but says no, says no.
    let odd = proto::CheckResponse {
        status: Some(rpc::Status { code: 7, ..rpc::Status::default() }),
        http_response: Some(HttpResponse::OkResponse(Default::default())),
        dynamic_metadata: None,
    };
    assert!(matches!(said(odd), Said::No(_)));
    let answered = [("x-why", "because"), ("x-other", "1"), ("location", "/"), ("content-length", "2")];
    let Said::No(no) = hear(&over_http(), &response(302, &answered), b"no", None) else { panic!("it may not pass") };
    let mut fields = crate::http::message::Fields::default();
    no.fields.replace(&mut fields, &[]);
    let names: Vec<_> = fields.iter().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
    assert_eq!((no.status, names), (302, vec!["x-why".to_owned(), "location".to_owned()]));
}

#[test]
fn a_consent_over_http_changes_what_it_may() {
    let answered = [
        ("x-user", "me"),
        ("x-user-id", "1"),
        ("x-ok", "yes"),
        ("content-length", "0"),
        ("x-envoy-auth-headers-to-remove", "x-a, X-C"),
    ];
    let Said::Yes(yes) = hear(&over_http(), &response(200, &answered), b"", None) else { panic!("it may pass") };
    let mut head = head();
    head.fields.push_known(Known::UserAgent, b"u");
    yes.request.request(&mut head);
    let found = |name: &str| head.fields.get(name).map(|v| String::from_utf8_lossy(v).into_owned());
    for (name, is) in [
        ("x-user", Some("me")),
        ("x-user-id", Some("1")),
        ("x-a", None),
        ("x-c", None),
        ("x-ok", None),
        ("x-b", Some("\u{ff}")),
    ] {
        assert_eq!(found(name).as_deref(), is, "{name}");
    }
    let mut fields = crate::http::message::Fields::default();
    yes.response.fields(&mut fields);
    assert_eq!((fields.get("x-ok"), fields.len()), (Some(&b"yes"[..]), 1));
}
