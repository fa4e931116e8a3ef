//! What is asked and not kept: whose a token is, whether somebody may do something, who one is; and new tokens.

use serde_json::{Value, json};

use crate::ask::Asked;
use crate::auth::{self, Attributes, User};
use crate::kinds::Place;
use crate::refusal::{Cause, Refusal};
use crate::reply::Reply;
use crate::server::{Found, Server, locked};
use crate::tokens::{self, Bound, ISSUER};
use crate::write::{body, now};

/// Longest and shortest life of a token that may be asked for.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

/// Answers a review.
pub(crate) fn answer(server: &Server, found: &Found, asked: &Asked) -> Result<Reply, Refusal> {
    if found.name.is_some() {
        return Err(Refusal::method_not_allowed());
    }
    let mut object = body(asked, found)?;
    object["kind"] = found.kind.name.as_str().into();
    object["apiVersion"] = found.api_version().into();
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["status"] = match found.kind.name.as_str() {
        "TokenReview" => token_review(server, &object)?,
        "SelfSubjectReview" => {
            object["metadata"]["creationTimestamp"] = now().into();
            json!({"userInfo": asked.user.info()})
        }
        "SelfSubjectAccessReview" => access_review(server, &asked.user, &object)?,
        _ => {
            let text = |key: &str| object["spec"][key].as_str().unwrap_or_default().to_owned();
            let groups = object["spec"]["groups"].as_array().into_iter().flatten();
            let groups = groups.filter_map(|g| g.as_str().map(str::to_owned)).collect();
            let user = User { name: text("user"), groups, ..User::default() };
            access_review(server, &user, &object)?
        }
    };
    Ok(Reply::value(201, &object))
}

fn token_review(server: &Server, object: &Value) -> Result<Value, Refusal> {
    let token = object["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Refusal::bad_request("token is required for TokenReview in authentication"));
    }
    let given = object["spec"]["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> = given.filter_map(|a| a.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let known = locked(&server.tokens).get(token).cloned();
    let reviewed = match known {
        Some(user) if audiences.iter().any(|a| a == ISSUER) => Ok((user, vec![ISSUER.to_owned()])),
        Some(_) => Err("invalid bearer token".to_owned()),
        None => tokens::review(&server.signer, &server.store(), token, &audiences),
    };
    Ok(match reviewed {
        Ok((user, audiences)) => json!({"authenticated": true, "user": user.info(), "audiences": audiences}),
        Err(why) => json!({"user": {}, "error": why}),
    })
}

fn access_review(server: &Server, user: &User, object: &Value) -> Result<Value, Refusal> {
    let spec = &object["spec"];
    let resource = &spec["resourceAttributes"];
    let other = &spec["nonResourceAttributes"];
    if resource.is_object() == other.is_object() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let cause = Cause::invalid("spec.resourceAttributes", &Value::Null, why);
        let refusal = Refusal::invalid_as("authorization.k8s.io", "", "", &[cause]);
        return Err(refusal);
    }
    let text = |at: &Value, key: &str| at[key].as_str().unwrap_or_default().to_owned();
    let attributes = if resource.is_object() {
        Attributes {
            verb: text(resource, "verb"),
            place: Place::new(&text(resource, "group"), &text(resource, "resource")),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: None,
        }
    } else {
        Attributes { verb: text(other, "verb"), path: Some(text(other, "path")), ..Attributes::default() }
    };
    Ok(match auth::allowed(&server.store(), user, &attributes) {
        None => json!({"allowed": false}),
        Some(why) if why.is_empty() => json!({"allowed": true}),
        Some(why) => json!({"allowed": true, "reason": why}),
    })
}

/// A token of a service account.
pub(crate) fn token_request(server: &Server, found: &Found, asked: &Asked) -> Result<Reply, Refusal> {
    let mut object = body(asked, found)?;
    let namespace = found.namespace().to_owned();
    let name = found.name.clone().unwrap_or_default();
    let spec = &mut object["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
    let fault = if seconds < SHORTEST {
        Some("may not specify a duration less than 10 minutes")
    } else if seconds > LONGEST {
        Some("may not specify a duration larger than 2^32 seconds")
    } else {
        None
    };
    if let Some(why) = fault {
        let cause = Cause::invalid("spec.expirationSeconds", &json!(seconds), why);
        return Err(Refusal::invalid_as("authentication.k8s.io", "TokenRequest", "", &[cause]));
    }
    spec["expirationSeconds"] = seconds.into();
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        spec["audiences"] = json!([ISSUER]);
    }
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> = audiences.filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let place = Place::new("", "serviceaccounts");
    let account = server.store().get(&place, &namespace, &name).ok_or_else(|| Refusal::not_found(&place, &name))?;
    let bound = bound(server, &namespace, &name, &spec["boundObjectRef"])?;
    if spec["boundObjectRef"].is_null() {
        spec["boundObjectRef"] = Value::Null;
    }
    let claims = tokens::claims((&namespace, &name, &account.uid), &audiences, seconds, &bound);
    let token = server.signer.sign(&claims).ok_or_else(|| Refusal::internal("no key to sign with"))?;
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    object["status"] = json!({"token": token, "expirationTimestamp": ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    object["kind"] = "TokenRequest".into();
    object["apiVersion"] = "authentication.k8s.io/v1".into();
    object["metadata"] = json!({"name": name, "namespace": namespace, "uid": account.uid, "creationTimestamp": now()});
    Ok(Reply::value(201, &object))
}

fn bound(server: &Server, namespace: &str, account: &str, reference: &Value) -> Result<Bound, Refusal> {
    if reference["kind"] != "Pod" {
        return Ok(Bound::default());
    }
    let name = reference["name"].as_str().unwrap_or_default();
    let place = Place::new("", "pods");
    let store = server.store();
    let pod = store.get(&place, namespace, name).ok_or_else(|| Refusal::not_found(&place, name))?;
    let object = pod.value();
    if object.pointer("/spec/serviceAccountName").and_then(Value::as_str) != Some(account) {
        return Err(Refusal::bad_request(format!(
            "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
        )));
    }
    if let Some(uid) = reference["uid"].as_str().filter(|uid| *uid != pod.uid) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Refusal::conflict(&Place::new("", "Pod"), name, &why));
    }
    let node = object.pointer("/spec/nodeName").and_then(Value::as_str).and_then(|node| {
        let found = store.get(&Place::new("", "nodes"), "", node)?;
        Some((node.to_owned(), found.uid.clone()))
    });
    Ok(Bound { pod: Some((name.to_owned(), pod.uid.clone())), node })
}
