//! One policy rule: what it allows, and whether other rules cover it.

use serde::{Deserialize, Deserializer, Serialize};

use crate::authorize::Attributes;
use crate::quoted;

/// `rbac.authorization.k8s.io/v1 PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
}

pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn has(set: &[String], wanted: &str) -> bool {
    set.iter().any(|s| s == wanted)
}

fn has_or_all(set: &[String], wanted: &str) -> bool {
    set.iter().any(|s| s == wanted || s == "*")
}

fn has_every(set: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|w| has(set, w))
}

impl Rule {
    /// Whether the rule allows the request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, attributes.verb) {
            return false;
        }
        if !attributes.is_resource {
            return self.non_resource_urls.iter().any(|url| url_matches(url, attributes.path));
        }
        has_or_all(&self.api_groups, attributes.group)
            && self.resources.iter().any(|r| resource_matches(r, attributes.resource, attributes.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, attributes.name))
    }

    /// The rules of one verb, resource and name, or one verb and path, that together are this one.
    pub fn breakdown(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut out = Vec::new();
        let names: Vec<Vec<String>> = if self.resource_names.is_empty() {
            vec![Vec::new()]
        } else {
            self.resource_names.iter().map(one).collect()
        };
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    out.extend(names.iter().map(|name| Self {
                        api_groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        resource_names: name.clone(),
                        non_resource_urls: Vec::new(),
                    }));
                }
            }
        }
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                out.push(Self { non_resource_urls: one(url), verbs: one(verb), ..Self::default() });
            }
        }
        out
    }

    /// Whether this rule allows all that `part`, one of a [`Rule::breakdown`], does.
    fn covers(&self, part: &Self) -> bool {
        let verbs = has(&self.verbs, "*") || has_every(&self.verbs, &part.verbs);
        let groups = has(&self.api_groups, "*") || has_every(&self.api_groups, &part.api_groups);
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty() && has_every(&self.resource_names, &part.resource_names));
        let urls = part.non_resource_urls.iter().all(|p| self.non_resource_urls.iter().any(|o| url_covers(o, p)));
        verbs && groups && names && urls && part.resources.iter().all(|r| self.covers_resource(r))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        has_or_all(&self.resources, resource)
            || resource.split_once('/').is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
    }

    /// Upstream's short form, `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown = parts.iter().filter(|(_, values)| !values.is_empty());
        let shown: Vec<String> = shown.map(|(name, values)| format!("{name}:{}", quoted(values))).collect();
        format!("{{{}}}", shown.join(", "))
    }
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*" || url_covers(rule, path)
}

fn url_covers(owner: &str, path: &str) -> bool {
    owner == path || (owner.ends_with('*') && path.starts_with(owner.trim_end_matches('*')))
}

/// What of `wanted` the rules `held` do not allow, broken down. Empty when they allow all of it.
pub fn uncovered(held: &[&Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(Rule::breakdown);
    parts.filter(|part| !held.iter().any(|rule| rule.covers(part))).collect()
}

/// Merges rules that differ in their verbs alone.
pub fn compacted(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let twin = out.iter_mut().find(|r| {
            rule.non_resource_urls.is_empty()
                && r.non_resource_urls.is_empty()
                && (&r.api_groups, &r.resources, &r.resource_names)
                    == (&rule.api_groups, &rule.resources, &rule.resource_names)
        });
        match twin {
            Some(twin) => twin.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}
