//! Rules of an AuthorizationPolicy as Envoy's RBAC has them.
//!
//! In: a policy, and whether it is for requests or for connections. Out: named policies. Invariant: what a connection can't
//! be asked for makes a rule that allows vanish, and a rule that denies wider: never is more let through than was written.

use hawser_api::any::pack;
use hawser_api::istio::authorization_policy::{Action, Condition, Key, Operation, Rule};
use hawser_api::proto::core::{CidrRange, TypedExtensionConfig};
use hawser_api::proto::envoy::config::rbac::v3::{Permission, Policy, permission};
use hawser_api::proto::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use hawser_api::proto::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher, string_matcher};
use hawser_api::proto::route::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use ipnet::IpNet;

use super::Written;
use super::logic::Logic;
use super::source;
use crate::compiler::proto::regex;

/// What rules are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

/// A rule asks for what a connection does not have.
#[derive(Debug)]
pub(super) struct NotThere;

/// The rules of a policy by name; one that never matches if it has none.
pub(super) fn policies(written: &Written<'_>, layer: Layer) -> Vec<(String, Policy)> {
    if !written.enforceable {
        return vec![(written.rule_name(0), everything())];
    }
    if written.policy.rules.is_empty() {
        return vec![(written.rule_name(0), nothing())];
    }
    let lenient = written.policy.action != Action::Allow;
    let rules = written.policy.rules.iter().enumerate();
    rules.filter_map(|(i, rule)| Some((written.rule_name(i), policy(written, rule, layer, lenient).ok()?))).collect()
}

fn everything() -> Policy {
    Policy { permissions: vec![Permission::any()], principals: vec![Logic::any()] }
}

fn nothing() -> Policy {
    Policy { permissions: vec![Logic::not(Permission::any())], principals: vec![Logic::not(Logic::any())] }
}

fn policy(written: &Written<'_>, rule: &Rule, layer: Layer, lenient: bool) -> Result<Policy, NotThere> {
    let mut permissions = Vec::new();
    let operations = rule.to.iter().map(|to| to.operation.as_ref());
    for operation in operations.map(Some).chain(rule.to.is_empty().then_some(None)) {
        let mut tests = All::new(layer, lenient);
        if let Some(operation) = operation.flatten() {
            self::operation(&mut tests, operation)?;
        }
        for condition in &rule.when {
            self::condition(&mut tests, condition)?;
        }
        permissions.push(tests.done());
    }
    let mut principals = Vec::new();
    let sources = rule.from.iter().map(|from| from.source.as_ref());
    for source in sources.map(Some).chain(rule.from.is_empty().then_some(None)) {
        let mut tests = All::new(layer, lenient);
        if let Some(source) = source.flatten() {
            source::source(&mut tests, written, source)?;
        }
        for condition in &rule.when {
            source::condition(&mut tests, written, condition)?;
        }
        principals.push(tests.done());
    }
    Ok(Policy { permissions, principals })
}

/// Tests that must all hold.
pub(super) struct All<T> {
    tests: Vec<T>,
    layer: Layer,
    /// What can't be asked for is left out, not a reason to leave the rule out.
    lenient: bool,
}

impl<T: Logic> All<T> {
    fn new(layer: Layer, lenient: bool) -> Self {
        Self { tests: Vec::new(), layer, lenient }
    }

    /// Any of `values`, none of `not_values`, as far as they are set.
    pub(super) fn field(
        &mut self,
        (values, not_values): (&[String], &[String]),
        http_only: bool,
        make: impl Fn(&str) -> T,
    ) -> Result<(), NotThere> {
        if values.is_empty() && not_values.is_empty() {
            return Ok(());
        }
        if http_only && self.layer == Layer::Tcp {
            return if self.lenient { Ok(()) } else { Err(NotThere) };
        }
        let any = |all: &[String]| T::or(all.iter().map(|value| make(value)).collect());
        if !values.is_empty() {
            self.tests.push(any(values));
        }
        if !not_values.is_empty() {
            self.tests.push(T::not(any(not_values)));
        }
        Ok(())
    }

