//! AuthorizationPolicy: who may do what.

mod key;

pub use key::Key;

use super::check::{Checker, net, text};
use super::error::shown;
use super::message::{enumeration, message};
use super::{LabelSelector, PolicyTargetReference};

message! {
    /// Who may do what.
    pub struct AuthorizationPolicy [check_policy] {
        /// Workloads it is for; none is all.
        selector: Option<LabelSelector>,
        /// What it is attached to.
        target_ref: Option<PolicyTargetReference>,
        /// What it is attached to.
        target_refs: Vec<PolicyTargetReference>,
        /// Any of these; none matches nothing, so that `ALLOW` without rules denies everything.
        rules: Vec<Rule>,
        /// What happens to what matches.
        action: Action,
        /// Who is asked, with `CUSTOM`.
        provider: Option<ExtensionProviderRef>,
    }

    /// What matches: from, to and when, as far as they are set. An empty rule matches everything.
    pub struct Rule [check_rule] {
        /// Any of these callers.
        from: Vec<RuleFrom>,
        /// Any of these operations.
        to: Vec<RuleTo>,
        /// All of these conditions.
        when: Vec<Condition>,
    }

    /// A caller.
    pub struct RuleFrom [check_from] {
        /// All that is set must hold.
        source: Option<Source>,
    }

    /// An operation.
    pub struct RuleTo [check_to] {
        /// All that is set must hold.
        operation: Option<Operation>,
    }

    /// A caller: each list is any of, each `not` list none of.
    pub struct Source [check_source] {
        /// Identities, without `spiffe://`.
        principals: Vec<String>,
        /// Not these.
        not_principals: Vec<String>,
        /// `issuer/subject` of the request's token.
        request_principals: Vec<String>,
        /// Not these.
        not_request_principals: Vec<String>,
        /// Namespaces.
        namespaces: Vec<String>,
        /// Not these.
        not_namespaces: Vec<String>,
        /// `service-account` or `namespace/service-account`.
        service_accounts: Vec<String>,
        /// Not these.
        not_service_accounts: Vec<String>,
        /// Addresses of the connection.
        ip_blocks: Vec<String>,
        /// Not these.
        not_ip_blocks: Vec<String>,
        /// Addresses of the client, as trusted proxies tell it.
        remote_ip_blocks: Vec<String>,
        /// Not these.
        not_remote_ip_blocks: Vec<String>,
        /// Trust domains.
        trust_domains: Vec<String>,
        /// Not these.
        not_trust_domains: Vec<String>,
    }

    /// An operation: each list is any of, each `not` list none of.
    pub struct Operation [check_operation] {
        /// Authorities.
        hosts: Vec<String>,
        /// Not these.
        not_hosts: Vec<String>,
        /// Ports.
        ports: Vec<String>,
        /// Not these.
        not_ports: Vec<String>,
        /// Methods.
        methods: Vec<String>,
        /// Not these.
        not_methods: Vec<String>,
        /// Paths; `{*}` is a segment, `{**}` any number of them.
        paths: Vec<String>,
        /// Not these.
        not_paths: Vec<String>,
    }

    /// A condition.
    pub struct Condition [check_condition] {
        /// What is looked at.
        key: String,
        /// Any of these.
        values: Vec<String>,
        /// None of these.
        not_values: Vec<String>,
    }

    /// An extension provider of the mesh's configuration.
    pub struct ExtensionProviderRef {
        /// Name.
        name: String,
    }
}

enumeration! {
    /// What happens to what matches.
    pub enum Action {
        /// It is allowed; what no such policy matches is denied.
        Allow = "ALLOW",
        /// It is denied.
        Deny = "DENY",
        /// It is written down.
        Audit = "AUDIT",
        /// Somebody else is asked.
        Custom = "CUSTOM",
    }
}

fn check_policy(policy: &AuthorizationPolicy, c: &mut Checker) {
    let AuthorizationPolicy { selector, target_ref, target_refs, .. } = policy;
    super::selector::check_either(c, selector.as_ref(), target_ref.as_ref(), target_refs);
    if policy.rules.len() > 512 {
        c.wrong("rules", "Too many: it must have at most 512 items");
    }
    match (policy.action, &policy.provider) {
        (Action::Custom, Some(provider)) if !provider.name.is_empty() => {}
        (Action::Custom, _) => c.field("provider", |c| c.wrong("name", "action CUSTOM requires it")),
        (_, Some(_)) => c.wrong("provider", "it is for action CUSTOM only"),
        (_, None) => {}
    }
}

fn check_rule(rule: &Rule, c: &mut Checker) {
    for (field, count) in [("from", rule.from.len()), ("to", rule.to.len())] {
        if count > 512 {
            c.wrong(field, "Too many: it must have at most 512 items");
        }
    }
}

