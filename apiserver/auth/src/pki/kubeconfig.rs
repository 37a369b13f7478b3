//! Kubeconfig files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::certificate::Pair;

/// How a kubeconfig's user proves who it is.
#[derive(Clone, Copy, Debug)]
pub enum Credentials<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
    /// Of discovery: the cluster and its CA alone.
    None,
}

/// A kubeconfig, as YAML that any YAML 1.1 or 1.2 reader takes: names are quoted.
pub fn kubeconfig(server: &str, authority_pem: &str, user: &str, credentials: Credentials<'_>) -> String {
    let cluster = "cox";
    let mut out = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster:?}\n  cluster:\n    server: {server:?}\n    \
         certificate-authority-data: {}\n",
        STANDARD.encode(authority_pem)
    );
    let credentials = match credentials {
        Credentials::None => {
            out.push_str("contexts: []\nusers: []\n");
            return out;
        }
        Credentials::Token(token) => format!("    token: {token:?}\n"),
        Credentials::Certificate(pair) => format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(&pair.certificate),
            STANDARD.encode(&pair.key)
        ),
    };
    let context = format!("{user}@{cluster}");
    out.push_str(&format!(
        "contexts:\n- name: {context:?}\n  context:\n    cluster: {cluster:?}\n    user: {user:?}\n\
         current-context: {context:?}\nusers:\n- name: {user:?}\n  user:\n{credentials}"
    ));
    out
}
