//! What the server answers instead of what was asked for: a Status, or a line of text where the real one writes that.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::kinds::{Kind, Place};

/// An answer that is no success.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
    details: Option<Box<Value>>,
    /// Seconds in `retry-after`.
    pub(crate) retry_after: Option<u64>,
    /// Written as it is, as text, instead of a Status.
    pub(crate) text: Option<Box<str>>,
    /// A token to go on with.
    continued: Option<Box<str>>,
}

/// One fault of an object: kind of fault, text, field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) field: String,
}

impl Cause {
    pub(crate) fn new(reason: &'static str, field: &str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), field: field.to_owned() }
    }

    pub(crate) fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {}: {why}", shown(value)))
    }

    pub(crate) fn required(field: &str, why: &str) -> Self {
        let text = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self::new("FieldValueRequired", field, text)
    }

    pub(crate) fn too_long(field: &str, most: usize) -> Self {
        Self::new("FieldValueTooLong", field, format!("Too long: may not be more than {most} bytes"))
    }

    /// What a server says when it did not look at all rules.
    pub(crate) fn not_all_checked() -> Self {
        let text = "Invalid value: null: some validation rules were not checked because the object was invalid; correct \
                    the existing errors to complete validation";
        Self::new("FieldValueInvalid", "<nil>", text)
    }
}

