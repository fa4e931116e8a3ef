//! The resources of one client, decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::proto::{cluster, endpoint, listener, mesh, route};
use hawser_xds::{Source as _, TypeUrl};
use prost::Message;
use serde_json::{Value, json};

use crate::ads::Server;
use crate::compiler::Sight;

/// What the connected client of that node id gets now; `None` if there is no such client.
pub async fn resources(server: &Server, node_id: &str) -> Option<Value> {
    let (client, asked) = server.names_of(node_id).await?;
    let snapshot = server.snapshot();
    let sight = Sight::new(server.compiler(), &client, &snapshot);
    let mut all: BTreeMap<TypeUrl, Vec<Arc<str>>> = BTreeMap::new();
    for (ty, names) in asked {
        for name in &names {
            for (ty, name) in sight.closure(&ty, name) {
                all.entry(ty).or_default().push(name);
            }
        }
        let listed = sight.names(&ty);
        all.entry(ty).or_default().extend(names.into_iter().chain(listed));
    }
    let shown = all.into_iter().map(|(ty, mut names)| {
        names.sort();
        names.dedup();
        let resources: Vec<Value> = names
            .into_iter()
            .filter_map(|name| sight.get(&ty, &name))
            .map(|r| json!({ "name": &*r.name, "version": r.version.as_str(), "resource": text(&ty, &r.body) }))
            .collect();
        (ty.short().to_owned(), Value::from(resources))
    });
    Some(json!({
        "node": client.node_id,
        "class": client.class.as_str(),
        "namespace": &*client.namespace,
        "revision": snapshot.revision,
        "resources": shown.collect::<serde_json::Map<_, _>>(),
    }))
}

/// A resource as text, one field a line.
pub fn text(ty: &TypeUrl, body: &[u8]) -> String {
    fn of<M: Message + Default + std::fmt::Debug>(body: &[u8]) -> String {
        match M::decode(body) {
            Ok(message) => format!("{message:#?}"),
            Err(error) => format!("can't be decoded: {error}"),
        }
    }
    match ty {
        t if *t == TypeUrl::LISTENER => of::<listener::Listener>(body),
        t if *t == TypeUrl::ROUTE => of::<route::RouteConfiguration>(body),
        t if *t == TypeUrl::CLUSTER => of::<cluster::Cluster>(body),
        t if *t == TypeUrl::ENDPOINTS => of::<endpoint::ClusterLoadAssignment>(body),
        t if *t == TypeUrl::NAME => of::<mesh::Name>(body),
        t if *t == TypeUrl::CAPTURE => of::<mesh::Capture>(body),
        _ => format!("{} bytes", body.len()),
    }
}
