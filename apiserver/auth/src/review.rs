//! Reviews: requests that ask the API server who someone is or what they may do. Each is a function from the object
//! that was posted to the object that is answered; nothing is stored.

use std::borrow::Cow;

use api::{FieldError, Gvk, Object, Path, Status, object};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::authn::Authenticator;
use crate::authorize::{Attributes, Authorizer, Decision};
use crate::objects::Objects;
use crate::rbac::{Rbac, Rule};
use crate::user::UserInfo;

const AUTHORIZATION: &str = "authorization.k8s.io";

/// A user as reviews show it (`authentication.k8s.io/v1 UserInfo`).
pub fn user_json(user: &UserInfo) -> Value {
    let mut shown = Map::new();
    let mut put = |key: &str, empty: bool, value: Value| {
        if !empty {
            shown.insert(key.to_owned(), value);
        }
    };
    put("username", user.name.is_empty(), user.name.as_str().into());
    put("uid", user.uid.is_empty(), user.uid.as_str().into());
    put("groups", user.groups.is_empty(), json!(user.groups));
    put("extra", user.extra.is_empty(), json!(user.extra));
    Value::Object(shown)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `authentication.k8s.io/v1 TokenReview`.
pub fn token_review(
    mut review: Object,
    authenticator: &Authenticator,
    now: Timestamp,
    objects: &dyn Objects,
) -> Result<Object, Status> {
    let token = object::str_at(&review, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let wanted = texts(object::at(&review, &["spec", "audiences"]));
    let status = match authenticator.token(token, &wanted, now, objects) {
        Ok(Some(verified)) => json!({
            "authenticated": true,
            "user": user_json(&verified.user),
            "audiences": verified.audiences,
        }),
        Ok(None) => json!({"user": {}, "error": "invalid bearer token"}),
        Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    };
    review.insert("status".to_owned(), status);
    Ok(review)
}

/// `authentication.k8s.io/v1 SelfSubjectReview`.
pub fn self_subject_review(mut review: Object, user: &UserInfo, now: Timestamp) -> Object {
    let created = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    object::metadata_mut(&mut review).insert("creationTimestamp".to_owned(), created.into());
    review.insert("status".to_owned(), json!({"userInfo": user_json(user)}));
    review
}

/// `authorization.k8s.io/v1 SubjectAccessReview`.
pub fn subject_access_review(
    review: Object,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<Object, Status> {
    let mut errors = check_spec(&review);
    if object::str_at(&review, &["spec", "user"]).is_empty()
        && texts(object::at(&review, &["spec", "groups"])).is_empty()
    {
        let path = Path::new("spec").child("user");
        errors.push(FieldError::invalid(&path, "", "at least one of user or group must be specified"));
    }
    check_metadata(&review, &[], &mut errors);
    refuse(errors)?;
    let user = user_of(&review);
    Ok(decide(review, &user, authorizer, objects))
}

/// `authorization.k8s.io/v1 LocalSubjectAccessReview`; `namespace` is the path's.
pub fn local_subject_access_review(
    review: Object,
    namespace: &str,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<Object, Status> {
    let mut errors = check_spec(&review);
    if object::str_at(&review, &["spec", "user"]).is_empty()
        && texts(object::at(&review, &["spec", "groups"])).is_empty()
    {
        let path = Path::new("spec").child("user");
        errors.push(FieldError::invalid(&path, "", "at least one of user or group must be specified"));
    }
    check_metadata(&review, &["namespace"], &mut errors);
    if attributes(&review, "resourceAttributes").is_some() {
        let asked = object::str_at(&review, &["spec", "resourceAttributes", "namespace"]);
        if asked != namespace {
            let path = Path::new("spec.resourceAttributes.namespace");
            errors.push(FieldError::invalid(&path, asked, "must match metadata.namespace"));
        }
    }
    if let Some(other) = attributes(&review, "nonResourceAttributes") {
        let path = Path::new("spec.nonResourceAttributes");
        errors.push(FieldError::invalid(&path, shown(other), "disallowed on this kind of request"));
    }
    refuse(errors)?;
    let user = user_of(&review);
    Ok(decide(review, &user, authorizer, objects))
}

/// `authorization.k8s.io/v1 SelfSubjectAccessReview`.
pub fn self_subject_access_review(
    review: Object,
    user: &UserInfo,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<Object, Status> {
    let mut errors = check_spec(&review);
    check_metadata(&review, &[], &mut errors);
    refuse(errors)?;
    Ok(decide(review, user, authorizer, objects))
}

/// `authorization.k8s.io/v1 SelfSubjectRulesReview`. What the Node authorizer grants cannot be enumerated.
pub fn self_subject_rules_review(mut review: Object, user: &UserInfo, rbac: &Rbac) -> Result<Object, Status> {
    let namespace = object::str_at(&review, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, mut errors) = rbac.rules_for(user, namespace);
    let is_node = user.node_name().is_some();
    if is_node {
        errors.insert(0, "node authorizer does not support user rule resolution".to_owned());
    }
    let mut status = json!({
        "resourceRules": rules.iter().filter(|r| !r.resources.is_empty()).map(resource_rule).collect::<Vec<_>>(),
        "nonResourceRules": rules.iter().filter(|r| !r.non_resource_urls.is_empty()).map(path_rule).collect::<Vec<_>>(),
        "incomplete": is_node,
    });
    match errors.as_slice() {
        [] => {}
        [one] => status["evaluationError"] = json!(one),
        many => status["evaluationError"] = json!(format!("[{}]", many.join(", "))),
    }
    review.insert("spec".to_owned(), json!({}));
    review.insert("status".to_owned(), status);
    Ok(review)
}

fn resource_rule(rule: &Rule) -> Value {
    let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
    if !rule.resource_names.is_empty() {
        shown["resourceNames"] = json!(rule.resource_names);
    }
    shown
}

fn path_rule(rule: &Rule) -> Value {
    json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls})
}

fn attributes<'a>(review: &'a Object, key: &str) -> Option<&'a Object> {
    object::at(review, &["spec", key]).and_then(Value::as_object)
}

/// Non-resource attributes as upstream's messages show them.
fn shown(attributes: &Object) -> Value {
    let text = |key: &str| attributes.get(key).and_then(Value::as_str).unwrap_or("");
    json!({"Path": text("path"), "Verb": text("verb")})
}

fn check_spec(review: &Object) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let (of_resource, of_path) =
        (attributes(review, "resourceAttributes"), attributes(review, "nonResourceAttributes"));
    match (of_resource, of_path) {
        (Some(_), Some(path)) => vec![FieldError::invalid(
            &spec.child("nonResourceAttributes"),
            shown(path),
            "cannot be specified in combination with resourceAttributes",
        )],
        (None, None) => vec![FieldError::invalid(
            &spec.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )],
        (Some(attributes), None) => {
            let mut errors = Vec::new();
            check_selector(attributes, "fieldSelector", &mut errors);
            check_selector(attributes, "labelSelector", &mut errors);
            errors
        }
        (None, Some(_)) => Vec::new(),
    }
}

