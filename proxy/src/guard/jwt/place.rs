//! Where tokens are in a request.

use std::borrow::Cow;

use crate::config::guard::jwt::Place;
use crate::http::message::RequestHead;

/// The token at a place, if there is one.
pub(super) fn find<'h>(place: &Place, head: &'h RequestHead) -> Option<Cow<'h, str>> {
    match place {
        Place::Header(name, prefix) => {
            let first = head.fields.get(name)?;
            let whole: Cow<'h, str> = if head.fields.all(name).nth(1).is_none() {
                String::from_utf8_lossy(first)
            } else {
                // As one, like any list.
                let lines: Vec<_> = head.fields.all(name).collect();
                String::from_utf8_lossy(&lines.join(&b","[..])).into_owned().into()
            };
            if prefix.is_empty() {
                return Some(whole);
            }
            let after = whole.find(prefix.as_str())? + prefix.len();
            Some(whole[after..].to_owned().into())
        }
        Place::Parameter(name) => {
            let (_, query) = head.path_and_query();
            let mut pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.find(|(key, _)| decoded(key) == name.as_str()).map(|(_, value)| decoded(value))
        }
        Place::Cookie(name) => {
            let all = head.fields.all("cookie").filter_map(|line| std::str::from_utf8(line).ok());
            let mut crumbs = all.flat_map(|line| line.split(';')).filter_map(|crumb| crumb.trim().split_once('='));
            let (_, value) = crumbs.find(|(key, _)| key == name)?;
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            (!value.is_empty()).then(|| value.into())
        }
    }
}

/// Takes the token away, where it is one that is not to go on. A cookie stays, as with Envoy.
pub(super) fn remove(place: &Place, head: &mut RequestHead) {
    match place {
        Place::Header(name, _) => drop(head.fields.remove(name)),
        Place::Parameter(name) => {
            let (path, Some(query)) = head.path_and_query() else { return };
            let other = |pair: &&str| decoded(pair.split_once('=').map_or(*pair, |(key, _)| key)) != name.as_str();
            let rest = query.split('&').filter(other).collect::<Vec<_>>().join("&");
            let whole = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
            head.set_path(whole.as_bytes());
        }
        Place::Cookie(_) => {}
    }
}

/// Percent-decoded (RFC 3986, 2.1).
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}
