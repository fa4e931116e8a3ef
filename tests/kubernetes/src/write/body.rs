//! What stands in the body of a write.

use serde_json::Value;

use crate::ask::Asked;
use crate::refusal::Refusal;
use crate::server::Found;

const BODY: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The object in a body.
pub(crate) fn body(asked: &Asked, found: &Found) -> Result<Value, Refusal> {
    let value = match asked.content_type() {
        "" | "application/json" => {
            serde_json::from_slice(&asked.body).map_err(|error| not_read(&error, &asked.body, &found.kind.name))?
        }
        "application/yaml" => yaml(&asked.body).map_err(Refusal::bad_request)?,
        _ => return Err(Refusal::unsupported_media(BODY)),
    };
    let value: Value = value;
    if !value.is_object() {
        return Err(Refusal::bad_request(format!(
            "the object provided is unrecognized (must be of type {})",
            found.kind.name
        )));
    }
    Ok(value)
}

pub(super) fn json_body(asked: &Asked) -> Result<Value, Refusal> {
    serde_json::from_slice(&asked.body).map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))
}

fn not_read(error: &serde_json::Error, body: &[u8], kind: &str) -> Refusal {
    let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
    let text = String::from_utf8_lossy(body);
    Refusal::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} \
         ({text})"
    ))
}

/// One document of YAML, or of JSON.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}
