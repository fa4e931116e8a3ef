//! What was seen of a case, as lines that two proxies must agree on.
//!
//! In: what clients and servers read, what the access log says. Out: lines. What can't be equal, or need not be, is made equal
//! by [`RULES`] and nothing else.

use std::sync::LazyLock;

use crate::message::Body;

/// Fields that need not be equal, how far, and why.
pub(crate) const RULES: &[(&str, Rule, &str)] = &[
    ("date", Rule::AnyValue, "the time"),
    ("x-request-id", Rule::Random, "random unless the client has sent one"),
    ("server", Rule::NotSeen, "Envoy writes its own name over the server's; hawser-proxy leaves it as it is"),
    ("x-envoy-upstream-service-time", Rule::NotSeen, "a measured time that only Envoy tells"),
    ("x-envoy-expected-rq-timeout-ms", Rule::NotSeen, "what is left of a time, which only Envoy tells servers"),
    ("sec-websocket-key", Rule::AnyValue, "random where a client of HTTP/2 has none"),
];

/// How far a field need not be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is there or not; its value is not looked at.
    AnyValue,
    /// The same for values that look random.
    Random,
    /// It is not looked at.
    NotSeen,
}

/// What was seen through one proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    client: Vec<String>,
    servers: Vec<String>,
    log: Vec<String>,
}

impl Seen {
    /// A line of what the client saw.
    pub(crate) fn client(&mut self, line: String) {
        self.client.push(line);
    }

    /// A body that the client got.
    pub(crate) fn client_body(&mut self, body: &Body) {
        self.client.extend(body_lines(body));
    }

    /// A line of what a server saw.
    pub(crate) fn server(&mut self, line: String) {
        self.servers.push(line);
    }

    /// A line of the log.
    pub(crate) fn log(&mut self, line: String) {
        self.log.push(line);
    }

    /// All of it. `addresses` are written by their names.
    pub(crate) fn lines(&self, addresses: &[(String, &str)]) -> Vec<String> {
        let parts = [("client", &self.client), ("server", &self.servers), ("log", &self.log)];
        let lines = parts.into_iter().flat_map(|(who, lines)| lines.iter().map(move |line| format!("{who}: {line}")));
        let named = |line: String| addresses.iter().fold(line, |line, (address, name)| line.replace(address, name));
        lines.map(named).map(|line| short(&line)).collect()
    }
}

/// Bytes as text: what is not printable ASCII is escaped.
pub(crate) fn text(bytes: &[u8]) -> String {
    let escape = |b: &u8| match b {
        b' '..=b'~' => (*b as char).to_string(),
        b'\t' => "\\t".to_owned(),
        b => format!("\\x{b:02x}"),
    };
    bytes.iter().map(escape).collect()
}

/// Fields in the order of their names, made equal where they need not be.
pub(crate) fn fields(all: &[(String, String)]) -> impl Iterator<Item = String> {
    let mut all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    all.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    let equal = |(name, value): (&str, &str)| {
        let lower = name.to_ascii_lowercase();
        let rule = RULES.iter().find(|(n, ..)| *n == lower).map(|(_, rule, _)| *rule);
        let any = match rule {
            Some(Rule::NotSeen) => return None,
            Some(Rule::AnyValue) => true,
            Some(Rule::Random) => UUID.is_match(value),
            None => false,
        };
        let value = match lower.as_str() {
            _ if any => "…".to_owned(),
            "set-cookie" => MADE.replace(value, "=\"…\"").into_owned(),
            _ => HASH.replace_all(value, "Hash=…").into_owned(),
        };
        Some(format!("{name}: {}", short(&value)))
    };
    all.into_iter().filter_map(equal).collect::<Vec<_>>().into_iter()
}

static UUID: LazyLock<regex::Regex> = LazyLock::new(|| regex::Regex::new("^[0-9a-f]{8}-[0-9a-f-]{27}$").unwrap());

/// Certificates are new in each run.
static HASH: LazyLock<regex::Regex> = LazyLock::new(|| regex::Regex::new("Hash=[0-9a-f]{64}").unwrap());

/// The value of a cookie that a proxy made.
static MADE: LazyLock<regex::Regex> = LazyLock::new(|| regex::Regex::new("=\"[0-9a-f]{8,16}\"").unwrap());

/// A body in lines.
pub(crate) fn body_lines(body: &Body) -> Vec<String> {
    let mut all =
        vec![format!("  body {:?}{}", short(&text(&body.bytes)), if body.broken { ", broken off" } else { "" })];
    all.extend(fields(&body.trailers).map(|line| format!("  trailer {line}")));
    all
}

/// Long text by its beginning and its length.
fn short(value: &str) -> String {
    match value.get(..60) {
        Some(start) if value.len() > 300 => format!("{start}… of {}", value.len()),
        _ => value.to_owned(),
    }
}

/// What differs: lines of the first with `-`, of the second with `+`.
pub(crate) fn difference(ours: &[String], theirs: &[String]) -> Vec<String> {
    let (n, m) = (ours.len(), theirs.len());
    let mut longest = vec![vec![0u16; m + 1]; n + 1];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            longest[i][j] =
                if ours[i] == theirs[j] { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut all) = (0, 0, Vec::new());
    while i < n || j < m {
        if i < n && j < m && ours[i] == theirs[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == m || i < n && longest[i + 1][j] >= longest[i][j + 1] {
            all.push(format!("- {}", ours[i]));
            i += 1;
        } else {
            all.push(format!("+ {}", theirs[j]));
            j += 1;
        }
    }
    all
}

#[test]
fn a_difference_is_the_lines_that_are_not_common() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(difference(&lines("a b c"), &lines("a x c")), ["- b", "+ x"]);
    assert!(difference(&lines("a b"), &lines("a b")).is_empty());
}
