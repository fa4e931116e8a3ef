//! What is asked: a path, a query and headers become a verb on a resource.

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::auth::{Attributes, User};
use crate::kinds::Place;
use crate::refusal::Refusal;

/// A query, as it was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Whole,
    Metadata,
}

/// A path of a resource, not yet looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) version: String,
    pub(crate) place: Place,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) sub: Option<String>,
    /// The old prefix `/watch/`.
    pub(crate) watch: bool,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) user: User,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name, true), decoded(value, true))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value, if it is not empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| matches!(v, "" | "1" | "true" | "True" | "TRUE" | "t" | "T"))
    }
}

/// Percent-decoding, with `+` for a space where that is meant.
pub(crate) fn decoded(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let code = hex.filter(|_| *byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) => {
                out.push(code);
                at += 2;
            }
            None if plus && *byte == b'+' => out.push(b' '),
            None => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The name under which what is written is noted.
    pub(crate) fn manager(&self) -> String {
        let agent = self.header("user-agent").split('/').next().unwrap_or_default();
        let manager = self.query.given("fieldManager").unwrap_or(agent);
        if manager.is_empty() { "unknown".to_owned() } else { manager.to_owned() }
    }

    /// The media type of the body.
    pub(crate) fn content_type(&self) -> &str {
        self.header("content-type").split(';').next().unwrap_or_default().trim()
    }

    /// What the answer is to be, by the Accept header.
    pub(crate) fn want(&self) -> Result<Want, Refusal> {
        let accept = self.header("accept");
        if accept.is_empty() {
            return Ok(Want::Whole);
        }
        for choice in accept.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parts: Vec<&str> = parts.collect();
            if !matches!(media, "application/json" | "application/*" | "*/*") {
                continue;
            }
            let kind = parts.iter().find_map(|p| p.strip_prefix("as="));
            match kind {
                None => return Ok(Want::Whole),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Ok(Want::Metadata),
                // Tables and the like: whoever asks for them names something else too.
                Some(_) => {}
            }
        }
        let text = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                    application/vnd.kubernetes.protobuf, application/json;stream=watch, \
                    application/vnd.kubernetes.protobuf;stream=watch";
        Err(Refusal::not_acceptable(text))
    }
}

impl Way {
    /// Reads `/api/v1/...` and `/apis/group/version/...`, if it leads to a resource.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path.split('/').skip(1).filter(|p| !p.is_empty()).map(|p| decoded(p, false)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, mut rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let mut watch = false;
        if let ["watch", more @ ..] = rest {
            (watch, rest) = (true, more);
        }
        let mut namespace = None;
        if let ["namespaces", name, more @ ..] = rest {
            let own = more.is_empty() || matches!(more, ["status" | "finalize"]);
            if !own {
                namespace = Some((*name).to_owned());
                rest = more;
            }
        }
        let (plural, name, sub) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            [plural, name, sub @ ..] if !sub.is_empty() => (*plural, Some(*name), Some(sub.join("/"))),
            _ => return None,
        };
        Some(Self {
            version: version.to_owned(),
            place: Place::new(group, plural),
            namespace,
            name: name.map(str::to_owned),
            sub,
            watch,
        })
    }

    /// The verb of a request, as permissions name it.
    pub(crate) fn verb(&self, asked: &Asked) -> &'static str {
        match (asked.method.as_str(), self.name.is_some()) {
            ("GET" | "HEAD", false) if self.watch || asked.query.flag("watch") => "watch",
            ("GET" | "HEAD", false) => "list",
            ("GET" | "HEAD", true) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "",
        }
    }

    pub(crate) fn attributes(&self, verb: &str) -> Attributes {
        let own = self.place == Place::new("", "namespaces");
        let namespace = if own { self.name.clone() } else { self.namespace.clone() };
        Attributes {
            verb: verb.to_owned(),
            place: self.place.clone(),
            subresource: self.sub.clone().unwrap_or_default(),
            namespace: if own { String::new() } else { namespace.unwrap_or_default() },
            name: self.name.clone().unwrap_or_default(),
            path: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_resources() {
        let read = |path: &str| {
            let p = Way::parse(path)?;
            Some((p.place.qualified(), p.namespace, p.name, p.sub))
        };
        let owned = |s: &str| Some(s.to_owned());
        assert_eq!(read("/api/v1/namespaces/a"), Some(("namespaces".into(), None, owned("a"), None)));
        assert_eq!(read("/api/v1/namespaces/a/status"), Some(("namespaces".into(), None, owned("a"), owned("status"))));
        assert_eq!(read("/api/v1/namespaces/a/pods"), Some(("pods".into(), owned("a"), None, None)));
        assert_eq!(
            read("/apis/x.io/v1/namespaces/a/ys/z/status"),
            Some(("ys.x.io".into(), owned("a"), owned("z"), owned("status")))
        );
        assert_eq!(read("/apis/x.io/v1"), None);
        assert!(Way::parse("/api/v1/watch/pods").unwrap().watch);
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("&watch=true&labelSelector=a%20in%20%28b%29&x=1%2B1+2&bad=%zz");
        assert!(query.flag("watch"));
        assert_eq!(query.get("labelSelector"), Some("a in (b)"));
        assert_eq!(query.get("x"), Some("1+1 2"));
        assert_eq!(query.get("bad"), Some("%zz"));
    }
}
