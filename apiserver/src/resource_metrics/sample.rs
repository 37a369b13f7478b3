//! What a kubelet's `/metrics/resource` says at one moment, and what two moments say together. Pure.

use std::collections::HashMap;
use std::time::Duration;

/// Counters of one node or container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// When it was measured, in Unix milliseconds.
    pub at: i64,
    /// CPU time used so far, in nanoseconds.
    pub cpu: u64,
    /// Working set, in bytes.
    pub memory: u64,
    /// When the container started, in Unix milliseconds.
    pub started: Option<i64>,
}

/// Namespace and name of a Pod.
pub type PodName = (String, String);

/// Everything that a kubelet says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub node: Point,
    pub pods: HashMap<PodName, HashMap<String, Point>>,
}

/// What something uses, over a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The end of the window, in Unix milliseconds.
    pub at: i64,
    pub window: Duration,
    /// Billionths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

/// What a node and its Pods use. Pods are left out when one of their containers cannot be said yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    pub node: Option<Usage>,
    pub pods: HashMap<PodName, Vec<(String, Usage)>>,
}

/// Reads Prometheus' text format. Lines that are none of ours, and what has no time, are passed over; what has none of
/// its own was measured `now`, in Unix milliseconds.
pub fn parse(text: &str, now: i64) -> Sample {
    let mut sample = Sample::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value, at)) = parts(line, now) else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let point = match name {
            "node_cpu_usage_seconds_total" | "node_memory_working_set_bytes" => &mut sample.node,
            _ if name.starts_with("container_") => {
                let label = |name| label(labels, name).map(str::to_owned);
                let (Some(namespace), Some(pod), Some(container)) =
                    (label("namespace"), label("pod"), label("container"))
                else {
                    continue;
                };
                sample.pods.entry((namespace, pod)).or_default().entry(container).or_default()
            }
            _ => continue,
        };
        match name {
            "node_cpu_usage_seconds_total" | "container_cpu_usage_seconds_total" => {
                // Of both figures the time of CPU use counts: a rate is made of it.
                (point.cpu, point.at) = ((value * 1e9) as u64, at);
            }
            "node_memory_working_set_bytes" | "container_memory_working_set_bytes" => point.memory = value as u64,
            "container_start_time_seconds" => point.started = Some((value * 1e3) as i64),
            _ => {}
        }
    }
    for containers in sample.pods.values_mut() {
        containers.retain(|_, point| point.at > 0 && point.memory > 0);
    }
    sample.pods.retain(|_, containers| !containers.is_empty());
    sample
}

/// Name with labels, value and time of a line.
fn parts(line: &str, now: i64) -> Option<(&str, f64, i64)> {
    let end = line.find('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
    let (series, rest) = line.split_at(end);
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let at = words.next().map_or(Ok(now), str::parse).ok()?;
    Some((series, value, at))
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.trim_end_matches('}').split(',').find_map(|label| {
        let (key, value) = label.split_once('=')?;
        (key.trim() == name).then(|| value.trim_matches('"'))
    })
}

/// What is used between two points; `None` when they don't belong together.
fn usage(before: &Point, now: &Point) -> Option<Usage> {
    let millis = u64::try_from(now.at.checked_sub(before.at)?).ok().filter(|millis| *millis > 0)?;
    let cpu = now.cpu.checked_sub(before.cpu)?;
    let rate = u128::from(cpu) * 1000 / u128::from(millis);
    Some(Usage {
        at: now.at,
        window: Duration::from_millis(millis),
        cpu: u64::try_from(rate).unwrap_or(u64::MAX),
        memory: now.memory,
    })
}

/// The point from which a container is measured: its last one, or its start when that was later.
fn base(before: Option<&Point>, now: &Point) -> Option<Point> {
    match (before, now.started) {
        (Some(before), Some(started)) if started <= before.at => Some(*before),
        (Some(before), None) => Some(*before),
        (_, Some(started)) => Some(Point { at: started, ..Point::default() }),
        (None, None) => None,
    }
}

/// What is used between two samples.
pub fn measured(before: &Sample, now: &Sample) -> Measured {
    let nothing = HashMap::new();
    let mut measured = Measured { node: usage(&before.node, &now.node), pods: HashMap::new() };
    for (pod, containers) in &now.pods {
        let earlier = before.pods.get(pod).unwrap_or(&nothing);
        let each = containers.iter().map(|(name, point)| {
            let base = base(earlier.get(name), point)?;
            Some((name.clone(), usage(&base, point)?))
        });
        if let Some(mut each) = each.collect::<Option<Vec<_>>>() {
            each.sort_by(|a, b| a.0.cmp(&b.0));
            measured.pods.insert(pod.clone(), each);
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const TEXT: &str = "\
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container=\"app\",namespace=\"default\",pod=\"web\"} 4.5 2000
container_memory_working_set_bytes{container=\"app\",namespace=\"default\",pod=\"web\"} 1.048576e+06 2000
container_start_time_seconds{container=\"app\",namespace=\"default\",pod=\"web\"} 0.5
container_swap_usage_bytes{container=\"app\",namespace=\"default\",pod=\"web\"} 0 2000
node_cpu_usage_seconds_total 100.25 2100
node_memory_working_set_bytes 5000 2100
pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} 4.5 2000
nonsense
";

    fn web() -> PodName {
        ("default".to_owned(), "web".to_owned())
    }

    #[test]
    fn reads_what_a_kubelet_says() {
        let sample = parse(TEXT, 9);
        assert_eq!(sample.node, Point { at: 2100, cpu: 100_250_000_000, memory: 5000, started: None });
        let point = Point { at: 2000, cpu: 4_500_000_000, memory: 1 << 20, started: Some(500) };
        assert_eq!(sample.pods, [(web(), [("app".to_owned(), point)].into())].into());
        assert_eq!(parse("node_cpu_usage_seconds_total 1", 9).node.at, 9);
    }

    fn sample(container: Option<Point>) -> Sample {
        let containers = container.map(|point| (web(), [("app".to_owned(), point)].into()));
        Sample { node: Point { at: 1000, ..Point::default() }, pods: containers.into_iter().collect() }
    }

    #[test]
    fn rates_need_two_points_that_belong_together() {
        let at = |at, cpu, started| Point { at, cpu, memory: 7, started };
        let mine = |before, now| measured(&sample(before), &sample(Some(now))).pods.get(&web()).map(|c| c[0].1);
        let used = |at, window, cpu| Some(Usage { at, window: Duration::from_millis(window), cpu, memory: 7 });
        for (before, now, expected) in [
            (Some(at(1000, 100, None)), at(3000, 300, None), used(3000, 2000, 100)),
            // Not measured before: only the start says since when.
            (None, at(3000, 300, None), None),
            (None, at(3000, 300, Some(0)), used(3000, 3000, 100)),
            // It started anew between the two.
            (Some(at(1000, 100, Some(0))), at(3000, 400, Some(2000)), used(3000, 1000, 400)),
            (Some(at(1000, 100, None)), at(3000, 50, None), None),
            // The same moment, as a kubelet says that measures more seldom than it is asked.
            (Some(at(1000, 100, None)), at(1000, 100, None), None),
        ] {
            assert_eq!(mine(before, now), expected, "{before:?} {now:?}");
        }
    }
}