fn check_selector(attributes: &Object, key: &str, errors: &mut Vec<FieldError>) {
    let Some(selector) = attributes.get(key).and_then(Value::as_object) else { return };
    let path = Path::new("spec.resourceAttributes").child(key);
    let raw = selector.get("rawSelector").and_then(Value::as_str).unwrap_or("");
    let requirements = selector.get("requirements").and_then(Value::as_array).is_some_and(|r| !r.is_empty());
    if !raw.is_empty() && requirements {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&path.child("rawSelector"), raw, why));
    }
    if raw.is_empty() && !requirements {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&path.child("requirements"), why));
    }
}

/// Reviews have no metadata but what the pipeline itself writes.
fn check_metadata(review: &Object, allowed: &[&str], errors: &mut Vec<FieldError>) {
    let Some(metadata) = object::metadata(review) else { return };
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let extra =
        metadata.iter().any(|(key, value)| key != "managedFields" && !allowed.contains(&key.as_str()) && !empty(value));
    if extra {
        let why = if allowed.is_empty() { "must be empty" } else { "must be empty except for namespace" };
        errors.push(FieldError::invalid(&Path::new("metadata"), Value::Object(metadata.clone()), why));
    }
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    // Upstream names no kind here.
    Err(Status::invalid(&Gvk::new(AUTHORIZATION, "v1", ""), "", &errors))
}

/// The user that a review is about.
fn user_of(review: &Object) -> UserInfo {
    let extra = object::at(review, &["spec", "extra"]).and_then(Value::as_object);
    UserInfo {
        name: object::str_at(review, &["spec", "user"]).to_owned(),
        uid: object::str_at(review, &["spec", "uid"]).to_owned(),
        groups: texts(object::at(review, &["spec", "groups"])),
        extra: extra.into_iter().flatten().map(|(key, values)| (key.clone(), texts(Some(values)))).collect(),
    }
}

fn decide(mut review: Object, user: &UserInfo, authorizer: &dyn Authorizer, objects: &dyn Objects) -> Object {
    let decision = {
        let empty = Map::new();
        let of_path = attributes(&review, "nonResourceAttributes");
        let asked = attributes(&review, "resourceAttributes").or(of_path).unwrap_or(&empty);
        let text = |key: &str| asked.get(key).and_then(Value::as_str).unwrap_or("");
        let selector = field_selector(asked);
        let attributes = if of_path.is_some() {
            Attributes::path(user, text("verb"), text("path"))
        } else {
            Attributes {
                version: if text("version").is_empty() { "*" } else { text("version") },
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
                field_selector: &selector,
                ..Attributes::resource(user, text("verb"), text("group"), text("resource"))
            }
        };
        authorizer.authorize(&attributes, objects)
    };
    let mut status = json!({"allowed": decision.is_allowed()});
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    review.insert("status".to_owned(), status);
    review
}

/// The field selector of resource attributes as a query would have it; requirements that no query can say are left out,
/// which makes the request wider and so harder to allow.
fn field_selector(attributes: &Object) -> Cow<'_, str> {
    let Some(selector) = attributes.get("fieldSelector") else { return Cow::Borrowed("") };
    if let Some(raw) = selector.get("rawSelector").and_then(Value::as_str).filter(|raw| !raw.is_empty()) {
        return Cow::Borrowed(raw);
    }
    let requirements = selector.get("requirements").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let terms: Vec<String> = requirements.iter().filter_map(term).collect();
    Cow::Owned(terms.join(","))
}

fn term(requirement: &Value) -> Option<String> {
    let key = requirement.get("key")?.as_str()?;
    let values = texts(requirement.get("values"));
    let [value] = values.as_slice() else { return None };
    match requirement.get("operator")?.as_str()? {
        "In" => Some(format!("{key}={value}")),
        "NotIn" => Some(format!("{key}!={value}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
