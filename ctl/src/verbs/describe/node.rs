//! Nodes: their state, and what their Pods ask for.

use api::quantity::Quantity;
use serde_json::Value;

use super::parts::{labels_and_annotations, long_conditions};
use super::text::{Text, is_on, or_none, plain, time};
use super::{Subject, list, name_of};
use crate::session::Query;
use crate::verbs::pods::{items, text};

pub(super) async fn node(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field(0, "Name", subject.name);
    out.field(0, "Roles", or_none(&roles(object)));
    labels_and_annotations(out, object);
    out.field(0, "CreationTimestamp", time(object, "/metadata/creationTimestamp"));
    out.values(
        "Taints",
        items(object, "/spec/taints").map(|taint| {
            let value = match text(taint, "/value") {
                "" => String::new(),
                value => format!("={value}"),
            };
            format!("{}{value}:{}", text(taint, "/key"), text(taint, "/effect"))
        }),
    );
    out.field(0, "Unschedulable", is_on(object, "/spec/unschedulable").to_string());
    lease(out, subject).await;
    long_conditions(out, object, ("LastHeartbeatTime", "/lastHeartbeatTime"));
    out.line(0, "Addresses:");
    for address in items(object, "/status/addresses") {
        out.field(1, text(address, "/type"), text(address, "/address"));
    }
    for (title, pointer) in [("Capacity", "/status/capacity"), ("Allocatable", "/status/allocatable")] {
        if let Some(amounts) = object.pointer(pointer).and_then(Value::as_object) {
            out.line(0, format!("{title}:"));
            amounts.iter().for_each(|(name, amount)| out.field(1, name, plain(amount)));
        }
    }
    out.line(0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        out.field(1, title, text(object, &format!("/status/nodeInfo/{field}")));
    }
    out.field_of(0, "PodCIDR", object, "/spec/podCIDR");
    out.field_of(0, "PodCIDRs", object, "/spec/podCIDRs");
    out.field_of(0, "ProviderID", object, "/spec/providerID");
    pods(out, subject).await;
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ if key == "kubernetes.io/role" => Some(plain(value)),
        _ => None,
    };
    labels.filter_map(role).collect::<Vec<_>>().join(",")
}

async fn lease(out: &mut Text, subject: &Subject<'_>) {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}", subject.name);
    match subject.session.get(&path).await {
        Err(error) => out.field(0, "Lease", format!("Failed to get lease: {error}")),
        Ok(lease) => {
            out.line(0, "Lease:");
            let or_unset = |text: String| if text.is_empty() { "<unset>".to_owned() } else { text };
            out.field(1, "HolderIdentity", or_unset(text(&lease, "/spec/holderIdentity").to_owned()));
            for (title, pointer) in [("AcquireTime", "/spec/acquireTime"), ("RenewTime", "/spec/renewTime")] {
                let shown = if text(&lease, pointer).is_empty() { String::new() } else { time(&lease, pointer) };
                out.field(1, title, or_unset(shown));
            }
        }
    }
}

/// What is asked for and allowed of one resource.
#[derive(Clone, Default)]
struct Asked {
    requests: Quantity,
    limits: Quantity,
}

const RESOURCES: [&str; 5] = ["cpu", "memory", "ephemeral-storage", "hugepages-1Gi", "hugepages-2Mi"];

async fn pods(out: &mut Text, subject: &Subject<'_>) {
    let selector = format!("spec.nodeName={},status.phase!=Failed,status.phase!=Succeeded", subject.name);
    let pods = list(subject.session, "/api/v1/pods", Query::new().with("fieldSelector", selector)).await;
    let Ok(pods) = pods else { return out.field(0, "Pods", "not authorized") };
    let allocatable = |resource: &str| {
        let status =
            subject.object.pointer("/status/allocatable").or_else(|| subject.object.pointer("/status/capacity"));
        let amount = status.and_then(|amounts| amounts.get(resource));
        amount.and_then(|amount| Quantity::from_value(amount).ok()).unwrap_or_default()
    };
    let now = jiff::Timestamp::now().as_second();
    out.field(0, "Non-terminated Pods", format!("({} in total)", pods.len()));
    out.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    out.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let mut totals: Vec<Asked> = vec![Asked::default(); RESOURCES.len()];
    for pod in &pods {
        let asked: Vec<Asked> = RESOURCES.iter().map(|resource| asked(pod, resource)).collect();
        for (total, one) in totals.iter_mut().zip(&asked) {
            total.requests.add(&one.requests);
            total.limits.add(&one.limits);
        }
        let share = |at: usize| {
            let whole = allocatable(RESOURCES[at]);
            format!("{}\t{}", of_whole(&asked[at].requests, &whole), of_whole(&asked[at].limits, &whole))
        };
        let age = api::printer::since(text(pod, "/metadata/creationTimestamp"), now);
        let namespace = text(pod, "/metadata/namespace");
        out.line(1, format!("{namespace}\t{}\t\t{}\t{}\t{age}", name_of(pod), share(0), share(1)));
    }
    out.line(0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)");
    out.line(1, "Resource\tRequests\tLimits\n  --------\t--------\t------");
    for (resource, total) in RESOURCES.iter().zip(&totals) {
        let whole = allocatable(resource);
        let is_known = subject.object.pointer("/status/allocatable").is_some_and(|a| a.get(resource).is_some());
        if resource.starts_with("hugepages") && !is_known {
            continue;
        }
        let (requests, limits) = (of_whole(&total.requests, &whole), of_whole(&total.limits, &whole));
        out.line(1, format!("{resource}\t{requests}\t{limits}"));
    }
}

fn of_whole(part: &Quantity, whole: &Quantity) -> String {
    let percent = match whole.milli_value() {
        0 => 0,
        whole => i128::from(part.milli_value()) * 100 / i128::from(whole),
    };
    format!("{part} ({percent}%)")
}

/// What a Pod asks for: the sum of its containers, or its largest init container, and its overhead.
fn asked(pod: &Value, resource: &str) -> Asked {
    let amount = |container: &Value, which: &str| {
        let found = container.pointer(&format!("/resources/{which}")).and_then(|amounts| amounts.get(resource));
        found.and_then(|amount| Quantity::from_value(amount).ok()).unwrap_or_default()
    };
    let of = |which: &str| {
        let (mut sum, mut sidecars, mut largest) = (Quantity::default(), Quantity::default(), Quantity::default());
        items(pod, "/spec/containers").for_each(|container| sum.add(&amount(container, which)));
        for container in items(pod, "/spec/initContainers") {
            let own = amount(container, which);
            let mut at_once = sidecars.clone();
            at_once.add(&own);
            if text(container, "/restartPolicy") == "Always" {
                sum.add(&own);
                sidecars.add(&own);
            }
            if at_once > largest {
                largest = at_once;
            }
        }
        let mut all = if largest > sum { largest } else { sum };
        if let Some(overhead) = pod.pointer("/spec/overhead").and_then(|overhead| overhead.get(resource))
            && let Ok(overhead) = Quantity::from_value(overhead)
            && (which == "requests" || !all.is_zero())
        {
            all.add(&overhead);
        }
        all
    };
    Asked { requests: of("requests"), limits: of("limits") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_largest_need_at_any_time_counts() {
        let needs = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = needs("50m");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {
            "containers": [needs("100m"), needs("100m")],
            "initContainers": [sidecar, needs("300m")],
        }});
        let asked = asked(&pod, "cpu");
        assert_eq!(of_whole(&asked.requests, &Quantity::new(2, api::quantity::Format::DecimalSi)), "350m (17%)");
        assert!(asked.limits.is_zero());
    }
}
