//! The OCI runtime specification of a container, made from its image and what the kubelet wants: a pure function, but
//! for the node's devices, which a privileged container gets all.

mod capabilities;
mod devices;
mod mounts;
mod seccomp;
mod seccomp_calls;
mod user;

use serde_json::{Value, json};

use crate::cgroup::Layout;
use crate::cri::{ContainerConfig, PodSandboxConfig};
use crate::images::ImageConfig;

pub use devices::rules as device_rules;
pub use user::{Identity, LayerFiles, resolve as resolve_user};

/// What the sandbox brings into its containers.
pub struct SandboxFiles {
    pub resolv_conf: String,
    pub hostname: String,
    pub shared_memory: String,
    /// First process of a PID namespace that the Pod's containers share.
    pub pid_namespace: Option<String>,
}

pub struct Input<'a> {
    pub sandbox: &'a PodSandboxConfig,
    pub files: &'a SandboxFiles,
    pub config: &'a ContainerConfig,
    pub image: &'a ImageConfig,
    pub identity: &'a Identity,
    pub rootfs: &'a str,
    pub cgroup: &'a str,
    pub layout: &'a Layout,
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The annotation that has the process's capabilities: the shim takes them on itself, after the system call filter,
/// for which libcontainer would leave no privilege.
pub const CAPABILITIES: &str = "cox/capabilities";
/// The annotation that names the file with the process's compiled system call filter.
pub const FILTER: &str = "cox/seccomp";

/// Adds an annotation to what [`build`] made.
pub fn annotate(specification: &mut Value, name: &str, value: &str) {
    if let Some(annotations) = specification.get_mut("annotations") {
        set(annotations, name, json!(value));
    }
}

/// The content of `config.json`, and the system call filter, which the shim loads itself. The error says what of the
/// wishes cannot be.
pub fn build(input: &Input<'_>) -> Result<(Value, Option<Value>), String> {
    let security = &input.config.security;
    let mut process = json!({
        "terminal": input.config.tty,
        "user": {
            "uid": input.identity.uid,
            "gid": input.identity.gid,
            "additionalGids": input.identity.groups,
        },
        "args": arguments(input.config, input.image)?,
        "env": environment(input),
        "cwd": working_directory(input.config, input.image),
    });
    if security.no_new_privs {
        set(&mut process, "noNewPrivileges", json!(true));
    }
    let mut root = json!({ "path": input.rootfs });
    if security.readonly_rootfs {
        set(&mut root, "readonly", json!(true));
    }
    let filter = if security.privileged { None } else { seccomp::profile(security)? };
    let spec = json!({
        "ociVersion": "1.1.0",
        "process": process,
        "root": root,
        "mounts": mounts::of(input),
        "linux": linux(input)?,
        "annotations": { CAPABILITIES: capabilities::of(security)?.to_string() },
    });
    Ok((spec, filter))
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, String> {
    let mut arguments = config.command.clone();
    if arguments.is_empty() {
        arguments.clone_from(&image.entrypoint);
        arguments.extend(if config.args.is_empty() { image.cmd.clone() } else { config.args.clone() });
    } else {
        arguments.extend(config.args.iter().cloned());
    }
    if arguments.is_empty() { Err("no command specified".into()) } else { Ok(arguments) }
}

fn working_directory<'a>(config: &'a ContainerConfig, image: &'a ImageConfig) -> &'a str {
    [config.working_dir.as_str(), image.working_dir.as_str()].into_iter().find(|path| !path.is_empty()).unwrap_or("/")
}

/// The image's, then the container's own over it, with what every container has.
fn environment(input: &Input<'_>) -> Vec<String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => variables.push((name.to_owned(), value.to_owned())),
    };
    put("PATH", DEFAULT_PATH);
    put("HOSTNAME", &input.sandbox.hostname);
    put("HOME", &input.identity.home);
    if input.config.tty {
        put("TERM", "xterm");
    }
    for entry in &input.image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        put(name, value);
    }
    for (name, value) in &input.config.envs {
        put(name, value);
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn linux(input: &Input<'_>) -> Result<Value, String> {
    let security = &input.config.security;
    let mut linux = json!({
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces(input),
        "devices": devices::nodes(input.config)?,
    });
    if !security.privileged {
        set(&mut linux, "maskedPaths", json!(security.masked_paths));
        set(&mut linux, "readonlyPaths", json!(security.readonly_paths));
    }
    if let Some(propagation) = mounts::root_propagation(input.config) {
        set(&mut linux, "rootfsPropagation", json!(propagation));
    }
    Ok(linux)
}

/// Network, IPC and UTS namespaces are the shim's own, which its children are in without being told.
fn namespaces(input: &Input<'_>) -> Vec<Value> {
    let mut namespaces = vec![json!({ "type": "mount" })];
    if let Some(path) = &input.files.pid_namespace {
        namespaces.push(json!({ "type": "pid", "path": path }));
    } else if !input.sandbox.namespaces.host_pid {
        namespaces.push(json!({ "type": "pid" }));
    }
    if matches!(input.layout, Layout::V2 { .. }) && !input.config.security.privileged {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    namespaces
}
