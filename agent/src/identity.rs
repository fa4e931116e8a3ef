//! Who this host and its workloads are: keys, certificates, roots, and keeping them fresh.

mod credential;
mod holder;
mod key;
mod proof;
mod renew;
mod schedule;

pub(crate) use credential::Credential;
pub(crate) use holder::{Holder, Identity, Issued, Joined, OnDisk, forget, host_key};
pub(crate) use key::Key;
pub(crate) use proof::{JOIN, prove};
pub(crate) use renew::{RenewNow, Renewal, challenge, joined};
