//! What the runtime's tests share: a network namespace, a runtime below a temporary directory, an image made of
//! busybox. They need root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kubelet_runtime::cri::{
    ContainerConfig, ContainerState, ContainerStatus, PodSandboxConfig, Runtime, SecurityContext,
};
use kubelet_runtime::{Config, Core};

pub const IMAGE: &str = "docker.io/library/busybox-test:latest";
const CIDR: &str = "10.244.7.0/24";
/// A test that waits longer for something has failed.
pub const LIMIT: Duration = Duration::from_secs(60);

/// One node's runtime in a network namespace of its own.
pub struct Node {
    pub directory: tempfile::TempDir,
    pub config: Config,
    pub core: Arc<Core>,
}

/// Runs the test in a network namespace that leads nowhere.
pub fn isolated<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    assert!(nix::unistd::geteuid().is_root(), "these tests need root");
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    run("ip", &["link", "set", "lo", "up"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT * 3, test()).await.expect("the test takes too long") });
}

pub fn run(program: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The program that plays `cox`.
pub fn shim_program() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().unwrap().parent().unwrap().join("examples/cox-runtime")
}

impl Node {
    pub async fn new() -> Node {
        let directory = tempfile::Builder::new().prefix("cox-rt").tempdir().unwrap();
        let id = format!("{:08x}", std::process::id() ^ 0x5a00_0000 ^ rand_bits());
        let mut config = Config::new(directory.path(), &id);
        config.shim = vec![shim_program().into(), "shim".into()];
        let core = Core::open(config.clone()).await.unwrap();
        core.update_pod_cidr(CIDR).await.unwrap();
        Node { directory, config, core }
    }

    pub async fn with_image() -> Node {
        let node = Node::new().await;
        let archive = node.directory.path().join("image.tar");
        std::fs::write(&archive, busybox_archive(&[IMAGE])).unwrap();
        assert_eq!(node.core.images().load(&archive).unwrap(), [IMAGE]);
        node
    }

    pub async fn sandbox(&self) -> String {
        self.core.run_pod_sandbox(self.pod("pod")).await.unwrap()
    }

