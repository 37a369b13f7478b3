//! What is particular to single kinds: which names they allow, and the hooks of their rows.

use crate::names::NameRule;

/// Which names objects of a kind may have; of kinds that are not built in, [`NameRule::Subdomain`].
pub fn name_rule(group: &str, kind: &str) -> NameRule {
    match (group, kind) {
        ("", "Namespace" | "Service") => NameRule::Label,
        ("rbac.authorization.k8s.io", _) => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}
