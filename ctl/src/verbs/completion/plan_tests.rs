//! What the last word of a line may become.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn wanted(line: &str) -> Wanted {
    plan(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).wanted
}

/// Texts that are known without asking and begin with the last word; then what else there is.
fn texts(line: &str) -> (Vec<String>, Then) {
    let plan = plan(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let Wanted::Known(candidates, then) = plan.wanted else { panic!("{line}: {:?}", plan.wanted) };
    (candidates.into_iter().map(|c| c.text).filter(|text| text.starts_with(&plan.last)).collect(), then)
}

#[test]
fn verbs_flags_and_values_are_known() {
    for (line, expected, then) in [
        ("ap", "apply api-resources api-versions", Then::Done),
        ("-n x ap", "apply api-resources api-versions", Then::Done),
        ("rollout ", "history pause restart resume status undo", Then::Done),
        ("rollout st", "status", Then::Done),
        ("apply ", "edit-last-applied set-last-applied view-last-applied", Then::Done),
        ("create cl", "clusterrole clusterrolebinding", Then::Done),
        ("create secret ", "docker-registry generic tls", Then::Done),
        ("rollout status ", "deployment daemonset statefulset", Then::Done),
        ("scale dep", "deployment", Then::Done),
        ("scale deployment/x dep", "deployment/", Then::GoOn),
        ("rollout status deployment/x dep", "", Then::Done),
        ("get pods --wat", "--watch --watch-only", Then::Done),
        ("get --watch --wat", "--watch-only", Then::Done),
        ("-o", "", Then::Done),
        ("get -A", "-A", Then::Done),
        ("--name", "--namespace", Then::Done),
        ("get -o js", "json jsonpath jsonpath-as-json jsonpath-file", Then::Done),
        ("get -Ao js", "json jsonpath jsonpath-as-json jsonpath-file", Then::Done),
        ("get pods --output=ya", "yaml", Then::Done),
        ("delete pod x --dry-run=se", "server", Then::Done),
        ("apply -f ", "", Then::Files),
        ("get --kubeconfig ", "", Then::Files),
        ("exec two -- ", "", Then::Done),
        ("completion ", "bash zsh fish", Then::Done),
        ("version ", "", Then::Done),
        ("nonsense ", "", Then::Files),
    ] {
        let (found, found_then) = texts(line);
        assert_eq!((found.join(" ").as_str(), found_then), (expected, then), "{line}");
    }
    let (all, _) = texts("");
    assert!(all.contains(&"get".to_owned()) && all.contains(&"rollout".to_owned()), "{all:?}");
}

#[test]
fn who_is_asked_for_the_rest() {
    let names = |types: &str, before: &str, but: &[&str]| Wanted::Names {
        types: types.to_owned(),
        before: before.to_owned(),
        but: but.iter().map(|name| (*name).to_owned()).collect(),
    };
    let types = |before: &str, behind| Wanted::Types { before: before.to_owned(), behind };
    for (line, expected) in [
        ("get ", types("", "")),
        ("get pods,se", types("pods,", "")),
        ("get pods ", names("pods", "", &[])),
        ("get -o wide pods a --watch ", names("pods", "", &["a"])),
        ("get pod/", names("pod", "pod/", &[])),
        ("get pod/a po", types("", "/")),
        ("get pods -n ", names("namespaces", "", &[])),
        ("get pods --namespace=ku", names("namespaces", "", &[])),
        ("taint node ", names("node", "", &[])),
        ("rollout status deployment ", names("deployment", "", &[])),
        ("drain ", names("nodes", "", &[])),
        ("logs ", Wanted::PodsAndTypes),
        ("log deployment/", names("deployment", "deployment/", &[])),
        ("logs two ", Wanted::Containers("two".to_owned())),
        ("exec two -c ", Wanted::Containers("two".to_owned())),
        ("port-forward svc/web ", Wanted::Ports("svc/web".to_owned())),
        ("cp ", Wanted::Remote),
        ("--context ", Wanted::Configured(Entry::Context)),
        ("config delete-cluster ", Wanted::Configured(Entry::Cluster)),
        ("create rolebinding b --clusterrole=", names("clusterroles", "", &[])),
    ] {
        assert_eq!(wanted(line), expected, "{line}");
    }
    let plan = plan(&["get", "-n", "x", "--context=c", "pods", "a"].map(str::to_owned));
    assert_eq!((plan.args.get("namespace"), plan.args.get("context")), (Some("x"), Some("c")));
}
