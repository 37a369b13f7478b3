//! RBAC rules as rows: one resource, or one URL, a row, with all verbs that are allowed on it.

use serde_json::Value;

use super::pods::items;

/// A rule about one resource or one URL.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    /// Group and resource.
    resource: Option<(String, String)>,
    name: Option<String>,
    url: Option<String>,
    verbs: Vec<String>,
}

/// `[a]`, or `[]` for nothing.
fn bracketed(word: Option<&String>) -> String {
    format!("[{}]", word.map_or("", String::as_str))
}

impl Rule {
    fn verbs_text(&self) -> String {
        format!("[{}]", self.verbs.join(" "))
    }

    /// `deployments.apps/scale`
    fn shown(&self) -> String {
        match &self.resource {
            None => String::new(),
            Some((group, resource)) if group.is_empty() => resource.clone(),
            Some((group, resource)) => match resource.split_once('/') {
                Some((resource, sub)) => format!("{resource}.{group}/{sub}"),
                None => format!("{resource}.{group}"),
            },
        }
    }

    /// What upstream sorts by: the rule as Go prints it.
    fn order(&self) -> String {
        let (group, resource) = self.resource.clone().unwrap_or_default();
        let (name, url) = (bracketed(self.name.as_ref()), bracketed(self.url.as_ref()));
        format!("{} [{group}] [{resource}] {name} {url}", self.verbs_text())
    }
}

fn texts<'a>(rule: &'a Value, pointer: &str) -> Vec<&'a str> {
    items(rule, pointer).filter_map(Value::as_str).collect()
}

/// The rules taken apart; those of one resource are one.
fn single<'a>(rules: impl Iterator<Item = &'a Value>) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for rule in rules {
        let verbs = texts(rule, "/verbs");
        let names: Vec<Option<&str>> = match texts(rule, "/resourceNames") {
            names if names.is_empty() => vec![None],
            names => names.into_iter().map(Some).collect(),
        };
        for group in texts(rule, "/apiGroups") {
            for resource in texts(rule, "/resources") {
                for name in &names {
                    let key = (Some((group.to_owned(), resource.to_owned())), name.map(str::to_owned));
                    add(&mut all, key, &verbs);
                }
            }
        }
        for url in texts(rule, "/nonResourceURLs") {
            all.extend(verbs.iter().map(|verb| Rule {
                resource: None,
                name: None,
                url: Some(url.to_owned()),
                verbs: vec![(*verb).to_owned()],
            }));
        }
    }
    all
}

fn add(all: &mut Vec<Rule>, key: (Option<(String, String)>, Option<String>), verbs: &[&str]) {
    let (resource, name) = key;
    let at = all.iter().position(|rule| rule.resource == resource && rule.name == name);
    let at = at.unwrap_or_else(|| {
        all.push(Rule { resource, name, url: None, verbs: Vec::new() });
        all.len() - 1
    });
    if let Some(rule) = all.get_mut(at) {
        for verb in verbs {
            if !rule.verbs.iter().any(|known| known == verb) {
                rule.verbs.push((*verb).to_owned());
            }
        }
    }
}

/// Resource, URLs, names and verbs of each rule, divided by tabs, in upstream's order.
pub(super) fn rows<'a>(rules: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut all = single(rules);
    all.sort_by_cached_key(Rule::order);
    let row = |rule: &Rule| {
        let (url, name) = (bracketed(rule.url.as_ref()), bracketed(rule.name.as_ref()));
        format!("{}\t{url}\t{name}\t{}", rule.shown(), rule.verbs_text())
    };
    all.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_for_each_resource() {
        let rules = [
            json!({"apiGroups": ["", "apps"], "resources": ["pods", "x/scale"], "verbs": ["get"]}),
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "get"]}),
            json!({"nonResourceURLs": ["/a"], "verbs": ["get"]}),
        ];
        let expected = [
            "pods\t[]\t[]\t[get list]",
            "\t[/a]\t[]\t[get]",
            "x/scale\t[]\t[]\t[get]",
            "pods.apps\t[]\t[]\t[get]",
            "x.apps/scale\t[]\t[]\t[get]",
        ];
        assert_eq!(rows(rules.iter()), expected);
    }
}
