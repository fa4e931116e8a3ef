//! Services: addresses are given out, ports and policies are filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::default_to;
use crate::refusal::Cause;

/// What is given out next.
#[derive(Debug)]
pub(crate) struct Addresses {
    service: u32,
    node_port: u16,
    pod: u32,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { service: 10, node_port: 30_100, pod: 1 }
    }
}

impl Addresses {
    fn v4(&mut self) -> String {
        self.service += 1;
        // 10.96.0.0/16; whoever makes more of them than that begins anew.
        let at = self.service % 0xfffe;
        Ipv4Addr::from(0x0a60_0000 + at).to_string()
    }

    fn v6(&mut self) -> String {
        self.service += 1;
        let low = u16::try_from(self.service % 0xfffe).unwrap_or(1);
        Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, low).to_string()
    }

    fn node_port(&mut self) -> u16 {
        self.node_port = if self.node_port >= 32_767 { 30_100 } else { self.node_port + 1 };
        self.node_port
    }

    /// An address for a pod.
    pub(crate) fn pod(&mut self) -> Ipv4Addr {
        self.pod += 1;
        Ipv4Addr::from(0x0af4_0000 + self.pod % 0xffff)
    }
}

pub(super) fn default(object: &mut Value, old: Option<&Value>, addresses: &mut Addresses) {
    if !object["spec"].is_object() {
        object["spec"] = json!({});
    }
    let spec = &mut object["spec"];
    default_to(spec, "type", json!("ClusterIP"));
    default_to(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        default_to(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if kind != "ExternalName" {
        families(spec, old, addresses);
        default_to(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    if outside {
        default_to(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", json!(true));
        if spec["externalTrafficPolicy"] == "Local" {
            let port = addresses.node_port();
            default_to(spec, "healthCheckNodePort", json!(port));
        }
    }
    let before = old.and_then(|o| o.pointer("/spec/ports")).and_then(Value::as_array).cloned().unwrap_or_default();
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default_to(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default_to(port, "targetPort", number);
        if outside && port["nodePort"].is_null() {
            let known = before.iter().find(|p| p["port"] == port["port"]).map(|p| p["nodePort"].clone());
            port["nodePort"] = known.filter(|p| !p.is_null()).unwrap_or_else(|| addresses.node_port().into());
        }
    }
    default_to(object, "status", json!({"loadBalancer": {}}));
}

fn families(spec: &mut Value, old: Option<&Value>, addresses: &mut Addresses) {
    for key in ["clusterIP", "clusterIPs"] {
        if let Some(known) = old.and_then(|o| o["spec"].get(key)).filter(|v| !v.is_null()) {
            default_to(spec, key, known.clone());
        }
    }
    default_to(spec, "ipFamilyPolicy", json!("SingleStack"));
    let dual = matches!(spec["ipFamilyPolicy"].as_str(), Some("RequireDualStack" | "PreferDualStack"));
    let first = match spec["clusterIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()) {
        Some(IpAddr::V6(_)) => "IPv6",
        _ => "IPv4",
    };
    let both = if first == "IPv4" { json!(["IPv4", "IPv6"]) } else { json!(["IPv6", "IPv4"]) };
    default_to(spec, "ipFamilies", if dual { both } else { json!([first]) });
    if spec["clusterIP"] == "None" {
        default_to(spec, "clusterIPs", json!(["None"]));
        return;
    }
    if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
        let given: Vec<Value> = spec["ipFamilies"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|family| if family == "IPv6" { addresses.v6().into() } else { addresses.v4().into() })
            .collect();
        spec["clusterIP"] = given.first().cloned().unwrap_or_default();
        spec["clusterIPs"] = given.into();
    }
    let address = spec["clusterIP"].clone();
    default_to(spec, "clusterIPs", json!([address]));
}

pub(super) fn faults(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &object["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    if ports.is_empty() && spec["clusterIP"] != "None" && spec["type"] != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (at, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{at}].port");
        if !port["port"].as_i64().is_some_and(|p| (1..=65535).contains(&p)) {
            let number = if port["port"].is_null() { json!(0) } else { port["port"].clone() };
            causes.push(Cause::invalid(&field, &number, "must be between 1 and 65535, inclusive"));
        }
        if ports.len() > 1 && port["name"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(&format!("spec.ports[{at}].name"), ""));
        }
    }
    if let Some(was) =
        old.and_then(|o| o["spec"].get("clusterIP")).filter(|was| was.as_str().is_some_and(|w| !w.is_empty()))
        && spec["type"] != "ExternalName"
        && *was != spec["clusterIP"]
    {
        let text = format!("Invalid value: [{}]: may not change once set", spec["clusterIP"]);
        causes.push(Cause::new("FieldValueInvalid", "spec.clusterIPs[0]", text));
    }
    causes
}
