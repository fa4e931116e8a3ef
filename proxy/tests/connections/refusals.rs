//! Connections that are turned away, in the logs of their listeners.

use std::path::Path;
use std::time::Duration;

use hawser_api::any::pack;
use hawser_api::proto::accesslog::access_log_filter::FilterSpecifier;
use hawser_api::proto::accesslog::{AccessLog, AccessLogFilter, ResponseFlagFilter, access_log};
use hawser_api::proto::file_access_log::{FileAccessLog, file_access_log::AccessLogFormat};
use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::listener::{FilterChain, FilterChainMatch, Listener};
use hawser_xds::TypeUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ads::{Ads, World};
use crate::ambient::{self, Like};
use crate::apps;
use crate::net::{CALLEE, Proxy, at};
use crate::resources::{Pki, downstream, hcm, routes};
use crate::world::{self, By};

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DOWNSTREAM_LOCAL_ADDRESS% \
                      %DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n";
pub(crate) const MESH: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];

pub(crate) async fn story() {
    apps::start().await;
    let pki = Pki::new();
    let (caller_dir, callee_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (caller, callee) = (caller(&pki, caller_dir.path()), callee(&pki, callee_dir.path()));
    let _ads = (Ads::start(caller_dir.path(), caller), Ads::start(callee_dir.path(), callee));
    let outbound = ["--bind", "outbound=0.0.0.0:15001", "--max-connections", "1"];
    let _caller = Proxy::start(caller_dir.path(), &outbound, 15000).await;
    let _callee = Proxy::start(callee_dir.path(), &["--bind", "inbound=0.0.0.0:15006"], 15100).await;
    let port = at(CALLEE, 9080);

    // Plaintext to a port that wants mTLS: no chain takes it.
    let plain = apps::get(&port.to_string(), "/", &[]).await;
    assert!(plain.is_err(), "{plain:?}");
    let refused = "0 NR filter_chain_not_found 10.77.0.2:9080 -";
    eventually_has(callee_dir.path(), "all", &[refused]).await;

    // TLS without a certificate: it is told why, which is no matter of chains.
    let nobody = ambient::tls(&pki, port, Like { certificate: false, alpn: MESH }).await;
    if let Ok(mut stream) = nobody {
        assert!(stream.read_u8().await.is_err(), "nothing is said to a stranger");
    }
    eventually_has(callee_dir.path(), "all", &[refused, "0 - - 10.77.0.2:9080 TLS_error:_"]).await;
    eventually_has(callee_dir.path(), "not-taken", &[refused]).await;

    // Outbound: a server name that no chain has; then more connections than there may be.
    let mut stream = TcpStream::connect("240.240.0.2:8443").await.unwrap();
    stream.write_all(b"no hello").await.unwrap();
    let _ = stream.read_u8().await;
    drop(stream);
    eventually_has(caller_dir.path(), "all", &["0 NR filter_chain_not_found 240.240.0.2:8443 -"]).await;
    // Each of two workers takes one.
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect("240.240.0.2:8443").await.unwrap());
    }
    eventually_has(caller_dir.path(), "all", &["0 NR ", "0 OM - 240.240.0.2:8443 -"]).await;
}

/// Waits until a log has lines that begin so, in this order, before others like the last.
async fn eventually_has(dir: &Path, log: &str, wanted: &[&str]) {
    let mut seen = String::new();
    let found = async || {
        seen = std::fs::read_to_string(dir.join(log)).unwrap_or_default();
        let mut lines = seen.lines();
        wanted.iter().all(|w| lines.next().is_some_and(|line| line.starts_with(w)))
    };
    apps::eventually(found).await;
    assert!(seen.lines().skip(wanted.len()).all(|line| line.starts_with(wanted[wanted.len() - 1])), "{seen}");
}

fn logs(dir: &Path) -> Vec<AccessLog> {
    let log = |name: &str, filter| {
        let format = Some(AccessLogFormat::Format(FORMAT.into()));
        let file = FileAccessLog { path: dir.join(name).to_str().unwrap().into(), access_log_format: format };
        let config_type = Some(access_log::ConfigType::TypedConfig(pack(&file)));
        AccessLog { name: "envoy.access_loggers.file".into(), filter, config_type }
    };
    let flags = FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".into()] });
    vec![log("all", None), log("not-taken", Some(AccessLogFilter { filter_specifier: Some(flags) }))]
}

fn caller(pki: &Pki, dir: &Path) -> World {
    let mut world = World::default();
    pki.secrets(&mut world, "caller");
    world::upstream(&mut world, "a", at("10.77.0.3", 8443), By::Plain);
    let listener = Listener {
        name: "240.240.0.2_8443".into(),
        filter_chains: vec![world::to("a", world::names(&["a.example.com"]))],
        listener_filters_timeout: Some(Duration::from_secs(15).try_into().unwrap()),
        access_log: logs(dir),
        ..Default::default()
    };
    world.add(TypeUrl::LISTENER, "240.240.0.2_8443", &listener);
    world.brings("240.240.0.2_8443", &[(TypeUrl::CLUSTER, "a"), (TypeUrl::ENDPOINTS, "a")]);
    world
}

/// A port of HTTP that takes mTLS alone.
fn callee(pki: &Pki, dir: &Path) -> World {
    let mut world = World::default();
    pki.secrets(&mut world, "reviews");
    let name = "inbound|9080||";
    let chain = FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(9080),
            transport_protocol: "tls".into(),
            ..Default::default()
        }),
        transport_socket: Some(downstream()),
        filters: vec![hcm(RouteSpecifier::RouteConfig(routes(name, name)), true)],
        ..Default::default()
    };
    world.add(TypeUrl::CLUSTER, name, &world::original(name));
    let listener = Listener {
        name: "virtualInbound".into(),
        filter_chains: vec![chain],
        access_log: logs(dir),
        ..Default::default()
    };
    world.add(TypeUrl::LISTENER, "virtualInbound", &listener);
    world.brings("virtualInbound", &[(TypeUrl::CLUSTER, name)]);
    world
}
