//! haproxy: HTTP/2 between the pair, the fastest of its ways.

use std::path::Path;

use hawser_tests::Process;

use super::{Kit, Ports};
use crate::mesh::{HTTP, Side, TCP};

/// Starts both.
pub(super) fn start(kit: &Kit<'_>, ports: Ports) -> anyhow::Result<Vec<Process>> {
    let binary = Path::new("/usr/sbin/haproxy");
    anyhow::ensure!(binary.exists(), "haproxy is missing: apt-get install haproxy");
    let Ports { local_http, local_tcp, tls_http, tls_tcp } = ports;
    let files = kit.certificates.write(kit.hosts.dir())?;
    let server_address = kit.server();
    let (root, both) = (files.root.display(), files.both.display());
    let common = "global\n  nbthread 1\n  maxconn 4096\n  tune.ssl.default-dh-param 2048\ndefaults\n  timeout connect 5s\n  \
                  timeout client 60s\n  timeout server 60s\n  retries 2\n";
    let tls = format!("ssl crt {both} ca-file {root}");
    let caller = format!(
        "{common}frontend http\n  mode http\n  bind 127.0.0.1:{local_http}\n  default_backend http\nbackend http\n  mode http\n  \
         http-reuse always\n  server b {server_address}:{tls_http} {tls} verify required alpn h2 ssl-min-ver TLSv1.3\n\
         frontend tcp\n  mode tcp\n  bind 127.0.0.1:{local_tcp}\n  default_backend tcp\nbackend tcp\n  mode tcp\n  \
         server b {server_address}:{tls_tcp} {tls} verify required ssl-min-ver TLSv1.3\n"
    );
    let server = format!(
        "{common}frontend http\n  mode http\n  bind {server_address}:{tls_http} {tls} verify required alpn h2 ssl-min-ver TLSv1.3\n  \
         default_backend http\nbackend http\n  mode http\n  http-reuse always\n  server up {server_address}:{HTTP}\n\
         frontend tcp\n  mode tcp\n  bind {server_address}:{tls_tcp} {tls} verify required ssl-min-ver TLSv1.3\n  default_backend tcp\n\
         backend tcp\n  mode tcp\n  server up {server_address}:{TCP}\n"
    );
    let mut processes = vec![];
    for (side, name, text) in [(Side::Caller, "haproxy-caller", caller), (Side::Server, "haproxy-server", server)] {
        let file = kit.hosts.dir().join(format!("{name}.cfg"));
        std::fs::write(&file, text)?;
        let args = [binary.display().to_string(), "-db".to_owned(), "-f".to_owned(), file.display().to_string()];
        processes.push(kit.hosts.spawn(side, name, &args)?);
    }
    Ok(processes)
}
