//! The cases where YAML 1.1 differs from what one expects, and kubectl's form of writing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;

fn read(text: &str) -> Value {
    parse(text.as_bytes()).unwrap().value
}

#[test]
fn scalars_read_as_yaml_1_1() {
    for (text, value) in [
        ("0644", json!(420)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("1_000", json!(1000)),
        ("+1", json!(1)),
        ("-1", json!(-1)),
        ("18446744073709551615", json!(18446744073709551615u64)),
        ("1.5", json!(1.5)),
        ("1.0", json!(1)),
        ("1e3", json!(1000)),
        (".5", json!(0.5)),
        ("08", json!(8)),
        ("1.2.3", json!("1.2.3")),
        ("1:30", json!("1:30")),
        ("yes", json!(true)),
        ("No", json!(false)),
        ("on", json!(true)),
        ("OFF", json!(false)),
        ("y", json!(true)),
        ("true", json!(true)),
        ("'yes'", json!("yes")),
        ("\"0644\"", json!("0644")),
        ("~", json!(null)),
        ("Null", json!(null)),
        ("null", json!(null)),
        ("2001-01-01", json!("2001-01-01")),
        ("2001-01-01T00:00:00Z", json!("2001-01-01T00:00:00Z")),
        ("text", json!("text")),
        ("!!str 1", json!("1")),
        ("100m", json!("100m")),
        ("1Gi", json!("1Gi")),
    ] {
        assert_eq!(read(&format!("a: {text}")), json!({ "a": value }), "{text}");
    }
}

#[test]
fn keys_are_texts_and_merges_are_applied() {
    assert_eq!(read("1: a\ny: b\n'n': c\n1.5: d"), json!({"1": "a", "true": "b", "n": "c", "1.5": "d"}));
    assert_eq!(read("a: &a {x: 1, z: 2}\nb:\n  <<: *a\n  z: 3"), json!({"a": {"x": 1, "z": 2}, "b": {"x": 1, "z": 3}}));
}

#[test]
fn empty_documents_are_left_out() {
    let documents = parse_all(b"---\na: 1\n---\n# nothing\n---\nb: 2\n---\n").unwrap();
    assert_eq!(documents.iter().map(|d| d.value.clone()).collect::<Vec<_>>(), [json!({"a": 1}), json!({"b": 2})]);
    assert!(parse(b"").unwrap().value.is_null());
}

#[test]
fn duplicate_keys_are_named_and_the_last_wins() {
    let document = parse(b"metadata:\n  name: a\n  name: b\n").unwrap();
    assert_eq!(document.value, json!({"metadata": {"name": "b"}}));
    assert_eq!(document.duplicates, ["line 3: key \"name\" already set in map"]);
}

#[test]
fn errors_name_the_line() {
    let error = parse(b"a: 1\nb: {c: 2\n").unwrap_err().to_string();
    assert!(error.starts_with("yaml: line "), "{error}");
}

#[test]
fn long_lines_fold_at_spaces_and_far_characters_are_escaped() {
    let words = "word ".repeat(30);
    let value =
        json!({"a": {"plain": words.trim(), "quoted": words, "double": format!("{words}\u{1}"), "far": "\u{1F600}"}});
    let text = to_string(&value);
    assert!(text.contains("  far: \"\\U0001F600\"\n"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 90), "{text}");
    assert_eq!(read(&text), value);
}

#[test]
fn writing_has_kubectls_form() {
    let value = json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "a", "labels": {"a10": "1", "a9": "yes", "b": "x: y", "c": "- x", "d": "it's", "e": ""}},
        "spec": {
            "containers": [{"name": "c", "args": ["a\nb\n", "a\nb", "\ttab", " lead", "12:30:45", "0x1f", "1e3"]}],
            "list": [[1, 2], [{}], []],
        },
        "none": null, "float": 1.5, "multi": " x\ny\n\n", "date": "2020-01-01", "unicode": "ä€", "hash": "a #b",
        "colon": "a:", "nul": "\u{0}",
    });
    let expected = "\
apiVersion: v1
colon: 'a:'
date: \"2020-01-01\"
float: 1.5
hash: 'a #b'
kind: Pod
metadata:
  labels:
    a9: \"yes\"
    a10: \"1\"
    b: 'x: y'
    c: '- x'
    d: it's
    e: \"\"
  name: a
multi: |2+
   x
  y

none: null
nul: \"\\0\"
spec:
  containers:
  - args:
    - |
      a
      b
    - |-
      a
      b
    - \"\\ttab\"
    - ' lead'
    - \"12:30:45\"
    - \"0x1f\"
    - \"1e3\"
    name: c
  list:
  - - 1
    - 2
  - - {}
  - []
unicode: ä€
";
    assert_eq!(to_string(&value), expected);
    assert_eq!(read(expected), value);
}
