//! What the mesh is told: the service with its ports and routes, many more services, access logs.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, wait};

use super::{Door, SERVICE, UNDECLARED};

/// How many routes with a header to match stand before the one that is taken.
pub(crate) const ROUTES: usize = 20;
/// And one with a regular expression, for the header `user-agent`.
pub(crate) const REGEX: &str = "^(curl|wget)/[0-9]+\\.[0-9]+.*$";
/// The route that answers by itself: who gets its status knows that the routes are there.
const TEAPOT: u16 = 418;

/// The mesh's configuration: our proxies log every request. Their stdout is their agent's.
const MESH_CONFIG: &str = "accessLogFile: /dev/stdout\n";

/// Discovery, told of everything before it starts.
pub(super) fn mesh(lab: &mut Lab, services: usize) -> anyhow::Result<Mesh> {
    let config = lab.work().join("mesh.yaml");
    std::fs::write(&config, MESH_CONFIG)?;
    let files = lab.work().join("control/config.d");
    std::fs::create_dir_all(&files)?;
    if services > 0 {
        // The server will be the third host on the wire: control, caller, server.
        std::fs::write(files.join("many.yaml"), many(services, "10.77.0.3"))?;
    }
    let mesh = Mesh::start_with(lab, &["--mesh-config", &config.display().to_string()])?;
    Ok(mesh)
}

/// Both hosts become members, and the service gets its routes.
pub(super) fn join(mesh: &Mesh, caller: &Member, server: &Member) -> anyhow::Result<()> {
    let ports: Vec<String> =
        [(Door::Http, "http"), (Door::Fresh, "http-fresh"), (Door::Grpc, "grpc"), (Door::Tcp, "tcp")]
            .map(|(door, name)| format!("{name}={}", door.port()))
            .into();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    server.join(&mesh.token("default/bench", &ports, 1, &[])?)?;
    caller.join(&mesh.token("default/caller", &["http-unused=8080"], 1, &[])?)?;
    mesh.healthy(SERVICE, ports.len(), Duration::from_secs(10))?;
    let seen = mesh.apply(&routes())?;
    // Settings of a port are compiled, though discovery still warns of them.
    let mut warned = seen.err.lines().filter(|l| l.contains("not honoured") && !l.contains("portLevelSettings"));
    ensure!(warned.next().is_none(), "a part of the configuration has no effect: {}", seen.err);
    Ok(())
}

/// Waits until the routes are there.
pub(super) fn routed(caller: &Member, url: &str) -> anyhow::Result<()> {
    let args = ["--output", "/dev/null", "--write-out", "%{http_code}", "--header", "x-group: g0", url];
    let host = format!("Host: {SERVICE}");
    let args: Vec<&str> = ["--header", &host].into_iter().chain(args).collect();
    let mut last = None;
    wait::for_true("the routes are in use", Duration::from_secs(10), || {
        last = caller.host.curl(&args).ok();
        last.as_ref().is_some_and(|s| s.out.trim() == TEAPOT.to_string())
    })
    .with_context(|| format!("{last:?}"))
}

/// Header routes, a regular expression, then the route that every request takes; retries; a door of short connections.
fn routes() -> String {
    let mut yaml = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: bench, namespace: default}}\nspec:\n  \
         hosts: [{SERVICE}]\n  http:\n  - match: [{{headers: {{x-group: {{exact: g0}}}}}}]\n    \
         directResponse: {{status: {TEAPOT}}}\n"
    );
    let to = format!(
        "    route: [{{destination: {{host: {SERVICE}}}}}]\n    \
         retries: {{attempts: 2, retryOn: \"connect-failure,refused-stream,5xx\"}}\n"
    );
    for number in 1..ROUTES {
        let _ = write!(yaml, "  - match: [{{headers: {{x-group: {{exact: g{number}}}}}}}]\n{to}");
    }
    let _ = write!(yaml, "  - match: [{{headers: {{user-agent: {{regex: '{REGEX}'}}}}}}]\n{to}");
    let _ = write!(yaml, "  -\n{to}");
    let _ = write!(
        yaml,
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bench, namespace: default}}\nspec:\n  \
         host: {SERVICE}\n  trafficPolicy:\n    portLevelSettings:\n    - port: {{number: {}}}\n      \
         connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}\n",
        Door::Fresh.port()
    );
    yaml
}

/// Services that all end at the server, past its proxy.
fn many(count: usize, server: &str) -> String {
    let mut yaml = String::new();
    for number in 0..count {
        let _ = write!(
            yaml,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: many-{number}, namespace: default}}\n\
             spec:\n  hosts: [{}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints: [{{address: {server}, ports: {{http: {}}}}}]\n",
            one(number),
            Door::Http.port() + UNDECLARED,
        );
    }
    yaml
}

fn one(number: usize) -> String {
    format!("many-{number}.default.svc.cluster.local")
}

/// A call to one of many.
pub(super) fn call(mesh: &Mesh, caller: &Member, number: usize) -> anyhow::Result<()> {
    let name = one(number);
    let url = format!("http://{}/", virtual_address(mesh, &name)?);
    let host = format!("Host: {name}");
    let mut last = None;
    wait::for_true("one of many services answers", Duration::from_secs(20), || {
        last = caller.host.curl(&["--fail", "--header", &host, &url]).ok();
        last.as_ref().is_some_and(|s| s.ok() && s.out == "ok\n")
    })
    .with_context(|| format!("{name}: {last:?}"))
}

/// The virtual address of a service.
pub(crate) fn virtual_address(mesh: &Mesh, name: &str) -> anyhow::Result<std::net::IpAddr> {
    let services = mesh.json(&["get", "services"])?;
    let mut services = services.as_array().into_iter().flatten();
    let service = services.find(|s| s["host"] == name).with_context(|| format!("{name} is not there"))?;
    let addresses = service["addresses"].as_array().into_iter().flatten();
    let mut addresses = addresses.filter_map(|a| a.as_str()?.split('/').next()?.parse().ok());
    addresses.find(std::net::IpAddr::is_ipv4).with_context(|| format!("{name} has no virtual address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_that_is_taken_comes_last() {
        let yaml = routes();
        assert_eq!(yaml.matches("exact: g").count(), ROUTES);
        assert_eq!(yaml.matches("regex: ").count(), 1);
        let last = yaml.split("---").next().unwrap().rsplit("\n  -").next().unwrap();
        assert!(!last.contains("match"), "{last}");
    }

    #[test]
    fn many_services_have_names_of_their_own() {
        let yaml = many(3, "10.0.0.1");
        assert!(yaml.matches("---").count() == 3 && yaml.contains("many-2.default") && yaml.contains("10.0.0.1"));
    }
}
