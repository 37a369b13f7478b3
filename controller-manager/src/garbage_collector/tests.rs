//! The graph, as tables: a history of events in, the tasks of the last event out.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;

use kube::discovery::ApiResource;

use super::graph::{Graph, Known, Owner, Resource, Seen, Task, Uid, uid};

fn resource(kind: &str, namespaced: bool) -> Arc<Resource> {
    let plural = format!("{}s", kind.to_lowercase());
    let api = ApiResource {
        group: "apps".into(),
        version: "v1".into(),
        api_version: "apps/v1".into(),
        kind: kind.into(),
        plural,
    };
    Arc::new(Resource { api, namespaced })
}

/// Object number `n` of kind Thing in namespace `ns`, with blocking references to other such objects.
fn thing(n: Uid, owners: &[Uid]) -> Seen {
    Seen {
        uid: n,
        resource: resource("Thing", true),
        namespace: "ns".into(),
        name: n.to_string().into(),
        owners: owners.iter().map(|owner| reference(*owner)).collect(),
        deleting: false,
        foreground: false,
        orphan: false,
    }
}

fn reference(n: Uid) -> Owner {
    Owner { uid: n, group: "apps".into(), kind: "Thing".into(), name: n.to_string().into(), blocks: true }
}

fn after(history: Vec<Seen>) -> (Graph, Vec<Task>) {
    let mut graph = Graph::default();
    let mut tasks = Vec::new();
    for seen in history {
        tasks = graph.observe(seen);
    }
    tasks.sort();
    (graph, tasks)
}

fn deleting(seen: Seen, finalizer: &str) -> Seen {
    Seen { deleting: true, foreground: finalizer == "foreground", orphan: finalizer == "orphan", ..seen }
}

#[test]
fn what_an_event_calls_for() {
    use Task::{Delete, Orphan};
    let unblocking = || {
        let mut seen = thing(2, &[1]);
        seen.owners[0].blocks = false;
        seen
    };
    let cases: Vec<(&str, Vec<Seen>, Vec<Task>)> = vec![
        ("an object of nobody", vec![thing(1, &[])], vec![]),
        ("its owner is there", vec![thing(1, &[]), thing(2, &[1])], vec![]),
        ("its owner has not been seen", vec![thing(2, &[1])], vec![Delete(2)]),
        ("its owner is seen later", vec![thing(2, &[1]), thing(1, &[])], vec![]),
        ("a new owner has not been seen", vec![thing(1, &[]), thing(2, &[1]), thing(2, &[1, 3])], vec![Delete(2)]),
        (
            "foreground deletion begins",
            vec![thing(1, &[]), thing(2, &[1]), deleting(thing(1, &[]), "foreground")],
            vec![Delete(1), Delete(2)],
        ),
        (
            "and is told only once",
            vec![thing(1, &[]), deleting(thing(1, &[]), "foreground"), deleting(thing(1, &[]), "foreground")],
            vec![],
        ),
        (
            "a dependent comes while its owner waits",
            vec![deleting(thing(1, &[]), "foreground"), thing(2, &[1])],
            vec![Delete(2)],
        ),
        (
            "a dependent leaves an owner that waits",
            vec![deleting(thing(1, &[]), "foreground"), thing(2, &[1]), thing(2, &[])],
            vec![Delete(1)],
        ),
        (
            "a dependent blocks no longer",
            vec![deleting(thing(1, &[]), "foreground"), thing(2, &[1]), unblocking()],
            vec![Delete(1), Delete(2)],
        ),
        ("orphaning begins", vec![thing(1, &[]), deleting(thing(1, &[]), "orphan")], vec![Orphan(1)]),
        ("orphaning was under way at start", vec![deleting(thing(1, &[]), "orphan")], vec![Orphan(1)]),
        ("any other deletion", vec![thing(1, &[]), thing(2, &[1]), deleting(thing(1, &[]), "")], vec![]),
    ];
    for (name, history, expected) in cases {
        assert_eq!(after(history).1, expected, "{name}");
    }
}

#[test]
fn the_end_of_an_object_wakes_dependents_and_waiting_owners() {
    let (mut graph, _) = after(vec![deleting(thing(1, &[]), "foreground"), thing(2, &[1]), thing(3, &[2])]);
    let mut tasks = graph.remove(2);
    tasks.sort();
    assert_eq!(tasks, [Task::Delete(1), Task::Delete(3)]);
    assert!(graph.blocking(1).is_empty());
    // An owner that no watch has shown before its end.
    let (mut graph, _) = after(vec![thing(2, &[1])]);
    assert_eq!(graph.remove(1), [Task::Delete(2)]);
}

#[test]
fn a_relist_tells_what_went_meanwhile() {
    let (mut graph, _) = after(vec![thing(1, &[]), thing(2, &[1]), thing(3, &[])]);
    let tasks = graph.retain(&resource("Thing", true).api, &HashSet::from([2, 3]));
    assert_eq!(tasks, [Task::Delete(2)]);
    assert!(graph.retain(&resource("Other", true).api, &HashSet::new()).is_empty());
    assert!(graph.node(3).is_some() && graph.node(1).is_none());
}

#[test]
fn a_reference_must_fit_as_a_whole() {
    let mut cluster = thing(9, &[]);
    cluster.resource = resource("Wide", false);
    cluster.namespace = "".into();
    let (graph, _) = after(vec![thing(1, &[]), cluster, deleting(thing(5, &[]), "foreground")]);
    let wide = Owner { kind: "Wide".into(), ..reference(9) };
    let cases = [
        ("ns", reference(1), Known::Solid),
        ("other", reference(1), Known::Unseen),
        ("ns", Owner { name: "x".into(), ..reference(1) }, Known::Unseen),
        ("ns", Owner { kind: "Wide".into(), ..reference(1) }, Known::Unseen),
        ("ns", Owner { group: "".into(), ..reference(1) }, Known::Unseen),
        ("ns", wide.clone(), Known::Solid),
        ("", wide, Known::Solid),
        ("ns", reference(5), Known::Waiting),
        ("ns", reference(4), Known::Unseen),
    ];
    for (namespace, owner, expected) in cases {
        assert_eq!(graph.known(namespace, &owner), expected, "{namespace} {owner:?}");
    }
}

#[test]
fn uids_are_told_apart() {
    let real = "0a1b2c3d-0000-4000-8000-00000000002a";
    assert_eq!(uid(real), uid(&real.to_uppercase()));
    assert_ne!(uid("a"), uid("b"));
    assert_eq!(uid("not-a-uuid"), uid("not-a-uuid"));
}
