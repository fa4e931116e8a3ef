//! Which virtual host a host name means.
//!
//! In: domains as a route configuration lists them. Out: the index of a virtual host: exact, then the longest end, then the
//! longest start, then `*`. Case does not count.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

use crate::{Refused, refuse};

/// Domains of a route configuration.
#[derive(Debug, Default)]
pub struct Domains {
    exact: HashMap<String, usize>,
    /// `*.example.org`, the longest first.
    suffixes: Vec<(String, usize)>,
    /// `example.*`, the longest first.
    prefixes: Vec<(String, usize)>,
    any: Option<usize>,
    ignore_port: bool,
}

impl Domains {
    /// None yet; with `ignore_port` the port of a request's host is left out.
    pub fn new(ignore_port: bool) -> Self {
        Self { ignore_port, ..Self::default() }
    }

    /// Adds a domain of the virtual host of that index.
    ///
    /// # Errors
    /// If another virtual host has it.
    pub fn add(&mut self, domain: &str, host: usize) -> Result<(), Refused> {
        let domain = domain.to_ascii_lowercase();
        if domain == "*" {
            if self.any.replace(host).is_some() {
                refuse!("domains: \"*\" is there twice");
            }
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.push((suffix.to_owned(), host));
            self.suffixes.sort_by_key(|(d, _)| Reverse(d.len()));
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.push((prefix.to_owned(), host));
            self.prefixes.sort_by_key(|(d, _)| Reverse(d.len()));
        } else if let Some(other) = self.exact.insert(domain.clone(), host)
            && other != host
        {
            refuse!("domains: {domain:?} is there twice");
        }
        Ok(())
    }

    /// The virtual host of a host name.
    pub fn find(&self, host: &str) -> Option<usize> {
        let lower: Cow<'_, str> =
            if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() };
        let name = if self.ignore_port { without_port(&lower) } else { &lower };
        if let Some(found) = self.exact.get(name) {
            return Some(*found);
        }
        let end = self.suffixes.iter().find(|(end, _)| name.len() > end.len() && name.ends_with(end.as_str()));
        let start =
            || self.prefixes.iter().find(|(start, _)| name.len() > start.len() && name.starts_with(start.as_str()));
        end.or_else(start).map(|(_, host)| *host).or(self.any)
    }
}

/// A host name without its port.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_counts_and_none_stands_twice() {
        let mut domains = Domains::new(true);
        for (index, domain) in ["*", "a.example.org", "*.org", "*.example.org", "a.*"].into_iter().enumerate() {
            domains.add(domain, index).unwrap();
        }
        let found = ["A.example.org:80", "b.example.org", "b.org", "a.net", "c"].map(|host| domains.find(host));
        assert_eq!(found, [Some(1), Some(3), Some(2), Some(4), Some(0)]);
        assert!(domains.add("*", 5).is_err() && domains.add("a.example.org", 5).is_err());
        assert_eq!(Domains::default().find("a"), None);
        assert_eq!((without_port("[::1]:80"), without_port("::1")), ("[::1]", "::1"));
    }
}
