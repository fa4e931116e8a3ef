//! Policies of who may do what: Envoy's RBAC, checked.
//!
//! In: policies as xDS says them, what is known of a call. Out: the first policy that matches. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::any::unpack;
use hawser_api::proto::core::CidrRange;
use hawser_api::proto::envoy::config::rbac::v3 as proto;
use hawser_api::proto::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use hawser_api::proto::envoy::r#type::matcher::v3 as matcher;
use hawser_api::proto::route::HeaderMatcher;
use regex::Regex;

use crate::{HeaderMatch, Refused, StringMatch, contains, refuse, whole_regex};

/// Where verified claims are.
const TOKENS: &str = "envoy.filters.http.jwt_authn";

/// What is known of a call.
pub trait Known<N> {
    /// Where it goes.
    fn to(&self) -> (IpAddr, u16);
    /// The other end of the connection.
    fn direct(&self) -> IpAddr;
    /// The client, as proxies before us tell it.
    fn remote(&self) -> IpAddr;
    /// Server name of the ClientHello.
    fn server_name(&self) -> Option<&str>;
    /// The identity that mTLS proved.
    fn peer(&self) -> Option<&str>;
    /// Path of the request, without its query.
    fn path(&self) -> Option<&str>;
    /// Whether the request has a header that is so; each of several of one name counts.
    fn header(&self, header: &HeaderMatch<N>) -> bool;
    /// Whether a verified token has a claim that is so.
    fn claim(&self, path: &[String], value: &ClaimMatch) -> bool;
}

/// Policies of one action.
#[derive(Debug)]
pub struct Rules<N> {
    /// What happens to what matches.
    pub action: RulesAction,
    /// By name; the first that matches counts.
    pub policies: Vec<Policy<N>>,
}

/// What happens to what matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulesAction {
    /// It passes; nothing else does.
    Allow,
    /// It is refused.
    Deny,
    /// It is written down.
    Log,
}

/// A policy: one of its permissions and one of its principals must hold.
#[derive(Debug)]
pub struct Policy<N> {
    /// Its name.
    pub name: Arc<str>,
    /// What is done.
    pub permissions: Box<[Test<N>]>,
    /// Who does it.
    pub principals: Box<[Test<N>]>,
}

/// Something that holds or does not.
#[derive(Debug)]
pub enum Test<N> {
    /// Always.
    Always,
    /// All of these.
    All(Box<[Test<N>]>),
    /// Any of these.
    Any(Box<[Test<N>]>),
    /// Not this.
    Not(Box<Test<N>>),
    /// The port that was called.
    Port(u16),
    /// The address that was called.
    To(Net),
    /// The other end of the connection.
    Direct(Net),
    /// The client, as proxies before us tell it.
    Remote(Net),
    /// The server name of the ClientHello.
    ServerName(StringMatch),
    /// The path, without its query.
    Path(StringMatch),
    /// The path by a template.
    Template(Regex),
    /// A header.
    Header(HeaderMatch<N>),
    /// The identity that mTLS proved; any, if absent.
    Peer(Option<StringMatch>),
    /// A claim of a verified token.
    Claim {
        /// The way to it.
        path: Box<[String]>,
        /// What it must be.
        value: ClaimMatch,
        /// Turned around.
        invert: bool,
    },
}

/// What a value must be.
#[derive(Debug)]
pub enum ClaimMatch {
    /// A text.
    Text(StringMatch),
    /// There.
    Present(bool),
    /// A list that has one.
    OneOf(Box<ClaimMatch>),
    /// Any of these.
    Any(Box<[ClaimMatch]>),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net(IpAddr, u8);

impl<N> Rules<N> {
    /// Checks policies, of requests or of connections; `name` makes names of fields.
    ///
    /// # Errors
    /// If something in them can't be held against what comes.
    pub fn new(rules: &proto::Rbac, http: bool, name: fn(&str) -> N) -> Result<Self, Refused> {
        let action = match proto::rbac::Action::try_from(rules.action) {
            Ok(proto::rbac::Action::Allow) => RulesAction::Allow,
            Ok(proto::rbac::Action::Deny) => RulesAction::Deny,
            Ok(proto::rbac::Action::Log) => RulesAction::Log,
            Err(_) => refuse!("action {} is unknown", rules.action),
        };
        let made = Maker { http, name };
        let at = |policy: &str| {
            let policy = policy.to_owned();
            move |e: Refused| Refused(format!("{policy}: {e}"))
        };
        let mut policies = Vec::with_capacity(rules.policies.len());
        for (name, policy) in &rules.policies {
            let permissions = policy.permissions.iter().map(|p| made.permission(p)).collect::<Result<_, _>>();
            let principals = policy.principals.iter().map(|p| made.principal(p)).collect::<Result<_, _>>();
            policies.push(Policy {
                name: name.as_str().into(),
                permissions: permissions.map_err(at(name))?,
                principals: principals.map_err(at(name))?,
            });
        }
        Ok(Self { action, policies })
    }

