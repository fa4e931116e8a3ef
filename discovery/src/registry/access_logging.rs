//! What proxies write of each request and connection, and where: a setting of the whole mesh.

use hawser_api::access_log::{ISTIO_JSON, ISTIO_TEXT, parse};
use hawser_api::istio::mesh_config::AccessLogEncoding;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

/// Access logs of all proxies.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogging {
    /// The file, of each proxy's host.
    pub file: String,
    /// What a line is.
    pub format: LogFormat,
    /// Whether connections are logged too that no filter chain takes.
    pub of_listeners: bool,
}

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFormat {
    /// Text, with its line break.
    Text(String),
    /// A JSON object.
    Json(Struct),
}

impl LogFormat {
    /// What `accessLogEncoding` and `accessLogFormat` say; Istio's format if that is empty.
    ///
    /// # Errors
    /// A sentence, if the format is not understood: a proxy would refuse every listener for it.
    pub fn new(encoding: AccessLogEncoding, format: &str) -> Result<Self, String> {
        match encoding {
            AccessLogEncoding::Text if format.is_empty() => Ok(Self::Text(ISTIO_TEXT.to_owned())),
            AccessLogEncoding::Text => {
                parse(format).map_err(|e| e.to_string())?;
                let line_break = if format.ends_with('\n') { "" } else { "\n" };
                Ok(Self::Text(format!("{format}{line_break}")))
            }
            AccessLogEncoding::Json if format.is_empty() => {
                let fields = ISTIO_JSON.map(|(key, operator)| (key.to_owned(), text(operator.to_owned())));
                Ok(Self::Json(Struct { fields: fields.into() }))
            }
            AccessLogEncoding::Json => {
                let read: serde_json::Map<_, _> =
                    serde_json::from_str(format).map_err(|e| format!("it is no JSON object: {e}"))?;
                structure(read).map(Self::Json)
            }
        }
    }

    /// Whether the operator `%REQ_WITHOUT_QUERY%` is in it, which Envoy has to be taught.
    pub fn is_without_query(&self) -> bool {
        fn inside(value: &Value) -> bool {
            match &value.kind {
                Some(Kind::StringValue(text)) => has(text),
                Some(Kind::StructValue(all)) => all.fields.values().any(inside),
                Some(Kind::ListValue(all)) => all.values.iter().any(inside),
                _ => false,
            }
        }
        fn has(text: &str) -> bool {
            text.contains("%REQ_WITHOUT_QUERY")
        }
        match self {
            Self::Text(text) => has(text),
            Self::Json(all) => all.fields.values().any(inside),
        }
    }
}

fn text(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}

fn structure(object: serde_json::Map<String, serde_json::Value>) -> Result<Struct, String> {
    let field = |(key, inner): (String, _)| match value(inner) {
        Ok(inner) => Ok((key, inner)),
        Err(e) => Err(format!("{key}: {e}")),
    };
    Ok(Struct { fields: object.into_iter().map(field).collect::<Result<_, _>>()? })
}

fn value(json: serde_json::Value) -> Result<Value, String> {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        serde_json::Value::Array(all) => {
            Kind::ListValue(ListValue { values: all.into_iter().map(value).collect::<Result<_, _>>()? })
        }
        serde_json::Value::Object(object) => Kind::StructValue(structure(object)?),
        serde_json::Value::String(format) => {
            parse(&format).map_err(|e| e.to_string())?;
            return Ok(text(format));
        }
    };
    Ok(Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_istios_where_none_is_said_and_end_their_lines() {
        let text = |format: &str| LogFormat::new(AccessLogEncoding::Text, format);
        assert_eq!(text(""), Ok(LogFormat::Text(ISTIO_TEXT.into())));
        assert_eq!(text("%DURATION%"), Ok(LogFormat::Text("%DURATION%\n".into())));
        assert_eq!(text("%DURATION%\n"), Ok(LogFormat::Text("%DURATION%\n".into())));
        let json = |format: &str| LogFormat::new(AccessLogEncoding::Json, format);
        let Ok(LogFormat::Json(istio)) = json("") else { panic!("no JSON") };
        assert_eq!(istio.fields.len(), ISTIO_JSON.len());
        let own = json(r#"{"a": ["%REQ_WITHOUT_QUERY(:PATH)%", 1], "b": {"c": true}}"#).unwrap();
        assert!(own.is_without_query());
        assert!(!LogFormat::Json(istio).is_without_query());
    }

    #[test]
    fn a_format_that_proxies_would_refuse_is_refused_here() {
        for (encoding, format, why) in [
            (AccessLogEncoding::Text, "%CEL(x)%", "operator %CEL% is not supported"),
            (AccessLogEncoding::Json, r#"{"a": {"b": "%NO%"}}"#, "a: b: operator %NO% is not supported"),
            (AccessLogEncoding::Json, "%DURATION%", "it is no JSON object: expected value at line 1 column 1"),
        ] {
            assert_eq!(LogFormat::new(encoding, format).unwrap_err(), why);
        }
    }
}
