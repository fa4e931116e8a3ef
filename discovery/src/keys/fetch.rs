//! One set of keys, fetched.

use std::sync::Arc;
use std::time::Duration;

use hawser_registry_http::fetch::get;
use serde_json::Value;

use super::Origin;

/// The largest document.
const MOST: usize = 512 * 1024;

/// Fetches the keys at a place; written in one way, whatever their issuer writes.
pub(super) async fn keys(origin: &Origin, within: Duration) -> Result<Arc<str>, String> {
    let url = match origin {
        Origin::Keys(url) => url.clone(),
        Origin::Issuer(_) => {
            let configuration = json(&get(&origin.to_string(), within, MOST).await?)?;
            let url = configuration.get("jwks_uri").and_then(Value::as_str);
            url.ok_or("it has no jwks_uri")?.to_owned()
        }
    };
    let set = json(&get(&url, within, MOST).await?)?;
    if set.get("keys").and_then(Value::as_array).is_none_or(|keys| keys.is_empty()) {
        return Err("it has no keys".to_owned());
    }
    Ok(set.to_string().into())
}

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|e| format!("its answer is no JSON: {e}"))
}