    /// The first policy that matches.
    pub fn matched(&self, known: &impl Known<N>) -> Option<&Arc<str>> {
        let any = |tests: &[Test<N>]| tests.iter().any(|test| test.holds(known));
        self.policies.iter().find(|p| any(&p.permissions) && any(&p.principals)).map(|p| &p.name)
    }
}

impl<N> Test<N> {
    fn holds(&self, known: &impl Known<N>) -> bool {
        match self {
            Self::Always => true,
            Self::All(all) => all.iter().all(|one| one.holds(known)),
            Self::Any(any) => any.iter().any(|one| one.holds(known)),
            Self::Not(one) => !one.holds(known),
            Self::Port(port) => known.to().1 == *port,
            Self::To(net) => net.contains(known.to().0),
            Self::Direct(net) => net.contains(known.direct()),
            Self::Remote(net) => net.contains(known.remote()),
            Self::ServerName(name) => name.matches(known.server_name().unwrap_or_default()),
            Self::Path(path) => known.path().is_some_and(|text| path.matches(text)),
            Self::Template(path) => known.path().is_some_and(|text| path.is_match(text)),
            Self::Header(header) => known.header(header),
            Self::Peer(None) => known.peer().is_some(),
            Self::Peer(Some(name)) => known.peer().is_some_and(|peer| name.matches(peer)),
            Self::Claim { path, value, invert } => known.claim(path, value) != *invert,
        }
    }
}

/// Makes tests.
struct Maker<N> {
    /// Of requests: connections have neither headers nor tokens.
    http: bool,
    name: fn(&str) -> N,
}

impl<N> Maker<N> {
    fn permission(&self, permission: &proto::Permission) -> Result<Test<N>, Refused> {
        use proto::permission::Rule;
        let set = |set: &proto::permission::Set| {
            set.rules.iter().map(|one| self.permission(one)).collect::<Result<Box<[Test<N>]>, Refused>>()
        };
        Ok(match &permission.rule {
            Some(Rule::Any(true)) => Test::Always,
            Some(Rule::AndRules(rules)) => Test::All(set(rules)?),
            Some(Rule::OrRules(rules)) => Test::Any(set(rules)?),
            Some(Rule::NotRule(rule)) => Test::Not(Box::new(self.permission(rule)?)),
            Some(Rule::DestinationIp(range)) => Test::To(Net::new(range)?),
            Some(Rule::DestinationPort(port)) => match u16::try_from(*port) {
                Ok(port) => Test::Port(port),
                Err(_) => refuse!("destination_port {port} is no port"),
            },
            Some(Rule::RequestedServerName(name)) => Test::ServerName(StringMatch::new(name)?),
            Some(Rule::Header(header)) => Test::Header(self.header(header)?),
            Some(Rule::UrlPath(path)) => {
                self.only_http("url_path")?;
                match &path.rule {
                    Some(matcher::path_matcher::Rule::Path(text)) => Test::Path(StringMatch::new(text)?),
                    None => refuse!("url_path has no rule"),
                }
            }
            Some(Rule::UriTemplate(template)) => {
                self.only_http("uri_template")?;
                match template.typed_config.as_ref().map(unpack::<UriTemplateMatchConfig>) {
                    Some(Ok(config)) => Test::Template(self::template(&config.path_template)?),
                    _ => refuse!("uri_template: {:?} is not supported", template.name),
                }
            }
            Some(Rule::Any(false)) | None => refuse!("a permission has no rule"),
        })
    }

    fn principal(&self, principal: &proto::Principal) -> Result<Test<N>, Refused> {
        use proto::principal::Identifier;
        let set = |set: &proto::principal::Set| {
            set.ids.iter().map(|one| self.principal(one)).collect::<Result<Box<[Test<N>]>, Refused>>()
        };
        Ok(match &principal.identifier {
            Some(Identifier::Any(true)) => Test::Always,
            Some(Identifier::AndIds(ids)) => Test::All(set(ids)?),
            Some(Identifier::OrIds(ids)) => Test::Any(set(ids)?),
            Some(Identifier::NotId(id)) => Test::Not(Box::new(self.principal(id)?)),
            Some(Identifier::Authenticated(who)) => {
                Test::Peer(who.principal_name.as_ref().map(StringMatch::new).transpose()?)
            }
            Some(Identifier::DirectRemoteIp(range)) => Test::Direct(Net::new(range)?),
            Some(Identifier::RemoteIp(range)) => Test::Remote(Net::new(range)?),
            Some(Identifier::Header(header)) => Test::Header(self.header(header)?),
            Some(Identifier::Metadata(metadata)) => self.claim(metadata)?,
            Some(Identifier::Any(false)) | None => refuse!("a principal has no identifier"),
        })
    }

