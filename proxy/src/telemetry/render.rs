//! All series as text, workers added up. Classic Prometheus text, which every scraper reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::labels::{FlowLabels, RequestResult, label};
use super::series::{BUCKETS, Registry};
use super::{Counters, TcpSeries};

#[derive(Default)]
struct Sum {
    count: u64,
    micros: u64,
    buckets: [u64; BUCKETS.len()],
}

/// Renders everything.
pub fn render(workers: &[Arc<Registry>], counters: &Counters) -> String {
    let mut out = String::new();
    requests(workers, &mut out);
    tcp(workers, &mut out);
    out.push_str("# TYPE istio_build gauge\n");
    let _ = writeln!(out, "istio_build{{component=\"hawser-proxy\",tag=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    counters.write(&mut out);
    out
}

fn requests(workers: &[Arc<Registry>], out: &mut String) {
    let mut sums = BTreeMap::<(Arc<FlowLabels>, RequestResult), Sum>::new();
    for worker in workers {
        worker.each_request(|flow, result, series| {
            let sum = sums.entry((flow.clone(), result)).or_default();
            sum.count += series.count.load(Relaxed);
            sum.micros += series.micros.load(Relaxed);
            for (sum, bucket) in sum.buckets.iter_mut().zip(&series.buckets) {
                *sum += bucket.load(Relaxed);
            }
        });
    }
    let labels: Vec<String> = sums
        .keys()
        .map(|(flow, result)| {
            let mut labels = String::with_capacity(1024);
            flow.write(&mut labels);
            result.write(&mut labels);
            labels.pop();
            labels
        })
        .collect();
    out.push_str("# TYPE istio_requests_total counter\n");
    for (labels, sum) in labels.iter().zip(sums.values()) {
        let _ = writeln!(out, "istio_requests_total{{{labels}}} {}", sum.count);
    }
    out.push_str("# TYPE istio_request_duration_milliseconds histogram\n");
    let name = "istio_request_duration_milliseconds";
    for (labels, sum) in labels.iter().zip(sums.values()) {
        let mut below = 0;
        for (bound, bucket) in BUCKETS.iter().zip(sum.buckets) {
            below += bucket;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", sum.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", sum.micros as f64 / 1000.0);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", sum.count);
    }
}

fn tcp(workers: &[Arc<Registry>], out: &mut String) {
    let mut sums = BTreeMap::<Arc<FlowLabels>, TcpSeries>::new();
    for worker in workers {
        worker.each_tcp(|flow, series| {
            let sum = sums.entry(flow.clone()).or_default();
            for (sum, value) in [
                (&sum.opened, &series.opened),
                (&sum.closed, &series.closed),
                (&sum.received, &series.received),
                (&sum.sent, &series.sent),
            ] {
                sum.fetch_add(value.load(Relaxed), Relaxed);
            }
        });
    }
    type Get = fn(&TcpSeries) -> u64;
    let metrics: [(&str, Get); 4] = [
        ("istio_tcp_connections_opened_total", |s| s.opened.load(Relaxed)),
        ("istio_tcp_connections_closed_total", |s| s.closed.load(Relaxed)),
        ("istio_tcp_received_bytes_total", |s| s.received.load(Relaxed)),
        ("istio_tcp_sent_bytes_total", |s| s.sent.load(Relaxed)),
    ];
    for (name, get) in metrics {
        let _ = writeln!(out, "# TYPE {name} counter");
        for (flow, sum) in &sums {
            let mut labels = String::with_capacity(1024);
            flow.write(&mut labels);
            label(&mut labels, "request_protocol", "tcp");
            label(&mut labels, "response_flags", "-");
            labels.pop();
            let _ = writeln!(out, "{name}{{{labels}}} {}", get(sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Workload;
    use crate::telemetry::{Flow, Party, Reporter};

    #[test]
    fn workers_add_up_and_labels_are_istios() {
        let labels = FlowLabels {
            reporter: Reporter::Source,
            source: Party::default(),
            destination: Party {
                workload: Arc::new(Workload::parse("reviews-1;default;reviews;v1;vm")),
                principal: Some("spiffe://cluster.local/ns/default/sa/reviews".into()),
            },
            service: ("reviews.default.svc.cluster.local".into(), "reviews".into(), "default".into()),
            mutual_tls: None,
        };
        let result = RequestResult { grpc: false, status: 200, grpc_status: None, flags: "-" };
        let workers = [Arc::new(Registry::default()), Arc::new(Registry::default())];
        for worker in &workers {
            Flow::new(labels.clone(), worker.clone()).request(result, 3_000);
        }
        let text = render(&workers, &Counters::default());
        let line = text.lines().find(|l| l.starts_with("istio_requests_total{")).unwrap();
        assert!(line.ends_with(" 2"), "{line}");
        for part in [
            "reporter=\"source\"",
            "source_workload=\"unknown\"",
            "destination_principal=\"cluster.local/ns/default/sa/reviews\"",
            "destination_canonical_revision=\"v1\"",
            "destination_service=\"reviews.default.svc.cluster.local\"",
            "response_code=\"200\"",
            "connection_security_policy=\"unknown\"",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(text.contains("le=\"1\"} 0\n") && text.contains("le=\"5\"} 2\n"), "{text}");
    }
}
