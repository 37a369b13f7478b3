//! Bodies good and bad, with the messages that upstream's server gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;

fn run(kind: &str, body: &str, mode: FieldValidation) -> Result<Decoded, Status> {
    let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
    let gvk = Gvk::new(group, "v1", kind);
    let schema = builtin::schema_of_kind(&gvk).unwrap();
    decode(body.as_bytes(), &gvk, &schema, mode)
}

fn refused(kind: &str, body: &str) -> String {
    run(kind, body, FieldValidation::Strict).unwrap_err().message
}

/// Bodies that are refused: kind, body and message, separated by tabs.
const REFUSED: &str = include_str!("cases.txt");

#[test]
fn bad_bodies_are_refused_with_upstreams_words() {
    for case in REFUSED.lines() {
        let fields: Vec<&str> = case.split('\t').collect();
        let [kind, body, message] = fields.as_slice() else { panic!("not three fields: {case}") };
        assert_eq!(refused(kind, body), *message, "{body}");
    }
}

#[test]
fn unknown_and_duplicate_fields_are_ignored_warned_about_or_refused() {
    let body = r#"{"metadata":{"name":"a","name":"b"},"foo":1,"bar":2,"bar":3,"data":{"x":"1","x":"2"}}"#;
    let problems = [
        "duplicate field \"metadata.name\"",
        "unknown field \"foo\"",
        "unknown field \"bar\"",
        "duplicate field \"data.x\"",
    ];
    let expected = format!(
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: {}",
        problems.join(", ")
    );
    assert_eq!(refused("ConfigMap", body), expected);
    let warned = run("ConfigMap", body, FieldValidation::Warn).unwrap();
    assert_eq!(warned.warnings, problems);
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"x": "2"}});
    assert_eq!(Value::Object(warned.object), object);
    assert!(run("ConfigMap", body, FieldValidation::Ignore).unwrap().warnings.is_empty());
    let nested = r#"{"spec":{"containers":[{"foo":1,"ports":[{"x":{"y":2}}]},{"foo":1}]}}"#;
    let warned = run("Pod", nested, FieldValidation::Warn).unwrap().warnings;
    let paths = ["spec.containers[0].foo", "spec.containers[0].ports[0].x", "spec.containers[1].foo"];
    assert_eq!(warned, paths.map(|path| format!("unknown field \"{path}\"")));
}

#[test]
fn what_is_not_set_is_not_kept_and_values_become_canonical() {
    let body = r#"{
        "metadata": {
            "name": "a", "labels": {}, "creationTimestamp": null, "deletionTimestamp": "2020-01-01T02:00:00.5+02:00"
        },
        "spec": {
            "hostNetwork": false, "automountServiceAccountToken": false, "nodeName": "", "tolerations": [],
            "containers": [{
                "name": "a", "args": [], "env": null, "resources": {"limits": {"cpu": 1.5, "memory": "1024Mi"}}
            }],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "nodeSelector": {"a": null}
        }
    }"#;
    let pod = run("Pod", body, FieldValidation::Strict).unwrap().object;
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "deletionTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "a", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "nodeSelector": {"a": ""},
        },
    });
    assert_eq!(Value::Object(pod), expected);
}

#[test]
fn lists_that_upstream_writes_empty_stay() {
    let gvk = Gvk::new("discovery.k8s.io", "v1", "EndpointSlice");
    let schema = builtin::schema_of_kind(&gvk).unwrap();
    let body = br#"{"addressType":"IPv4","endpoints":[],"ports":[{"name":"","port":0}]}"#;
    let slice = decode(body, &gvk, &schema, FieldValidation::Strict).unwrap().object;
    assert_eq!((&slice["endpoints"], &slice["ports"]), (&json!([]), &json!([{"name": "", "port": 0}])));
}

#[test]
fn yaml_bodies_decode_alike() {
    let gvk = Gvk::new("", "v1", "ConfigMap");
    let schema = builtin::schema_of_kind(&gvk).unwrap();
    let run = |body: &str| decode_yaml(body.as_bytes(), &gvk, &schema, FieldValidation::Strict);
    assert_eq!(run("metadata: {name: a}\ndata: {x: 'yes'}").unwrap().object["data"], json!({"x": "yes"}));
    assert_eq!(
        run("metadata: {name: a, foo: 1, name: b}").unwrap_err().message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         yaml: unmarshal errors:\n  line 1: key \"name\" already set in map, unknown field \"metadata.foo\""
    );
    let message = run("metadata: {name: a").unwrap_err().message;
    assert!(
        message.starts_with("the object provided is unrecognized (must be of type ConfigMap): yaml: line 1: "),
        "{message}"
    );
    assert!(message.ends_with("(6d657461646174613a207b6e616d653a2061)"), "{message}");
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    let body = "[".repeat(100_000);
    assert!(run("ConfigMap", &body, FieldValidation::Strict).is_err());
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let body = format!(r#"{{"metadata":{{"managedFields":[{{"fieldsV1":{deep}}}]}}}}"#);
    assert!(run("ConfigMap", &body, FieldValidation::Ignore).is_err());
}

#[test]
fn bytes_that_are_no_text_are_replaced_as_go_does() {
    for (body, text) in [
        (&br#"{"data":{"a":"\ud800x"}}"#[..], "\u{fffd}x"),
        (br#"{"data":{"a":"\ud83d\ude00\\ud800"}}"#, "\u{1f600}\\ud800"),
        (b"{\"data\":{\"a\":\"\xffx\"}}", "\u{fffd}x"),
    ] {
        let gvk = Gvk::new("", "v1", "ConfigMap");
        let schema = builtin::schema_of_kind(&gvk).unwrap();
        let decoded = decode(body, &gvk, &schema, FieldValidation::Strict).unwrap();
        assert_eq!(decoded.object["data"]["a"], text);
    }
}

/// A small generator, so that the test is the same every time.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).unwrap()
}

#[test]
fn no_body_makes_the_decoder_panic_and_both_parsers_agree_on_what_is_json() {
    let gvk = Gvk::new("", "v1", "Pod");
    let schema = builtin::schema_of_kind(&gvk).unwrap();
    let good = r#"{"metadata":{"name":"a\u00e4","labels":{"x":"y"}},"spec":{"containers":[
        {"name":"c","ports":[{"containerPort":-1.5e2}],"tty":true,"stdin":false,"env":null,"resources":{"limits":{"cpu":"1"}}}]}}"#;
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..20_000 {
        let mut body = good.as_bytes().to_vec();
        for _ in 0..=next(&mut state) % 3 {
            let at = next(&mut state) % body.len();
            match next(&mut state) % 3 {
                0 => body.truncate(at.max(1)),
                1 => body[at] = b"{}[]\",:\\0e.-x \n"[next(&mut state) % 15],
                _ => drop(body.remove(at)),
            }
            if body.is_empty() {
                body.push(b'x');
            }
        }
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        let shown = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(go_json::syntax_error(&body).is_none(), is_json || go_json::repaired(&body).is_some(), "{shown}");
        assert!(decode(&body, &gvk, &schema, FieldValidation::Strict).is_ok() <= is_json, "{shown}");
    }
}
