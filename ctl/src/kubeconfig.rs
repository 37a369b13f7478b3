//! Which kubeconfig counts: --kubeconfig, $KUBECONFIG (a list, merged), ~/.kube/config, then the local cluster's own.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::error::{Plain, Result};
use crate::flags::Args;

/// The admin's kubeconfig of the cluster on this machine.
const LOCAL: &str = "/var/lib/cox/kubeconfig";

/// The files that count, most important first; those that do not exist included.
pub(crate) fn paths(args: &Args) -> Vec<PathBuf> {
    if let Some(path) = args.get("kubeconfig") {
        return vec![path.into()];
    }
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && !list.is_empty()
    {
        return std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    match home {
        Some(path) if path.exists() || !PathBuf::from(LOCAL).exists() => vec![path],
        _ => vec![LOCAL.into()],
    }
}

/// The merged kubeconfig. Files of a list that do not exist are passed over, as kubectl does.
pub(crate) fn load(args: &Args) -> Result<Kubeconfig> {
    let mut merged = Kubeconfig::default();
    if let Some(path) = args.get("kubeconfig").filter(|path| !PathBuf::from(path).exists()) {
        bail!("stat {path}: no such file or directory");
    }
    for path in paths(args) {
        if !path.exists() && args.get("kubeconfig").is_none() {
            continue;
        }
        let read = Kubeconfig::read_from(&path).with_context(|| format!("read kubeconfig {}", path.display()))?;
        merged = merged.merge(read).with_context(|| format!("merge kubeconfig {}", path.display()))?;
    }
    Ok(merged)
}

/// The connection that the kubeconfig and the global flags describe.
pub(crate) async fn config(args: &Args) -> Result<kube::Config> {
    let kubeconfig = load(args)?;
    let options = KubeConfigOptions {
        context: args.get("context").map(str::to_owned),
        cluster: args.global("cluster").map(str::to_owned),
        user: args.global("user").map(str::to_owned),
    };
    let has_proxy = kubeconfig.clusters.iter().any(|c| c.cluster.as_ref().is_some_and(|c| c.proxy_url.is_some()));
    let no_context = kubeconfig.current_context.as_deref().is_none_or(str::is_empty) && options.context.is_none();
    let mut config = if no_context {
        match args.get("server") {
            Some(server) => kube::Config::new(server.parse().with_context(|| format!("server address {server:?}"))?),
            None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
                kube::Config::incluster().context("configuration of the Pod that this runs in")?
            }
            None => kube::Config::new(http::Uri::from_static("http://localhost:8080")),
        }
    } else {
        check(&kubeconfig, &options)?;
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.context("invalid configuration")?
    };
    if !has_proxy {
        // A proxy that is meant for the internet does not lead to this cluster.
        config.proxy_url = None;
    }
    // What is said to a person is the first answer; verbs that wait retry on their own.
    config.default_retry = false;
    override_by_flags(&mut config, args)?;
    Ok(config)
}

/// Whether what the flags name is there, in kubectl's words.
fn check(kubeconfig: &Kubeconfig, options: &KubeConfigOptions) -> Result<()> {
    if let Some(name) = options.context.as_deref().filter(|name| !kubeconfig.contexts.iter().any(|c| c.name == *name)) {
        return Err(
            Plain(format!("Error in configuration: context was not found for specified context: {name}")).into()
        );
    }
    if let Some(name) = options.cluster.as_deref().filter(|name| !kubeconfig.clusters.iter().any(|c| c.name == *name)) {
        bail!("no server found for cluster {name:?}");
    }
    if let Some(name) = options.user.as_deref().filter(|name| !kubeconfig.auth_infos.iter().any(|u| u.name == *name)) {
        bail!("auth info {name:?} does not exist");
    }
    Ok(())
}

fn override_by_flags(config: &mut kube::Config, args: &Args) -> Result<()> {
    let text = |name: &str| args.get(name).map(str::to_owned);
    if let Some(server) = args.get("server") {
        config.cluster_url = server.parse().with_context(|| format!("server address {server:?}"))?;
    }
    if let Some(namespace) = text("namespace") {
        config.default_namespace = namespace;
    }
    if config.default_namespace.is_empty() {
        config.default_namespace = "default".to_owned();
    }
    let auth = &mut config.auth_info;
    if let Some(token) = text("token") {
        auth.token = Some(token.into());
    }
    if let Some(path) = text("client-certificate") {
        (auth.client_certificate, auth.client_certificate_data) = (Some(path), None);
    }
    if let Some(path) = text("client-key") {
        (auth.client_key, auth.client_key_data) = (Some(path), None);
    }
    auth.impersonate = text("as").or(auth.impersonate.take());
    auth.impersonate_uid = text("as-uid").or(auth.impersonate_uid.take());
    if args.has("as-group") {
        auth.impersonate_groups = Some(args.all("as-group").to_vec());
    }
    for extra in args.all("as-user-extra") {
        let (key, value) =
            extra.split_once('=').with_context(|| format!("--as-user-extra {extra:?} is no KEY=VALUE"))?;
        let all = auth.impersonate_user_extra.get_or_insert_default();
        all.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    if let Some(path) = text("certificate-authority") {
        config.root_cert_file = Some(path.into());
    }
    config.tls_server_name = text("tls-server-name").or(config.tls_server_name.take());
    config.accept_invalid_certs |= args.on("insecure-skip-tls-verify");
    if let Some(seconds) = args.seconds("request-timeout")?.filter(|seconds| *seconds > 0.0) {
        config.read_timeout = Some(std::time::Duration::from_secs_f64(seconds));
    }
    Ok(())
}
