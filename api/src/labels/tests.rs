//! Tests of label selectors.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

#[test]
fn selectors_match() {
    let labels: BTreeMap<String, String> =
        [("app", "web"), ("tier", "b"), ("size", "7")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    for (text, expected) in [
        ("", true),
        ("app=web", true),
        ("app==db", false),
        ("app!=db", true),
        ("other!=db", true),
        ("tier in (a,b)", true),
        ("tier notin (a,b)", false),
        ("other notin (a)", true),
        ("app,!old", true),
        ("!app", false),
        ("size>6,size<8", true),
        ("app>1", false),
        ("in in (in)", false),
        ("tier in ()", false),
        ("app = web , tier=b", true),
    ] {
        assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
    }
    let sorted = [("app", "web"), ("tier", "b")];
    assert!(Selector::parse("app=web,tier=b").unwrap().matches(sorted.as_slice()));
    assert!(!Selector::parse("app").unwrap().matches(&None::<&Object>));
    assert!(Selector::parse("!app").unwrap().matches(&None::<&Object>));
}

#[test]
fn text_is_canonical() {
    for (text, canonical) in [
        ("b=1,a", "a,b=1"),
        ("x in (c,a,,b),!y", "x in (,a,b,c),!y"),
        ("a=", "a="),
        ("a notin ()", "a notin ()"),
        ("a in (,)", "a in ()"),
        ("a==b,c>1", "a==b,c>1"),
    ] {
        assert_eq!(Selector::parse(text).unwrap().to_string(), canonical, "{text}");
    }
}

#[test]
fn errors_are_upstreams() {
    let value_words = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                       must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', \
                       regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    let key_words = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                     validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and \
                     '/' (e.g. 'example.com/MyName')";
    for (text, message) in [
        ("a in", "unable to parse requirement: found '' expected: '('".to_owned()),
        ("a=b=c", "found '=', expected: ',' or 'end of string'".to_owned()),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt".to_owned()),
        (",", "found ',', expected: !, identifier, or 'end of string'".to_owned()),
        ("a,", "found '', expected: identifier after ','".to_owned()),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'".to_owned()),
        ("!a=b", "found '=', expected: ',' or 'end of string'".to_owned()),
        ("a in (b,c))", "found ')', expected: ',' or 'end of string'".to_owned()),
        ("a!b", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt".to_owned()),
        ("(", "found '(', expected: !, identifier, or 'end of string'".to_owned()),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be \
             an integer"
                .to_owned(),
        ),
        ("a=_b", format!("unable to parse requirement: values[0][a]: Invalid value: \"_b\": {value_words}")),
        ("A/b/c=d", format!("unable to parse requirement: <nil>: Invalid value: \"A/b/c\": {key_words}")),
    ] {
        assert_eq!(Selector::parse(text).unwrap_err().0, message, "{text}");
    }
}

#[test]
fn label_selector_objects() {
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]});
    let selector = Selector::from_label_selector(Some(&selector)).unwrap();
    assert_eq!(selector.to_string(), "app=web,!old,tier in (a,b)");
    let labels = json!({"app": "web", "tier": "b"});
    assert!(selector.matches(labels.as_object().unwrap()));
    assert!(!Selector::from_label_selector(None).unwrap().matches(&None::<&Object>));
    assert!(Selector::from_label_selector(Some(&json!({}))).unwrap().matches(&None::<&Object>));
    let bad = json!({"matchExpressions": [{"key": "tier", "operator": "Like"}]});
    let error = Selector::from_label_selector(Some(&bad)).unwrap_err();
    assert_eq!(error.0, "\"Like\" is not a valid label selector operator");
}
