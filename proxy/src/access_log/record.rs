//! What is known of a request or TCP connection when it has ended.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Details, Flags};
use crate::guard::Marks;
use crate::http::message::{Fields, RequestHead, ResponseHead, Version, grpc_status_of};

/// What is known of a request, or of a TCP connection, when it has ended. What does not apply stays as
/// [`Record::new`] makes it, and is written as absent.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// The client's connection.
    pub downstream: Downstream<'r>,
    /// When it began. `SystemTime::now() - duration` at the end is as good, and asks for the time only when a line is
    /// written.
    pub start: SystemTime,
    /// From then until the last byte was sent.
    pub duration: Duration,
    /// Until the last byte of the request was read; `None` if it never was.
    pub request_duration: Option<Duration>,
    /// Until the last byte of the request was sent to the endpoint.
    pub request_sent: Option<Duration>,
    /// Until the first byte of the response was read from the endpoint.
    pub response_duration: Option<Duration>,
    /// The head of the request as it was sent on, or as it came if it was not; `None` of TCP, and if it could not be read.
    pub request: Option<&'r RequestHead>,
    /// The HTTP that the client speaks, of a request that could not be read.
    pub version: Option<Version>,
    /// The path as the client wrote it, if the route has changed it.
    pub original_path: Option<&'r str>,
    /// The head of the response as it was sent to the client; `None` of TCP, and if none was.
    pub response: Option<&'r ResponseHead>,
    /// Trailers of the response.
    pub trailers: Option<&'r Fields>,
    /// Status as it was sent to the client; 0 of TCP, and if none was sent.
    pub status: u16,
    /// Whether the request is gRPC.
    pub grpc: bool,
    /// `grpc-status` of trailers or head, if there is one.
    pub grpc_status: Option<u8>,
    /// What went wrong.
    pub flags: Flags,
    /// Who made the response, and why; `None` of TCP.
    pub details: Option<&'r Details>,
    /// Why we ended the client's connection, if that is what happened: a word.
    pub termination: Option<&'r str>,
    /// Why the handshake with the endpoint failed, if it did.
    pub transport_failure: Option<&'r str>,
    /// Why the handshake with the client failed, if it did.
    pub downstream_failure: Option<&'r str>,
    /// Bytes of the request's body, or of all that the client sent over TCP.
    pub received: u64,
    /// Bytes of the response's body, or of all that the client got over TCP.
    pub sent: u64,
    /// How often the request was tried, or the endpoint connected to; 0 if never.
    pub attempts: u32,
    /// The last endpoint that was tried.
    pub endpoint: Option<SocketAddr>,
    /// Our end of the connection to it.
    pub upstream_local: Option<SocketAddr>,
    /// Its identity, if mTLS proved it.
    pub upstream_peer: Option<&'r str>,
    /// The HTTP that was spoken with it.
    pub upstream_version: Option<Version>,
    /// Name of the cluster; empty if none was chosen.
    pub cluster: &'r str,
    /// Name of the route; empty if it has none, or none was found.
    pub route: &'r str,
    /// What policies want written down.
    pub marks: Option<&'r Marks>,
}

/// What is known of a client's connection. Made once for a connection, and copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Downstream<'r> {
    /// Where it was going: the captured connection's destination.
    pub local: Option<SocketAddr>,
    /// The client, as `x-forwarded-for` or a proxy protocol tell it; else as `direct`.
    pub remote: Option<SocketAddr>,
    /// The other end of the connection; `None` within the process.
    pub direct: Option<SocketAddr>,
    /// Server name of the ClientHello.
    pub server_name: Option<&'r str>,
    /// The client's identity, proved by mTLS.
    pub peer: Option<&'r str>,
    /// SHA-256 of its certificate, hexadecimal.
    pub peer_hash: Option<&'r str>,
    /// Our identity, as the client saw it.
    pub own: Option<&'r str>,
    /// `TLSv1.2` or `TLSv1.3`; `None` of plaintext.
    pub tls: Option<&'r str>,
    /// Name of the filter chain.
    pub chain: &'r str,
    /// A number of its own within the process.
    pub id: u64,
}

impl<'r> Record<'r> {
    /// Of a request, or a connection, of which nothing else is known yet.
    pub fn new(downstream: Downstream<'r>, start: SystemTime, duration: Duration) -> Self {
        Self {
            downstream,
            start,
            duration,
            request_duration: None,
            request_sent: None,
            response_duration: None,
            request: None,
            version: None,
            original_path: None,
            response: None,
            trailers: None,
            status: 0,
            grpc: false,
            grpc_status: None,
            flags: Flags::NONE,
            details: None,
            termination: None,
            transport_failure: None,
            downstream_failure: None,
            received: 0,
            sent: 0,
            attempts: 0,
            endpoint: None,
            upstream_local: None,
            upstream_peer: None,
            upstream_version: None,
            cluster: "",
            route: "",
            marks: None,
        }
    }

    /// The status of gRPC as it is logged: the one that was said, else what the HTTP status means; `None` if the request is
    /// not gRPC.
    pub fn grpc_code(&self) -> Option<u8> {
        if !self.grpc {
            return None;
        }
        Some(self.grpc_status.unwrap_or(grpc_status_of(self.status)))
    }

    /// Whether it failed: status 500 or above, any flag, or a status of gRPC that is not OK.
    pub fn is_error(&self) -> bool {
        self.status >= 500 || !self.flags.is_empty() || self.grpc_code().is_some_and(|code| code != 0)
    }
}
