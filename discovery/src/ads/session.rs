//! Both kinds of session behind one interface, so that a stream is driven in one way.

use std::sync::Arc;
use std::time::Instant;

use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use hawser_xds::{Changes, Delivery, DeltaServer, Held, Refused, SotwServer, Source, TypeStatus, TypeUrl, Version};

use super::Mode;

/// A session of either kind.
pub(super) trait Session: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    const MODE: Mode;

    fn on_request(
        &mut self,
        request: Self::Request,
        source: &dyn Source,
        now: Instant,
    ) -> Result<Vec<Self::Response>, Refused>;
    fn on_change(&mut self, changes: &Changes, source: &dyn Source, now: Instant) -> Vec<Self::Response>;
    fn held(&self, ty: &TypeUrl, name: &str) -> Option<Held>;
    fn settled(&self, ty: &TypeUrl, name: &str) -> bool;
    fn subscribed(&self, ty: &TypeUrl) -> Vec<Arc<str>>;
    fn status(&self) -> Vec<TypeStatus>;
    /// Calls `with` for each name that the client holds.
    fn each_held(&self, ty: &TypeUrl, with: &mut dyn FnMut(&Arc<str>));

    fn node(request: &Self::Request) -> Option<&Node>;
    fn url(request: &Self::Request) -> &str;
    fn refusal(request: &Self::Request) -> Option<&str>;
    /// What a client that resumes says it holds.
    fn claims(request: &Self::Request) -> Vec<(String, Version)>;
    /// Type, resources, removals.
    fn size(response: &Self::Response) -> (&str, usize, usize);

    /// Whether the client has taken the state of this name that was sent last.
    fn took(&self, ty: &TypeUrl, name: &str) -> bool {
        self.settled(ty, name) && self.held(ty, name).is_none_or(|held| held.delivery == Delivery::Acknowledged)
    }
}

impl Session for DeltaServer {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const MODE: Mode = Mode::Delta;

    fn on_request(
        &mut self,
        request: Self::Request,
        source: &dyn Source,
        now: Instant,
    ) -> Result<Vec<Self::Response>, Refused> {
        self.on_request(request, source, now)
    }

    fn on_change(&mut self, changes: &Changes, source: &dyn Source, now: Instant) -> Vec<Self::Response> {
        self.on_change(changes, source, now)
    }

    fn held(&self, ty: &TypeUrl, name: &str) -> Option<Held> {
        self.held(ty, name).cloned()
    }

    fn settled(&self, ty: &TypeUrl, name: &str) -> bool {
        self.settled(ty, name)
    }

    fn subscribed(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        self.subscribed(ty).cloned().collect()
    }

    fn status(&self) -> Vec<TypeStatus> {
        self.status()
    }

    fn each_held(&self, ty: &TypeUrl, with: &mut dyn FnMut(&Arc<str>)) {
        self.holding(ty).for_each(with);
    }

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn refusal(request: &Self::Request) -> Option<&str> {
        request.error_detail.as_ref().map(|detail| detail.message.as_str())
    }

    fn claims(request: &Self::Request) -> Vec<(String, Version)> {
        let claims = request.initial_resource_versions.iter();
        claims.map(|(name, version)| (name.clone(), Version::from(version.as_str()))).collect()
    }

    fn size(response: &Self::Response) -> (&str, usize, usize) {
        (&response.type_url, response.resources.len(), response.removed_resources.len())
    }
}

impl Session for SotwServer {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const MODE: Mode = Mode::Sotw;

    fn on_request(
        &mut self,
        request: Self::Request,
        source: &dyn Source,
        now: Instant,
    ) -> Result<Vec<Self::Response>, Refused> {
        self.on_request(request, source, now)
    }

    fn on_change(&mut self, changes: &Changes, source: &dyn Source, now: Instant) -> Vec<Self::Response> {
        self.on_change(changes, source, now)
    }

    fn held(&self, ty: &TypeUrl, name: &str) -> Option<Held> {
        self.held(ty, name)
    }

    fn settled(&self, ty: &TypeUrl, name: &str) -> bool {
        self.settled(ty, name)
    }

    fn subscribed(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        self.subscribed(ty).cloned().collect()
    }

    fn status(&self) -> Vec<TypeStatus> {
        self.status()
    }

    fn each_held(&self, ty: &TypeUrl, with: &mut dyn FnMut(&Arc<str>)) {
        self.holding(ty).for_each(with);
    }

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn refusal(request: &Self::Request) -> Option<&str> {
        request.error_detail.as_ref().map(|detail| detail.message.as_str())
    }

    fn claims(_: &Self::Request) -> Vec<(String, Version)> {
        Vec::new()
    }

    fn size(response: &Self::Response) -> (&str, usize, usize) {
        (&response.type_url, response.resources.len(), 0)
    }
}
