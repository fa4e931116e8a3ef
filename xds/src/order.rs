//! Make before break: which type goes first, and what waits for what.
//!
//! In: nothing but types. Out: the order of sending and the gates. Invariant: what a new resource refers to is sent
//! before it, what an old one referred to is removed after it; gates form no circle.

use crate::resource::TypeUrl;
use crate::source::Closure;

/// Types of a stream in the order of sending. With closure a route precedes its listener, which nobody has asked
/// for; without, the client asks for routes when it has seen the listener.
pub(crate) fn sending<'a>(closure: Closure, types: impl Iterator<Item = &'a TypeUrl>) -> Vec<TypeUrl> {
    let mut types: Vec<TypeUrl> = types.cloned().collect();
    let rank = |ty: &TypeUrl| match ty {
        t if *t == TypeUrl::CLUSTER => 0,
        t if *t == TypeUrl::ENDPOINTS => 1,
        t if *t == TypeUrl::LISTENER && closure == Closure::Off => 2,
        t if *t == TypeUrl::ROUTE => 3,
        t if *t == TypeUrl::LISTENER => 4,
        _ => 5,
    };
    types.sort_by_key(rank);
    types
}

/// Types whose new resources must be on their way before anything of this type is sent.
pub(crate) fn needs(ty: &TypeUrl, closure: Closure) -> &'static [TypeUrl] {
    const CLUSTERS: [TypeUrl; 2] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINTS];
    const ALL: [TypeUrl; 3] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINTS, TypeUrl::ROUTE];
    match ty {
        t if *t == TypeUrl::ROUTE => &CLUSTERS,
        t if *t == TypeUrl::LISTENER && closure == Closure::On => &ALL,
        t if *t == TypeUrl::LISTENER => &CLUSTERS,
        _ => &[],
    }
}

/// Types of which everything must be on its way before anything of this type is removed.
pub(crate) fn needed_by(ty: &TypeUrl) -> &'static [TypeUrl] {
    const LISTENERS: [TypeUrl; 1] = [TypeUrl::LISTENER];
    const BOTH: [TypeUrl; 2] = [TypeUrl::LISTENER, TypeUrl::ROUTE];
    match ty {
        t if *t == TypeUrl::ROUTE => &LISTENERS,
        t if *t == TypeUrl::CLUSTER || *t == TypeUrl::ENDPOINTS => &BOTH,
        _ => &[],
    }
}

/// Types that a closure brings.
pub(crate) fn is_brought(ty: &TypeUrl) -> bool {
    *ty == TypeUrl::CLUSTER || *ty == TypeUrl::ENDPOINTS || *ty == TypeUrl::ROUTE
}

/// Types for which a first request without names asks for everything.
pub(crate) fn empty_is_wildcard(ty: &TypeUrl) -> bool {
    *ty == TypeUrl::CLUSTER || *ty == TypeUrl::LISTENER
}