fn shown(value: &Value) -> String {
    value.to_string()
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, retry_after: None, text: None, continued: None }
    }

    fn with(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// `404 page not found`, of a path that nothing serves.
    pub(crate) fn no_such_path() -> Self {
        Self::plain(404, "404 page not found\n")
    }

    pub(crate) fn plain(code: u16, text: &str) -> Self {
        Self { text: Some(text.into()), ..Self::new(code, "", "") }
    }

    /// A resource that the core group does not have.
    pub(crate) fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with(json!({}))
    }

    pub(crate) fn not_found(place: &Place, name: &str) -> Self {
        let text = format!("{} \"{name}\" not found", place.qualified());
        Self::new(404, "NotFound", text).with(named(place, name))
    }

    pub(crate) fn already_exists(place: &Place, name: &str, being_deleted: bool) -> Self {
        let text = if being_deleted {
            format!("object is being deleted: {} \"{name}\" already exists", place.qualified())
        } else {
            format!("{} \"{name}\" already exists", place.qualified())
        };
        Self::new(409, "AlreadyExists", text).with(named(place, name))
    }

    pub(crate) fn conflict(place: &Place, name: &str, why: &str) -> Self {
        let text = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", place.qualified());
        Self::new(409, "Conflict", text).with(named(place, name))
    }

    /// Somebody else wrote in between.
    pub(crate) fn modified(place: &Place, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(place, name, why)
    }

    /// Applying meets what other managers own: `(manager as it is shown, field)`.
    pub(crate) fn field_conflicts(conflicts: &[(String, String)]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field})
            })
            .collect();
        let mut text = format!("Apply failed with {} conflict", conflicts.len());
        if let [(manager, field)] = conflicts {
            text.push_str(&format!(": conflict with {manager}: {field}"));
        } else {
            text.push_str("s: ");
            let mut managers: Vec<&String> = conflicts.iter().map(|(manager, _)| manager).collect();
            managers.dedup();
            let each = managers.iter().map(|manager| {
                let fields = conflicts.iter().filter(|(m, _)| m == *manager).map(|(_, field)| format!("\n- {field}"));
                format!("conflicts with {manager}:{}", fields.collect::<String>())
            });
            text.push_str(&each.collect::<Vec<_>>().join("\n"));
        }
        Self::new(409, "Conflict", text).with(json!({"causes": causes}))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(place: &Place, name: Option<&str>, why: &str) -> Self {
        let whose = name.map(|n| format!(" \"{n}\"")).unwrap_or_default();
        let text = format!("{}{whose} is forbidden: {why}", place.qualified());
        let mut details = named(place, name.unwrap_or_default());
        if name.is_none()
            && let Some(map) = details.as_object_mut()
        {
            map.remove("name");
        }
        Self::new(403, "Forbidden", text).with(details)
    }

    pub(crate) fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let text = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
        Self::new(403, "Forbidden", text).with(json!({}))
    }

    /// Adds a cause to a refusal that has details.
    pub(crate) fn because(mut self, cause: &Cause) -> Self {
        if let Some(details) = self.details.as_mut().and_then(|d| d.as_object_mut()) {
            details.insert("causes".to_owned(), json!([of(cause)]));
        }
        self
    }

    /// Repeats a cause in the list of causes.
    pub(crate) fn because_again(mut self, cause: &Cause) -> Self {
        let causes = self.details.as_mut().and_then(|d| d.get_mut("causes")).and_then(Value::as_array_mut);
        if let Some(causes) = causes {
            causes.push(of(cause));
        }
        self
    }

    /// An object that breaks rules.
    pub(crate) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        Self::invalid_as(&kind.place.group, &kind.name, name, causes)
    }

    pub(crate) fn invalid_as(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let whose = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let each: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let all = if let [one] = each.as_slice() { one.clone() } else { format!("[{}]", each.join(", ")) };
        let mut details = Map::new();
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), value.into());
            }
        }
        details.insert("causes".to_owned(), causes.iter().map(of).collect());
        Self::new(422, "Invalid", format!("{whose} \"{name}\" is invalid: {all}")).with(Value::Object(details))
    }

    /// A patch that can't be carried out: the real one does not say why.
    pub(crate) fn patch_failed() -> Self {
        let text = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", text).with(json!({}))
    }

    pub(crate) fn unsupported_media(accepted: &str) -> Self {
        let text =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", text)
    }

    pub(crate) fn not_acceptable(text: &str) -> Self {
        Self::new(406, "NotAcceptable", text).with(json!({}))
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    pub(crate) fn method_not_allowed() -> Self {
        let text = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", text).with(json!({}))
    }

    /// A fault of the server's own, without a reason.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// An old continue token, with one to go on with all the same.
    pub(crate) fn expired_token(fresh: &str) -> Self {
        let text = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                    list without the continue parameter, or use the continue token in this response to retrieve the \
                    remainder of the results. Continuing with the provided token results in an inconsistent list - \
                    objects that were created, modified, or deleted between the time the first chunk was returned and \
                    now may show up in the list.";
        Self { continued: Some(fresh.into()), ..Self::expired(text) }
    }

    pub(crate) fn too_large_version(asked: u64, current: u64) -> Self {
        let text = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        let mut refusal = Self::new(504, "Timeout", text).with(json!({"causes": causes, "retryAfterSeconds": 1}));
        refusal.retry_after = Some(1);
        refusal
    }

    /// Too many requests at once: text, as the real one writes it.
    pub(crate) fn too_many(seconds: u64) -> Self {
        let text = "Too many requests, please try again later.\n";
        Self { retry_after: Some(seconds), ..Self::plain(429, text) }
    }

    pub(crate) fn unavailable(seconds: u64) -> Self {
        let text = "the request has been made before all known HTTP paths have been installed, please try again";
        let details = json!({"retryAfterSeconds": seconds});
        let mut refusal = Self::new(503, "ServiceUnavailable", text).with(details);
        refusal.retry_after = Some(seconds);
        refusal
    }

    /// The Status object.
    pub(crate) fn status(&self) -> Value {
        let mut metadata = json!({});
        if let Some(token) = &self.continued {
            metadata = json!({"continue": token});
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure", "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = Value::clone(details);
        }
        status
    }

    pub(crate) fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn named(place: &Place, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": place.plural});
    if !place.group.is_empty() {
        details["group"] = place.group.as_str().into();
    }
    details
}

fn of(cause: &Cause) -> Value {
    json!({"reason": cause.reason, "message": cause.message, "field": cause.field})
}
