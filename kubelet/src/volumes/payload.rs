//! The files of configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use crate::agent::Agent;
use crate::downward::{self, Addresses};
use crate::spec;
use crate::time::Nanos;

use super::atomic_writer::{Content, Files};

const DEFAULT_MODE: i32 = 0o644;
const DEFAULT_TOKEN_SECONDS: i64 = 3600;

/// The volume's files, and when a token in them is to be renewed.
pub(super) async fn payload(agent: &Agent, pod: &Pod, volume: &Volume) -> Result<(Files, Option<Nanos>), String> {
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let source = Source::new(&source.name, &source.items, mode, source.optional);
        return Ok((config_map(agent, pod, source).await?, None));
    }
    if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or("");
        let source = Source::new(name, &source.items, mode, source.optional);
        return Ok((secret(agent, pod, source).await?, None));
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return Ok((downward_files(agent, pod, source.items.as_deref(), mode)?, None));
    }
    let Some(source) = &volume.projected else { return Ok((Files::new(), None)) };
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let (mut files, mut refresh) = (Files::new(), None);
    for projection in source.sources.iter().flatten() {
        let (more, at) = projected(agent, pod, projection, mode).await?;
        files.extend(more);
        refresh = [refresh, at].into_iter().flatten().min();
    }
    Ok((files, refresh))
}

async fn projected(
    agent: &Agent,
    pod: &Pod,
    projection: &VolumeProjection,
    mode: i32,
) -> Result<(Files, Option<Nanos>), String> {
    if let Some(source) = &projection.config_map {
        let source = Source::new(&source.name, &source.items, mode, source.optional);
        return Ok((config_map(agent, pod, source).await?, None));
    }
    if let Some(source) = &projection.secret {
        let source = Source::new(&source.name, &source.items, mode, source.optional);
        return Ok((secret(agent, pod, source).await?, None));
    }
    if let Some(source) = &projection.downward_api {
        return Ok((downward_files(agent, pod, source.items.as_deref(), mode)?, None));
    }
    if let Some(source) = &projection.service_account_token {
        let (content, at) = token(agent, pod, source, mode).await?;
        return Ok(([(source.path.clone(), content)].into(), Some(at)));
    }
    Err("unsupported volume projection".to_owned())
}

async fn token(
    agent: &Agent,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    mode: i32,
) -> Result<(Content, Nanos), String> {
    let seconds = source.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS);
    let audience = source.audience.as_deref().unwrap_or("");
    let (token, refresh_at) = agent.tokens.get(&agent.client, pod, audience, seconds).await?;
    let user = common_user(pod);
    let group = spec::spec(pod).security_context.as_ref().and_then(|c| c.fs_group);
    // Only who it is for may read a token, where that is known.
    let mode = if user.is_some() || group.is_some() { 0o600 } else { unsigned(mode) };
    Ok((Content { data: token.into_bytes(), mode, user }, refresh_at))
}

/// The user that all containers of the Pod run as, when they all name the same.
fn common_user(pod: &Pod) -> Option<u32> {
    let whole = spec::spec(pod).security_context.as_ref().and_then(|c| c.run_as_user);
    let of = |c: &Container| c.security_context.as_ref().and_then(|s| s.run_as_user).or(whole);
    let mut all = spec::containers(pod).iter().chain(spec::init_containers(pod)).map(of);
    let first = all.next()??;
    if all.all(|user| user == Some(first)) { u32::try_from(first).ok() } else { None }
}

fn unsigned(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o7777
}

/// Which keys of a ConfigMap or Secret become files, and how.
struct Source<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    mode: i32,
    optional: bool,
}

impl<'a> Source<'a> {
    fn new(name: &'a str, items: &'a Option<Vec<KeyToPath>>, mode: i32, optional: Option<bool>) -> Self {
        Self { name, items: items.as_deref(), mode, optional: optional == Some(true) }
    }

    /// What stands for an object that is not there.
    fn missing(&self, kind: &str) -> Result<Files, String> {
        if self.optional { Ok(Files::new()) } else { Err(format!("{kind} {:?} not found", self.name)) }
    }

    /// The files of the object's data; the error is a key that is not there.
    fn select(&self, data: BTreeMap<&str, &[u8]>) -> Result<Files, String> {
        select(data, self.items, self.mode, self.optional)
    }
}

async fn config_map(agent: &Agent, pod: &Pod, source: Source<'_>) -> Result<Files, String> {
    let found = agent.config_maps.get(spec::namespace(pod), source.name, spec::uid(pod)).await?;
    let Some(map) = found else { return source.missing("configmap") };
    let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    source
        .select(text.chain(binary).collect())
        .map_err(|key| format!("configmap references non-existent config key: {key}"))
}

async fn secret(agent: &Agent, pod: &Pod, source: Source<'_>) -> Result<Files, String> {
    let found = agent.secrets.get(spec::namespace(pod), source.name, spec::uid(pod)).await?;
    let Some(secret) = found else { return source.missing("secret") };
    let data = secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())).collect();
    source.select(data).map_err(|key| format!("references non-existent secret key: {key}"))
}

/// All keys, or the items' keys under their paths; the error is a key that is not there.
fn select(
    data: BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Files, String> {
    let content = |data: &[u8], mode: i32| Content { data: data.to_vec(), mode: unsigned(mode), user: None };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data.into_iter().map(|(key, value)| (key.to_owned(), content(value, mode))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(item.key.as_str()) {
            Some(value) => {
                files.insert(item.path.clone(), content(value, item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(item.key.clone()),
        }
    }
    Ok(files)
}

fn downward_files(
    agent: &Agent,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
) -> Result<Files, String> {
    let addresses = Addresses { pod_ips: Vec::new(), host_ip: agent.config.node_ip.to_string() };
    let mut files = Files::new();
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            downward::field(pod, &field.field_path, &addresses)?
        } else if let Some(resource) = &item.resource_field_ref {
            downward::resource(pod, None, resource, agent.allocatable())?
        } else {
            String::new()
        };
        let mode = unsigned(item.mode.unwrap_or(mode));
        files.insert(item.path.clone(), Content { data: text.into_bytes(), mode, user: None });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn items_select_and_rename() {
        let data: BTreeMap<&str, &[u8]> = [("a", &b"1"[..]), ("b", &b"2"[..])].into();
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: Some(0o400) };
        let all = select(data.clone(), None, 0o644, false).unwrap();
        assert_eq!(all.len(), 2);
        let some = select(data.clone(), Some(&[item("a", "x/y")]), 0o644, false).unwrap();
        assert_eq!((some.len(), some["x/y"].mode), (1, 0o400));
        assert_eq!(select(data.clone(), Some(&[item("z", "z")]), 0o644, false).unwrap_err(), "z");
        assert!(select(data, Some(&[item("z", "z")]), 0o644, true).unwrap().is_empty());
    }
}
