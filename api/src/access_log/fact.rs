//! Operators without parameters.

macro_rules! facts {
    ($($name:ident = $text:literal, $doc:literal;)+) => {
        /// What an operator without parameters writes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fact {
            $(#[doc = concat!("`", $text, "`: ", $doc)] $name,)+
        }

        impl Fact {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// By the operator's name.
            pub(super) fn named(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The operator's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

facts! {
    Protocol = "PROTOCOL", "HTTP version of the request.";
    UpstreamProtocol = "UPSTREAM_PROTOCOL", "HTTP version towards the endpoint.";
    ResponseCode = "RESPONSE_CODE", "status; 0 without a response.";
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS", "who made the response, and why.";
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS", "why we ended the connection.";
    ResponseFlags = "RESPONSE_FLAGS", "what went wrong, short.";
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG", "what went wrong, in words.";
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON", "why TLS to the endpoint failed.";
    BytesReceived = "BYTES_RECEIVED", "bytes of the request's body, or from the client.";
    BytesSent = "BYTES_SENT", "bytes of the response's body, or to the client.";
    Duration = "DURATION", "milliseconds from the beginning to the end.";
    RequestDuration = "REQUEST_DURATION", "milliseconds until the request was read.";
    RequestTxDuration = "REQUEST_TX_DURATION", "milliseconds until the request was sent.";
    ResponseDuration = "RESPONSE_DURATION", "milliseconds until the response began.";
    ResponseTxDuration = "RESPONSE_TX_DURATION", "milliseconds from the response's beginning to its end.";
    UpstreamHost = "UPSTREAM_HOST", "address of the endpoint.";
    UpstreamCluster = "UPSTREAM_CLUSTER", "name of the cluster.";
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW", "the same.";
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS", "our end of the connection to the endpoint.";
    UpstreamLocalAddressWithoutPort = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "its address.";
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT", "its port.";
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS", "the endpoint's end.";
    UpstreamRemoteAddressWithoutPort = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "its address.";
    UpstreamRemotePort = "UPSTREAM_REMOTE_PORT", "its port.";
    UpstreamPeerUriSan = "UPSTREAM_PEER_URI_SAN", "identity of the endpoint.";
    UpstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT", "how often it was tried.";
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS", "where the client's connection was going.";
    DownstreamLocalAddressWithoutPort = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "its address.";
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT", "its port.";
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS", "the client, as it is believed to be.";
    DownstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "its address.";
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT", "its port.";
    DownstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "the other end of the client's connection.";
    DownstreamDirectRemoteAddressWithoutPort = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "its address.";
    DownstreamDirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT", "its port.";
    DownstreamPeerUriSan = "DOWNSTREAM_PEER_URI_SAN", "identity of the client.";
    DownstreamLocalUriSan = "DOWNSTREAM_LOCAL_URI_SAN", "our identity, as the client saw it.";
    DownstreamPeerFingerprint256 = "DOWNSTREAM_PEER_FINGERPRINT_256", "SHA-256 of the client's certificate.";
    DownstreamTransportFailureReason = "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "why TLS with the client failed.";
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION", "version of TLS with the client.";
    RequestedServerName = "REQUESTED_SERVER_NAME", "server name of the ClientHello.";
    RouteName = "ROUTE_NAME", "name of the route.";
    FilterChainName = "FILTER_CHAIN_NAME", "name of the filter chain.";
    Hostname = "HOSTNAME", "name of this host.";
    ConnectionId = "CONNECTION_ID", "a number of the client's connection.";
    GrpcStatusNumber = "GRPC_STATUS_NUMBER", "status of gRPC as a number.";
}
