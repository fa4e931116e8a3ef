//! Whether a request is what a route asks for: path, header fields, query parameters.
//!
//! In: `RouteMatch`, and a request through [`Asked`]. Out: yes or no. How the name of a field is kept is the caller's
//! affair (`N`): whoever asks often looks it up faster than by text.

use std::borrow::Cow;

use hawser_api::proto::route as proto;
use regex::Regex;

use crate::{Refused, StringMatch, refuse, whole_regex};

/// A request, as far as routes look at it.
pub trait Asked<N> {
    /// Host, with its port if it has one.
    fn host(&self) -> &str;
    /// Path, without the query.
    fn path(&self) -> &str;
    /// Query, without the question mark.
    fn query(&self) -> Option<&str>;
    /// Method.
    fn method(&self) -> &str;
    /// All values of a field, with commas between, as a list is read.
    fn field(&self, name: &N) -> Option<Cow<'_, str>>;
}

/// What a route asks for.
#[derive(Debug)]
pub struct RequestMatch<N> {
    /// The path.
    pub path: PathMatch,
    /// Headers; all must match.
    pub headers: Vec<HeaderMatch<N>>,
    /// Query parameters; all must match.
    pub query: Vec<QueryMatch>,
}

/// Matches paths, without the query.
#[derive(Debug)]
pub enum PathMatch {
    /// The whole path; the flag asks for equal case.
    Exact(String, bool),
    /// Its start.
    Prefix(String, bool),
    /// Its start, up to a slash.
    Segments(String, bool),
    /// The whole path.
    Regex(Regex),
}

/// Matches a header.
#[derive(Debug)]
pub struct HeaderMatch<N> {
    /// What is looked at.
    pub subject: Subject<N>,
    /// What it must be; absent: whether it is there.
    pub value: Option<StringMatch>,
    /// Whether it must be there (`value` absent).
    pub present: bool,
    /// Turned around.
    pub invert: bool,
    /// A missing one counts as empty.
    pub missing_as_empty: bool,
}

/// What a header match looks at.
#[derive(Debug)]
pub enum Subject<N> {
    /// `:method`.
    Method,
    /// `:authority`, `host`.
    Authority,
    /// `:path`, the query included.
    Path,
    /// `:scheme`.
    Scheme,
    /// A field.
    Field(N),
}

/// Matches a query parameter.
#[derive(Debug)]
pub struct QueryMatch {
    /// Name.
    pub name: String,
    /// What it must be; absent: whether it is there.
    pub value: Option<StringMatch>,
}

impl<N> RequestMatch<N> {
    /// Checks a match.
    ///
    /// # Errors
    /// If something in it is not supported.
    pub fn new(m: &proto::RouteMatch, name: impl Fn(&str) -> N) -> Result<Self, Refused> {
        let at = |field: &'static str| move |e: Refused| Refused(format!("match.{field}: {e}"));
        Ok(Self {
            path: PathMatch::new(m)?,
            headers: m
                .headers
                .iter()
                .map(|h| HeaderMatch::new(h, &name))
                .collect::<Result<_, _>>()
                .map_err(at("headers"))?,
            query: m
                .query_parameters
                .iter()
                .map(QueryMatch::new)
                .collect::<Result<_, _>>()
                .map_err(at("query_parameters"))?,
        })
    }

    /// Whether a request is so.
    pub fn matches(&self, asked: &impl Asked<N>) -> bool {
        self.path.matches(asked.path())
            && self.headers.iter().all(|m| m.matches(asked))
            && self.query.iter().all(|m| m.matches(asked.query()))
    }
}

