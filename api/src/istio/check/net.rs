//! Hosts, addresses, address ranges, localities and percentages: what each may look like.

use std::net::IpAddr;

use super::Checker;
use super::text::{label, tell};
use crate::istio::error::shown;

/// A host name, fully qualified or short, without wildcards.
pub(crate) fn host(text: &str) -> Result<(), String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let ok = |part: &str| {
        let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !part.is_empty() && part.len() <= 63 && part.bytes().all(byte) && !part.starts_with('-') && !part.ends_with('-')
    };
    if name.is_empty() || name.len() > 253 || !name.split('.').all(ok) {
        return Err(format!("\"{}\" is not a host name", shown(text)));
    }
    Ok(())
}

/// A host name whose first label may be `*` or start with `*`.
pub(crate) fn wildcard_host(text: &str) -> Result<(), String> {
    let rest = match text.strip_prefix('*') {
        None => return host(text),
        Some("") => return Ok(()),
        Some(rest) => rest.strip_prefix(['.', '-']).unwrap_or(rest),
    };
    host(rest).map_err(|_| {
        let rule = "a '*' stands at the start only, followed by a host name, such as *.example.com";
        format!("\"{}\" is not a host name: {rule}", shown(text))
    })
}

/// A host name, perhaps with a wildcard, or an IP address.
pub(crate) fn wildcard_host_or_address(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() { Ok(()) } else { wildcard_host(text) }
}

/// `namespace/host`, where the namespace may be one of `special`.
pub(crate) fn namespaced_host(text: &str, special: &[&str]) -> Result<(), String> {
    let Some((namespace, name)) = text.split_once('/') else {
        return Err(format!("\"{}\" is not of the form namespace/host", shown(text)));
    };
    if !special.contains(&namespace) {
        label(namespace)?;
    }
    wildcard_host(name)
}

/// An address, or a range in CIDR form.
pub(crate) fn range(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok() {
        return Ok(());
    }
    Err(format!("\"{}\" is neither an IP address nor a range such as 10.0.0.0/16", shown(text)))
}

/// Ranges of the list `field`.
pub(crate) fn ranges(c: &mut Checker, field: &str, items: &[String]) {
    c.each(field, items, |c, item| tell(c, range(item)));
}

/// `host:port`; the host may be an address, in brackets if it is an IPv6 one.
pub(crate) fn host_port(text: &str) -> Result<(), String> {
    let parsed = text.rsplit_once(':').and_then(|(name, port)| {
        port.parse::<u16>().ok().filter(|p| *p != 0)?;
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        match bare {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(|_| ()),
            None => host(name).ok(),
        }
    });
    parsed.ok_or_else(|| format!("\"{}\" is not of the form host:port", shown(text)))
}

/// A locality: `region`, `region/zone` or `region/zone/sub-zone`, each may be `*` if `wildcards`.
pub(crate) fn locality(text: &str, wildcards: bool) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let wildcard = |part: &&str| part.contains('*');
    let form = "a locality is region, region/zone or region/zone/sub-zone";
    if text.is_empty() || parts.len() > 3 || parts.iter().any(|p| p.is_empty()) || text.len() > 2048 {
        return Err(format!("\"{}\" is not a locality: {form}", shown(text)));
    }
    let last_only = parts.iter().rev().skip(1).all(|p| !wildcard(p)) && parts.iter().all(|p| !wildcard(p) || *p == "*");
    if parts.iter().any(wildcard) && !(wildcards && last_only) {
        return Err(format!("\"{}\": a '*' stands for a whole last part only", shown(text)));
    }
    Ok(())
}

/// A percentage, 0 to 100.
pub(crate) fn percentage(value: f64) -> Result<(), String> {
    if (0.0..=100.0).contains(&value) { Ok(()) } else { Err(format!("Invalid value: {value} is not from 0 to 100")) }
}

/// An HTTP status, `low` to 599.
pub(crate) fn status(value: u32, low: u32) -> Result<(), String> {
    if (low..=599).contains(&value) { Ok(()) } else { Err(format!("Invalid value: {value} is not from {low} to 599")) }
}

/// A number of at least 0, as the API's signed counters are.
pub(crate) fn count(c: &mut Checker, field: &str, value: i32) {
    if value < 0 {
        c.wrong(field, format!("Invalid value: {value} is less than 0"));
    }
}
