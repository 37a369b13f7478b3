//! What a node asks for in the name of its Pods: tokens and certificates; and its own certificates.

use api::{Object, Reason, Status, object};
use apiserver_auth::node::references;
use apiserver_auth::objects::{NODES, PODS, SERVICE_ACCOUNTS};
use apiserver_auth::pki::csr;
use apiserver_auth::{Authorizer, Objects};
use serde_json::{Value, json};

use super::{Refusal, audience};
use crate::certificates::pem;
use crate::{Operation, Request};

/// A token must be bound to a Pod of the node, and be for an audience that the Pod names.
pub fn token(
    node: &str,
    request: &Request<'_>,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<(), Refusal> {
    let Some(asked) = request.object.as_ref().filter(|_| request.operation == Operation::Create) else { return Ok(()) };
    let none = json!({});
    let reference = object::at(asked, &["spec", "boundObjectRef"]).unwrap_or(&none);
    let text = |key: &str| reference.get(key).and_then(Value::as_str).unwrap_or("");
    let (name, uid) = (text("name"), text("uid"));
    if text("apiVersion") != "v1" || text("kind") != "Pod" || name.is_empty() {
        return Err("node requested token not bound to a pod".into());
    }
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".into());
    }
    let pod = objects.get(&PODS, request.namespace, name).ok_or_else(|| Status::not_found("", "pods", name))?;
    if object::uid(&pod) != uid {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        )
        .into());
    }
    if object::str_at(&pod, &["spec", "nodeName"]) != node {
        return Err("node requested token bound to a pod scheduled on a different node".into());
    }
    audience::check(asked, &pod, request, authorizer, objects)
}

/// A node asks for its own certificates only.
pub fn certificate(node: &str, request: &Request<'_>) -> Result<(), Refusal> {
    let Some(asked) = request.object.as_ref().filter(|_| request.operation == Operation::Create) else { return Ok(()) };
    let signer = object::str_at(asked, &["spec", "signerName"]);
    if signer != csr::SIGNER_KUBELET_SERVING && signer != csr::SIGNER_KUBELET_CLIENT {
        return Ok(());
    }
    let parsed = csr::Request::from_pem(&pem(asked)).map_err(|why| format!("unable to parse csr: {why}"))?;
    if parsed.common_name != request.user.name {
        return Err(format!("can only create a node CSR with CN=system:node:{node}").into());
    }
    Ok(())
}

/// What cannot be found or differs may be there a moment later; the node is to try again, so it is no 403.
fn again(why: String) -> Refusal {
    Status::failure(Reason::InternalError, why).into()
}

/// A Pod's certificate is asked for by the Pod's node, for the Pod's account.
pub fn pod_certificate(node: &str, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
    let Some(asked) = request.object.as_ref().filter(|_| request.operation == Operation::Create) else {
        return Err(format!("unexpected operation {}", request.operation.as_str()).into());
    };
    if !request.subresource.is_empty() {
        return Err(format!("unexpected subresource {}", request.subresource).into());
    }
    let spec = |key: &str| object::str_at(asked, &["spec", key]);
    if spec("nodeName") != node {
        let named = spec("nodeName");
        let why = format!("PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}");
        return Err(why.into());
    }
    let shown = format!("{}/{}", request.namespace, spec("podName"));
    let found = objects.get(&NODES, "", node).ok_or_else(|| {
        again(format!("while retrieving node {node:?} named in the PodCertificateRequest: node {node:?} not found"))
    })?;
    same_uid(spec("nodeUID"), &found, |claimed, uid| {
        format!(
            "PodCertificateRequest for pod {shown:?} names node UID {claimed:?}, inconsistent with the running node \
             ({uid:?})"
        )
    })?;
    let pod = objects.get(&PODS, request.namespace, spec("podName")).ok_or_else(|| {
        let name = spec("podName");
        again(format!("while retrieving pod {shown:?} named in the PodCertificateRequest: pod {name:?} not found"))
    })?;
    same_uid(spec("podUID"), &pod, |claimed, uid| {
        format!(
            "PodCertificateRequest for pod {shown:?} contains pod UID ({claimed:?}) which differs from running pod \
             {uid:?}"
        )
    })?;
    if object::str_at(&pod, &["spec", "nodeName"]) != node {
        return Err(format!("pod {shown:?} is not running on node {node:?} named in the PodCertificateRequest").into());
    }
    if references::is_mirror(&pod) {
        return Err(format!("pod {shown:?} is a mirror pod").into());
    }
    account(request, asked, &pod, &shown, objects)
}

fn account(
    request: &Request<'_>,
    asked: &Object,
    pod: &Object,
    shown: &str,
    objects: &dyn Objects,
) -> Result<(), Refusal> {
    let name = object::str_at(asked, &["spec", "serviceAccountName"]);
    let actual = object::str_at(pod, &["spec", "serviceAccountName"]);
    if name != actual {
        return Err(format!(
            "PodCertificateRequest for pod {shown:?} contains serviceAccountName ({name:?}) that differs from running \
             pod ({actual:?})"
        )
        .into());
    }
    let full = format!("{}/{name}", request.namespace);
    let found = objects.get(&SERVICE_ACCOUNTS, request.namespace, name).ok_or_else(|| {
        again(format!(
            "while retrieving service account {full:?} named in the PodCertificateRequest: serviceaccount {name:?} \
             not found"
        ))
    })?;
    same_uid(object::str_at(asked, &["spec", "serviceAccountUID"]), &found, |claimed, uid| {
        format!(
            "PodCertificateRequest for pod {shown:?} names service account UID {claimed:?}, which differs from the \
             running service account ({uid:?})"
        )
    })
}

fn same_uid(claimed: &str, found: &Object, why: impl FnOnce(&str, &str) -> String) -> Result<(), Refusal> {
    let uid = object::uid(found);
    if claimed == uid { Ok(()) } else { Err(again(why(claimed, uid))) }
}
