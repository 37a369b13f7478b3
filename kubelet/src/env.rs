//! The environment of a container: envFrom, env with expansion, the downward API, and the services' variables. Pure;
//! ConfigMaps and Secrets are fetched before.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use crate::downward::{self, Addresses, Allocatable};
use crate::expand::expand;
use crate::spec;

/// The objects that a container's environment is made from, by name; `None` is "does not exist".
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    pub secrets: BTreeMap<String, Option<Arc<Secret>>>,
}

/// Names of the ConfigMaps and Secrets that a container's environment needs.
pub fn references(container: &Container) -> (Vec<&str>, Vec<&str>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.as_str()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.as_str()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.as_str()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.as_str()));
    }
    (maps, secrets)
}

/// What the values are computed from beside the container itself.
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub addresses: &'a Addresses,
    pub node: Allocatable,
    pub services: &'a BTreeMap<String, String>,
}

/// Variables in order, each name once.
#[derive(Default)]
struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }
}

/// The container's variables, or upstream's error for `CreateContainerConfigError`.
pub fn environment(
    context: &Context,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let mut vars = Variables::default();
    env_from(context, container, sources, &mut vars)?;
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (_, Some(source)) => match value_from(context, container, source, sources)? {
                Some(value) => value,
                None => continue,
            },
            (Some(value), None) => {
                expand(value, |name| vars.values.get(name).or_else(|| context.services.get(name)).map(String::as_str))
            }
            (None, None) => String::new(),
        };
        vars.set(&var.name, value);
    }
    let Variables { order, mut values } = vars;
    let mut list: Vec<_> = order.into_iter().filter_map(|name| values.remove_entry(&name)).collect();
    let set: std::collections::BTreeSet<&str> = list.iter().map(|(n, _)| n.as_str()).collect();
    let more: Vec<_> = context
        .services
        .iter()
        .filter(|(name, _)| !set.contains(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    list.extend(more);
    Ok(list)
}

fn env_from(context: &Context, container: &Container, sources: &Sources, vars: &mut Variables) -> Result<(), String> {
    let namespace = spec::namespace(context.pod);
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        if let Some(reference) = &from.config_map_ref {
            match found(&sources.config_maps, &reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        vars.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match found(&sources.secrets, &reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        let text = utf8(&value.0, key, "Secret", namespace, &reference.name)?;
                        vars.set(&format!("{prefix}{key}"), text);
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", reference.name)),
            }
        }
    }
    Ok(())
}

fn found<'a, T>(map: &'a BTreeMap<String, Option<Arc<T>>>, name: &str) -> Option<&'a Arc<T>> {
    map.get(name).and_then(Option::as_ref)
}

fn utf8(bytes: &[u8], key: &str, kind: &str, namespace: &str, name: &str) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|e| format!("value of key {key} in {kind} {namespace}/{name}: {e}"))
}

/// The value of `valueFrom`; `None` is an optional one that is not there.
fn value_from(
    context: &Context,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, String> {
    let namespace = spec::namespace(context.pod);
    if let Some(field) = &source.field_ref {
        return downward::field(context.pod, &field.field_path, context.addresses).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return downward::resource(context.pod, Some(container), selector, context.node).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        let Some(map) = found(&sources.config_maps, &key.name) else {
            return missing(optional, || format!("configmap {:?} not found", key.name));
        };
        return match map.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => {
                missing(optional, || format!("couldn't find key {} in ConfigMap {namespace}/{}", key.key, key.name))
            }
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        let Some(secret) = found(&sources.secrets, &key.name) else {
            return missing(optional, || format!("secret {:?} not found", key.name));
        };
        return match secret.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => utf8(&value.0, &key.key, "Secret", namespace, &key.name).map(Some),
            None => missing(optional, || format!("couldn't find key {} in Secret {namespace}/{}", key.key, key.name)),
        };
    }
    Ok(Some(String::new()))
}

fn missing(optional: bool, error: impl FnOnce() -> String) -> Result<Option<String>, String> {
    if optional { Ok(None) } else { Err(error()) }
}

/// Command and arguments with the environment expanded in them.
pub fn command(container: &Container, envs: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    let lookup = |name: &str| envs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let all = |list: &Option<Vec<String>>| list.iter().flatten().map(|word| expand(word, lookup)).collect();
    (all(&container.command), all(&container.args))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn run(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [container]}}))
        .unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": {"k": "v", "A": "from"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"data": {"s": "aGV5"}})).unwrap();
        let sources = Sources {
            config_maps: [("cm".to_owned(), Some(Arc::new(map))), ("gone".to_owned(), None)].into(),
            secrets: [("sec".to_owned(), Some(Arc::new(secret)))].into(),
        };
        let services = [("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())].into();
        let addresses = Addresses { pod_ips: vec!["10.0.0.1".into()], host_ip: String::new() };
        let context = Context { pod: &pod, addresses: &addresses, node: Allocatable::default(), services: &services };
        environment(&context, &spec::containers(&pod)[0], &sources)
    }

    #[test]
    fn order_override_and_expansion() {
        let got = run(json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}},
                {"secretRef": {"name": "sec"}}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(KUBERNETES_SERVICE_HOST)-$$(A)-$(P_k)"},
                {"name": "P_k", "value": "over"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "s"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": true}}}]}))
        .unwrap();
        let text: Vec<_> = got.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "P_A=from",
                "P_k=over",
                "s=hey",
                "A=1",
                "B=1-10.96.0.1-$(A)-v",
                "IP=10.0.0.1",
                "K=v",
                "S=hey",
                "KUBERNETES_SERVICE_HOST=10.96.0.1"
            ]
        );
    }

    #[test]
    fn errors_in_upstreams_words() {
        for (env, want) in [
            (json!({"configMapKeyRef": {"name": "gone", "key": "k"}}), "configmap \"gone\" not found"),
            (json!({"configMapKeyRef": {"name": "cm", "key": "x"}}), "couldn't find key x in ConfigMap n/cm"),
            (json!({"secretKeyRef": {"name": "none", "key": "k"}}), "secret \"none\" not found"),
            (json!({"secretKeyRef": {"name": "sec", "key": "x"}}), "couldn't find key x in Secret n/sec"),
        ] {
            let got = run(json!({"name": "c", "env": [{"name": "X", "valueFrom": env}]}));
            assert_eq!(got.unwrap_err(), want);
        }
    }
}
