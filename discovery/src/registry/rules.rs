//! Rules of the configuration, found by the host or workload they are about.
//!
//! In: the resources that count. Out: VirtualServices and DestinationRules by host, policies by workload. Invariant:
//! of several rules for one thing the same one wins, whatever the order they were said in.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::istio::{ObjectRef, Resource};
use hawser_mesh::Hostname;

use super::Settings;
use super::model::TlsModes;

/// Rules for one host name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostRules {}

/// All rules.
#[derive(Debug, Default)]
pub struct Rules {}

impl Rules {
    pub(super) fn build<'a>(_: impl Iterator<Item = (&'a ObjectRef, &'a Arc<Resource>)>, _: &Settings) -> Self {
        Self {}
    }
    pub(super) fn for_host(&self, _: &Hostname) -> HostRules {
        HostRules {}
    }
    pub(super) fn modes(&self, _: &str, _: &BTreeMap<String, String>) -> Arc<TlsModes> {
        Arc::default()
    }
    pub(super) fn readers_of(&self, _: &Hostname) -> impl Iterator<Item = &Hostname> {
        std::iter::empty()
    }
    pub(super) fn messages_of(&self, _: &ObjectRef) -> &[String] {
        &[]
    }
    pub(super) fn same_scope(&self, _: &Self) -> bool {
        true
    }
}
