//! The double as a program of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::client::Client;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn control(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: c\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn the_program_serves_and_does_what_its_control_endpoint_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let objects = dir.path().join("objects.yaml");
    std::fs::write(&objects, "{kind: Namespace, apiVersion: v1, metadata: {name: shop}}").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("127.0.0.1:{port}");
    let mut program = Command::new(env!("CARGO_BIN_EXE_hawser-kube-double"))
        .args(["--listen", "127.0.0.1:0", "--control", &endpoint, "--kubeconfig"])
        .arg(&kubeconfig)
        .arg("--apply")
        .arg(&objects)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(program.stdout.take().unwrap());
    let program = Program(program);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
    let config = std::fs::read_to_string(&kubeconfig).unwrap();
    let value = |key: &str| config.lines().find_map(|l| l.trim().strip_prefix(key)).unwrap().trim().to_owned();
    assert_eq!(value("server:"), format!("https://{address}"));
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.decode(value("certificate-authority-data:")).unwrap();
    let client = Client::new(&address, &String::from_utf8(authority).unwrap());
    let token = value("token:");
    let ask = async |path: &str| client.ask(Some(&token), "GET", path, &[], Vec::new()).await;
    assert_eq!(ask("/api/v1/namespaces/shop").await.status, 200);
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}]}});
    assert_eq!(control(&endpoint, "POST", "/apply", &service.to_string()).0, 200);
    assert_eq!(ask("/api/v1/namespaces/shop/services/web").await.status, 200);
    let change = json!({"kind": "Service", "name": "shop/web", "change": {"metadata": {"labels": {"a": "b"}}}});
    assert_eq!(control(&endpoint, "POST", "/merge", &change.to_string()).0, 200);
    let (_, object) = control(&endpoint, "GET", "/object?kind=Service&name=shop/web", "");
    assert_eq!(serde_json::from_str::<Value>(&object).unwrap()["metadata"]["labels"]["a"], "b");
    let fault = json!({"do": "too_many", "retry_after": 1, "on": {"verb": "list"}, "times": 1});
    assert_eq!(control(&endpoint, "POST", "/fault", &fault.to_string()), (200, String::new()));
    assert_eq!(ask("/api/v1/services").await.status, 429);
    let (_, used) = control(&endpoint, "GET", "/faults", "");
    assert_eq!(serde_json::from_str::<Value>(&used).unwrap()[0]["used"], 1);
    let (_, seen) = control(&endpoint, "GET", "/requests", "");
    assert_eq!(serde_json::from_str::<Value>(&seen).unwrap().as_array().unwrap().last().unwrap()["code"], 429);
    let (status, why) = control(&endpoint, "POST", "/apply", "{kind: Nothing, apiVersion: v1, metadata: {name: x}}");
    assert!(status == 400 && why.contains("there is no kind Nothing in v1"), "{status} {why}");
    let account = json!({"namespace": "shop", "name": "web", "audiences": ["istio-ca"]});
    let (_, own) = control(&endpoint, "POST", "/account", &account.to_string());
    assert_eq!(own.split('.').count(), 3);
    assert_eq!(control(&endpoint, "POST", "/stop", "").0, 200);
    assert!(TcpStream::connect(&address).is_err());
    assert_eq!(control(&endpoint, "POST", "/start", "").0, 200);
    assert_eq!(ask("/api/v1/namespaces/shop").await.status, 200);
    drop(program);
}
