//! haproxy: HTTP/2 between the pair, the fastest of its ways.

use std::fmt::Write as _;
use std::path::Path;

use hawser_tests::Process;

use super::{Kit, Ports};
use crate::certificates::{Files, IDENTITY};
use crate::mesh::{Door, REGEX, ROUTES, Side};

/// The program.
pub(crate) const PROGRAM: &str = "/usr/sbin/haproxy";

/// Starts both.
pub(super) fn start(kit: &Kit<'_>, ports: Ports) -> anyhow::Result<Vec<Process>> {
    anyhow::ensure!(Path::new(PROGRAM).exists(), "haproxy is missing: apt-get install haproxy");
    let files = kit.certificates.write(kit.hosts.dir())?;
    let workers = kit.hosts.workers();
    let (mut caller, mut server) = (common(workers), common(workers));
    for door in Door::ALL {
        callers_side(&mut caller, door, &kit.server(), ports, &files);
        servers_side(&mut server, door, &kit.server(), ports, &files);
    }
    let mut processes = vec![];
    for (side, name, text) in [(Side::Caller, "haproxy-caller", caller), (Side::Server, "haproxy-server", server)] {
        let file = kit.hosts.dir().join(format!("{name}.cfg"));
        std::fs::write(&file, text)?;
        let args = [PROGRAM, "-db", "-f", &file.display().to_string()].map(str::to_owned);
        processes.push(kit.hosts.spawn(side, name, &args)?);
    }
    Ok(processes)
}

/// Its stdout is a file.
fn common(workers: usize) -> String {
    format!(
        "global\n  nbthread {workers}\n  maxconn 8192\n  tune.ssl.default-dh-param 2048\n  log stdout format raw local0 info\n\
         defaults\n  log global\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  retries 2\n"
    )
}

fn callers_side(out: &mut String, door: Door, address: &str, ports: Ports, files: &Files) {
    let (local, tls) = (ports.local(door), ports.tls(door));
    let (root, both) = (files.root.display(), files.both.display());
    let h2 = if door == Door::Grpc { " proto h2" } else { "" };
    let name = format!("d{}", door.index());
    let _ = write!(out, "frontend {name}\n  bind 127.0.0.1:{local}{h2}\n");
    if door == Door::Tcp {
        let _ = write!(
            out,
            "  mode tcp\n  default_backend {name}\nbackend {name}\n  mode tcp\n  \
             server b {address}:{tls} ssl crt {both} ca-file {root} verify required ssl-min-ver TLSv1.3\n"
        );
        return;
    }
    out.push_str("  mode http\n  option httplog\n  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid\n");
    out.push_str("  unique-id-header X-Request-ID\n  http-request del-header x-forwarded-client-cert\n");
    for number in 0..ROUTES {
        let _ = writeln!(out, "  use_backend {name} if {{ req.hdr(x-group) -m str g{number} }}");
    }
    let _ = writeln!(out, "  use_backend {name} if {{ req.hdr(user-agent) -m reg {REGEX} }}");
    let reuse = if door == Door::Fresh { "never" } else { "always" };
    let _ = write!(
        out,
        "  default_backend {name}\nbackend {name}\n  mode http\n  http-reuse {reuse}\n  \
         retry-on conn-failure empty-response 502 503 504\n  \
         server b {address}:{tls} ssl crt {both} ca-file {root} verify required alpn h2 ssl-min-ver TLSv1.3\n"
    );
}

fn servers_side(out: &mut String, door: Door, address: &str, ports: Ports, files: &Files) {
    let (tls, port) = (ports.tls(door), door.port());
    let (root, both) = (files.root.display(), files.both.display());
    let name = format!("d{}", door.index());
    let bind = format!("  bind {address}:{tls} ssl crt {both} ca-file {root} verify required ssl-min-ver TLSv1.3");
    if door == Door::Tcp {
        let _ = write!(
            out,
            "frontend {name}\n{bind}\n  mode tcp\n  default_backend {name}\n\
             backend {name}\n  mode tcp\n  server up {address}:{port}\n"
        );
        return;
    }
    let h2 = if door == Door::Grpc { " proto h2" } else { "" };
    let _ = write!(
        out,
        "frontend {name}\n{bind} alpn h2\n  mode http\n  option httplog\n  \
         http-request set-header x-forwarded-client-cert By={IDENTITY};URI={IDENTITY}\n  \
         default_backend {name}\nbackend {name}\n  mode http\n  http-reuse always\n  server up {address}:{port}{h2}\n"
    );
}
