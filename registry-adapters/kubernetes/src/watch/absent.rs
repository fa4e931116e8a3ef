//! Whether a server really has no such kind: whoever stands before it may answer 404 to everything.
//!
//! Invariant: yes is said only by what an API server alone says, its lists of groups and of their kinds.

use serde::Deserialize;

use super::{Failure, whole};
use crate::access::Access;

/// Largest list of groups or kinds.
const MOST: usize = 8 << 20;

/// Groups, or the kinds of one of their versions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listing {
    kind: String,
    groups: Vec<Group>,
    resources: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Group {
    name: String,
    versions: Vec<Version>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

/// Nothing, if the server itself says that nothing is at any of these places: `/apis/GROUP/VERSION/PLURAL`.
pub(super) async fn confirm(access: &Access, places: &[String]) -> Result<(), Failure> {
    let confirmed = look(access, places).await;
    confirmed.inspect_err(|failure| access.failed(failure))
}

async fn look(access: &Access, places: &[String]) -> Result<(), Failure> {
    let groups = listing(access, "/apis", "APIGroupList").await?.groups;
    for place in places {
        let Some((path, plural)) = place.rsplit_once('/') else { continue };
        let Some((group, version)) = path.strip_prefix("/apis/").and_then(|of| of.split_once('/')) else { continue };
        let served = groups.iter().any(|of| of.name == group && of.versions.iter().any(|v| v.version == version));
        if served && listing(access, path, "APIResourceList").await?.resources.iter().any(|of| of.name == plural) {
            return Err(Failure::Failed(format!("it lists {plural} of {group}, and does not know them")));
        }
    }
    Ok(())
}

async fn listing(access: &Access, path: &str, kind: &str) -> Result<Listing, Failure> {
    let body = match access.get(path, None).await {
        Ok(body) => body,
        // Here that is no answer: every API server has these.
        Err(Failure::NotFound(why)) => return Err(Failure::Failed(format!("it has no {path}: {why}"))),
        Err(failure) => return Err(failure),
    };
    let listing: Option<Listing> = serde_json::from_slice(&whole(body, MOST).await?).ok();
    listing
        .filter(|listing| listing.kind == kind)
        .ok_or_else(|| Failure::Unreadable(format!("{path} is no {kind}: whoever answers there is no API server")))
}