impl PathMatch {
    /// Checks the path of a match.
    ///
    /// # Errors
    /// If there is none, or no usable regular expression.
    pub fn new(m: &proto::RouteMatch) -> Result<Self, Refused> {
        use proto::route_match::PathSpecifier;
        let case = m.case_sensitive.unwrap_or(true);
        let fold = |text: &str| if case { text.to_owned() } else { text.to_ascii_lowercase() };
        Ok(match &m.path_specifier {
            Some(PathSpecifier::Prefix(p)) => Self::Prefix(fold(p), case),
            Some(PathSpecifier::Path(p)) => Self::Exact(fold(p), case),
            Some(PathSpecifier::PathSeparatedPrefix(p)) => Self::Segments(fold(p), case),
            Some(PathSpecifier::SafeRegex(r)) => Self::Regex(whole_regex(&r.regex)?),
            None => refuse!("match has no path"),
        })
    }

    /// Whether a path is so.
    pub fn matches(&self, path: &str) -> bool {
        let same = |a: &str, b: &str, case: bool| if case { a == b } else { a.eq_ignore_ascii_case(b) };
        // Cut by bytes: a cut inside a character can't be equal to text anyway.
        let starts = |prefix: &str, case: bool| match path.as_bytes().get(..prefix.len()) {
            Some(start) if case => start == prefix.as_bytes(),
            Some(start) => start.eq_ignore_ascii_case(prefix.as_bytes()),
            None => false,
        };
        match self {
            Self::Exact(exact, case) => same(exact, path, *case),
            Self::Prefix(prefix, case) => starts(prefix, *case),
            Self::Segments(prefix, case) => {
                starts(prefix, *case) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

impl<N> HeaderMatch<N> {
    /// Checks a match.
    ///
    /// # Errors
    /// If its text can't be matched.
    pub fn new(m: &proto::HeaderMatcher, name: impl Fn(&str) -> N) -> Result<Self, Refused> {
        use proto::header_matcher::HeaderMatchSpecifier as Specifier;
        let (value, present) = match &m.header_match_specifier {
            Some(Specifier::StringMatch(s)) => (Some(StringMatch::new(s)?), true),
            Some(Specifier::PresentMatch(present)) => (None, *present),
            None => (None, true),
        };
        let subject = match m.name.to_ascii_lowercase().as_str() {
            ":method" => Subject::Method,
            ":authority" | "host" => Subject::Authority,
            ":path" => Subject::Path,
            ":scheme" => Subject::Scheme,
            field => Subject::Field(name(field)),
        };
        Ok(Self { subject, value, present, invert: m.invert_match, missing_as_empty: m.treat_missing_header_as_empty })
    }

    /// Whether a request is so.
    pub fn matches(&self, asked: &impl Asked<N>) -> bool {
        let value: Option<Cow<'_, str>> = match &self.subject {
            Subject::Method => Some(asked.method().into()),
            Subject::Authority => Some(asked.host().into()),
            Subject::Path => Some(match asked.query() {
                Some(query) => format!("{}?{query}", asked.path()).into(),
                None => asked.path().into(),
            }),
            Subject::Scheme => Some("http".into()),
            Subject::Field(name) => asked.field(name),
        };
        let value = value.or_else(|| self.missing_as_empty.then(|| "".into()));
        let is = match (&self.value, value) {
            (Some(matcher), Some(value)) => matcher.matches(&value),
            // A header that is not there matches no value; turned around it does.
            (Some(_), None) => false,
            (None, value) => value.is_some() == self.present,
        };
        is != self.invert
    }
}

impl QueryMatch {
    /// Checks a match.
    ///
    /// # Errors
    /// If something in it is not supported.
    pub fn new(m: &proto::QueryParameterMatcher) -> Result<Self, Refused> {
        use proto::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
        let value = match &m.query_parameter_match_specifier {
            Some(Specifier::StringMatch(s)) => Some(StringMatch::new(s)?),
            Some(Specifier::PresentMatch(true)) | None => None,
            Some(Specifier::PresentMatch(false)) => refuse!("present_match: false is not supported"),
        };
        Ok(Self { name: m.name.clone(), value })
    }

    /// Whether a query is so.
    pub fn matches(&self, query: Option<&str>) -> bool {
        let mut pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let Some((_, value)) = pairs.find(|(name, _)| *name == self.name) else { return false };
        self.value.as_ref().is_none_or(|matcher| matcher.matches(value))
    }
}
