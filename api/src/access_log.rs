//! Format strings of access logs, as Envoy reads them.
//!
//! In: the text of a format, `%OPERATOR(parameters):length%` among literal text. Out: its parts, or a sentence why it is
//! refused. Invariant: an operator that is parsed here can be written by our proxy, so that whoever hands out a format may
//! check it first.

mod fact;
mod time;

pub use fact::Fact;
pub use time::{TimeFormat, TimePart};

/// The text format of Istio, used where a mesh names none.
pub const ISTIO_TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// The JSON format of Istio, used where a mesh asks for JSON and names none; sorted.
pub const ISTIO_JSON: [(&str, &str); 24] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// The text format of Envoy, used where a log names none.
pub const ENVOY_TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ",
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" ",
    "\"%UPSTREAM_HOST%\"\n",
);

/// The longest format that is read, in bytes.
pub const LONGEST: usize = 64 * 1024;

/// A part of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// What is known of the request.
    Operator(Operator),
}

/// What is written in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// One fact.
    Fact(Fact),
    /// `START_TIME`; without a format ISO 8601 with milliseconds.
    StartTime(Option<TimeFormat>),
    /// `EMIT_TIME`: when the line is written.
    EmitTime(Option<TimeFormat>),
    /// `REQ`: a header of the request.
    Request(Header),
    /// `REQ_WITHOUT_QUERY`: the same, up to the first question mark.
    RequestWithoutQuery(Header),
    /// `RESP`: a header of the response.
    Response(Header),
    /// `TRAILER`: a trailer of the response.
    Trailer(Header),
    /// `GRPC_STATUS`.
    GrpcStatus(GrpcStatus),
    /// `ENVIRONMENT`: a variable of the proxy's environment, and how many characters of it.
    Environment(String, Option<usize>),
    /// `DYNAMIC_METADATA`: what a filter says, by the filter's name and a key; and how many characters of it.
    Metadata {
        /// Name of the filter.
        filter: String,
        /// The key.
        key: String,
        /// How many characters are written at most.
        most: Option<usize>,
    },
    /// Operators that are known and never have a value here: metadata and state of Envoy's filters.
    Unset,
}

/// A header, or another if there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name, lower case; pseudo headers begin with a colon.
    pub name: String,
    /// The other.
    pub or: Option<String>,
    /// How many characters are written at most.
    pub most: Option<usize>,
}

/// How a status of gRPC is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// `InvalidArgument`.
    Camel,
    /// `INVALID_ARGUMENT`.
    Snake,
    /// `3`.
    Number,
}

/// Why a format is refused: a sentence that names the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(String);

impl FormatError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Reads a format.
///
/// # Errors
/// A sentence that names the operator, if one is not known, or is written otherwise than it takes.
pub fn parse(format: &str) -> Result<Vec<Part>, FormatError> {
    if format.len() > LONGEST {
        return Err(FormatError::new(format!("the format is longer than {LONGEST} bytes")));
    }
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let (command, after) = Command::read(rest)?;
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(Part::Operator(command.operator()?));
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

/// `NAME(parameters):length%`.
struct Command<'t> {
    name: &'t str,
    parameters: Option<&'t str>,
    length: Option<usize>,
}

impl<'t> Command<'t> {
    /// Reads one, behind its first percent sign, and what follows it.
    fn read(text: &'t str) -> Result<(Self, &'t str), FormatError> {
        let shown = || text.chars().take(40).collect::<String>();
        let malformed =
            || FormatError::new(format!("\"%{}\" begins no operator; a percent sign itself is written %%", shown()));
        let letter = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let end = text.find(|c| !letter(c)).ok_or_else(malformed)?;
        let (name, rest) = text.split_at(end);
        if name.is_empty() {
            return Err(malformed());
        }
        if let Some((length, after)) = tail(rest) {
            return Ok((Self { name, parameters: None, length: length.map_err(|()| malformed())? }, after));
        }
        let inner = rest.strip_prefix('(').ok_or_else(malformed)?;
        // Parameters end at the first bracket that the operator's end follows: formats of times have percent signs.
        for (at, _) in inner.match_indices(')') {
            if let Some((length, after)) = tail(&inner[at + 1..]) {
                let length = length.map_err(|()| malformed())?;
                return Ok((Self { name, parameters: Some(&inner[..at]), length }, after));
            }
        }
        Err(malformed())
    }

