//! What the words of a verb are, and the values of flags: tables.

/// What stands behind a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A type, then names of it; or TYPE/NAME, each.
    Objects,
    /// As [`Of::Objects`], of these types.
    Among(&'static [&'static str]),
    /// As [`Of::Among`], and only one.
    OneAmong(&'static [&'static str]),
    /// The name of one object of this type.
    Name(&'static str),
    /// A Pod, or what has Pods.
    Pod,
    /// As [`Of::Pod`], then a container of it.
    PodAndContainer,
    /// As [`Of::Pod`], then a port of it.
    PodAndPort,
    /// A type.
    Type,
    /// A Pod whose file is meant, or a file.
    Remote,
    /// A name that the kubeconfig has.
    Configured(Entry),
    Known(&'static [&'static str]),
}

/// What a kubeconfig has several of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Context,
    Cluster,
    User,
}

const ROLLED: &[&str] = &["deployment", "daemonset", "statefulset"];
const SCALED: &[&str] = &["deployment", "replicaset", "replicationcontroller", "statefulset"];

/// Verbs that are not here have words that nobody can know.
const WORDS: &[(&str, Of)] = &[
    ("get", Of::Objects),
    ("describe", Of::Objects),
    ("delete", Of::Objects),
    ("edit", Of::Objects),
    ("label", Of::Objects),
    ("annotate", Of::Objects),
    ("patch", Of::Objects),
    ("wait", Of::Objects),
    ("apply view-last-applied", Of::Objects),
    ("apply edit-last-applied", Of::Objects),
    ("rollout status", Of::OneAmong(ROLLED)),
    ("rollout history", Of::Among(ROLLED)),
    ("rollout undo", Of::Among(ROLLED)),
    ("rollout restart", Of::Among(ROLLED)),
    ("rollout pause", Of::Among(&["deployment"])),
    ("rollout resume", Of::Among(&["deployment"])),
    ("scale", Of::Among(SCALED)),
    ("autoscale", Of::Among(SCALED)),
    ("expose", Of::Among(&["pod", "service", "replicationcontroller", "deployment", "replicaset"])),
    ("taint", Of::Among(&["node"])),
    (
        "set image",
        Of::OneAmong(&[
            "daemonsets",
            "deployments",
            "pods",
            "cronjobs",
            "replicasets",
            "replicationcontrollers",
            "statefulsets",
        ]),
    ),
    ("cordon", Of::Name("nodes")),
    ("uncordon", Of::Name("nodes")),
    ("drain", Of::Name("nodes")),
    ("top node", Of::Name("nodes")),
    ("top pod", Of::Name("pods")),
    ("create token", Of::Name("serviceaccounts")),
    ("certificate approve", Of::Name("certificatesigningrequests")),
    ("certificate deny", Of::Name("certificatesigningrequests")),
    ("exec", Of::Pod),
    ("attach", Of::Pod),
    ("logs", Of::PodAndContainer),
    ("port-forward", Of::PodAndPort),
    ("cp", Of::Remote),
    ("explain", Of::Type),
    ("config use-context", Of::Configured(Entry::Context)),
    ("config use", Of::Configured(Entry::Context)),
    ("config set-context", Of::Configured(Entry::Context)),
    ("config delete-context", Of::Configured(Entry::Context)),
    ("config rename-context", Of::Configured(Entry::Context)),
    ("config delete-cluster", Of::Configured(Entry::Cluster)),
    ("config delete-user", Of::Configured(Entry::User)),
    ("create secret", Of::Known(&["docker-registry", "generic", "tls"])),
    ("completion", Of::Known(&["bash", "zsh", "fish"])),
];

/// What stands behind a verb.
pub(super) fn of(verb: &str) -> Option<Of> {
    WORDS.iter().find(|(name, _)| *name == verb).map(|(_, of)| *of)
}

const OUTPUTS: &[&str] = &[
    "json",
    "yaml",
    "kyaml",
    "name",
    "go-template",
    "go-template-file",
    "template",
    "templatefile",
    "jsonpath",
    "jsonpath-as-json",
    "jsonpath-file",
    "custom-columns",
    "custom-columns-file",
    "wide",
];

/// What may stand as a flag's value; `None` is a file, or what nobody can know.
pub(super) fn value_of(flag: &str, verb: &str) -> Option<Of> {
    match flag {
        "namespace" => Some(Of::Name("namespaces")),
        "context" => Some(Of::Configured(Entry::Context)),
        "cluster" => Some(Of::Configured(Entry::Cluster)),
        // Whom a role is bound to is a name of the cluster's, not of the kubeconfig.
        "user" if !verb.starts_with("create ") && verb != "set subject" => Some(Of::Configured(Entry::User)),
        "clusterrole" => Some(Of::Name("clusterroles")),
        "subresource" => Some(Of::Known(&["status", "scale", "resize"])),
        "output" if verb == "get" => Some(Of::Known(OUTPUTS)),
        "dry-run" => Some(Of::Known(&["none", "server", "client"])),
        "cascade" => Some(Of::Known(&["background", "orphan", "foreground"])),
        _ => None,
    }
}