    fn header(&self, header: &HeaderMatcher) -> Result<HeaderMatch<N>, Refused> {
        self.only_http("header")?;
        HeaderMatch::new(header, self.name)
    }

    fn claim(&self, metadata: &matcher::MetadataMatcher) -> Result<Test<N>, Refused> {
        self.only_http("metadata")?;
        if metadata.filter != TOKENS {
            refuse!("metadata of {:?}: no filter here says it", metadata.filter);
        }
        let mut path = Vec::with_capacity(metadata.path.len());
        for step in &metadata.path {
            match &step.segment {
                Some(matcher::metadata_matcher::path_segment::Segment::Key(key)) => path.push(key.clone()),
                None => refuse!("metadata: a step has no key"),
            }
        }
        let Some(value) = &metadata.value else { refuse!("metadata has no value") };
        Ok(Test::Claim { path: path.into(), value: ClaimMatch::new(value)?, invert: metadata.invert })
    }

    fn only_http(&self, field: &str) -> Result<(), Refused> {
        if !self.http {
            refuse!("{field}: a connection has none");
        }
        Ok(())
    }
}

impl ClaimMatch {
    fn new(value: &matcher::ValueMatcher) -> Result<Self, Refused> {
        use matcher::value_matcher::MatchPattern;
        Ok(match &value.match_pattern {
            Some(MatchPattern::StringMatch(text)) => Self::Text(StringMatch::new(text)?),
            Some(MatchPattern::PresentMatch(present)) => Self::Present(*present),
            Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
                Some(matcher::list_matcher::MatchPattern::OneOf(one)) => Self::OneOf(Box::new(Self::new(one)?)),
                None => refuse!("list_match has no pattern"),
            },
            Some(MatchPattern::OrMatch(any)) => {
                Self::Any(any.value_matchers.iter().map(Self::new).collect::<Result<_, _>>()?)
            }
            None => refuse!("a value matcher has no pattern"),
        })
    }
}

impl Net {
    fn new(range: &CidrRange) -> Result<Self, Refused> {
        let Ok(address) = range.address_prefix.parse::<IpAddr>() else {
            refuse!("{:?} is no IP address", range.address_prefix);
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        match u8::try_from(range.prefix_len.unwrap_or(0)) {
            Ok(length) if length <= most => Ok(Self(address, length)),
            _ => refuse!("{address}/{:?} is no range", range.prefix_len),
        }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        contains(self.0, self.1, address)
    }
}

/// A path by a template: `*` is one segment, `**` any number of them, all else is itself.
fn template(text: &str) -> Result<Regex, Refused> {
    /// What a segment may have (RFC 3986, 3.3).
    const SEGMENT: &str = "[a-zA-Z0-9\\-._~%!$&'()+,;:@=]";
    let mut pattern = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            pattern.push_str(&SEGMENT.replace(']', "/]*"));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('*') {
            pattern.push_str(SEGMENT);
            pattern.push('+');
            rest = after;
        } else {
            pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            rest = &rest[c.len_utf8()..];
        }
    }
    if pattern.is_empty() {
        refuse!("uri_template is empty");
    }
    whole_regex(&pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_stands_for_segments() {
        for (text, path, is) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/x/c", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/b/a/c", false),
            ("/a.b/*", "/axb/c", false),
            ("/**/c", "/a/b/c", true),
        ] {
            assert_eq!(template(text).unwrap().is_match(path), is, "{text} {path}");
        }
    }

    #[test]
    fn ranges_have_their_addresses_and_no_other() {
        let net = |text: &str, length| {
            Net::new(&CidrRange { address_prefix: text.into(), prefix_len: Some(length) }).unwrap()
        };
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(net("10.0.0.0", 8).contains(at("10.1.2.3")));
        assert!(net("10.0.0.0", 8).contains(at("::ffff:10.1.2.3")), "as a v6 socket shows it");
        assert!(!net("10.0.0.0", 8).contains(at("11.0.0.1")));
        assert!(net("0.0.0.0", 0).contains(at("1.2.3.4")) && !net("0.0.0.0", 0).contains(at("::1")));
        assert!(net("2001:db8::", 32).contains(at("2001:db8::1")));
    }
}
