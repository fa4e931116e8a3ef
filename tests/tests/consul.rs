//! Consul as a registry, from its API to a request: one name that Consul's instance and a joined host serve.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Host, Lab, Process, isolated, testbeds, wait};
use serde_json::{Value, json};

const ALIAS: &str = "ratings.default.svc.cluster.local";
const LIMIT: Duration = Duration::from_secs(20);

/// A Consul server on a host of its own.
struct Consul {
    host: Host,
    _server: Process,
}

impl Consul {
    fn start(lab: &mut Lab) -> Result<Self> {
        let host = lab.host("consul")?;
        let (program, address) = (testbeds::consul()?.display().to_string(), host.v4().to_string());
        let args =
            ["agent", "-dev", "-bind", &address, "-client", "0.0.0.0", "-disable-host-node-id", "-log-level", "warn"];
        let server = host.spawn("consul", &[&[program.as_str()], &args[..]].concat())?;
        let consul = Self { host, _server: server };
        wait::for_true("consul has a leader", LIMIT, || {
            consul.host.curl(&["http://127.0.0.1:8500/v1/catalog/services"]).is_ok_and(|s| s.out.contains("consul"))
        })?;
        Ok(consul)
    }

    fn put(&self, path: &str, body: &Value) -> Result<()> {
        let url = format!("http://127.0.0.1:8500/v1/{path}");
        let seen = self.host.curl(&["--fail", "-X", "PUT", "--data", &body.to_string(), &url])?;
        ensure!(seen.ok(), "{path}: {seen:?}");
        Ok(())
    }

    fn instance(&self, at: &Host, port: u16, status: &str) -> Result<()> {
        let body = json!({
            "Node": at.name(), "Address": at.v4(),
            "Service": {"ID": "ratings-1", "Service": "ratings", "Address": at.v4(), "Port": port, "Meta": {"protocol": "http"}},
            "Check": {"CheckID": "service:ratings-1", "Name": "check", "Status": status, "ServiceID": "ratings-1"},
        });
        self.put("catalog/register", &body)
    }
}

fn registries(file: &Path, consul: &Consul) -> Result<()> {
    let text = format!(
        "registries:\n- name: main\n  consul:\n    servers: [\"http://{}:8500\"]\n    sweep: 1s\n    aliases:\n    - \
         {{service: ratings, namespace: default, port: 9080}}\n",
        consul.host.v4()
    );
    Ok(std::fs::write(file, text)?)
}

#[test]
fn an_instance_of_consul_and_a_joined_host_serve_one_name_and_fail_over_to_each_other() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let consul = Consul::start(&mut lab)?;
        let legacy = lab.host("legacy")?;
        let mut server = legacy.spawn("server", &["hawser-bookinfo", "ratings", "--port", "8000"])?;
        server.says("ready", Duration::from_secs(5))?;
        consul.instance(&legacy, 8000, "passing")?;
        let file = legacy.disk().join("registries.yaml");
        registries(&file, &consul)?;
        let mut mesh = Mesh::start_with(&mut lab, &["--registries", &file.display().to_string()])?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "productpage", "v1")?;
        let answers = |host: &str| {
            let url = format!("http://{host}:9080/ratings/0");
            caller.host.curl(&["--fail", "--max-time", "2", &url]).is_ok_and(|s| s.ok() && s.out.contains("Reviewer1"))
        };
        for host in ["ratings.service.dc1.consul", "ratings.service.consul", ALIAS] {
            wait::for_true("Consul's instance answers", LIMIT, || answers(host)).with_context(|| host.to_owned())?;
        }

        // A check that turns critical is in the proxy at once.
        consul.instance(&legacy, 8000, "critical")?;
        let changed = Instant::now();
        wait::for_true("it is out", LIMIT, || !answers(ALIAS))?;
        println!("out after {:?}, a request's time included", changed.elapsed());

        let _vm = Member::joined(&mut lab, &mesh, "vm", "ratings", "v1")?;
        wait::for_true("the joined host serves the name", LIMIT, || answers(ALIAS))?;
        ensure!(mesh.endpoints(ALIAS)?.len() == 2, "{:#?}", mesh.endpoints(ALIAS)?);
        consul.instance(&legacy, 8000, "passing")?;
        mesh.healthy(ALIAS, 2, LIMIT)?;

        // Consul away, discovery restarted: nothing is lost.
        drop(consul);
        mesh.kill_discovery();
        mesh.start_discovery()?;
        let registry = |mesh: &Mesh| mesh.json(&["registries"]).unwrap_or_default();
        wait::for_true("its silence is shown", LIMIT, || registry(&mesh).to_string().contains("stale"))
            .with_context(|| format!("{:#}", registry(&mesh)))?;
        ensure!(mesh.endpoints(ALIAS)?.len() == 2, "{:#?}", mesh.endpoints(ALIAS)?);
        ensure!(answers(ALIAS), "the name is served as before");
        Ok(())
    });
}

