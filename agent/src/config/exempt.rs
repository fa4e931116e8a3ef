//! `exempt` of `agent.yaml`: what is never captured.
//!
//! In: words and numbers, as people write them. Out: numbers, ranges and names that redirection takes, or a sentence that
//! names the field and the cure.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::Deserialize;

/// What is never captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Exempt {
    /// Users whose connections are left alone.
    pub(crate) uids: BTreeSet<u32>,
    /// Groups.
    pub(crate) gids: BTreeSet<u32>,
    /// Packet marks.
    pub(crate) marks: BTreeSet<u32>,
    /// Control groups.
    pub(crate) cgroups: BTreeSet<String>,
    /// TCP ports that are called, first and last.
    pub(crate) ports: BTreeSet<(u16, u16)>,
    /// Addresses that are called.
    pub(crate) cidrs: BTreeSet<IpNet>,
    /// Declared ports that stay the application's own.
    pub(crate) inbound_ports: BTreeSet<(u16, u16)>,
    /// Interfaces, in and out.
    pub(crate) interfaces: BTreeSet<String>,
}

/// The same as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Written {
    uids: Vec<u32>,
    users: Vec<Word>,
    groups: Vec<Word>,
    marks: Vec<u32>,
    cgroups: Vec<String>,
    ports: Vec<Word>,
    cidrs: Vec<String>,
    inbound_ports: Vec<Word>,
    interfaces: Vec<String>,
}

/// A number or a name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Exempt {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut uids = each("users", &written.users, user)?;
        uids.extend(written.uids);
        Ok(Self {
            uids,
            gids: each("groups", &written.groups, group)?,
            marks: written.marks.into_iter().collect(),
            cgroups: written.cgroups.into_iter().collect(),
            ports: each("ports", &written.ports, ports)?,
            cidrs: each("cidrs", &written.cidrs, |text: &String| cidr(text))?,
            inbound_ports: each("inboundPorts", &written.inbound_ports, ports)?,
            interfaces: each("interfaces", &written.interfaces, |name: &String| interface(name))?,
        })
    }
}

fn each<W, T: Ord>(field: &str, words: &[W], read: impl Fn(&W) -> Result<T, String>) -> Result<BTreeSet<T>, String> {
    let read = |(index, word)| read(word).map_err(|why| format!("exempt.{field}[{index}]: {why}"));
    words.iter().enumerate().map(read).collect()
}

fn user(word: &Word) -> Result<u32, String> {
    let found = |name: &str| Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()));
    number_or("user", word, found)
}

fn group(word: &Word) -> Result<u32, String> {
    let found = |name: &str| Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()));
    number_or("group", word, found)
}

fn number_or(what: &str, word: &Word, find: impl Fn(&str) -> nix::Result<Option<u32>>) -> Result<u32, String> {
    let cure = "make it, or write its number, which need not exist on this host";
    match word {
        Word::Number(number) => u32::try_from(*number).map_err(|_| format!("{number} is no number of a {what}")),
        Word::Text(name) => match find(name) {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(format!("there is no {what} {name:?} on this host: {cure}")),
            Err(error) => Err(format!("{what} {name:?} can't be looked up ({error}): {cure}")),
        },
    }
}

/// `5432`, or `8000-8100`.
fn ports(word: &Word) -> Result<(u16, u16), String> {
    let text = match word {
        Word::Number(number) => number.to_string(),
        Word::Text(text) => text.clone(),
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!("{text:?} is no port: write a number from 1 to 65535, or two like 8000-8100")),
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let net = text.parse::<IpNet>().ok().or_else(single);
    net.map(|net| net.trunc())
        .ok_or_else(|| format!("{text:?} is no range of addresses: write it like 10.0.0.0/8, fd00::/8 or 10.0.0.1"))
}

fn interface(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if name.is_empty() || name.len() > 15 || name == "lo" || !name.chars().all(plain) {
        return Err(format!("{name:?} is no interface to exempt: write a name as `ip link` shows it, and not lo"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Exempt, String> {
        serde_saphyr::from_str(text).map_err(|error: serde_saphyr::Error| error.to_string())
    }

    #[test]
    fn everything_is_said_in_words_or_numbers() {
        let text = "users: [root, 1000]\nuids: [7]\ngroups: [root, 50]\nmarks: [9]\ncgroups: [system.slice/a.service]\n\
                    ports: [5432, 8000-8100]\ncidrs: [10.1.2.3/8, 192.0.2.1]\ninboundPorts: [9100]\n\
                    interfaces: [eth1]\n";
        let exempt = read(text).unwrap();
        assert_eq!(exempt.uids, [0, 7, 1000].into());
        assert_eq!(exempt.gids, [0, 50].into());
        assert_eq!(exempt.ports, [(5432, 5432), (8000, 8100)].into());
        assert_eq!(exempt.cidrs, ["10.0.0.0/8", "192.0.2.1/32"].map(|net| net.parse().unwrap()).into());
        assert_eq!((exempt.inbound_ports.len(), exempt.interfaces.len()), (1, 1));
    }

    #[test]
    fn what_can_not_be_read_is_named_with_its_cure() {
        for (text, field, cure) in [
            ("users: [nobody-of-this-name]", "exempt.users[0]", "write its number"),
            ("groups: [1, nobody-of-this-name]", "exempt.groups[1]", "write its number"),
            ("ports: [80, 0]", "exempt.ports[1]", "1 to 65535"),
            ("ports: [90-80]", "exempt.ports[0]", "8000-8100"),
            ("inboundPorts: [http]", "exempt.inboundPorts[0]", "1 to 65535"),
            ("cidrs: [10.0.0.0/40]", "exempt.cidrs[0]", "10.0.0.0/8"),
            ("interfaces: [lo]", "exempt.interfaces[0]", "ip link"),
            ("port: [80]", "port", ""),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(field) && error.contains(cure), "{text}: {error}");
        }
    }
}
