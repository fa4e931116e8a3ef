//! What the fuzz targets reach of a join: everything that is judged before anything is looked up.

use hawser_api::proto::host::{HostAddress, JoinRequest};
use ipnet::IpNet;

use super::join::Checked;
use super::{Binding, Refusal, address};

/// Checks a join, and the addresses that it announces: they as they would be kept.
///
/// # Errors
/// What its host is told.
pub fn join(request: &JoinRequest, binding: &Binding, virtual_ranges: &[IpNet]) -> Result<Vec<HostAddress>, Refusal> {
    Checked::of(request, binding)?;
    address::check(&request.addresses, virtual_ranges)
}
