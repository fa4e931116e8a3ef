//! What the agent itself subscribes to: names for DNS, addresses for redirection.
//!
//! In: `Name` and `Capture` by wildcard, through the same relay and the same cache as the proxy's configuration. Out: the
//! DNS table, changed in place, and a watch on what is to be captured. What can't be read is refused with a word.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use hawser_api::proto::mesh::{Capture, Name};
use hawser_xds::TypeUrl;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::Relay;
use super::node;
use crate::dns::Names;
use crate::redirect;

/// What discovery says is to be captured; `None` until it said so.
pub(crate) type Captured = watch::Receiver<Option<redirect::Capture>>;

/// Subscribes; ends when the handle is dropped.
pub(super) fn subscribe(relay: Relay, names: Names) -> (AbortOnDropHandle<()>, Captured) {
    let (publish, captured) = watch::channel(None);
    let task = tokio::spawn(async move {
        loop {
            let (say, requests) = mpsc::channel(16);
            let (out, hear) = mpsc::channel(4);
            for ty in [TypeUrl::NAME, TypeUrl::CAPTURE] {
                let request = DeltaDiscoveryRequest {
                    node: Some(node::own()),
                    type_url: ty.as_str().into(),
                    resource_names_subscribe: vec!["*".into()],
                    ..DeltaDiscoveryRequest::default()
                };
                let _ = say.send(Ok(request)).await;
            }
            let stream = super::stream::serve(relay.clone(), ReceiverStream::new(requests), out, true);
            tokio::select! {
                ended = stream => if let Err(status) = ended {
                    tracing::warn!(why = status.message(), "the agent's own subscription ended");
                },
                () = consume(say, hear, &names, &publish) => {}
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    });
    (AbortOnDropHandle::new(task), captured)
}

async fn consume(
    say: mpsc::Sender<Result<DeltaDiscoveryRequest, tonic::Status>>,
    mut hear: mpsc::Receiver<Result<DeltaDiscoveryResponse, tonic::Status>>,
    names: &Names,
    publish: &watch::Sender<Option<redirect::Capture>>,
) {
    let mut shards = BTreeMap::new();
    while let Some(Ok(response)) = hear.recv().await {
        let taken = match TypeUrl::from(response.type_url.as_str()) {
            ty if ty == TypeUrl::NAME => take_names(names, &response),
            ty if ty == TypeUrl::CAPTURE => take_capture(&mut shards, publish, &response),
            _ => Ok(()),
        };
        let error_detail = taken.err().map(|message| hawser_api::proto::google::rpc::Status {
            // INVALID_ARGUMENT
            code: 3,
            message,
            ..Default::default()
        });
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        if say.send(Ok(answer)).await.is_err() {
            return;
        }
    }
}

fn take_names(names: &Names, response: &DeltaDiscoveryResponse) -> Result<(), String> {
    let mut read = Vec::with_capacity(response.resources.len());
    for resource in &response.resources {
        let name: Name = decode(resource)?;
        if name.host != resource.name {
            return Err(format!("{}: the name of another host came: {}", resource.name, name.host));
        }
        read.push(name);
    }
    names.change(read, &response.removed_resources);
    Ok(())
}

fn take_capture(
    shards: &mut BTreeMap<String, redirect::Capture>,
    publish: &watch::Sender<Option<redirect::Capture>>,
    response: &DeltaDiscoveryResponse,
) -> Result<(), String> {
    let mut read = Vec::with_capacity(response.resources.len());
    for resource in &response.resources {
        let capture: Capture = decode(resource)?;
        read.push((resource.name.clone(), parse(&capture).map_err(|why| format!("{}: {why}", resource.name))?));
    }
    shards.extend(read);
    shards.retain(|name, _| !response.removed_resources.contains(name));
    let mut all = redirect::Capture::default();
    for shard in shards.values() {
        all.virtual_ranges.extend(&shard.virtual_ranges);
        all.wide_ranges.extend(&shard.wide_ranges);
        all.targets.extend(&shard.targets);
    }
    publish.send_if_modified(|now| {
        let news = now.as_ref() != Some(&all);
        if news {
            *now = Some(all);
        }
        news
    });
    Ok(())
}

fn parse(capture: &Capture) -> Result<redirect::Capture, String> {
    let mut virtual_ranges = BTreeSet::new();
    for range in &capture.ranges {
        virtual_ranges.insert(range.parse().map_err(|_| format!("{range:?} is not a range of addresses"))?);
    }
    let mut wide_ranges = BTreeSet::new();
    for range in &capture.wide {
        wide_ranges.insert(range.parse().map_err(|_| format!("{range:?} is not a range of addresses"))?);
    }
    let mut targets = BTreeSet::new();
    for target in &capture.targets {
        let text = &target.address;
        let ip = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from).ok();
        let net = ip.or_else(|| text.parse().ok()).ok_or_else(|| format!("{text:?} is not an address"))?;
        let port = u16::try_from(target.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| format!("{} is not a port", target.port))?;
        targets.insert(redirect::Target { net, port });
    }
    Ok(redirect::Capture { virtual_ranges, wide_ranges, targets })
}

fn decode<M: prost::Message + Default>(resource: &Resource) -> Result<M, String> {
    let any = resource.resource.as_ref().ok_or_else(|| format!("{}: it is empty", resource.name))?;
    M::decode(any.value.as_slice()).map_err(|error| format!("{}: {error}", resource.name))
}
