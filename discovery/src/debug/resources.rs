//! The resources of one client, decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_xds::{Source as _, TypeUrl};
use serde_json::{Value, json};

use super::text;
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
            .map(|r| json!({ "name": &*r.name, "version": r.version.as_str(), "resource": text(ty.as_str(), &r.body) }))
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
