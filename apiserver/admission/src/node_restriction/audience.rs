//! A node gets tokens for the audiences that its Pods name: in projected volumes, or through a CSI driver that asks for
//! them.

use api::{Object, object};
use apiserver_auth::objects::{CSI_DRIVERS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use apiserver_auth::{Attributes, Authorizer, Objects};
use serde_json::Value;

use super::Refusal;
use crate::Request;
use crate::read::{list, spec_list, text};

pub fn check(
    asked: &Object,
    pod: &Object,
    request: &Request<'_>,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<(), Refusal> {
    let audience = match spec_list(asked, "audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or(""),
        _ => return Err("node may only request 0 or 1 audiences".into()),
    };
    if spec_list(pod, "volumes").iter().any(|volume| names(volume, pod, audience, objects)) {
        return Ok(());
    }
    let attributes = Attributes {
        version: "v1",
        namespace: request.namespace,
        name: request.name,
        ..Attributes::resource(request.user, "request-serviceaccounts-token-audience", "", audience)
    };
    if authorizer.authorize(&attributes, objects).is_allowed() {
        return Ok(());
    }
    let user = &request.user.name;
    Err(format!(
        "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this \
         audience"
    )
    .into())
}

fn names(volume: &Value, pod: &Object, audience: &str, objects: &dyn Objects) -> bool {
    let projected = list(volume.get("projected"), "sources").iter().any(|source| {
        let token = source.get("serviceAccountToken").filter(|t| !t.is_null());
        token.is_some_and(|token| text(token, "/audience") == audience)
    });
    projected || driver(volume, pod, objects).is_some_and(|driver| driver_asks(&driver, audience, objects))
}

/// The CSI driver of a volume, itself or through its claim.
fn driver(volume: &Value, pod: &Object, objects: &dyn Objects) -> Option<String> {
    let inline = text(volume, "/csi/driver");
    if !inline.is_empty() {
        return Some(inline.to_owned());
    }
    let claim = if volume.pointer("/ephemeral/volumeClaimTemplate").is_some() {
        format!("{}-{}", object::name(pod), text(volume, "/name"))
    } else {
        text(volume, "/persistentVolumeClaim/claimName").to_owned()
    };
    let claim = objects.get(&PERSISTENT_VOLUME_CLAIMS, object::namespace(pod), &claim)?;
    let bound = objects.get(&PERSISTENT_VOLUMES, "", object::str_at(&claim, &["spec", "volumeName"]))?;
    let driver = object::str_at(&bound, &["spec", "csi", "driver"]);
    (!driver.is_empty()).then(|| driver.to_owned())
}

fn driver_asks(driver: &str, audience: &str, objects: &dyn Objects) -> bool {
    let found = objects.get(&CSI_DRIVERS, "", driver);
    found.is_some_and(|d| spec_list(&d, "tokenRequests").iter().any(|r| text(r, "/audience") == audience))
}
