//! What refuses requests and connections: filters before the one that serves, checked.
//!
//! In: filters as discovery sends them. Out: tests in the order in which they act, prepared so that a decision allocates
//! nothing. Invariant: a filter, or a test in it, that can't be held against what comes is a reason to refuse the listener.

pub mod authz;
pub mod jwt;
pub mod rbac;

use hawser_api::proto::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use hawser_api::proto::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use hawser_api::proto::http_connection_manager::{HttpFilter, http_filter};
use hawser_api::proto::listener::{Filter, filter};

pub use self::authz::Authz;
pub use self::jwt::Jwt;
pub use self::rbac::{Rbac, Rules};
use super::proto::{At as _, Refused, unpack};

/// A filter before the one that serves.
#[derive(Debug)]
pub enum Guard {
    /// Policies.
    Rbac(Rbac),
    /// Tokens.
    Jwt(Jwt),
    /// Somebody else.
    Authz(Box<Authz>),
}

/// The same of connections.
#[derive(Debug)]
pub enum TcpGuard {
    /// Policies.
    Rbac(Rbac),
    /// Somebody else.
    Authz(Box<Authz>),
}

impl Guard {
    /// A filter of HTTP; `None` if it is no guard.
    pub(crate) fn of_http(filter: &HttpFilter) -> Result<Option<Self>, Refused> {
        use hawser_api::proto::envoy::extensions::filters::http::rbac::v3::Rbac as Config;
        let Some(http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else { return Ok(None) };
        if let Some(config) = unpack::<Config>(any)? {
            let (rules, tried) = (config.rules.as_ref(), config.shadow_rules.as_ref());
            let made = Rbac::new(rules, tried, &config.shadow_rules_stat_prefix, true);
            return Ok(Some(Self::Rbac(made.at(&filter.name)?)));
        }
        if let Some(config) = unpack::<JwtAuthentication>(any)? {
            return Ok(Some(Self::Jwt(Jwt::new(&config).at(&filter.name)?)));
        }
        if let Some(config) = unpack::<ExtAuthz>(any)? {
            return Ok(Some(Self::Authz(Box::new(Authz::of_http(&config).at(&filter.name)?))));
        }
        Ok(None)
    }
}

/// A filter of connections; `None` if it is no guard.
pub(super) fn of_tcp(filter: &Filter) -> Result<Option<TcpGuard>, Refused> {
    use hawser_api::proto::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz;
    use hawser_api::proto::envoy::extensions::filters::network::rbac::v3::Rbac as Config;
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else { return Ok(None) };
    if let Some(config) = unpack::<ExtAuthz>(any)? {
        return Ok(Some(TcpGuard::Authz(Box::new(Authz::of_tcp(&config).at(&filter.name)?))));
    }
    let Some(config) = unpack::<Config>(any)? else { return Ok(None) };
    let (rules, tried) = (config.rules.as_ref(), config.shadow_rules.as_ref());
    let made = Rbac::new(rules, tried, &config.shadow_rules_stat_prefix, false);
    Ok(Some(TcpGuard::Rbac(made.at(&filter.name)?)))
}
