//! Label and node selectors, parsed once for each Pod and matched many times.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

impl Requirement {
    fn parse(key: &str, operator: &str, values: &[String]) -> Option<Self> {
        let number = || values.first().and_then(|value| value.parse().ok());
        let test = match operator {
            "In" => Test::In(values.to_vec()),
            "NotIn" => Test::NotIn(values.to_vec()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => Test::Gt(number()?),
            "Lt" => Test::Lt(number()?),
            _ => return None,
        };
        Some(Self { key: key.to_owned(), test })
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => !value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(bound) => number().is_some_and(|n| n > *bound),
            Test::Lt(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

/// A parsed label selector. One that cannot be parsed selects nothing: the API refuses such objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector(Option<Vec<Requirement>>);

impl Selector {
    /// Selects nothing, as a missing selector does.
    pub fn nothing() -> Self {
        Self(None)
    }

    pub fn of(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::nothing() };
        let equal = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| Some(Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) }));
        let listed = selector.match_expressions.iter().flatten().map(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            Requirement::parse(&requirement.key, &requirement.operator, values)
        });
        Self(equal.chain(listed).collect())
    }

    /// Selects what has all these labels.
    pub fn of_labels(labels: &Labels) -> Self {
        labels.iter().fold(Self(Some(Vec::new())), |selector, (key, value)| selector.and(key, value))
    }

    /// Selects what both select.
    pub fn and_all(mut self, other: Self) -> Self {
        match (&mut self.0, other.0) {
            (Some(mine), Some(others)) => mine.extend(others),
            _ => self.0 = None,
        }
        self
    }

    /// One more condition: the label has this value.
    pub fn and(mut self, key: &str, value: &str) -> Self {
        if let Some(requirements) = &mut self.0 {
            requirements.push(Requirement { key: key.to_owned(), test: Test::In(vec![value.to_owned()]) });
        }
        self
    }

    /// One more condition: the label has not this value.
    pub fn and_not(mut self, key: &str, value: &str) -> Self {
        if let Some(requirements) = &mut self.0 {
            requirements.push(Requirement { key: key.to_owned(), test: Test::NotIn(vec![value.to_owned()]) });
        }
        self
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        let Some(requirements) = &self.0 else { return false };
        requirements.iter().all(|requirement| requirement.holds(labels.get(&requirement.key).map(String::as_str)))
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }
}

/// One term of a node selector: all requirements on labels and fields hold. An empty term matches nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeTerm(Option<(Vec<Requirement>, Vec<Requirement>)>);

impl NodeTerm {
    pub fn of(term: &NodeSelectorTerm) -> Self {
        let parse = |list: &Option<Vec<NodeSelectorRequirement>>| -> Option<Vec<Requirement>> {
            let each = list.iter().flatten().map(|requirement| {
                let values = requirement.values.as_deref().unwrap_or_default();
                Requirement::parse(&requirement.key, &requirement.operator, values)
            });
            each.collect()
        };
        let parsed = parse(&term.match_expressions).zip(parse(&term.match_fields));
        Self(parsed.filter(|(labels, fields)| !labels.is_empty() || !fields.is_empty()))
    }

    /// The only field that upstream knows is `metadata.name`.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let Some((on_labels, on_fields)) = &self.0 else { return false };
        on_labels.iter().all(|r| r.holds(labels.get(&r.key).map(String::as_str)))
            && on_fields.iter().all(|r| r.key == "metadata.name" && r.holds(Some(name)))
    }
}

/// A node selector: any term.
pub fn node_terms(selector: Option<&NodeSelector>) -> Option<Vec<NodeTerm>> {
    selector.map(|selector| selector.node_selector_terms.iter().map(NodeTerm::of).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn node_selector_terms() {
        let labels: Labels = [("size".to_owned(), "5".to_owned()), ("zone".to_owned(), "a".to_owned())].into();
        let cases = [
            (json!({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["4"]}]}), true),
            (json!({"matchExpressions": [{"key": "size", "operator": "Lt", "values": ["5"]}]}), false),
            (json!({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["x"]}]}), false),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}), false),
            (json!({}), false),
        ];
        for (term, expected) in cases {
            let parsed = NodeTerm::of(&serde_json::from_value(term.clone()).unwrap());
            assert_eq!(parsed.matches("n1", &labels), expected, "{term}");
        }
    }

    #[test]
    fn a_missing_selector_selects_nothing_and_an_empty_one_everything() {
        assert!(!Selector::of(None).matches(&Labels::new()));
        assert!(Selector::of(Some(&LabelSelector::default())).is_everything());
    }
}
