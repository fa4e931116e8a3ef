//! Which definition of a host name counts for a caller, where several namespaces define it.
//!
//! In: the definitions, best first; the caller's namespace and Sidecar. Out: one of them. Invariant: a caller has one
//! definition of a name: its addresses, routes and endpoints are of one hand.

use super::model::Rank;
use super::rules::Scope;
use super::snapshot::ServiceState;

/// The definition that counts for callers of a namespace, of those that it sees and that its Sidecar names.
pub(crate) fn of<'a>(states: &'a [ServiceState], namespace: &str, scope: Option<&Scope>) -> Option<&'a ServiceState> {
    let visible = || states.iter().filter(|state| state.service.visible_from(namespace));
    let Some(scope) = scope else { return best(visible(), namespace) };
    let mut parts = (0..scope.parts())
        .filter_map(|part| best(visible().filter(|state| scope.part_takes(part, &state.service)), namespace));
    let first = parts.next()?;
    // The first part that names it says whose it is, but nothing goes before Kubernetes.
    if is_kubernetes(first) { Some(first) } else { parts.find(|state| is_kubernetes(state)).or(Some(first)) }
}

/// As in Istio: the caller's own, else Kubernetes' own, else what is exported to the caller by name, else the first.
fn best<'a>(visible: impl Iterator<Item = &'a ServiceState>, namespace: &str) -> Option<&'a ServiceState> {
    visible.min_by_key(|state| {
        let named = !state.service.export_to.is_empty();
        (*state.service.namespace != *namespace, !is_kubernetes(state), !named)
    })
}

fn is_kubernetes(state: &ServiceState) -> bool {
    state.service.sources.first().is_some_and(|source| Rank::of(source.registry.kind) == Rank::Kubernetes)
}
