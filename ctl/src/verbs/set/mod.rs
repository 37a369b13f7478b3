//! `set`: one part of what Pods are made from.

mod env;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::change::{change, for_each, pairs, pod_spec_path};
use crate::error::Result;
use crate::flags::Args;
use crate::output::Told;
use crate::session::Session;

pub(super) use env::{FLAGS as ENV_FLAGS, run as env};

pub(super) const RESOURCES_FLAGS: &str = "
      --limits=      What containers may use at most: cpu=200m,memory=512Mi
      --requests=    What containers ask for: cpu=100m,memory=256Mi
  -c, --containers=  Which containers, * in the middle of a name stands for anything
";

pub(super) const SUBJECT_FLAGS: &str = "
      --user=+            Users to add
      --group=+           Groups to add
      --serviceaccount=+  Service accounts to add, NAMESPACE:NAME
";

/// Words that name objects, and those that say what is set.
fn split(words: &[String], is_change: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    words.iter().cloned().partition(|word| !is_change(word))
}

/// Changes the Pod spec of each target.
async fn each_spec(args: &Args, objects: &[String], what: &str, edit: impl Fn(&mut Value) -> Result<()>) -> Result<()> {
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, objects, async |target| {
        let changed = change(&session, args, target, "kubectl-set", |object| {
            let spec = object.pointer_mut(pod_spec_path(&target.resource));
            edit(spec.with_context(|| format!("{} has no pod template", target.shown()))?)
        })
        .await?;
        if changed.is_changed || told.has_form() {
            told.did(target, what, &changed.object)?;
        }
        Ok(())
    })
    .await
}

/// The containers of a Pod spec, init containers too.
fn containers_mut(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let members = spec.as_object_mut().into_iter().flat_map(|map| map.iter_mut());
    let lists = members.filter(|(key, _)| matches!(key.as_str(), "containers" | "initContainers"));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten()
}

fn name_of(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Whether a name is what a pattern with `*` says.
fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
    }
}

pub(super) async fn image(args: &Args) -> Result<()> {
    let (objects, changes) = split(&args.words, |word| word.contains('='));
    if changes.is_empty() {
        bail!("at least one image update is required");
    }
    let changes = pairs(&changes.join(","))?;
    each_spec(args, &objects, "image updated", |spec| {
        for (name, image) in &changes {
            let mut found = false;
            for container in containers_mut(spec).filter(|c| name == "*" || name_of(c) == name) {
                container["image"] = image.as_str().into();
                found = true;
            }
            if !found {
                bail!("unable to find container named {name:?}");
            }
        }
        Ok(())
    })
    .await
}

pub(super) async fn resources(args: &Args) -> Result<()> {
    let limits = amounts(args.get("limits").unwrap_or_default())?;
    let requests = amounts(args.get("requests").unwrap_or_default())?;
    if limits.is_empty() && requests.is_empty() {
        bail!("you must specify an update to requests or limits (in the form of --requests/--limits)");
    }
    let pattern = args.get("containers").unwrap_or("*");
    each_spec(args, &args.words, "resource requirements updated", |spec| {
        let mut found = false;
        for container in containers_mut(spec).filter(|c| is_like(pattern, name_of(c))) {
            found = true;
            for (field, values) in [("limits", &limits), ("requests", &requests)] {
                for (resource, amount) in values {
                    let members = container.as_object_mut().context("a container is an object")?;
                    let entries = api::object::child_mut(api::object::child_mut(members, "resources"), field);
                    entries.insert(resource.clone(), amount.as_str().into());
                }
            }
        }
        if found { Ok(()) } else { bail!("unable to find container named {pattern:?}") }
    })
    .await
}

pub(super) async fn service_account(args: &Args) -> Result<()> {
    let Some((account, objects)) = args.words.split_last().filter(|(_, rest)| !rest.is_empty()) else {
        bail!("serviceaccount is required");
    };
    each_spec(args, objects, "serviceaccount updated", |spec| {
        spec["serviceAccountName"] = account.as_str().into();
        spec["serviceAccount"] = account.as_str().into();
        Ok(())
    })
    .await
}

pub(super) async fn selector(args: &Args) -> Result<()> {
    let (objects, changes) = split(&args.words, |word| word.contains('='));
    if changes.is_empty() {
        bail!("one selector is required");
    }
    let pairs = pairs(&changes.join(","))?;
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &objects, async |target| {
        if !target.resource.is("", "Service") {
            bail!("setting a selector is only supported for Services");
        }
        let changed = change(&session, args, target, "kubectl-set", |object| {
            object["spec"]["selector"] = json!(pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>());
            Ok(())
        })
        .await?;
        told.did(target, "selector updated", &changed.object)
    })
    .await
}

/// `cpu=1,memory=64Mi`
pub(super) fn amounts(text: &str) -> Result<Vec<(String, String)>> {
    let one = |part: &str| {
        let (resource, amount) = part.split_once('=').filter(|(resource, _)| !resource.is_empty())?;
        Some((resource.to_owned(), amount.to_owned()))
    };
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| one(part).with_context(|| format!("{ARGUMENT} {part}, expected <resource>=<value>"))).collect()
}

const ARGUMENT: &str = "invalid argument syntax";

pub(super) async fn subject(args: &Args) -> Result<()> {
    let mut wanted: Vec<Value> = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        let made = args
            .all(flag)
            .iter()
            .map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}));
        wanted.extend(made);
    }
    for account in args.all("serviceaccount") {
        let (namespace, name) = account.split_once(':').context("serviceaccount must be <namespace>:<name>")?;
        wanted.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    if wanted.is_empty() {
        bail!("you must specify at least one value of user, group or serviceaccount");
    }
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words, async |target| {
        if !matches!(target.resource.kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            bail!("setting subjects is only supported for RoleBinding/ClusterRoleBinding");
        }
        let changed = change(&session, args, target, "kubectl-set", |object| {
            let members = object.as_object_mut().context("a binding is an object")?;
            let subjects = members.entry("subjects").or_insert_with(|| json!([]));
            let subjects = subjects.as_array_mut().context("subjects is a list")?;
            for subject in &wanted {
                if !subjects.contains(subject) {
                    subjects.push(subject.clone());
                }
            }
            Ok(())
        })
        .await?;
        if changed.is_changed {
            told.did(target, "subjects updated", &changed.object)?;
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        for (pattern, name, expected) in
            [("*", "x", true), ("a*", "ab", true), ("a*c", "abc", true), ("a*a", "a", false), ("b", "a", false)]
        {
            assert_eq!(is_like(pattern, name), expected, "{pattern} {name}");
        }
    }
}