#[test]
fn a_host_that_consul_knows_is_the_same_endpoint_when_it_joins_and_other_names_of_consul_go_where_they_went() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let consul = Consul::start(&mut lab)?;
        // As people have it: the host's resolver is the one that knows Consul's names.
        let (other, answer) = ("other.service.consul", "192.0.2.77");
        let listen = format!("{}:53", consul.host.v4());
        let dns = ["hawser-lab", "dns", "--listen", &listen, "--name", other, "--answer", answer];
        let mut dns = consul.host.spawn("dns", &dns)?;
        dns.says("ready", Duration::from_secs(5))?;

        let mut vm = Member::new(&mut lab, "vm")?;
        vm.bookinfo("ratings", "v1", "")?;
        consul.instance(&vm.host, 9080, "passing")?;
        let file = vm.host.disk().join("registries.yaml");
        registries(&file, &consul)?;
        let mesh = Mesh::start_with(&mut lab, &["--registries", &file.display().to_string()])?;
        let caller = lab.host("caller")?;
        std::fs::write(caller.disk().join("resolv.conf"), format!("nameserver {}\n", consul.host.v4()))?;
        let resolves = |host: &Host, name: &str| -> Result<String> {
            let seen = host.run(&["getent", "ahostsv4", name])?;
            Ok(seen.out.split_whitespace().next().unwrap_or_default().to_owned())
        };
        ensure!(resolves(&caller, other)? == answer, "before");
        let caller = Member::on(caller)?;
        caller.join(&mesh.token("default/caller", &["http=9080"], 1, &[])?)?;

        let answers = |host: &str| {
            let url = format!("http://{host}:9080/ratings/0");
            caller.host.curl(&["--fail", "--max-time", "2", &url]).is_ok_and(|s| s.ok() && s.out.contains("Reviewer1"))
        };
        let is = |transport: &str, registry: &str| {
            let endpoints = mesh.endpoints(ALIAS).unwrap_or_default();
            let of = |e: &Value| e["transport"] == transport && e["registry"].as_str().is_some_and(|r| r == registry);
            endpoints.len() == 1 && endpoints.iter().all(of)
        };
        let shown = || format!("{:#?}", mesh.endpoints(ALIAS));
        const CONSULS: &str = "ratings.service.dc1.consul";
        wait::for_true("it is called as Consul says", LIMIT, || is("plaintext", "consul/main") && answers(CONSULS))
            .with_context(shown)?;
        ensure!(resolves(&caller.host, CONSULS)?.starts_with("240.240."), "a name that the mesh knows");
        ensure!(resolves(&caller.host, other)? == answer, "a name that it does not know");

        vm.join(&mesh.token("default/ratings", &["http=9080"], 1, &["--label", "app=ratings"])?)?;
        wait::for_true("it is one endpoint, with mTLS", LIMIT, || is("mtls", "hosts") && answers(ALIAS))
            .with_context(shown)?;
        wait::for_true("under Consul's name too", LIMIT, || {
            answers(CONSULS) && vm.metric("istio_requests_total").is_ok_and(|served| served >= 2.0)
        })?;
        let all = mesh.endpoints(CONSULS)?;
        ensure!(all.len() == 1 && all[0]["transport"] == "mtls", "{all:#?}");

        ensure!(vm.hawser(&["leave"])?.ok(), "it leaves");
        wait::for_true("it is what Consul says again", LIMIT, || is("plaintext", "consul/main") && answers(ALIAS))
            .with_context(shown)?;
        Ok(())
    });
}
