//! Matching of texts: exact, prefix, suffix, contained, regular expression.
//!
//! In: `StringMatcher`. Out: a yes or no in time linear in the text. Regular expressions match whole texts, and their
//! compiled size is bounded.

use hawser_api::proto::envoy::r#type::matcher::v3 as proto;
use regex::{Regex, RegexBuilder};

use crate::{Refused, refuse};

/// A checked `StringMatcher`.
#[derive(Clone, Debug)]
pub struct StringMatch {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl StringMatch {
    /// An exact match.
    pub fn exact(text: impl Into<String>) -> Self {
        Self { pattern: Pattern::Exact(text.into()), ignore_case: false }
    }

    /// Whether a certificate for a DNS name, which may stand for any one label at its front, is for whom an exact match wants.
    pub fn admits_name(&self, name: &str) -> bool {
        let Pattern::Exact(wanted) = &self.pattern else { return self.matches(name) };
        match (name.strip_prefix("*."), wanted.split_once('.')) {
            (Some(rest), Some((label, domain))) => !label.is_empty() && rest.eq_ignore_ascii_case(domain),
            _ => name.eq_ignore_ascii_case(wanted),
        }
    }

    /// Checks a matcher.
    ///
    /// # Errors
    /// If it has no pattern, or one that is no regular expression.
    pub fn new(matcher: &proto::StringMatcher) -> Result<Self, Refused> {
        use proto::string_matcher::MatchPattern;
        let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        let pattern = match &matcher.match_pattern {
            None => refuse!("a text matcher has no pattern"),
            Some(MatchPattern::Exact(text)) => Pattern::Exact(fold(text)),
            Some(MatchPattern::Prefix(text)) => Pattern::Prefix(fold(text)),
            Some(MatchPattern::Suffix(text)) => Pattern::Suffix(fold(text)),
            Some(MatchPattern::Contains(text)) => Pattern::Contains(fold(text)),
            // As in Envoy, `ignore_case` does not reach regular expressions.
            Some(MatchPattern::SafeRegex(r)) => Pattern::Regex(whole_regex(&r.regex)?),
        };
        Ok(Self { pattern, ignore_case: matcher.ignore_case })
    }

    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        if self.ignore_case {
            return self.matches_ignoring_case(text);
        }
        match &self.pattern {
            Pattern::Exact(p) => text == p,
            Pattern::Prefix(p) => text.starts_with(p.as_str()),
            Pattern::Suffix(p) => text.ends_with(p.as_str()),
            Pattern::Contains(p) => text.contains(p.as_str()),
            Pattern::Regex(r) => r.is_match(text),
        }
    }

    fn matches_ignoring_case(&self, text: &str) -> bool {
        let (bytes, start, end): (&[u8], _, _) = (text.as_bytes(), text.len(), text.len());
        match &self.pattern {
            Pattern::Exact(p) => text.eq_ignore_ascii_case(p),
            Pattern::Prefix(p) => start >= p.len() && bytes[..p.len()].eq_ignore_ascii_case(p.as_bytes()),
            Pattern::Suffix(p) => end >= p.len() && bytes[end - p.len()..].eq_ignore_ascii_case(p.as_bytes()),
            Pattern::Contains(p) => text.to_ascii_lowercase().contains(p.as_str()),
            Pattern::Regex(r) => r.is_match(text),
        }
    }

    /// The exact text, if it is an exact match.
    pub fn as_exact(&self) -> Option<&str> {
        match &self.pattern {
            Pattern::Exact(text) if !self.ignore_case => Some(text),
            _ => None,
        }
    }
}

/// A regular expression that matches whole texts.
///
/// # Errors
/// If it is none, or would be too large.
pub fn whole_regex(pattern: &str) -> Result<Regex, Refused> {
    bounded(&format!("^(?:{pattern})$"), pattern)
}

/// A regular expression that matches anywhere.
///
/// # Errors
/// If it is none, or would be too large.
pub fn part_regex(pattern: &str) -> Result<Regex, Refused> {
    bounded(pattern, pattern)
}

fn bounded(expression: &str, shown: &str) -> Result<Regex, Refused> {
    match RegexBuilder::new(expression).size_limit(256 * 1024).dfa_size_limit(1024 * 1024).build() {
        Ok(regex) => Ok(regex),
        Err(e) => refuse!("{shown:?} is no regular expression that can be used: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::string_matcher::MatchPattern;

    #[test]
    fn each_kind_matches_what_it_says() {
        let matcher = |pattern, ignore_case| {
            StringMatch::new(&proto::StringMatcher { match_pattern: Some(pattern), ignore_case }).unwrap()
        };
        let regex = |r: &str| MatchPattern::SafeRegex(proto::RegexMatcher { regex: r.into() });
        assert!(matcher(MatchPattern::Exact("Ab".into()), true).matches("aB"));
        assert!(!matcher(MatchPattern::Exact("Ab".into()), false).matches("aB"));
        assert!(matcher(MatchPattern::Prefix("/API".into()), true).matches("/api/x"));
        assert!(matcher(MatchPattern::Suffix(".png".into()), false).matches("a.png"));
        assert!(matcher(MatchPattern::Contains("b".into()), false).matches("abc"));
        assert!(matcher(regex("a+"), false).matches("aaa"));
        assert!(!matcher(regex("a+"), false).matches("aaab"), "a part is not the whole");
        assert!(!matcher(regex("a|b"), false).matches("ax"), "alternatives stay inside the anchors");
        assert!(StringMatch::new(&proto::StringMatcher::default()).is_err());
        assert!(whole_regex("(").is_err());
        assert!(whole_regex("(a{1000}){1000}").is_err(), "bounded");
    }
}
