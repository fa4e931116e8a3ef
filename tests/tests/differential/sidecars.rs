//! Sidecars are played as policies are: a set is applied, both proxies are asked, the set goes.

use crate::policies;

#[test]
fn a_sidecar_leaves_of_the_mesh_what_it_leaves_to_envoy() {
    policies::play(|set| set.name.starts_with("sidecar"));
}
