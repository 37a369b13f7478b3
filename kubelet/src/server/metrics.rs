//! `/metrics` and `/metrics/resource` in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use crate::agent::Agent;
use crate::spec;

use super::route::{Answer, text};
use super::stats;

/// Text that is being written, one family after another.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, args: std::fmt::Arguments<'_>) {
        self.0.write_fmt(args).unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
    }

    fn answer(self) -> Answer {
        let mut answer = text(StatusCode::OK, self.0);
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        answer
    }
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// What containers, Pods and the node use: what metrics-server reads.
pub(super) async fn resource(agent: &Arc<Agent>) -> Answer {
    let usage = match stats::usage(agent).await {
        Ok(usage) => usage,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let now = jiff::Timestamp::now().as_millisecond();
    let mut out = Text::default();
    out.family("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds");
    out.line(format_args!("node_cpu_usage_seconds_total {} {now}\n", seconds(stats::node_cpu_nanos())));
    out.family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
    out.line(format_args!("node_memory_working_set_bytes {} {now}\n", stats::node_memory().1));
    out.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    for pod in &usage {
        let (namespace, name) = (spec::namespace(&pod.snapshot.pod), spec::name(&pod.snapshot.pod));
        for c in &pod.containers {
            let value = seconds(c.cpu_usage_nanos);
            let labels = format!("container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"", c.name);
            out.line(format_args!("container_cpu_usage_seconds_total{{{labels}}} {value} {now}\n"));
        }
    }
    out.family("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes");
    for pod in &usage {
        let (namespace, name) = (spec::namespace(&pod.snapshot.pod), spec::name(&pod.snapshot.pod));
        for c in &pod.containers {
            let value = c.memory_working_set_bytes;
            let labels = format!("container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"", c.name);
            out.line(format_args!("container_memory_working_set_bytes{{{labels}}} {value} {now}\n"));
        }
    }
    out.family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds");
    for pod in &usage {
        let (namespace, name) = (spec::namespace(&pod.snapshot.pod), spec::name(&pod.snapshot.pod));
        for c in &pod.containers {
            let Some(started) = stats::started_at(pod, &c.id).and_then(|at| u64::try_from(at).ok()) else { continue };
            let labels = format!("container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"", c.name);
            out.line(format_args!("container_start_time_seconds{{{labels}}} {}\n", seconds(started)));
        }
    }
    pods(&usage, now, &mut out);
    out.family(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    out.line(format_args!("resource_scrape_error 0\n"));
    out.answer()
}

fn pods(usage: &[stats::PodUsage], now: i64, out: &mut Text) {
    out.family("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds");
    for pod in usage {
        let (namespace, name) = (spec::namespace(&pod.snapshot.pod), spec::name(&pod.snapshot.pod));
        let value = seconds(pod.containers.iter().map(|c| c.cpu_usage_nanos).sum());
        out.line(format_args!(
            "pod_cpu_usage_seconds_total{{namespace=\"{namespace}\",pod=\"{name}\"}} {value} {now}\n"
        ));
    }
    out.family("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    for pod in usage {
        let (namespace, name) = (spec::namespace(&pod.snapshot.pod), spec::name(&pod.snapshot.pod));
        let value: u64 = pod.containers.iter().map(|c| c.memory_working_set_bytes).sum();
        out.line(format_args!(
            "pod_memory_working_set_bytes{{namespace=\"{namespace}\",pod=\"{name}\"}} {value} {now}\n"
        ));
    }
}

/// The kubelet's own numbers.
pub(super) async fn kubelet(agent: &Arc<Agent>) -> Answer {
    let snapshots: Vec<_> = agent.pods.all().iter().map(|e| e.snapshot()).collect();
    let running = snapshots.iter().filter(|s| s.active).count();
    let mut states = [("created", 0), ("running", 0), ("exited", 0), ("unknown", 0)];
    for container in snapshots.iter().flat_map(|s| &s.containers) {
        use kubelet_runtime::cri::ContainerState::{Created, Exited, Running, Unknown};
        let at = match container.state {
            Created => 0,
            Running => 1,
            Exited => 2,
            Unknown => 3,
        };
        states[at].1 += 1;
    }
    let mut out = Text::default();
    out.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    out.line(format_args!("kubelet_node_name{{node=\"{}\"}} 1\n", agent.config.node_name));
    out.family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
    out.line(format_args!("kubelet_running_pods {running}\n"));
    out.family("kubelet_running_containers", "gauge", "Number of containers currently running");
    for (state, count) in states {
        out.line(format_args!("kubelet_running_containers{{container_state=\"{state}\"}} {count}\n"));
    }
    out.answer()
}