    fn operator(&self) -> Result<Operator, FormatError> {
        let name = self.name;
        let operator = match name {
            "START_TIME" => Operator::StartTime(self.time()?),
            "EMIT_TIME" => Operator::EmitTime(self.time()?),
            "REQ" => Operator::Request(self.header()?),
            "REQ_WITHOUT_QUERY" => Operator::RequestWithoutQuery(self.header()?),
            "RESP" => Operator::Response(self.header()?),
            "TRAILER" => Operator::Trailer(self.header()?),
            "GRPC_STATUS" => Operator::GrpcStatus(match self.parameters.unwrap_or_default() {
                "" | "CAMEL_STRING" => GrpcStatus::Camel,
                "SNAKE_STRING" => GrpcStatus::Snake,
                "NUMBER" => GrpcStatus::Number,
                other => {
                    return Err(FormatError::new(format!(
                        "%{name}({other})%: it takes CAMEL_STRING, SNAKE_STRING or NUMBER"
                    )));
                }
            }),
            "ENVIRONMENT" => Operator::Environment(self.some()?.to_owned(), self.length),
            "DYNAMIC_METADATA" => match self.some()?.split_once(':') {
                Some((filter, key)) => {
                    Operator::Metadata { filter: filter.to_owned(), key: key.to_owned(), most: self.length }
                }
                None => Operator::Unset,
            },
            "CLUSTER_METADATA" | "UPSTREAM_METADATA" | "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => {
                self.some()?;
                Operator::Unset
            }
            "VIRTUAL_CLUSTER_NAME" => Operator::Unset,
            _ => match Fact::named(name) {
                Some(fact) if self.parameters.is_none() => Operator::Fact(fact),
                Some(_) => return Err(FormatError::new(format!("%{name}% takes no parameters"))),
                None => return Err(FormatError::new(format!("operator %{name}% is not supported"))),
            },
        };
        let cut = !matches!(operator, Operator::Fact(_) | Operator::StartTime(_) | Operator::EmitTime(_));
        if self.length.is_some() && (!cut || matches!(operator, Operator::GrpcStatus(_))) {
            return Err(FormatError::new(format!("%{name}% takes no length")));
        }
        Ok(operator)
    }

    fn some(&self) -> Result<&'t str, FormatError> {
        let missing = || FormatError::new(format!("%{}% needs parameters in brackets", self.name));
        self.parameters.filter(|p| !p.is_empty()).ok_or_else(missing)
    }

    fn time(&self) -> Result<Option<TimeFormat>, FormatError> {
        self.parameters.filter(|p| !p.is_empty()).map(|p| TimeFormat::parse(self.name, p)).transpose()
    }

    fn header(&self) -> Result<Header, FormatError> {
        let all = self.some()?;
        let (name, or) = match all.split_once('?') {
            Some((name, or)) => (name, Some(or)),
            None => (all, None),
        };
        // Field names are tokens (RFC 9110, 5.6.2); a pseudo header has a colon before it.
        let token = |name: &str| {
            let name = name.strip_prefix(':').unwrap_or(name);
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        if !token(name) || !or.is_none_or(token) {
            return Err(FormatError::new(format!("%{}({all})%: a header, or HEADER?OTHER, is expected", self.name)));
        }
        Ok(Header { name: name.to_ascii_lowercase(), or: or.map(str::to_ascii_lowercase), most: self.length })
    }
}

type Length = Result<Option<usize>, ()>;

/// `:length%` or `%`, and what follows; `None` if it is neither.
fn tail(text: &str) -> Option<(Length, &str)> {
    if let Some(after) = text.strip_prefix('%') {
        return Some((Ok(None), after));
    }
    let digits = text.strip_prefix(':')?;
    let (digits, after) = digits.split_once('%')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().map(Some).map_err(|_| ()), after))
}

#[cfg(test)]
mod tests;
