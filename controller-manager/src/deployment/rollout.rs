//! Pure arithmetic of a rollout: how far each ReplicaSet may grow or shrink.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::revision;

/// A new size for one ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    pub name: String,
    pub to: i32,
}

pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// `maxSurge` and `maxUnavailable` in Pods. When both come out as 0, one may be unavailable: else nothing would move.
pub fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let rolling = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let wanted = replicas(deployment);
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), wanted, true);
    let unavailable = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), wanted, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// `maxUnavailable`, never more than there are Pods.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    if !is_rolling(deployment) || replicas(deployment) == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(replicas(deployment))
}

/// A number, or a percentage of `total` rounded up or down. Unset is upstream's default of 25 %.
fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return *number,
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse::<i64>().unwrap_or(0),
        None => 25,
    };
    let product = percent * i64::from(total);
    let pods = if round_up { (product + 99) / 100 } else { product / 100 };
    i32::try_from(pods).unwrap_or(i32::MAX)
}

fn total(sets: &[Arc<ReplicaSet>]) -> i32 {
    sets.iter().map(|set| size(set)).sum()
}

/// The size that the new ReplicaSet should have now, given all of them.
pub fn new_size(deployment: &Deployment, all: &[Arc<ReplicaSet>], new: i32) -> i32 {
    let wanted = replicas(deployment);
    if !is_rolling(deployment) {
        return wanted;
    }
    let most = wanted + fenceposts(deployment).0;
    let now = total(all);
    if now >= most { new } else { new + (most - now).min(wanted - new) }
}

/// Shrinks old ReplicaSets: first what is not healthy, then as far as availability allows.
pub fn shrink_old(deployment: &Deployment, new: &ReplicaSet, old: &[Arc<ReplicaSet>]) -> Vec<Resize> {
    let old_pods = total(old);
    if old_pods == 0 {
        return Vec::new();
    }
    let wanted = replicas(deployment);
    let least_available = wanted - max_unavailable(deployment);
    let new_unavailable = size(new) - available(new);
    let may_go = old_pods + size(new) - least_available - new_unavailable;
    if may_go <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<(String, i32, i32)> =
        old.iter().filter(|set| size(set) > 0).map(|set| (set.name_any(), size(set), available(set))).collect();
    let order: Vec<String> = {
        let mut by_age: Vec<_> = old.iter().filter(|set| size(set) > 0).collect();
        by_age.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| a.name_any().cmp(&b.name_any())));
        by_age.iter().map(|set| set.name_any()).collect()
    };
    sizes.sort_by_key(|(name, ..)| order.iter().position(|other| other == name));
    let before = sizes.clone();
    drop_unhealthy(&mut sizes, may_go);
    let all_available: i32 = old.iter().map(|set| available(set)).sum::<i32>() + available(new);
    let mut spare = all_available - least_available;
    for (_, size, available) in &mut sizes {
        if spare <= 0 {
            break;
        }
        let fewer = (*size).min(spare);
        *size -= fewer;
        *available -= fewer;
        spare -= fewer;
    }
    let changed = sizes.into_iter().zip(before).filter(|(now, then)| now.1 != then.1);
    changed.map(|(now, _)| Resize { name: now.0, to: now.1 }).collect()
}

