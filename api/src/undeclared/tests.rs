use prost::{Message as _, Name};
use prost_types::Any;

use super::*;
use crate::any::pack;
use crate::proto::cluster::Cluster;
use crate::proto::core::{Metadata, TransportSocket, transport_socket};
use crate::proto::http_connection_manager::HttpConnectionManager;
use crate::proto::listener::{Filter, FilterChain, Listener, filter};

fn listener(filter: Any) -> Listener {
    let filter = Filter { name: "f".to_owned(), config_type: Some(filter::ConfigType::TypedConfig(filter)) };
    let chain = FilterChain { filters: vec![Filter::default(), filter], ..Default::default() };
    Listener { name: "l".to_owned(), filter_chains: vec![FilterChain::default(), chain], ..Default::default() }
}

fn refusal<M: Name>(bytes: &[u8]) -> String {
    check(&M::type_url(), bytes).unwrap_err().to_string()
}

/// A field of wire type 2.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(u64::from(number) << 3 | 2, &mut bytes);
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.extend(body);
    bytes
}

#[test]
fn what_we_encode_is_declared() {
    let fields = [("key".to_owned(), prost_types::Value::from(vec![1.5.into(), "text".into(), true.into()]))];
    let metadata = Metadata {
        filter_metadata: [("istio".to_owned(), prost_types::Struct { fields: fields.into_iter().collect() })].into(),
    };
    let mut message = listener(pack(&HttpConnectionManager::default()));
    message.metadata = Some(metadata);
    assert_eq!(check(&Listener::type_url(), &message.encode_to_vec()), Ok(()));
}

#[test]
fn an_undeclared_field_is_named_with_its_path() {
    let chain = field(4, b"\x08\x01");
    let bytes = [field(3, &[]), field(3, &chain)].concat();
    let text = "Listener.filter_chains[1]: field 4 of envoy.config.listener.v3.FilterChain is not supported";
    assert_eq!(refusal::<Listener>(&bytes), text);
}

#[test]
fn an_undeclared_field_within_an_any_is_named_with_its_path() {
    let any = Any { type_url: HttpConnectionManager::type_url(), value: field(126, b"") };
    let text = "Listener.filter_chains[1].filters[1].typed_config<HttpConnectionManager>: \
        field 126 of envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager is not supported";
    assert_eq!(refusal::<Listener>(&listener(any).encode_to_vec()), text);
}

#[test]
fn an_unknown_type_is_named() {
    let any = Any { type_url: "type.googleapis.com/x.Y".to_owned(), value: Vec::new() };
    let text = "Listener.filter_chains[1].filters[1].typed_config: type \"type.googleapis.com/x.Y\" is not supported";
    assert_eq!(refusal::<Listener>(&listener(any).encode_to_vec()), text);
    assert_eq!(check("x.Y", &[]).unwrap_err().to_string(), "type \"x.Y\" is not supported");
}

#[test]
fn an_unknown_value_of_an_enum_is_named() {
    let cluster = Cluster { lb_policy: 77, ..Default::default() };
    assert_eq!(refusal::<Cluster>(&cluster.encode_to_vec()), "Cluster.lb_policy: value 77 is not supported");
}

#[test]
fn torn_and_hostile_bytes_are_refused() {
    let good = listener(pack(&HttpConnectionManager::default())).encode_to_vec();
    for end in 1..good.len() {
        // Cut anywhere, it is either shorter or refused; never a panic.
        let _ = check(&Listener::type_url(), &good[..end]);
    }
    for bytes in [&[0x0a, 0xff][..], &[0x0b], &[0x02, 0], &[0xff; 11], &[0x09, 1]] {
        assert!(refusal::<Listener>(bytes).contains("malformed"), "{bytes:?}");
    }
    let mut deep = Vec::new();
    for _ in 0..200 {
        let socket = Any { type_url: TransportSocket::type_url(), value: deep };
        let socket = transport_socket::ConfigType::TypedConfig(socket);
        deep = TransportSocket { name: String::new(), config_type: Some(socket) }.encode_to_vec();
    }
    assert!(refusal::<TransportSocket>(&deep).ends_with("nested too deep"));
}