fn check_from(from: &RuleFrom, c: &mut Checker) {
    if from.source.as_ref().is_none_or(|source| *source == Source::default()) {
        c.wrong("source", "it is required and must not be empty; take the whole from out to match every caller");
    }
}

fn check_to(to: &RuleTo, c: &mut Checker) {
    if to.operation.as_ref().is_none_or(|operation| *operation == Operation::default()) {
        c.wrong("operation", "it is required and must not be empty; take the whole to out to match every operation");
    }
}

fn check_source(source: &Source, c: &mut Checker) {
    for (field, items) in [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ] {
        c.each(field, items, |c, item| text::tell(c, pattern(item)));
    }
    for (field, items) in [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ] {
        net::ranges(c, field, items);
    }
    let accounts =
        [("serviceAccounts", &source.service_accounts), ("notServiceAccounts", &source.not_service_accounts)];
    let others = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    for (field, items) in accounts {
        if !items.is_empty() && others.iter().any(|list| !list.is_empty()) {
            c.wrong(field, "Cannot set serviceAccounts with namespaces or principals");
        }
        if items.len() > 16 {
            c.wrong(field, "Too many: it must have at most 16 items");
        }
        c.each(field, items, |c, item| text::tell(c, service_account(item)));
    }
}

fn check_operation(operation: &Operation, c: &mut Checker) {
    for (field, items) in [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
    ] {
        c.each(field, items, |c, item| text::tell(c, pattern(item)));
    }
    for (field, items) in [("paths", &operation.paths), ("notPaths", &operation.not_paths)] {
        c.each(field, items, |c, item| text::tell(c, path(item)));
    }
    for (field, items) in [("ports", &operation.ports), ("notPorts", &operation.not_ports)] {
        c.each(field, items, |c, item| {
            if item.parse::<u16>().map_or(true, |port| port == 0) {
                c.problem(format!("\"{}\": a port must be between 1-65535", shown(item)));
            }
        });
    }
}

/// Keys of conditions that stand alone.
const KEYS: [&str; 13] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "destination.user",
];

fn check_condition(condition: &Condition, c: &mut Checker) {
    let key = condition.key.as_str();
    let read = Key::parse(key);
    match &read {
        None if key.is_empty() => c.required("key", false),
        None => {
            let known = "request.headers[name], request.auth.claims[name]";
            c.wrong("key", format!("\"{}\" is not known; known are {known}, {}", shown(key), KEYS.join(", ")));
        }
        Some(Key::Header(name)) => c.field("key", |c| text::tell(c, text::header_name(name.trim_start_matches(':')))),
        Some(_) => {}
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        c.problem("one of values, notValues is required");
    }
    for (field, items) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        c.each(field, items, |c, item| match key {
            "source.ip" | "remote.ip" | "destination.ip" => text::tell(c, net::range(item)),
            "destination.port" if item.parse::<u16>().map_or(true, |port| port == 0) => {
                c.problem(format!("\"{}\": a port must be between 1-65535", shown(item)));
            }
            _ if item.is_empty() => c.problem("Invalid value: it is empty"),
            _ => {}
        });
    }
}

/// Text that may start or end with `*`.
fn pattern(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("Invalid value: it is empty".to_owned());
    }
    Ok(())
}

fn path(text: &str) -> Result<(), String> {
    pattern(text)?;
    let template = text.contains("{*}") || text.contains("{**}");
    if template {
        let rest = text.replace("{**}", "").replace("{*}", "");
        let segments_whole =
            text.split('/').all(|s| !(s.contains("{*}") || s.contains("{**}")) || s == "{*}" || s == "{**}");
        if rest.contains(['*', '{', '}']) || !segments_whole {
            return Err(format!(
                "\"{}\": {{*}} and {{**}} stand for whole segments, and no other '*' beside them",
                shown(text)
            ));
        }
        if text.matches("{**}").count() > 1 || text.find("{**}").is_some_and(|at| text[at + 4..].contains("{*}")) {
            return Err(format!("\"{}\": {{**}} stands once, and last", shown(text)));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=/".contains(&b);
        if !text.starts_with('/') || !rest.bytes().all(good) {
            let why = "a template begins with '/' and has the characters of paths only";
            return Err(format!("\"{}\": {why}", shown(text)));
        }
    } else if text.contains(['{', '}']) {
        return Err(format!("\"{}\": only {{*}} and {{**}} may stand in braces", shown(text)));
    }
    Ok(())
}

fn service_account(text_: &str) -> Result<(), String> {
    let (namespace, name) = text_.split_once('/').map_or((None, text_), |(n, a)| (Some(n), a));
    if text_.len() > 320 {
        return Err("Too long: it must have at most 320 bytes".to_owned());
    }
    if namespace.is_some_and(|n| text::label(n).is_err()) || text::object_name(name).is_err() {
        return Err(format!("\"{}\" is not service-account or namespace/service-account", shown(text_)));
    }
    Ok(())
}