fn created(set: &ReplicaSet) -> Option<jiff::Timestamp> {
    set.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Pods that are not available may go at once, oldest ReplicaSet first.
fn drop_unhealthy(sizes: &mut [(String, i32, i32)], may_go: i32) {
    let mut left = may_go;
    for (_, size, available) in sizes {
        if left <= 0 {
            break;
        }
        let fewer = left.min(*size - *available).max(0);
        *size -= fewer;
        left -= fewer;
    }
}

/// Spreads a change of `replicas` over ReplicaSets in proportion to their sizes, so that a rollout under way keeps its
/// risk. Used when the number changed, or while paused.
pub fn scale(deployment: &Deployment, new: Option<&Arc<ReplicaSet>>, old: &[Arc<ReplicaSet>]) -> Vec<Resize> {
    let wanted = replicas(deployment);
    let mut all: Vec<Arc<ReplicaSet>> = old.to_vec();
    all.extend(new.cloned());
    let active: Vec<_> = all.iter().filter(|set| size(set) > 0).cloned().collect();
    let only = match active.as_slice() {
        [] => new.cloned().or_else(|| revision::newest(old)),
        [one] => Some(Arc::clone(one)),
        _ => None,
    };
    if let Some(only) = only {
        let resize = Resize { name: only.name_any(), to: wanted };
        return if size(&only) == wanted { Vec::new() } else { vec![resize] };
    }
    if active.is_empty() {
        return Vec::new();
    }
    if new.is_some_and(|new| revision::is_saturated(deployment, new)) {
        let shrink = old.iter().filter(|set| size(set) > 0);
        return shrink.map(|set| Resize { name: set.name_any(), to: 0 }).collect();
    }
    if is_rolling(deployment) { proportional(deployment, active) } else { Vec::new() }
}

fn proportional(deployment: &Deployment, mut active: Vec<Arc<ReplicaSet>>) -> Vec<Resize> {
    let wanted = replicas(deployment);
    let allowed = if wanted > 0 { wanted + fenceposts(deployment).0 } else { 0 };
    let to_add = allowed - total(&active);
    // From the largest to the smallest; of two alike, the newer grows first and the older shrinks first.
    active.sort_by(|a, b| {
        let age = created(a).cmp(&created(b));
        size(b).cmp(&size(a)).then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<(String, i32)> = Vec::new();
    for set in &active {
        let share = if to_add == 0 { 0 } else { proportion(deployment, set, to_add, added) };
        added += share;
        sizes.push((set.name_any(), size(set) + share));
    }
    if let Some(largest) = sizes.first_mut() {
        largest.1 = (largest.1 + to_add - added).max(0);
    }
    sizes.into_iter().map(|(name, to)| Resize { name, to }).collect()
}

/// One ReplicaSet's share of what is to be added (or, negative, removed).
fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == added {
        return 0;
    }
    let surged = f64::from(replicas(deployment) + fenceposts(deployment).0);
    let annotated = revision::max_replicas(set)
        .unwrap_or_else(|| deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0));
    if annotated == 0 {
        return 0;
    }
    let ideal = f64::from(size(set)) * surged / f64::from(annotated);
    // The ratio of two i32 is far inside f64's and, rounded, inside i32's range.
    #[allow(clippy::cast_possible_truncation)]
    let share = ideal.round() as i32 - size(set);
    let allowed = to_add - added;
    if to_add > 0 { share.min(allowed) } else { share.max(allowed) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
        let value = |text: &str| text.parse::<i32>().map_or(serde_json::json!(text), |n| serde_json::json!(n));
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {
                    "maxSurge": value(surge), "maxUnavailable": value(unavailable)}}},
        }))
        .unwrap()
    }

    fn set(name: &str, size: i32, available: i32, max: i32) -> Arc<ReplicaSet> {
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "annotations": {"deployment.kubernetes.io/max-replicas": max.to_string()}},
                "spec": {"replicas": size, "selector": {}},
                "status": {"replicas": size, "availableReplicas": available},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn percentages_round_so_that_something_moves() {
        let cases = [
            (10, "25%", "25%", (3, 2)),
            (1, "25%", "25%", (1, 0)),
            (3, "0", "0", (0, 1)),
            (0, "0%", "0%", (0, 1)),
            (4, "2", "0", (2, 0)),
        ];
        for (replicas, surge, unavailable, expected) in cases {
            assert_eq!(fenceposts(&deployment(replicas, surge, unavailable)), expected, "{replicas} {surge}");
        }
    }

    #[test]
    fn the_new_set_grows_within_the_surge() {
        let d = deployment(10, "3", "2");
        let old = set("old", 10, 10, 13);
        assert_eq!(new_size(&d, &[Arc::clone(&old)], 0), 3);
        assert_eq!(new_size(&d, &[old, set("new", 3, 0, 13)], 3), 3);
        assert_eq!(new_size(&d, &[set("old", 5, 5, 13), set("new", 5, 0, 13)], 5), 8);
        assert_eq!(new_size(&d, &[set("old", 1, 1, 13), set("new", 9, 0, 13)], 9), 10);
    }

    #[test]
    fn old_sets_shrink_as_far_as_availability_allows() {
        let d = deployment(10, "3", "2");
        let shrink = |new: &Arc<ReplicaSet>, old: &Arc<ReplicaSet>| shrink_old(&d, new, std::slice::from_ref(old));
        let to = |n| vec![Resize { name: "old".to_owned(), to: n }];
        assert_eq!(shrink(&set("new", 3, 0, 13), &set("old", 10, 10, 13)), to(8));
        assert_eq!(shrink(&set("new", 3, 3, 13), &set("old", 10, 10, 13)), to(5));
        assert_eq!(shrink(&set("new", 5, 0, 13), &set("old", 8, 8, 13)), vec![]);
        assert_eq!(shrink(&set("new", 3, 0, 13), &set("old", 10, 8, 13)), to(8), "the unhealthy go, no others");
        let surge_only = deployment(3, "2", "0");
        let old = [set("old", 3, 3, 5)];
        assert_eq!(shrink_old(&surge_only, &set("new", 2, 0, 5), &old), vec![]);
    }

    #[test]
    fn scaling_in_the_middle_of_a_rollout_is_proportional() {
        let d = deployment(20, "3", "2");
        let (new, old) = (set("new", 5, 5, 13), set("old", 8, 8, 13));
        let resized = scale(&d, Some(&new), &[old]);
        let sum: i32 = resized.iter().map(|r| r.to).sum();
        assert_eq!(sum, 23);
        assert!(resized.iter().all(|r| r.to > 5), "{resized:?}");
        assert_eq!(scale(&d, Some(&set("new", 5, 5, 13)), &[]), vec![Resize { name: "new".to_owned(), to: 20 }]);
        assert_eq!(scale(&d, Some(&set("new", 20, 20, 23)), &[]), vec![]);
    }
}
