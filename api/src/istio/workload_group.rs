//! WorkloadGroup: what the hosts of a group serve.

use std::collections::BTreeMap;

use super::Port;
use super::check::{Checker, net, text};
use super::error::shown;
use super::message::message;
use super::workload_entry::WorkloadTemplate;

message! {
    /// What the hosts of a group serve.
    pub struct WorkloadGroup [check_group] {
        /// Labels and annotations of the WorkloadEntries that are made.
        metadata: Option<GroupMetadata>,
        /// The rest of them.
        template: Option<WorkloadTemplate>,
        /// How their health is found.
        probe: Option<ReadinessProbe>,
    }

    /// Labels and annotations of the WorkloadEntries that are made.
    pub struct GroupMetadata [check_metadata] {
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
    }

    /// How health is found.
    pub struct ReadinessProbe [check_probe] {
        /// Wait before the first; unset is 0.
        initial_delay_seconds: i32,
        /// Time for the answer; unset is 1.
        timeout_seconds: i32,
        /// Time between them; unset is 10.
        period_seconds: i32,
        /// Good ones in a row to be healthy; unset is 1.
        success_threshold: i32,
        /// Bad ones in a row to be unhealthy; unset is 1.
        failure_threshold: i32,
        /// By an HTTP request.
        http_get: Option<HttpHealthCheck>,
        /// By a connection.
        tcp_socket: Option<TcpHealthCheck>,
        /// By a command.
        exec: Option<ExecHealthCheck>,
        /// By gRPC's health service.
        grpc: Option<GrpcHealthCheck>,
    }

    /// An HTTP request.
    pub struct HttpHealthCheck [check_http] {
        /// Path; empty is `/`.
        path: String,
        /// Port.
        port: Port,
        /// Host; empty is the workload's own address.
        host: String,
        /// `HTTP` or `HTTPS`; empty is `HTTP`.
        scheme: String,
        /// Headers.
        http_headers: Vec<HttpHeader>,
    }

    /// A header.
    pub struct HttpHeader [check_header] {
        /// Name.
        name: String,
        /// Value.
        value: String,
    }

    /// A connection.
    pub struct TcpHealthCheck [check_tcp] {
        /// Host; empty is the workload's own address.
        host: String,
        /// Port.
        port: Port,
    }

    /// A command.
    pub struct ExecHealthCheck [check_exec] {
        /// Program and arguments.
        command: Vec<String>,
    }

    /// gRPC's health service.
    pub struct GrpcHealthCheck [check_grpc] {
        /// Port.
        port: Port,
        /// Service to ask for; empty is the whole server.
        service: String,
    }
}

fn check_group(group: &WorkloadGroup, c: &mut Checker) {
    if group.template.is_none() {
        c.wrong("template", "Required value: it is required, with the ports that the hosts serve");
    }
}

fn check_metadata(metadata: &GroupMetadata, c: &mut Checker) {
    text::labels(c, "labels", &metadata.labels);
    c.field("annotations", |c| {
        for key in metadata.annotations.keys() {
            c.key(key, |c| text::tell(c, text::label_key(&key.to_ascii_lowercase())));
        }
        for (key, why) in super::traffic::read(&metadata.annotations).1 {
            c.key(&key, |c| c.problem(why));
        }
    });
}

fn check_probe(probe: &ReadinessProbe, c: &mut Checker) {
    c.exactly_one(&[
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("exec", probe.exec.is_some()),
        ("grpc", probe.grpc.is_some()),
    ]);
    for (field, value) in [
        ("initial_delay_seconds", probe.initial_delay_seconds),
        ("timeout_seconds", probe.timeout_seconds),
        ("period_seconds", probe.period_seconds),
        ("success_threshold", probe.success_threshold),
        ("failure_threshold", probe.failure_threshold),
    ] {
        net::count(c, field, value);
        if value > 86_400 {
            c.wrong(field, format!("Invalid value: {value} is more than 86400"));
        }
    }
}

fn check_http(check: &HttpHealthCheck, c: &mut Checker) {
    super::port::required(c, "port", check.port);
    if !matches!(check.scheme.as_str(), "" | "HTTP" | "HTTPS") {
        c.wrong("scheme", format!("Invalid value: \"{}\": scheme must be one of HTTP, HTTPS", shown(&check.scheme)));
    }
    let line = |b: u8| b.is_ascii_graphic();
    if !check.path.is_empty() && (!check.path.starts_with('/') || !check.path.bytes().all(line)) {
        c.wrong("path", "a path starts with / and holds no spaces");
    }
    check_host(c, &check.host);
}

fn check_host(c: &mut Checker, host: &str) {
    if !host.is_empty() && host.parse::<std::net::IpAddr>().is_err() {
        c.field("host", |c| text::tell(c, net::host(host)));
    }
}

fn check_header(header: &HttpHeader, c: &mut Checker) {
    if header.name.is_empty() {
        c.required("name", false);
    } else {
        c.field("name", |c| text::tell(c, text::header_name(&header.name)));
    }
    c.field("value", |c| text::tell(c, text::header_value(&header.value)));
}

fn check_tcp(check: &TcpHealthCheck, c: &mut Checker) {
    super::port::required(c, "port", check.port);
    check_host(c, &check.host);
}

fn check_exec(check: &ExecHealthCheck, c: &mut Checker) {
    if check.command.first().is_none_or(String::is_empty) {
        c.required("command", false);
    }
    c.each("command", &check.command, |c, word| {
        if word.is_empty() || word.contains('\0') {
            c.problem("Invalid value: a word of a command is not empty and holds no NUL");
        }
    });
}

fn check_grpc(check: &GrpcHealthCheck, c: &mut Checker) {
    super::port::required(c, "port", check.port);
}
