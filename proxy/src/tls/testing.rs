//! For tests: ClientHellos as rustls makes them.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The first flight of a client.
pub(crate) fn hello_bytes(server_name: &str, alpn: &[&str]) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(hawser_daemon::tls_provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = server_name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}