    pub fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            name: name.into(),
            namespace: "default".into(),
            uid: format!("uid-{name}"),
            hostname: name.into(),
            log_directory: self.directory.path().join("log/pods").join(name).to_string_lossy().into_owned(),
            cgroup_parent: format!("/{}/kubepods/pod{name}", self.config.cgroup_root),
            ..PodSandboxConfig::default()
        }
    }

    /// Makes and starts `sh -c script`.
    pub async fn start(&self, sandbox: &str, script: &str) -> String {
        self.start_config(sandbox, shell(script)).await
    }

    pub async fn start_config(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.core.create_container(sandbox, config).await.unwrap();
        self.core.start_container(&id).await.unwrap();
        id
    }

    /// Runs the script to its end; its status and log.
    pub async fn run(&self, sandbox: &str, config: ContainerConfig) -> (ContainerStatus, String) {
        let id = self.start_config(sandbox, config).await;
        let status = self.wait(&id).await;
        let log = self.log(&status);
        (status, log)
    }

    pub async fn wait(&self, id: &str) -> ContainerStatus {
        let mut events = self.core.events();
        let wait = async {
            loop {
                let status = self.core.container_status(id).await.unwrap();
                if status.state == ContainerState::Exited {
                    return status;
                }
                events.recv().await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("the container does not end")
    }

    /// The log's lines without time stamps, streams and tags.
    pub fn log(&self, status: &ContainerStatus) -> String {
        let text = std::fs::read_to_string(&status.log_path).unwrap();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n").collect()
    }

    /// The log once it has the text: a container that was started may not have come to its words yet.
    pub async fn logged(&self, id: &str, text: &str) -> String {
        let wait = async {
            loop {
                let log = self.log(&self.core.container_status(id).await.unwrap());
                if log.contains(text) {
                    return log;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let log = tokio::time::timeout(LIMIT, wait).await;
        log.unwrap_or_else(|_| panic!("the container {id} never logs {text:?}"))
    }

    /// Removes the sandbox and checks that nothing is left of it.
    pub async fn remove(&self, sandbox: &str) {
        self.core.stop_pod_sandbox(sandbox).await.unwrap();
        self.core.remove_pod_sandbox(sandbox).await.unwrap();
    }

    /// Everything that this node has in the kernel and in its directories.
    pub fn traces(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        found.extend(self.links());
        for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            if line.contains(&*self.directory.path().to_string_lossy()) {
                found.insert(line.to_owned());
            }
        }
        for directory in ["sandboxes", "containers", "tmp"] {
            found.extend(names(&self.config.root.join(directory)));
        }
        found.extend(names(&self.config.run_directory.join("shim")));
        // The empty name is version 2's one tree.
        for hierarchy in names(Path::new("/sys/fs/cgroup")).into_iter().chain([String::new()]) {
            for group in ["kubepods", "", "shims"] {
                let base = Path::new("/sys/fs/cgroup").join(&hierarchy).join(&self.config.cgroup_root).join(group);
                found.extend(groups(&base));
            }
        }
        found.extend(processes(&self.directory.path().to_string_lossy()));
        found
    }
}

impl Node {
    /// Links of Pods. Those of Pods that are gone vanish with their namespaces, which the kernel takes apart later.
    fn links(&self) -> Vec<String> {
        let start = std::time::Instant::now();
        let running = names(&self.config.root.join("sandboxes")).len();
        loop {
            let mut links = links(&self.config.cluster_id);
            links.retain(|name| !name.ends_with("gw") && !name.ends_with("gp"));
            if links.len() <= running || start.elapsed() > LIMIT {
                return links;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    /// A test that fails leaves nothing either.
    fn drop(&mut self) {
        let config = self.config.clone();
        if let Err(error) = kubelet_runtime::reset(&config) {
            eprintln!("reset: {error}");
        }
    }
}

fn rand_bits() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.subsec_nanos()
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn groups(base: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let paths = directories.map(|entry| entry.path().to_string_lossy().into_owned());
    paths.filter(|path| !path.ends_with("/shims") && !path.ends_with("/kubepods")).collect()
}

pub fn links(cluster_id: &str) -> Vec<String> {
    let text = run("ip", &["-o", "link"]);
    let names = text.lines().filter_map(|line| line.split(": ").nth(1)).map(|name| name.split('@').next().unwrap());
    names.filter(|name| name.contains(cluster_id)).map(str::to_owned).collect()
}

/// Processes with a file below `path` in their mounts or arguments: shims and what they started.
fn processes(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for pid in names(Path::new("/proc")).iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        if pid.parse::<u32>().unwrap() == std::process::id() {
            continue;
        }
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        if mounts.contains(path) {
            found.push(format!("process {pid}"));
        }
    }
    found
}

pub fn shell(script: &str) -> ContainerConfig {
    ContainerConfig {
        name: "main".into(),
        image: IMAGE.into(),
        user_image: "busybox-test".into(),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        log_path: format!("main-{}.log", rand_bits()),
        security: security(),
        ..ContainerConfig::default()
    }
}

pub fn security() -> SecurityContext {
    use kubelet_runtime::cri::{MASKED_PATHS, READONLY_PATHS, SeccompProfile};
    SecurityContext {
        masked_paths: MASKED_PATHS.map(str::to_owned).to_vec(),
        readonly_paths: READONLY_PATHS.map(str::to_owned).to_vec(),
        seccomp: SeccompProfile::RuntimeDefault,
        ..SecurityContext::default()
    }
}

/// An entry of a layer: path, kind, content or target, mode.
pub struct File<'a> {
    pub path: &'a str,
    pub kind: tar::EntryType,
    pub content: &'a [u8],
    pub mode: u32,
}

pub fn file<'a>(path: &'a str, content: &'a [u8], mode: u32) -> File<'a> {
    File { path, kind: tar::EntryType::Regular, content, mode }
}

pub fn link<'a>(path: &'a str, target: &'a str) -> File<'a> {
    File { path, kind: tar::EntryType::Symlink, content: target.as_bytes(), mode: 0o777 }
}

/// A tar of the entries, whose paths are not looked at.
pub fn layer(files: &[File<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..file.path.len()].copy_from_slice(file.path.as_bytes());
        header.set_entry_type(file.kind);
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let mut content = file.content;
        if matches!(file.kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
            content = &[];
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn busybox_layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is needed");
    let mut files = vec![
        file("bin/busybox", &busybox, 0o755),
        file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n", 0o644),
        file("etc/group", b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n", 0o644),
        file("etc/secret", b"not executable", 0o600),
        File { path: "tmp", kind: tar::EntryType::Directory, content: &[], mode: 0o1777 },
    ];
    let tools = [
        "sh", "cat", "echo", "sleep", "id", "ls", "mount", "hostname", "env", "pwd", "true", "false", "kill", "nc",
        "dd", "head", "seq", "touch", "ps", "grep", "stty", "wc", "mkdir", "mknod", "ip", "chmod", "rm", "test",
    ];
    let paths: Vec<String> = tools.iter().map(|tool| format!("bin/{tool}")).collect();
    files.extend(paths.iter().map(|path| link(path, "busybox")));
    layer(&files)
}

/// A docker-archive of the layers under the tags.
pub fn archive(layers: &[Vec<u8>], config: serde_json::Value, tags: &[&str]) -> Vec<u8> {
    use kubelet_runtime::images::digest_of;
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let config_name = format!("{}.json", digest_of(&config).trim_start_matches("sha256:"));
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = serde_json::json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut files = vec![file("manifest.json", &manifest, 0o644), file(&config_name, &config, 0o644)];
    files.extend(names.iter().zip(layers).map(|(name, layer)| file(name, layer, 0o644)));
    layer(&files)
}

pub fn busybox_archive(tags: &[&str]) -> Vec<u8> {
    let config = serde_json::json!({ "Env": ["FROM_IMAGE=yes"], "Cmd": ["/bin/sh"], "WorkingDir": "/work" });
    archive(&[busybox_layer()], config, tags)
}
