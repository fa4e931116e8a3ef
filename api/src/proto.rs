//! Generated code of `proto/`, by package; short names for what is used most.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

pub use generated::*;

/// Every message of `proto/` as a `google.protobuf.FileDescriptorSet`, encoded.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use envoy::config::{
    accesslog::v3 as accesslog, cluster::v3 as cluster, core::v3 as core, endpoint::v3 as endpoint,
    listener::v3 as listener, route::v3 as route,
};
pub use envoy::extensions::access_loggers::file::v3 as file_access_log;
pub use envoy::extensions::filters::network::{
    http_connection_manager::v3 as http_connection_manager, tcp_proxy::v3 as tcp_proxy,
};
pub use envoy::extensions::transport_sockets::tls::v3 as tls;
pub use envoy::service::discovery::v3 as discovery;
pub use hawser::{admin::v1 as admin, agent::v1 as agent, host::v1 as host, mesh::v1 as mesh};
