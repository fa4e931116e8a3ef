//! A real API server, its controllers and its etcd, for the scenarios that both are asked.

use std::net::{Ipv4Addr, TcpListener};

use hawser_tests::Process;
use hawser_tests::apiserver::{command, plan};
use tempfile::TempDir;

use crate::client::Client;
use crate::cluster::until;

pub(crate) use hawser_tests::apiserver::ADMIN;

/// A cluster of one server. Ends when it is dropped.
pub(crate) struct Real {
    pub(crate) address: String,
    pub(crate) authority: String,
    // In the order in which they may end.
    _controllers: Process,
    _server: Process,
    _etcd: Process,
    _dir: TempDir,
}

impl Real {
    /// Whether the environment asks for one, as `cargo xtask test kubernetes-real` does.
    pub(crate) fn is_asked_for() -> bool {
        hawser_tests::apiserver::is_asked_for()
    }

    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("hawser-kube-").tempdir().unwrap();
        let plan = plan(dir.path(), Ipv4Addr::LOCALHOST.into(), free_ports()).expect("its programs can be had");
        let log = |name: &str| dir.path().join(name);
        let etcd = Process::spawn("etcd", command(&plan.etcd), log("etcd.log"), false).unwrap();
        let mut server = Process::spawn("kube-apiserver", command(&plan.server), log("server.log"), false).unwrap();
        let client = Client::new(&plan.address, &plan.authority);
        let ready = async || {
            let headers = [];
            let asked = client.send(Some(ADMIN), "GET", "/readyz", &headers, Vec::new()).await;
            asked.ok().filter(|(_, response)| response.status() == 200).map(|_| ())
        };
        within(&mut server, "the API server is ready", ready).await;
        let mut controllers =
            Process::spawn("kube-controller-manager", command(&plan.controllers), log("controllers.log"), false)
                .unwrap();
        let account = async || {
            let path = "/api/v1/namespaces/default/serviceaccounts/default";
            let answer = client.ask(Some(ADMIN), "GET", path, &[], Vec::new()).await;
            (answer.status == 200).then_some(())
        };
        within(&mut controllers, "the controllers work", account).await;
        let (address, authority) = (plan.address, plan.authority);
        Self { address, authority, _controllers: controllers, _server: server, _etcd: etcd, _dir: dir }
    }
}

/// Waits; what the program said is said if it takes too long.
async fn within(program: &mut Process, what: &str, mut look: impl AsyncFnMut() -> Option<()>) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    while look().await.is_none() {
        let runs = program.is_running();
        let said = hawser_tests::process::tail(&program.log());
        assert!(runs && tokio::time::Instant::now() < end, "{what}: not in time; {} said:\n{said}", program.name());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Once it answers, it goes on to.
    until(what, look).await;
}

fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|l| l.local_addr().unwrap().port())
}
