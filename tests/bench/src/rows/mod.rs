//! The table of what is measured: names, the reference's figures, the goals, and the function of each row.

mod api;
mod pod;
mod runtime;
mod schedule;
mod service;
mod start;

use std::future::Future;
use std::pin::Pin;

use anyhow::{Result, bail};

use crate::side::Target;

/// Measures one row on a cluster: the figure, in the row's unit.
pub type Measure = for<'a> fn(&'a Target) -> Pin<Box<dyn Future<Output = Result<f64>> + 'a>>;

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At least this many times the reference's figure (throughput).
    Times(f64),
    /// At most this much, in the row's unit (time, memory, CPU).
    AtMost(f64),
    /// At least this much, in the row's unit.
    AtLeast(f64),
}

/// What a row needs of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// One that answers, whoever made it.
    Any,
    /// One that was started for the row: its processes are looked at.
    Own,
    /// One that was made for the row and is not started.
    Prepared,
}

/// One thing that is measured.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub unit: &'static str,
    /// Kubernetes 1.36.2 with etcd 3.6.8 and containerd 1.6 on a 2-core machine; none where nothing comparable exists.
    pub reference: Option<f64>,
    pub goal: Goal,
    pub needs: Needs,
    pub measure: Measure,
}

/// Makes a row's function of an async one.
macro_rules! measure {
    ($function:path $(, $argument:expr)*) => {
        |target| Box::pin($function(target $(, $argument)*))
    };
}

pub const ROWS: &[Row] = &[
    Row {
        name: "start/api",
        what: "start to API ready",
        unit: "s",
        reference: Some(2.5),
        goal: Goal::AtMost(0.3),
        needs: Needs::Prepared,
        measure: measure!(start::api_ready),
    },
    Row {
        name: "start/node",
        what: "start to node Ready",
        unit: "s",
        reference: None,
        goal: Goal::AtMost(1.0),
        needs: Needs::Prepared,
        measure: measure!(start::node_ready),
    },
    Row {
        name: "idle/memory",
        what: "idle memory (PSS), control plane and node",
        unit: "MB",
        reference: Some(662.0),
        goal: Goal::AtMost(60.0),
        needs: Needs::Own,
        measure: measure!(start::idle_memory),
    },
    Row {
        name: "idle/cpu",
        what: "idle CPU, all together",
        unit: "% of a core",
        reference: Some(3.8),
        goal: Goal::AtMost(0.5),
        needs: Needs::Own,
        measure: measure!(start::idle_cpu),
    },
    Row {
        name: "create/configmap",
        what: "create ConfigMap, 32 clients over TLS, synced",
        unit: "/s",
        reference: Some(2290.0),
        goal: Goal::Times(5.0),
        needs: Needs::Any,
        measure: measure!(api::create, "configmaps"),
    },
    Row {
        name: "create/pod",
        what: "create Pod, 32 clients over TLS, synced",
        unit: "/s",
        reference: Some(823.0),
        goal: Goal::Times(8.0),
        needs: Needs::Any,
        measure: measure!(api::create, "pods"),
    },
    Row {
        name: "get/configmap",
        what: "GET ConfigMap, 32 clients",
        unit: "/s",
        reference: Some(6141.0),
        goal: Goal::Times(4.0),
        needs: Needs::Any,
        measure: measure!(api::get, "configmaps"),
    },
    Row {
        name: "get/pod",
        what: "GET Pod, 32 clients",
        unit: "/s",
        reference: Some(3057.0),
        goal: Goal::Times(8.0),
        needs: Needs::Any,
        measure: measure!(api::get, "pods"),
    },
    Row {
        name: "list/configmap",
        what: "LIST 3,000 ConfigMaps",
        unit: "/s",
        reference: Some(38.0),
        goal: Goal::Times(10.0),
        needs: Needs::Any,
        measure: measure!(api::list, "configmaps"),
    },
    Row {
        name: "list/pod",
        what: "LIST 3,000 Pods",
        unit: "/s",
        reference: Some(9.4),
        goal: Goal::Times(10.0),
        needs: Needs::Any,
        measure: measure!(api::list, "pods"),
    },
    Row {
        name: "watch/500",
        what: "watch, 500 watchers, delivered",
        unit: "events/s",
        reference: Some(38_900.0),
        goal: Goal::Times(5.0),
        needs: Needs::Any,
        measure: measure!(api::watch, 500),
    },
    Row {
        name: "schedule/deployment",
        what: "2,000-Pod Deployment over 1,000 fake nodes, all bound",
        unit: "Pods/s",
        reference: Some(255.0),
        goal: Goal::Times(8.0),
        needs: Needs::Any,
        measure: measure!(schedule::deployment),
    },
    Row {
        name: "service/first-answer",
        what: "Service create to its first answer, p50",
        unit: "ms",
        reference: Some(500.0),
        goal: Goal::AtMost(50.0),
        needs: Needs::Own,
        measure: measure!(service::first_answer),
    },
    Row {
        name: "pod/start-p50",
        what: "Pod create to Running, image present, p50",
        unit: "ms",
        reference: Some(223.0),
        goal: Goal::AtMost(60.0),
        needs: Needs::Own,
        measure: measure!(pod::start, 50),
    },
    Row {
        name: "pod/start-p99",
        what: "Pod create to Running, image present, p99",
        unit: "ms",
        reference: None,
        goal: Goal::AtMost(120.0),
        needs: Needs::Own,
        measure: measure!(pod::start, 99),
    },
    Row {
        name: "pod/many",
        what: "60 Pods at once, all Running",
        unit: "/s",
        reference: Some(7.0),
        goal: Goal::AtLeast(20.0),
        needs: Needs::Own,
        measure: measure!(pod::many),
    },
    Row {
        name: "pod/delete-p50",
        what: "Pod delete to gone, ends on SIGTERM, p50",
        unit: "ms",
        reference: Some(1180.0),
        goal: Goal::AtMost(100.0),
        needs: Needs::Own,
        measure: measure!(pod::delete, 50),
    },
    Row {
        name: "pod/memory",
        what: "memory per running Pod outside the container",
        unit: "MB",
        reference: Some(15.8),
        goal: Goal::AtMost(1.5),
        needs: Needs::Own,
        measure: measure!(pod::memory),
    },
    Row {
        name: "runtime/start",
        what: "runtime alone, sandbox and container to started",
        unit: "ms",
        reference: None,
        goal: Goal::AtMost(25.0),
        needs: Needs::Prepared,
        measure: measure!(runtime::create_to_started),
    },
];

/// The rows whose names begin with one of the words; all without words.
pub fn chosen(words: &[String]) -> Result<Vec<&'static Row>> {
    if words.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    if let Some(word) = words.iter().find(|word| !ROWS.iter().any(|row| row.name.starts_with(word.as_str()))) {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        bail!("no row begins with {word}; there are {}", names.join(", "));
    }
    Ok(ROWS.iter().filter(|row| words.iter().any(|word| row.name.starts_with(word.as_str()))).collect())
}
