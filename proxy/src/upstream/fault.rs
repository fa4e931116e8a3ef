//! Why nobody was reached, in the words that access logs have for it.

use std::io;

/// Why nobody was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens there.
    Refused,
    /// There is no way to the host, or to its network.
    Unreachable,
    /// The host broke off.
    Reset,
    /// It took too long.
    Slow,
    /// Who answers is not who should.
    Identity,
    /// TLS failed otherwise.
    Tls,
    /// The endpoint is said to be gone.
    Lost,
    /// A tunnel to it was refused.
    Tunnel,
    /// A policy of the other end refuses it.
    Denied,
    /// Something else.
    Other,
}

impl Fault {
    /// Of TCP.
    pub(super) fn of_tcp(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::ConnectionReset => Self::Reset,
            io::ErrorKind::TimedOut => Self::Slow,
            _ => Self::Other,
        }
    }

    /// Of a handshake.
    pub(super) fn of_tls(error: &io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => Self::Identity,
            Some(_) => Self::Tls,
            None if error.kind() == io::ErrorKind::ConnectionReset => Self::Reset,
            None => Self::Tls,
        }
    }

    /// The words; none where there is nothing to say beside that it failed.
    pub fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::Refused => "delayed connect error: Connection refused",
            Self::Unreachable => "delayed connect error: No route to host",
            Self::Reset => "delayed connect error: Connection reset by peer",
            Self::Identity => "TLS error: certificate verify failed",
            Self::Tls => "TLS error: handshake failed",
            Self::Lost => "the endpoint is gone",
            Self::Tunnel => "the tunnel was refused",
            Self::Denied => "a policy refuses it",
            Self::Slow | Self::Other => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_accepted_is_told_from_other_failures() {
        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let of = |e: rustls::Error| Fault::of_tls(&io::Error::new(io::ErrorKind::InvalidData, e));
        assert_eq!(of(certificate), Fault::Identity);
        assert_eq!(of(rustls::Error::DecryptError), Fault::Tls);
        assert_eq!(Fault::of_tls(&io::ErrorKind::UnexpectedEof.into()), Fault::Tls);
        assert_eq!(Fault::of_tcp(&io::ErrorKind::ConnectionRefused.into()), Fault::Refused);
    }
}
