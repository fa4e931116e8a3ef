//! Lists of targets as Prometheus reads them: JSON or YAML, groups of addresses with labels.
//!
//! In: text. Out: targets, each with the labels of its group. Bounded in size, in targets and in labels; a list that is
//! not understood as a whole is refused as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// Largest list, in bytes.
pub(crate) const MAX_TEXT: usize = 32 << 20;
/// Most targets of a list.
const MAX_TARGETS: usize = 200_000;
/// Most labels of a group.
const MAX_LABELS: usize = 128;
/// Longest target.
const MAX_TARGET: usize = 300;

/// Labels of a group, shared by its targets.
pub(crate) type Labels = Arc<BTreeMap<String, String>>;

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// An IP address or a host name.
    pub(crate) host: String,
    /// Where it listens; the service's port, if absent.
    pub(crate) port: Option<u16>,
    /// What is said of it.
    pub(crate) labels: Labels,
    /// Share of requests; 0 is the default.
    pub(crate) weight: u32,
    /// There are better ones.
    pub(crate) last_choice: bool,
}

/// What a source of several lists says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// All targets.
    pub(crate) targets: Vec<Target>,
    /// Lists that can't be used, by name, and why; what they said stays.
    pub(crate) problems: BTreeMap<String, String>,
    /// One of these never said anything.
    pub(crate) partial: bool,
}

#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads a list in JSON.
///
/// # Errors
/// Where it is wrong, and why.
pub(crate) fn json(text: &[u8]) -> Result<Vec<Target>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it is larger than {} MiB", MAX_TEXT >> 20));
    }
    let groups: Vec<Group> = serde_json::from_slice(text).map_err(|e| format!("it is no list of targets: {e}"))?;
    targets(groups)
}

/// Reads a list in YAML.
///
/// # Errors
/// Where it is wrong, and why.
pub(crate) fn yaml(text: &str) -> Result<Vec<Target>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it is larger than {} MiB", MAX_TEXT >> 20));
    }
    // A file that is written just now may be empty for a moment, which to YAML is a list of nothing.
    let groups: Option<Vec<Group>> =
        serde_saphyr::from_str(text).map_err(|e| format!("it is no list of targets: {e}"))?;
    targets(groups.ok_or("it is empty; write [] for a list without targets")?)
}

fn targets(groups: Vec<Group>) -> Result<Vec<Target>, String> {
    let mut all = Vec::new();
    for Group { targets, labels } in groups {
        if labels.len() > MAX_LABELS {
            return Err(format!("a group has {} labels; {MAX_LABELS} are the most", labels.len()));
        }
        if all.len() + targets.len() > MAX_TARGETS {
            return Err(format!("it has more than {MAX_TARGETS} targets; split it"));
        }
        let labels = Arc::new(labels);
        for text in targets {
            let (host, port) = split(&text)?;
            all.push(Target { host, port, labels: labels.clone(), weight: 0, last_choice: false });
        }
    }
    Ok(all)
}

/// `host:port`, `[v6]:port`, `host`, an IPv6 address; a scheme and a path before and behind are not for us.
fn split(text: &str) -> Result<(String, Option<u16>), String> {
    let shown = || text.chars().take(80).collect::<String>();
    let invalid = |why: &str| Err(format!("target {:?}: {why}; write it as host:port", shown()));
    if text.is_empty() || text.len() > MAX_TARGET {
        return invalid("it has 1 to 300 characters");
    }
    if text.contains("://") || text.contains('/') {
        return invalid("it is an address, no URL");
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((text.to_owned(), None));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return invalid("a port comes after ']:'"),
        },
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return invalid("its port is no number of 1 to 65535"),
    };
    if host.parse::<std::net::IpAddr>().is_err() && host.parse::<hawser_mesh::Hostname>().is_err() {
        return invalid("its host is neither an IP address nor a host name");
    }
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let show = |t: Target| match t.port {
            Some(port) => format!("{} {port}", t.host),
            None => t.host,
        };
        json(text.as_bytes()).map(|all| all.into_iter().map(show).collect())
    }

    #[test]
    fn a_list_is_groups_of_targets_with_labels() {
        let text = r#"[{"targets": ["10.0.0.1:80", "b.example:81"], "labels": {"job": "x"}}, {"targets": []}]"#;
        let all = json(text.as_bytes()).unwrap();
        assert_eq!(all.iter().map(|t| t.labels["job"].as_str()).collect::<Vec<_>>(), ["x", "x"]);
        assert!(Arc::ptr_eq(&all[0].labels, &all[1].labels));
        assert_eq!(read(text).unwrap(), ["10.0.0.1 80", "b.example 81"]);
        assert_eq!(yaml("- targets: ['10.0.0.1:80']\n  labels: {job: x}\n").unwrap()[0], all[0]);
    }

    #[test]
    fn a_target_is_an_address_with_or_without_a_port() {
        for (text, is) in [
            ("h", "h"),
            ("h:1", "h 1"),
            ("[2001:db8::1]:9", "2001:db8::1 9"),
            ("[::1]", "::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("H.Example:65535", "h.example 65535"),
        ] {
            assert_eq!(read(&format!(r#"[{{"targets": ["{text}"]}}]"#)).unwrap(), [is]);
        }
        for bad in ["", "h:", "h:0", "h:65536", "http://h/", "[::1]9", "-x:1", "a b:1", "/etc/x:1"] {
            assert!(read(&format!(r#"[{{"targets": ["{bad}"]}}]"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_as_a_whole() {
        for bad in ["", "{}", "null", "[1]", r#"[{"labels": {}}]"#, r#"[{"targets": ["a:1"]}, {"targets": [1]}]"#] {
            assert!(json(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "# nothing\n", "---\n", "~", "a: b"] {
            assert!(yaml(bad).is_err(), "{bad}");
        }
        assert_eq!(yaml("[]"), Ok(Vec::new()));
        let labels: String = (0..200).map(|n| format!(r#""l{n}": "","#)).collect();
        let many = format!(r#"[{{"targets": [], "labels": {{{}}}}}]"#, labels.trim_end_matches(','));
        assert!(json(many.as_bytes()).unwrap_err().contains("128 are the most"));
        let many = format!(r#"[{{"targets": [{}"a:1"]}}]"#, r#""a:1","#.repeat(MAX_TARGETS));
        assert!(json(many.as_bytes()).unwrap_err().contains("split it"));
    }
}