    fn done(self) -> T {
        if self.tests.is_empty() { T::any() } else { T::and(self.tests) }
    }
}

fn operation(tests: &mut All<Permission>, operation: &Operation) -> Result<(), NotThere> {
    let o = operation;
    tests.field((&o.hosts, &o.not_hosts), true, |value| header(self::header(":authority", value, true)))?;
    tests.field((&o.methods, &o.not_methods), true, |value| header(self::header(":method", value, false)))?;
    tests.field((&o.paths, &o.not_paths), true, path)?;
    return tests.field((&o.ports, &o.not_ports), false, port);

    fn header(matcher: HeaderMatcher) -> Permission {
        Permission { rule: Some(permission::Rule::Header(matcher)) }
    }
}

fn condition(tests: &mut All<Permission>, condition: &Condition) -> Result<(), NotThere> {
    let values = (condition.values.as_slice(), condition.not_values.as_slice());
    match Key::parse(&condition.key) {
        Some(Key::DestinationIp) => {
            tests.field(values, false, |v| Permission { rule: Some(permission::Rule::DestinationIp(cidr(v))) })
        }
        Some(Key::DestinationPort) => tests.field(values, false, port),
        Some(Key::ServerName) => {
            let name = |v: &str| permission::Rule::RequestedServerName(matcher(v, "", false));
            tests.field(values, false, |v| Permission { rule: Some(name(v)) })
        }
        _ => Ok(()),
    }
}

fn port(value: &str) -> Permission {
    // A port that is none can't come here, and would be nobody's.
    Permission { rule: Some(permission::Rule::DestinationPort(value.parse::<u16>().unwrap_or(0).into())) }
}

fn path(value: &str) -> Permission {
    let rule = if value.contains("{*}") || value.contains("{**}") {
        let template = UriTemplateMatchConfig { path_template: value.replace("{**}", "**").replace("{*}", "*") };
        permission::Rule::UriTemplate(TypedExtensionConfig {
            name: "envoy.path.match.uri_template".to_owned(),
            typed_config: Some(pack(&template)),
        })
    } else {
        permission::Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(matcher(value, "", false))) })
    };
    Permission { rule: Some(rule) }
}

/// A test of a header; `*` is any value.
pub(super) fn header(name: &str, value: &str, ignore_case: bool) -> HeaderMatcher {
    let test = match value {
        "*" => HeaderMatchSpecifier::PresentMatch(true),
        value => HeaderMatchSpecifier::StringMatch(matcher(value, "", ignore_case)),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(test), ..HeaderMatcher::default() }
}

/// A text that may begin or end with `*`, behind a prefix of every text.
pub(super) fn matcher(value: &str, prefix: &str, ignore_case: bool) -> StringMatcher {
    use string_matcher::MatchPattern;
    let pattern = if value == "*" {
        MatchPattern::SafeRegex(regex(".+"))
    } else if let Some(end) = value.strip_prefix('*') {
        match prefix {
            "" => MatchPattern::Suffix(end.to_owned()),
            prefix => MatchPattern::SafeRegex(regex(&format!("{}.*{}", literal(prefix), literal(end)))),
        }
    } else if let Some(start) = value.strip_suffix('*') {
        MatchPattern::Prefix(format!("{prefix}{start}"))
    } else {
        MatchPattern::Exact(format!("{prefix}{value}"))
    };
    StringMatcher { ignore_case, match_pattern: Some(pattern) }
}

/// As a regular expression has it.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation()
            && !matches!(c, '_' | '-' | '/' | ':' | ',' | '%' | '=' | '@' | '!' | '"' | '\'' | ';')
        {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// An address or a range of them.
pub(super) fn cidr(value: &str) -> CidrRange {
    let (address, length) = match value.parse::<IpNet>() {
        Ok(net) => (net.addr(), net.prefix_len()),
        Err(_) => {
            // What is no address can't come here, and would be nobody's.
            let address = value.parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST));
            (address, if address.is_ipv4() { 32 } else { 128 })
        }
    };
    CidrRange { address_prefix: address.to_string(), prefix_len: Some(length.into()) }
}
