//! Names, labels, header names, regular expressions: what each may look like. `Err` says what was expected.

use std::collections::{BTreeMap, BTreeSet};

use super::Checker;
use crate::istio::error::shown;

/// A label of RFC 1123: what namespaces, ports and subsets are called.
pub(crate) fn label(text: &str) -> Result<(), String> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(ok) || text.starts_with('-') || text.ends_with('-') {
        let rule = "1 to 63 lower-case letters, digits and '-', neither first nor last '-'";
        return Err(format!("\"{}\" is not a name: it needs {rule}", shown(text)));
    }
    Ok(())
}

/// Labels of RFC 1123 with dots between: what objects are called.
pub(crate) fn object_name(text: &str) -> Result<(), String> {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ok = |part: &str| !part.is_empty() && part.bytes().all(byte) && !part.starts_with('-') && !part.ends_with('-');
    if text.len() > 253 || !text.split('.').all(ok) {
        let rule = "lower-case letters, digits, '-' and '.', at most 253, each part starting and ending with a letter or digit";
        return Err(format!("\"{}\" is not a name: it needs {rule}", shown(text)));
    }
    Ok(())
}

/// A label's or annotation's key: `name` or `prefix/name`.
pub(crate) fn label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|p| object_name(p).is_err()) || !is_label_word(name) {
        let rule = "1 to 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, with an optional DNS prefix and '/'";
        return Err(format!("\"{}\" is not a label's key: it needs {rule}", shown(text)));
    }
    Ok(())
}

/// A label's value; may be empty.
pub(crate) fn label_value(text: &str) -> Result<(), String> {
    if !text.is_empty() && !is_label_word(text) {
        let rule = "at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit";
        return Err(format!("\"{}\" is not a label's value: it needs {rule}", shown(text)));
    }
    Ok(())
}

fn is_label_word(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let ok = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= 63 && bytes.iter().all(ok) && ends(bytes.first()) && ends(bytes.last())
}

/// Labels of the field `field`: keys and values.
pub(crate) fn labels(c: &mut Checker, field: &str, labels: &BTreeMap<String, String>) {
    c.field(field, |c| {
        if labels.len() > 256 {
            c.problem("it has more than 256 labels");
        }
        for (key, value) in labels {
            c.key(key, |c| {
                tell(c, label_key(key));
                tell(c, label_value(value));
            });
        }
    });
}

/// A header's name.
pub(crate) fn header_name(text: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let name = text.strip_prefix(':').unwrap_or(text);
    if name.is_empty() || text.len() > 256 || !name.bytes().all(token) {
        return Err(format!("\"{}\" is not a header's name: it needs letters, digits and '-'", shown(text)));
    }
    Ok(())
}

/// A header's value.
pub(crate) fn header_value(text: &str) -> Result<(), String> {
    if text.len() > 16 << 10 || text.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err("a header's value holds no control characters, and at most 16 KiB".to_owned());
    }
    Ok(())
}

/// A regular expression in RE2's syntax, as the proxies compile it.
pub(crate) fn regex(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a regular expression is required".to_owned());
    }
    if text.len() > 1024 {
        return Err("a regular expression has at most 1024 characters".to_owned());
    }
    match regex::RegexBuilder::new(text).size_limit(1 << 20).nest_limit(50).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err("this regular expression is too big to compile; make its repetitions smaller".to_owned())
        }
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("it is not a regular expression (RE2 syntax): {}", shown(reason)))
        }
    }
}

/// Namespaces that see something: `.`, `*`, `~` or names, none twice.
pub(crate) fn export_to(c: &mut Checker, items: &[String]) {
    let mut seen = BTreeSet::new();
    c.each("export_to", items, |c, item| {
        if !matches!(item.as_str(), "." | "*" | "~") && label(item).is_err() {
            c.problem(format!(
                "\"{}\" is neither a namespace nor '.' (this one), '*' (all) or '~' (none)",
                shown(item)
            ));
        }
        if !seen.insert(item.clone()) {
            c.problem(format!("Duplicate value: \"{}\" is listed twice", shown(item)));
        }
    });
}

/// Passes on what a check says.
pub(crate) fn tell(c: &mut Checker, result: Result<(), String>) {
    if let Err(message) = result {
        c.problem(message);
    }
}
