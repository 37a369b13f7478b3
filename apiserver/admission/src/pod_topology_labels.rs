//! PodTopologyLabels: a Pod carries zone and region of the node that it is bound to.

use api::{Gvr, Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::objects::NODES;

use crate::read::meta_map;
use crate::{Operation, Plugin, Request};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Create
            && gvr.group.is_empty()
            && gvr.resource == "pods"
            && matches!(subresource, "" | "binding")
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(object) = &mut request.object else { return Ok(()) };
        let name = node_name(object, request.subresource);
        let Some(node) = objects.get(&NODES, "", name).filter(|_| !name.is_empty()) else { return Ok(()) };
        for label in LABELS {
            if let Some(value) = meta_map(&node, "labels").and_then(|labels| labels.get(label)) {
                let labels = object::child_mut(object::metadata_mut(object), "labels");
                labels.insert(label.to_owned(), value.clone());
            }
        }
        Ok(())
    }
}

/// The node of a Pod or of a Binding, whose labels the Pod takes over.
fn node_name<'a>(object: &'a Object, subresource: &str) -> &'a str {
    match subresource {
        "binding" if object::str_at(object, &["target", "kind"]) == "Node" => {
            object::str_at(object, &["target", "name"])
        }
        "binding" => "",
        _ => object::str_at(object, &["spec", "nodeName"]),
    }
}
