//! DefaultStorageClass and DefaultIngressClass: what names no class gets the default one, the newest where there are
//! several.

use std::cmp::Reverse;

use api::{Gvr, Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::objects::{INGRESS_CLASSES, STORAGE_CLASSES};

use crate::read::{annotation, has_spec};
use crate::{Operation, Plugin, Request};

/// The name of the default class of a resource.
fn default_class(gvr: &Gvr, marks: &[&str], objects: &dyn Objects) -> Option<String> {
    let is_default = |class: &Object| marks.iter().any(|mark| annotation(class, mark) == Some("true"));
    let mut classes = objects.list(gvr, "");
    classes.retain(|class| is_default(class));
    let newest = classes.iter().min_by_key(|class| {
        // RFC 3339 in UTC sorts as text.
        (Reverse(object::meta_str(class, "creationTimestamp").to_owned()), object::name(class).to_owned())
    })?;
    Some(object::name(newest).to_owned())
}

fn set(request: &mut Request<'_>, field: &str, class: Option<String>) {
    if let (Some(object), Some(class)) = (&mut request.object, class) {
        object::child_mut(object, "spec").insert(field.to_owned(), class.into());
    }
}

pub struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Create
            && gvr.group.is_empty()
            && gvr.resource == "persistentvolumeclaims"
            && subresource.is_empty()
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(claim) = &request.object else { return Ok(()) };
        if has_spec(claim, "storageClassName") || annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some()
        {
            return Ok(());
        }
        let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        let class = default_class(&STORAGE_CLASSES, &marks, objects);
        set(request, "storageClassName", class);
        Ok(())
    }
}

pub struct DefaultIngressClass;

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Create
            && gvr.group == "networking.k8s.io"
            && gvr.resource == "ingresses"
            && subresource.is_empty()
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(ingress) = &request.object else { return Ok(()) };
        if has_spec(ingress, "ingressClassName") || annotation(ingress, "kubernetes.io/ingress.class").is_some() {
            return Ok(());
        }
        let class = default_class(&INGRESS_CLASSES, &["ingressclass.kubernetes.io/is-default-class"], objects);
        set(request, "ingressClassName", class);
        Ok(())
    }
}
