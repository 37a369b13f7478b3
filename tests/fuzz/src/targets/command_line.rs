//! What the command line reads: templates, columns, kubeconfigs, manifests.

use super::{Target, text};
use crate::corpus::{texts, yaml};
use crate::mutate::Shape;

pub const TARGETS: &[Target] = &[
    Target { name: "jsonpath", shape: Shape::Text(PATH), inputs: 5000, corpus: paths, run: jsonpath },
    Target { name: "columns", shape: Shape::Text(PATH), inputs: 4000, corpus: columns_of, run: columns },
    Target { name: "go-template", shape: Shape::Text(TEMPLATE), inputs: 4000, corpus: templates, run: go_template },
    Target { name: "manifest", shape: Shape::Text(YAML), inputs: 1500, corpus: yaml, run: manifest },
    Target { name: "kubeconfig", shape: Shape::Text(YAML), inputs: 1500, corpus: kubeconfigs, run: kubeconfig },
];

const PATH: &[&str] = &[
    "{",
    "}",
    "{range ",
    "{end}",
    "[",
    "]",
    "[*]",
    "[?(@",
    ")]",
    "..",
    ".",
    "$",
    "@",
    "*",
    "'",
    "\"",
    ":",
    ",",
    "-1",
    "9223372036854775808",
    "==",
    "&&",
    "\\",
    "\n",
    " ",
    "items",
    "a",
];
const TEMPLATE: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    "range ",
    "end",
    "if ",
    "else",
    "with ",
    "define \"x\"",
    "template \"x\"",
    "block ",
    "|",
    "$x := ",
    "index ",
    "len ",
    "printf \"%999999d\" ",
    "printf \"%*d\" ",
    "eq ",
    "and ",
    "base64decode ",
    ".",
    "(",
    ")",
    "/*",
    "*/",
    "1",
    "-9223372036854775808",
    "\"",
    "`",
    "'a'",
    "break",
    "continue",
];
const YAML: &[&str] = &[
    "---\n",
    "...\n",
    "\n",
    "  ",
    "- ",
    ": ",
    "&a ",
    "*a",
    "<<: ",
    "[",
    "]",
    "{",
    "}",
    "|",
    ">",
    "\"",
    "'",
    "!!binary ",
    "? ",
    "%YAML 1.1\n",
    "\t",
    "kind: List\nitems:\n",
    "0x",
    "1e999",
    "~",
];

fn paths() -> Vec<Vec<u8>> {
    texts(&[
        "{.metadata.name}",
        "{range .items[*]}{.a[0]}{\"\\n\"}{.b['c']}{end}",
        "{.items[?(@.b.c==\"d\")].a[0:2:1]} {..a} {.items[-1]['a','b']}",
        "text {$.metadata.labels.y\\.z}",
    ])
}

fn jsonpath(input: &[u8]) {
    ctl::untrusted::jsonpath(&text(input));
}

fn columns_of() -> Vec<Vec<u8>> {
    texts(&["NAME:.metadata.name,A:.a[*],B:{.b.c}", "NAME A\n.metadata.name .items[?(@.a)].b\n"])
}

fn columns(input: &[u8]) {
    ctl::untrusted::columns(&text(input));
}

fn templates() -> Vec<Vec<u8>> {
    texts(&[
        "{{range $i, $x := .items}}{{if eq $i 1}}{{$x.a}}{{else}}{{.b.c | printf \"%-5s\"}}{{end}}{{end}}",
        "{{with .metadata}}{{.name}} {{index .labels \"y.z\"}}{{end}}{{/* no */}}",
        "{{define \"x\"}}{{len .}}{{end}}{{template \"x\" .items}}",
    ])
}

fn go_template(input: &[u8]) {
    ctl::untrusted::go_template(&text(input));
}

fn manifest(input: &[u8]) {
    ctl::untrusted::manifest(input);
}

fn kubeconfigs() -> Vec<Vec<u8>> {
    texts(&[concat!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\npreferences: {}\n",
        "clusters: [{name: a, cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: QUFB}}]\n",
        "users:\n- name: a\n  user: {token: x, exec: {command: y, args: [z], env: [{name: a, value: b}]}}\n",
        "contexts: [{name: a, context: {cluster: a, user: a, namespace: n}}]\n",
    )])
}

fn kubeconfig(input: &[u8]) {
    ctl::untrusted::kubeconfig(&text(input));
}
