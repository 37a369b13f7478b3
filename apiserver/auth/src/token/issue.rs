//! TokenRequest: issues a token for a service account, bound to a Pod, Secret or Node.

use api::{FieldError, Gvk, Object, Path, Status, object};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Tokens;
use super::claims::{self, Claims, Kubernetes, Ref};
use crate::objects::{NODES, Objects, PODS, SECRETS, SERVICE_ACCOUNTS};
use crate::user::SERVICE_ACCOUNT_PREFIX;

/// Seconds that a token lives when the request names none.
const DEFAULT_EXPIRATION: i64 = 3600;
const MIN_EXPIRATION: i64 = 600;
const MAX_EXPIRATION: i64 = 1 << 32;
/// What kube-api-access volumes ask for: such a token is extended, so that clients that never reread it go on working.
const WARN_ONLY_EXPIRATION: i64 = 3607;
const EXTENDED_EXPIRATION: i64 = 365 * 24 * 3600;

const GROUP: &str = "authentication.k8s.io";

/// Answers `POST …/serviceaccounts/NAME/token`: the request, defaulted, with its `status` filled in.
///
/// `namespace` and `name` are those of the path. Admission has been asked before.
pub fn issue(
    tokens: &Tokens,
    mut request: Object,
    namespace: &str,
    name: &str,
    now: Timestamp,
    objects: &dyn Objects,
) -> Result<Object, Status> {
    same_as_path(&request, namespace, name)?;
    let account = objects
        .get(&SERVICE_ACCOUNTS, namespace, name)
        .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?;
    let uid = object::uid(&account);
    let asked = object::uid(&request);
    if !asked.is_empty() && asked != uid {
        let why =
            format!("the UID in the token request ({asked}) does not match the UID of the service account ({uid})");
        return Err(Status::conflict(GROUP, "TokenRequest", name, &why));
    }
    complete(&mut request, tokens, (namespace, name, uid), now);
    let expiration = expiration(&request)?;
    let audiences = texts(object::at(&request, &["spec", "audiences"]));
    let mut bound = bind(&request, namespace, name, objects)?;
    bound.serviceaccount = Ref { name: name.to_owned(), uid: uid.to_owned() };

    let mut lifetime = expiration;
    let for_api = audiences.iter().all(|a| tokens.audiences().contains(a));
    if bound.pod.is_some() && expiration == WARN_ONLY_EXPIRATION && for_api {
        bound.warnafter = Some(now.as_second() + expiration);
        lifetime = EXTENDED_EXPIRATION;
    }
    let claims = Claims {
        aud: audiences,
        exp: Some(now.as_second() + lifetime),
        iat: Some(now.as_second()),
        iss: tokens.issuer().to_owned(),
        jti: uuid::Uuid::new_v4().to_string(),
        kubernetes: bound,
        nbf: Some(now.as_second()),
        sub: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
    };
    let token = claims::sign(&claims, tokens.keys())
        .map_err(|e| Status::internal(format_args!("failed to generate token: {e}")))?;
    let expires = rfc3339(now.as_second() + expiration);
    request.insert("status".to_owned(), json!({"token": token, "expirationTimestamp": expires}));
    Ok(request)
}

fn same_as_path(request: &Object, namespace: &str, name: &str) -> Result<(), Status> {
    let metadata = Path::new("metadata");
    for (field, wanted, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
        let found = object::meta_str(request, field);
        if !found.is_empty() && found != wanted {
            let detail = format!("must match the service account {what} if specified");
            let error = FieldError::invalid(&metadata.child(field), found, detail);
            return Err(Status::invalid(&gvk(), name, &[error]));
        }
    }
    Ok(())
}

fn gvk() -> Gvk {
    Gvk::new(GROUP, "v1", "TokenRequest")
}

/// Fills in what the caller left out.
fn complete(request: &mut Object, tokens: &Tokens, account: (&str, &str, &str), now: Timestamp) {
    let metadata = object::metadata_mut(request);
    let (namespace, name, uid) = account;
    for (key, value) in [("name", name), ("namespace", namespace), ("uid", uid)] {
        metadata.insert(key.to_owned(), value.into());
    }
    metadata.insert("creationTimestamp".to_owned(), rfc3339(now.as_second()).into());
    let spec = object::child_mut(request, "spec");
    if texts(spec.get("audiences")).is_empty() {
        spec.insert("audiences".to_owned(), tokens.audiences().into());
    }
    if spec.get("expirationSeconds").is_none_or(Value::is_null) {
        spec.insert("expirationSeconds".to_owned(), DEFAULT_EXPIRATION.into());
    }
}

fn expiration(request: &Object) -> Result<i64, Status> {
    let seconds = object::at(request, &["spec", "expirationSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    let detail = if seconds < MIN_EXPIRATION {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MAX_EXPIRATION {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    let path = Path::new("spec").child("expirationSeconds");
    Err(Status::invalid(&gvk(), "", &[FieldError::invalid(&path, seconds, detail)]))
}

/// Looks up what the token is to be bound to.
fn bind(request: &Object, namespace: &str, account: &str, objects: &dyn Objects) -> Result<Kubernetes, Status> {
    let mut bound = Kubernetes { namespace: namespace.to_owned(), ..Kubernetes::default() };
    let Some(reference) = object::at(request, &["spec", "boundObjectRef"]).and_then(Value::as_object) else {
        return Ok(bound);
    };
    let text = |key: &str| reference.get(key).and_then(Value::as_str).unwrap_or("");
    let (kind, name) = (text("kind"), text("name"));
    let get = |gvr: &api::Gvr, namespace: &str| {
        objects.get(gvr, namespace, name).ok_or_else(|| Status::not_found("", &gvr.resource, name))
    };
    let named = |found: &Object| Ref { name: name.to_owned(), uid: object::uid(found).to_owned() };
    let (group, version) = api::meta::split_api_version(text("apiVersion")).unwrap_or(("", ""));
    let uid = match (group, kind) {
        ("", "Pod") => {
            let pod = get(&PODS, namespace)?;
            if object::str_at(&pod, &["spec", "serviceAccountName"]) != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount \
                     name."
                )));
            }
            bound.node = node_of(&pod, objects);
            bound.pod.insert(named(&pod)).uid.clone()
        }
        ("", "Node") => bound.node.insert(named(&*get(&NODES, "")?)).uid.clone(),
        ("", "Secret") => bound.secret.insert(named(&*get(&SECRETS, namespace)?)).uid.clone(),
        _ => {
            let gvk = Gvk::new(group, version, kind);
            return Err(Status::bad_request(format!("cannot bind token to object of type {gvk}")));
        }
    };
    let asked = text("uid");
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(Status::conflict(group, kind, name, &why));
    }
    Ok(bound)
}

/// The node that a Pod runs on, by name alone when there is no such Node object.
fn node_of(pod: &Object, objects: &dyn Objects) -> Option<Ref> {
    let name = object::str_at(pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return None;
    }
    let uid = objects.get(&NODES, "", name).map(|node| object::uid(&node).to_owned()).unwrap_or_default();
    Some(Ref { name: name.to_owned(), uid })
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Unix seconds as `metav1.Time` writes them.
fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default()
}
