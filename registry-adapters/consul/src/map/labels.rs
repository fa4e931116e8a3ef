//! Tags and metadata as labels that the rest of the mesh can select by.
//!
//! In: a service's tags and metadata, any strings. Out: labels of valid syntax, at most [`MAX_LABELS`]. Metadata
//! `k: v` is label `k: v`; tags `k=v` and `k|v` too; any other tag `t` is `consul.tag/<t>: "true"`. Metadata wins over
//! tags. Characters that labels can't have become `-`, and what is too long is cut. Invariant: nothing here can say how
//! a workload is spoken to or what it is allowed: labels under `istio.io`, `hawser.io` and `kubernetes.io` are left out.

use std::collections::BTreeMap;

/// Most labels of an instance.
pub(crate) const MAX_LABELS: usize = 64;
const MAX_PART: usize = 63;
/// Prefix of labels that are plain tags.
const TAG: &str = "consul.tag/";

/// Labels, and how many found no room.
pub(crate) fn labels(tags: &[String], meta: &BTreeMap<String, String>) -> (BTreeMap<String, String>, usize) {
    let from_meta = meta.iter().filter_map(|(k, v)| Some((key(k)?, value(v))));
    let from_tags = tags.iter().filter_map(|tag| match tag.split_once(['=', '|']) {
        Some((k, v)) => Some((key(k)?, value(v))),
        None => Some((format!("{TAG}{}", nonempty(part(tag))?), "true".to_owned())),
    });
    let mut all = BTreeMap::new();
    let mut left_out = 0;
    for (key, value) in from_meta.chain(from_tags) {
        if all.contains_key(&key) {
            continue;
        }
        if all.len() == MAX_LABELS {
            left_out += 1;
            continue;
        }
        all.insert(key, value);
    }
    (all, left_out)
}

/// A label's value from any text: letters, digits, `-`, `_` and `.`, at most 63, letter or digit at both ends.
pub(crate) fn value(text: &str) -> String {
    part(text)
}

fn key(text: &str) -> Option<String> {
    let Some((prefix, name)) = text.split_once('/') else { return nonempty(part(text)) };
    let prefix = part(prefix).to_ascii_lowercase().replace('_', "-");
    let reserved = ["istio.io", "hawser.io", "kubernetes.io", "k8s.io"];
    if reserved.iter().any(|r| prefix == *r || prefix.ends_with(&format!(".{r}"))) {
        return None;
    }
    Some(format!("{}/{}", nonempty(prefix)?, nonempty(part(name))?))
}

fn part(text: &str) -> String {
    let ok = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let text: String = text.trim().chars().map(ok).collect();
    let text = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    // Only ASCII is left.
    let cut = text.get(..MAX_PART).unwrap_or(text);
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn nonempty(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tags: &[&str], meta: &[(&str, &str)]) -> BTreeMap<String, String> {
        let tags: Vec<String> = tags.iter().map(|t| (*t).to_owned()).collect();
        let meta = meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        labels(&tags, &meta).0
    }

    #[test]
    fn tags_with_a_value_and_metadata_are_labels_and_other_tags_are_marked() {
        let all = of(&["team=shop", "zone|a", "primary", "a b", "  "], &[("version", "v2"), ("team", "ops")]);
        let want = [
            ("consul.tag/a-b", "true"),
            ("consul.tag/primary", "true"),
            ("team", "ops"),
            ("version", "v2"),
            ("zone", "a"),
        ];
        assert_eq!(all, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn labels_are_of_valid_syntax_whatever_was_written() {
        for text in ["--x--", "ä=ö", "=", "|", "a/b/c=1", "/x=1", "x/=1", &"long".repeat(100), "k=-", "\u{0}=\u{7f}"]
        {
            for (key, value) in of(&[text], &[(text, text)]) {
                let ends = |t: &str| {
                    t.starts_with(|c: char| c.is_ascii_alphanumeric())
                        && t.ends_with(|c: char| c.is_ascii_alphanumeric())
                };
                let (prefix, name) = key.split_once('/').unwrap_or(("p", &key));
                assert!(ends(prefix) && ends(name) && name.len() <= 63, "{text:?} made {key:?}");
                assert!(value.is_empty() || (ends(&value) && value.len() <= 63), "{text:?} made {value:?}");
            }
        }
    }

    #[test]
    fn labels_of_the_mesh_itself_can_not_be_said_in_consul() {
        let said = of(&["security.istio.io/tlsMode=istio", "hawser.io/x=1", "topology.kubernetes.io/zone=z"], &[]);
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn labels_are_bounded() {
        let tags: Vec<String> = (0..100).map(|n| format!("tag{n}")).collect();
        let (all, left_out) = labels(&tags, &BTreeMap::new());
        assert_eq!((all.len(), left_out), (MAX_LABELS, 36));
    }
}
