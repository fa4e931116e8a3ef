//! JSON web tokens of requests: `JwtAuthentication`, checked.
//!
//! In: issuers, their keys, where tokens are. Out: keys ready to verify with. Invariant: a key that can't be used is none; an
//! issuer without keys has no valid token.

pub mod keys;

use hawser_api::proto::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use hawser_api::proto::{core, route};

use self::keys::Keys;
use crate::config::proto::{At as _, Refused, refuse};

/// The tokens of requests.
#[derive(Debug)]
pub struct Jwt {
    /// Issuers, by the name of the provider.
    pub providers: Vec<Provider>,
    /// What requests must bring.
    pub requires: Requirement,
    /// Whether a preflight request of CORS passes without.
    pub preflight: bool,
}

/// An issuer and its tokens.
#[derive(Debug)]
pub struct Provider {
    /// As tokens name it; any, if empty.
    pub issuer: String,
    /// Any of which the token must be for; any, if there are none.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: Keys,
    /// Whether the token goes on to the service.
    pub forward: bool,
    /// Where its tokens are.
    pub places: Vec<Place>,
    /// Header that gets the payload; none, if empty.
    pub payload_header: String,
    /// Under which name policies find the payload; none, if empty.
    pub payload_name: String,
    /// Headers that get claims: header, and the way to the claim.
    pub claim_headers: Vec<(String, Vec<String>)>,
    /// Claims that are texts with spaces, and lists for policies.
    pub spaced: Vec<String>,
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a header, behind a prefix.
    Header(String, String),
    /// In a parameter of the query.
    Parameter(String),
    /// In a cookie.
    Cookie(String),
}

/// What a request must bring.
#[derive(Debug)]
pub enum Requirement {
    /// A valid token of this provider, by its place in the list.
    Provider(usize),
    /// Any of these; or no token at all, if `missing`.
    Any {
        /// They.
        any: Vec<Requirement>,
        /// None is good too.
        missing: bool,
    },
    /// All of these.
    All(Vec<Requirement>),
}

impl Jwt {
    pub(crate) fn new(config: &proto::JwtAuthentication) -> Result<Self, Refused> {
        let names: Vec<&String> = config.providers.keys().collect();
        let mut providers = Vec::with_capacity(names.len());
        for (name, provider) in &config.providers {
            providers.push(Provider::new(provider).at(format_args!("providers[{name:?}]"))?);
        }
        let [rule] = config.rules.as_slice() else {
            refuse!("rules: {} of them, where one is supported", config.rules.len());
        };
        let prefix = rule.r#match.as_ref().and_then(|m| m.path_specifier.as_ref());
        if !matches!(prefix, Some(route::route_match::PathSpecifier::Prefix(prefix)) if prefix == "/") {
            refuse!("rules: a match of all paths alone is supported");
        }
        let Some(proto::requirement_rule::RequirementType::Requires(requires)) = &rule.requirement_type else {
            refuse!("rules: requires is missing");
        };
        let requires = Requirement::new(requires, &names)?;
        Ok(Self { providers, requires, preflight: config.bypass_cors_preflight })
    }
}

impl Provider {
    fn new(provider: &proto::JwtProvider) -> Result<Self, Refused> {
        let jwks = match &provider.jwks_source_specifier {
            Some(proto::jwt_provider::JwksSourceSpecifier::LocalJwks(source)) => match &source.specifier {
                Some(core::data_source::Specifier::InlineString(text)) => text.as_bytes(),
                Some(core::data_source::Specifier::InlineBytes(bytes)) => bytes.as_slice(),
                _ => refuse!("local_jwks must be inline"),
            },
            None => refuse!("local_jwks is missing"),
        };
        let mut places: Vec<Place> = Vec::new();
        for header in &provider.from_headers {
            places.push(Place::Header(header.name.to_ascii_lowercase(), header.value_prefix.clone()));
        }
        places.extend(provider.from_params.iter().map(|name| Place::Parameter(name.clone())));
        places.extend(provider.from_cookies.iter().map(|name| Place::Cookie(name.clone())));
        if places.is_empty() {
            places.push(Place::Header("authorization".to_owned(), "Bearer ".to_owned()));
            places.push(Place::Parameter("access_token".to_owned()));
        }
        let claim_headers = provider.claim_to_headers.iter().map(|one| {
            let path = one.claim_name.split('.').map(str::to_owned).collect();
            (one.header_name.to_ascii_lowercase(), path)
        });
        let spaced = provider.normalize_payload_in_metadata.as_ref();
        Ok(Self {
            issuer: provider.issuer.clone(),
            audiences: provider.audiences.clone(),
            keys: Keys::read(jwks),
            forward: provider.forward,
            places,
            payload_header: provider.forward_payload_header.to_ascii_lowercase(),
            payload_name: provider.payload_in_metadata.clone(),
            claim_headers: claim_headers.collect(),
            spaced: spaced.map(|n| n.space_delimited_claims.clone()).unwrap_or_default(),
        })
    }
}

impl Requirement {
    fn new(requires: &proto::JwtRequirement, names: &[&String]) -> Result<Self, Refused> {
        use proto::jwt_requirement::RequiresType;
        let is_missing = |r: &&proto::JwtRequirement| matches!(r.requires_type, Some(RequiresType::AllowMissing(())));
        Ok(match &requires.requires_type {
            Some(RequiresType::ProviderName(name)) => match names.iter().position(|n| *n == name) {
                Some(at) => Self::Provider(at),
                None => refuse!("provider {name:?} is not there"),
            },
            Some(RequiresType::RequiresAny(list)) => {
                let any = list.requirements.iter().filter(|r| !is_missing(r)).map(|r| Self::new(r, names));
                Self::Any {
                    any: any.collect::<Result<_, _>>()?,
                    missing: list.requirements.iter().any(|r| is_missing(&r)),
                }
            }
            Some(RequiresType::RequiresAll(list)) => {
                Self::All(list.requirements.iter().map(|r| Self::new(r, names)).collect::<Result<_, _>>()?)
            }
            Some(RequiresType::AllowMissing(())) => Self::Any { any: Vec::new(), missing: true },
            None => refuse!("a requirement says nothing"),
        })
    }
}
