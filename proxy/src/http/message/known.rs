//! Names that the data plane itself asks for: found once, when a field is added, and compared as a number after.

macro_rules! known {
    ($($name:ident = $text:literal,)+) => {
        /// A name that the data plane asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any other.
            Other,
            $(#[doc = $text] $name,)+
        }

        impl Known {
            /// Which name it is; `name` is lower case.
            pub fn of(name: &[u8]) -> Self {
                // The length alone tells most of them apart.
                $(if name.len() == $text.len() && name == $text.as_bytes() {
                    return Self::$name;
                })+
                Self::Other
            }

            /// The name; empty of `Other`.
            pub fn name(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$name => $text,)+
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Known] = &[$(Known::$name,)+];
    };
}

known! {
    Host = "host",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    TransferEncoding = "transfer-encoding",
    ContentLength = "content-length",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Http2Settings = "http2-settings",
    Expect = "expect",
    ContentType = "content-type",
    Cookie = "cookie",
    UserAgent = "user-agent",
    Date = "date",
    Server = "server",
    Location = "location",
    ForwardedFor = "x-forwarded-for",
    ForwardedProto = "x-forwarded-proto",
    ForwardedHost = "x-forwarded-host",
    ForwardedClientCert = "x-forwarded-client-cert",
    RequestId = "x-request-id",
    AttemptCount = "x-envoy-attempt-count",
    EnvoyInternal = "x-envoy-internal",
    Overloaded = "x-envoy-overloaded",
    UpstreamServiceTime = "x-envoy-upstream-service-time",
    HawserProtocol = "x-hawser-protocol",
    GrpcStatus = "grpc-status",
    GrpcMessage = "grpc-message",
    GrpcTimeout = "grpc-timeout",
}

impl Known {
    /// Whether it belongs to one connection and is never sent on (RFC 9110, 7.6.1). `te` and `upgrade` have rules of their own.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection | Self::KeepAlive | Self::ProxyConnection | Self::TransferEncoding | Self::Http2Settings
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_and_no_other_is() {
        for known in ALL {
            assert_eq!(Known::of(known.name().as_bytes()), *known);
        }
        assert_eq!(Known::of(b"x-forwarded-fox"), Known::Other);
        assert_eq!(Known::of(b""), Known::Other);
    }
}
