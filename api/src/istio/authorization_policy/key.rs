//! What a condition looks at.

/// A key of a condition, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'k> {
    /// Address of the connection.
    SourceIp,
    /// Address of the client, as trusted proxies tell it.
    RemoteIp,
    /// Namespace of the caller.
    SourceNamespace,
    /// Identity of the caller.
    SourcePrincipal,
    /// Service account of the caller.
    SourceServiceAccount,
    /// Trust domain of the caller.
    SourceTrustDomain,
    /// `issuer/subject` of the request's token.
    RequestPrincipal,
    /// Whom the token is for.
    Audiences,
    /// Who presents the token.
    Presenter,
    /// A claim of the token, by its path.
    Claim(Vec<&'k str>),
    /// A header.
    Header(&'k str),
    /// Address that was called.
    DestinationIp,
    /// Port that was called.
    DestinationPort,
    /// Server name of the ClientHello.
    ServerName,
    /// What filters of Envoy say, which no filter of ours does.
    EnvoyFilter,
    /// A user of the destination, which nobody knows.
    DestinationUser,
}

impl<'k> Key<'k> {
    /// Reads a key; `None` if there is none of that name.
    pub fn parse(text: &'k str) -> Option<Self> {
        Some(match text {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.principal" => Self::SourcePrincipal,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.trustDomain" => Self::SourceTrustDomain,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Audiences,
            "request.auth.presenter" => Self::Presenter,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::ServerName,
            "destination.user" => Self::DestinationUser,
            _ => return Self::bracketed(text),
        })
    }

    fn bracketed(text: &'k str) -> Option<Self> {
        let inside = |prefix: &str| text.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']');
        if let Some(name) = inside("request.headers") {
            return (!name.is_empty() && !name.contains(['[', ']'])).then_some(Self::Header(name));
        }
        if let Some(path) = inside("request.auth.claims") {
            let parts: Vec<&str> = path.split("][").collect();
            return parts.iter().all(|p| !p.is_empty() && !p.contains(['[', ']'])).then_some(Self::Claim(parts));
        }
        text.strip_prefix("experimental.envoy.filters.").is_some_and(|r| !r.is_empty()).then_some(Self::EnvoyFilter)
    }

    /// Whether only a verified token says it.
    pub fn is_of_tokens(&self) -> bool {
        matches!(self, Self::RequestPrincipal | Self::Audiences | Self::Presenter | Self::Claim(_))
    }

    /// Whether only a request of HTTP has it.
    pub fn is_http_only(&self) -> bool {
        self.is_of_tokens() || matches!(self, Self::Header(_))
    }
}

#[test]
fn keys_are_read_with_what_stands_in_their_brackets() {
    for (text, key) in [
        ("source.ip", Some(Key::SourceIp)),
        ("request.headers[x-a]", Some(Key::Header("x-a"))),
        ("request.auth.claims[iss]", Some(Key::Claim(vec!["iss"]))),
        ("request.auth.claims[a][b]", Some(Key::Claim(vec!["a", "b"]))),
        ("request.auth.claims[a][]", None),
        ("request.auth.claims[a]x[b]", None),
        ("request.auth.claims", None),
        ("request.headers[]", None),
        ("request.headers[a][b]", None),
        ("experimental.envoy.filters.a.b[c]", Some(Key::EnvoyFilter)),
        ("source.nothing", None),
    ] {
        assert_eq!(Key::parse(text), key, "{text}");
    }
}
