//! What is in a certificate, field by field. Pure: time comes in.

use std::time::{Duration, SystemTime};

use hawser_api::identity::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};

use super::serial::{self, Holder};

/// Life of a certificate whose caller names none.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The longest life that is granted.
pub const LONGEST_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The shortest life that is granted.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// Clocks that are behind by this much still take a new certificate.
const BACKDATED: Duration = Duration::from_secs(120);
/// Life of a root of our own: ten years.
const ROOT_LIFE: Duration = Duration::from_secs(3653 * 24 * 3600);

/// Whom a certificate names, and whose hands it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The only URI SAN.
    pub id: SpiffeId,
    /// Whose hands.
    pub holder: Holder,
}

/// Life that is granted: what was asked for within bounds, `otherwise` if nothing was.
pub(super) fn life(asked: Option<Duration>, otherwise: Duration) -> Duration {
    asked.filter(|life| !life.is_zero()).unwrap_or(otherwise).clamp(SHORTEST_LIFE, LONGEST_LIFE)
}

/// A leaf. It never outlives the signer.
pub(super) fn leaf(
    subject: &Subject,
    now: SystemTime,
    life: Duration,
    signer_ends: SystemTime,
) -> Result<(CertificateParams, SystemTime), rcgen::Error> {
    let not_after = (now + life).min(signer_ends);
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial::fresh(subject.holder));
    params.not_before = (now - BACKDATED).into();
    params.not_after = not_after.into();
    // An empty subject makes the SAN critical (RFC 5280, 4.2.1.6; SPIFFE X.509-SVID, 2).
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(subject.id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match subject.holder {
        Holder::Discovery => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Holder::Host => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Holder::JoinedWorkload | Holder::Caller => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
    };
    params.use_authority_key_identifier_extension = true;
    Ok((params, not_after))
}

/// A root of our own. Its name is its own too: chains are looked for by names.
pub(super) fn root(trust_domain: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let serial = serial();
    let name = serial.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + ROOT_LIFE).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::CommonName, format!("Hawser root {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate of a former root for a later one, of the same name and key.
pub(super) fn cross(root: &CertificateParams, now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = root.clone();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial()));
    params.not_before = (now - BACKDATED).into();
    params.not_after = not_after.into();
    params.use_authority_key_identifier_extension = true;
    params
}

/// Positive, and nobody else's.
fn serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] &= 0x7f;
    serial
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_is_kept_within_bounds() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let granted = |asked| life(asked, DEFAULT_LIFE);
        assert_eq!(granted(None), hours(24));
        assert_eq!(granted(Some(Duration::ZERO)), hours(24));
        assert_eq!(granted(Some(hours(1))), hours(1));
        assert_eq!(granted(Some(hours(24 * 365))), hours(24 * 90));
        assert_eq!(granted(Some(Duration::from_secs(1))), SHORTEST_LIFE);
        assert_eq!(life(None, hours(2)), hours(2));
    }
}
