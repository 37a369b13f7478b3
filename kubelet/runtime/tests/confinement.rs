//! What a container may do and see: users, capabilities, mounts, limits; and what its user is told when it cannot run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Node, isolated, security, shell};
use kubelet_runtime::cgroup::{ANY_ACCESS, DeviceKind, DeviceRule, Layout, MKNOD};
use kubelet_runtime::cri::{
    ContainerConfig, ContainerState, Mount, NamespaceOptions, PodSandboxConfig, Propagation, Resources, Runtime,
    SecurityContext,
};

#[test]
fn programs_that_cannot_run_are_start_errors() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        for (command, text) in [
            ("nothing-there", "exec: \"nothing-there\": executable file not found in $PATH"),
            ("/nothing/there", "exec: \"/nothing/there\": stat /nothing/there: no such file or directory"),
            ("/etc/secret", "exec: \"/etc/secret\": permission denied"),
        ] {
            let config = ContainerConfig { command: vec![command.into()], ..shell("") };
            let id = node.core.create_container(&sandbox, config).await.unwrap();
            let error = node.core.start_container(&id).await.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            let status = node.core.container_status(&id).await.unwrap();
            assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 128));
            assert_eq!((status.reason.as_str(), status.started_at), ("StartError", 0));
            assert!(status.message.contains(text), "{}", status.message);
            node.core.remove_container(&id).await.unwrap();
        }
        let config = ContainerConfig { image: "no-such-image".into(), ..shell("") };
        let error = node.core.create_container(&sandbox, config).await.unwrap_err().to_string();
        assert!(error.contains("image \"no-such-image\" not found"), "{error}");
        node.remove(&sandbox).await;
    });
}

#[test]
fn parameters_of_the_machine_are_no_pods_to_set() {
    isolated(|| async {
        let node = Node::with_image().await;
        let with = |name: &str, value: &str| {
            let mut pod = node.pod("tuned");
            pod.sysctls.insert(name.into(), value.into());
            pod
        };
        let before = std::fs::read_to_string("/proc/sys/kernel/panic_on_oops").unwrap();
        let error =
            node.core.run_pod_sandbox(with("kernel.panic_on_oops", before.trim())).await.unwrap_err().to_string();
        assert!(error.contains("sysctl \"kernel.panic_on_oops\" is not in a separate kernel namespace"), "{error}");
        let sandbox = node.core.run_pod_sandbox(with("net.ipv4.ip_local_port_range", "2000 3000")).await.unwrap();
        let (_, log) = node.run(&sandbox, shell("cat /proc/sys/net/ipv4/ip_local_port_range")).await;
        assert_eq!(log, "2000\t3000\n");
        node.remove(&sandbox).await;
    });
}

#[test]
fn signals_and_kills_have_their_exit_codes() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let (status, _) = node.run(&sandbox, shell("sh -c 'kill -9 $$'; exit $?")).await;
        assert_eq!(status.exit_code, 137);
        let id = node.start(&sandbox, "trap '' TERM; echo ready; while true; do sleep 0.1; done").await;
        node.logged(&id, "ready\n").await;
        node.core.stop_container(&id, 1).await.unwrap();
        let status = node.core.container_status(&id).await.unwrap();
        assert_eq!((status.exit_code, status.signal, status.reason.as_str()), (137, 9, "Error"));
        node.remove(&sandbox).await;
    });
}

#[test]
fn memory_beyond_the_limit_is_an_oom_kill() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let resources =
            Resources { memory_limit_bytes: 16 << 20, cpu_shares: 512, pids_limit: 50, ..Resources::default() };
        let config = ContainerConfig { resources, ..shell("exec dd if=/dev/zero of=/dev/null bs=64M count=4") };
        let (status, _) = node.run(&sandbox, config).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
        node.remove(&sandbox).await;
    });
}

#[test]
fn users_capabilities_and_read_only_roots_hold() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let (_, log) = node
            .run(&sandbox, shell("grep CapEff /proc/self/status; id -u; ls /proc/1/root >/dev/null && echo one"))
            .await;
        assert!(log.starts_with("CapEff:\t00000000a80425fb\n0\n"), "{log}");

        let app =
            SecurityContext { run_as_username: "app".into(), drop_capabilities: vec!["ALL".into()], ..security() };
        let config = ContainerConfig { security: app, ..shell("id; touch /etc/x || echo refused; echo $HOME") };
        let (_, log) = node.run(&sandbox, config).await;
        assert!(log.contains("uid=1000") && log.contains("2000") && log.contains("refused\n/home/app\n"), "{log}");

        let readonly = SecurityContext { readonly_rootfs: true, ..security() };
        let script =
            "touch /x 2>/dev/null || echo root; touch /tmp/x 2>/dev/null || echo tmp; touch /dev/shm/x && echo shm";
        let (_, log) = node.run(&sandbox, ContainerConfig { security: readonly, ..shell(script) }).await;
        assert_eq!(log, "root\ntmp\nshm\n");

        let script = "ls /dev/sda /dev/vda /dev/kmsg 2>/dev/null; mknod /tmp/disk b 254 0; \
            head -c 1 /tmp/disk >/dev/null 2>&1 || echo no disk; \
            (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo ro; \
            mount -t tmpfs x /tmp 2>/dev/null || echo no mount; head -c1 /proc/kcore 2>/dev/null | wc -c";
        let (_, log) = node.run(&sandbox, shell(script)).await;
        assert_eq!(log, "no disk\nro\nno mount\n0\n");

        let privileged = SecurityContext { privileged: true, ..SecurityContext::default() };
        let config = ContainerConfig {
            security: privileged,
            ..shell("mount -t tmpfs x /tmp && echo mounted; ls /dev/null /dev/full")
        };
        let (_, log) = node.run(&sandbox, config).await;
        assert_eq!(log, "mounted\n/dev/full\n/dev/null\n");
        node.remove(&sandbox).await;
    });
}

#[test]
fn volumes_are_mounted_as_told() {
    isolated(|| async {
        let node = Node::with_image().await;
        let sandbox = node.sandbox().await;
        let volume = node.directory.path().join("volume");
        std::fs::create_dir_all(volume.join("inner")).unwrap();
        std::fs::write(volume.join("file"), "content\n").unwrap();
        std::fs::write(node.directory.path().join("hosts"), "1.2.3.4 host\n").unwrap();
        let mount = |container_path: &str, host: &str, readonly| Mount {
            container_path: container_path.into(),
            host_path: node.directory.path().join(host).to_string_lossy().into_owned(),
            readonly,
            propagation: Propagation::Private,
        };
        let config = ContainerConfig {
            mounts: vec![
                mount("/data/inner/deep", "made-by-runtime", false),
                mount("/data", "volume", false),
                mount("/ro", "volume", true),
                mount("/etc/hosts", "hosts", false),
            ],
            ..shell(
                "cat /data/file /etc/hosts; echo new > /data/new; touch /ro/x 2>/dev/null || echo ro; \
                ls /data/inner; touch /data/inner/deep/y; cat /etc/hostname; test -s /etc/resolv.conf && echo resolv",
            )
        };
        let (status, log) = node.run(&sandbox, config).await;
        assert_eq!(status.exit_code, 0, "{log}");
        assert_eq!(log, "content\n1.2.3.4 host\nro\ndeep\npod\nresolv\n");
        assert_eq!(std::fs::read_to_string(volume.join("new")).unwrap(), "new\n");
        assert!(node.directory.path().join("made-by-runtime/y").exists());
        node.remove(&sandbox).await;
    });
}

#[test]
fn mounts_propagate_as_told() {
    isolated(|| async {
        let node = Node::with_image().await;
        let volume = node.directory.path().join("volume");
        std::fs::create_dir_all(volume.join("from-host")).unwrap();
        std::fs::create_dir_all(volume.join("from-container")).unwrap();
        let path = volume.to_string_lossy().into_owned();
        // The test's own mount namespace, where the volume is a shared mount as a node's are.
        common::run("mount", &["--bind", &path, &path]);
        // Where the root is shared, as systemd has it, the volume would be its peer, and each mount there be two.
        common::run("mount", &["--make-private", &path]);
        common::run("mount", &["--make-shared", &path]);
        let sandbox = node.sandbox().await;
        let config = |propagation| ContainerConfig {
            mounts: vec![Mount { container_path: "/v".into(), host_path: path.clone(), readonly: false, propagation }],
            security: SecurityContext { privileged: true, ..SecurityContext::default() },
            ..shell(
                "while ! test -e /v/from-host/mark; do sleep 0.02; done; \
                mount -t tmpfs x /v/from-container && sleep 1000",
            )
        };
        let slave = node.start_config(&sandbox, config(Propagation::HostToContainer)).await;
        let shared = node.start_config(&sandbox, config(Propagation::Bidirectional)).await;
        common::run("mount", &["-t", "tmpfs", "x", &format!("{path}/from-host")]);
        std::fs::write(volume.join("from-host/mark"), "").unwrap();
        let ready =
            vec!["sh".to_owned(), "-c".into(), "while ! mount | grep -q /v/from-container; do sleep 0.02; done".into()];
        for id in [&slave, &shared] {
            let done = node.core.exec_sync(id, ready.clone(), 5).await;
            let table = node.core.exec_sync(id, vec!["cat".into(), "/proc/self/mountinfo".into()], 5).await.unwrap();
            let log = String::from_utf8(table.stdout).unwrap();
            assert!(done.is_ok(), "{done:?}: {log}");
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let count = table.lines().filter(|line| line.contains("volume/from-container")).count();
        node.remove(&sandbox).await;
        for _ in 0..count {
            common::run("umount", &[&format!("{path}/from-container")]);
        }
        common::run("umount", &[&format!("{path}/from-host")]);
        common::run("umount", &[&path]);
        assert_eq!(count, 1, "only the bidirectional volume's mount comes out: {table}");
    });
}

#[test]
fn pods_share_what_they_are_told_to_share() {
    isolated(|| async {
        let node = Node::with_image().await;
        let before = node.traces();
        let namespaces = NamespaceOptions { pod_pid: true, ..NamespaceOptions::default() };
        let pod = PodSandboxConfig { namespaces, ..node.pod("shared") };
        let sandbox = node.core.run_pod_sandbox(pod).await.unwrap();
        let first = node.start(&sandbox, "echo x > /dev/shm/mark; sleep 1234 & sleep 2345").await;
        let script = "while ! ps | grep -q 'sleep 234[5]'; do sleep 0.02; done; cat /dev/shm/mark; \
            ls /proc/1/root/ 2>&1 | wc -l; ps | grep -c 'sleep 1234'";
        let (_, log) = node.run(&sandbox, shell(script)).await;
        assert!(log.starts_with("x\n"), "{log}");
        let (_, log) =
            node.run(&sandbox, shell("ls /proc/1/root/bin 2>&1; head -c 4 /proc/1/exe 2>&1 | grep -c ELF")).await;
        assert!(!log.contains("busybox") && log.ends_with("0\n"), "the first process gives nothing away: {log}");
        node.core.stop_container(&first, 0).await.unwrap();
        let (_, log) = node.run(&sandbox, shell("ps | grep 'sleep 123[4]' | wc -l")).await;
        assert_eq!(log, "0\n", "a container's processes end with its first one");
        node.remove(&sandbox).await;
        assert_eq!(node.traces(), before);

        let host = NamespaceOptions { host_network: true, host_pid: true, host_ipc: true, pod_pid: false };
        let sandbox =
            node.core.run_pod_sandbox(PodSandboxConfig { namespaces: host, ..node.pod("host") }).await.unwrap();
        assert!(node.core.pod_sandbox_status(&sandbox).await.unwrap().ips.is_empty());
        let script = format!(
            "ip link | grep -c ' cox{}gw@'; test -d /proc/{} && echo pids",
            node.config.cluster_id,
            std::process::id()
        );
        let (_, log) = node.run(&sandbox, shell(&script)).await;
        assert_eq!(log, "1\npids\n");
        node.remove(&sandbox).await;
        assert_eq!(node.traces(), before);
    });
}

#[test]
fn sysctls_and_stats_and_updates() {
    isolated(|| async {
        let node = Node::with_image().await;
        let mut pod = node.pod("sysctl");
        pod.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "77".into());
        let sandbox = node.core.run_pod_sandbox(pod).await.unwrap();
        let id = node.start(&sandbox, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; sleep 1000").await;
        let limits =
            Resources { memory_limit_bytes: 64 << 20, cpu_quota: 20_000, cpu_period: 100_000, ..Resources::default() };
        node.core.update_container_resources(&id, limits).await.unwrap();
        let stats = node.core.container_stats().await.unwrap();
        let own = stats.iter().find(|stats| stats.id == id).unwrap();
        assert!(own.memory_usage_bytes > 0 && own.pids >= 1 && own.cpu_usage_nanos > 0, "{own:?}");
        node.core.reopen_container_log(&id).await.unwrap();
        let bad = node.pod("bad");
        let sysctls = [("net.no_such_thing".to_owned(), "1".to_owned())].into();
        let error = node.core.run_pod_sandbox(PodSandboxConfig { sysctls, ..bad }).await.unwrap_err().to_string();
        assert!(error.contains("net.no_such_thing"), "{error}");
        node.remove(&sandbox).await;
    });
}

/// A group of version 2 of the machine's own, removed when dropped. Hybrid machines have such groups, too.
struct Group(std::path::PathBuf, String);

impl Group {
    fn new(name: &str) -> Group {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("version 2 of control groups");
        let root = std::path::PathBuf::from(line.split(' ').nth(4).unwrap());
        let name = format!("cox-test-{name}-{}", std::process::id());
        std::fs::create_dir(root.join(&name)).unwrap();
        Group(root, name)
    }

    /// What a shell in the group says.
    fn shell(&self, script: &str) -> String {
        let procs = self.0.join(&self.1).join("cgroup.procs");
        let script = format!("echo 0 > {}; {script}", procs.display());
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        Layout::V2 { root: self.0.clone() }.remove(&self.1).unwrap();
    }
}

#[test]
fn version_2_opens_only_the_devices_that_rules_name() {
    let node = tempfile::tempdir().unwrap();
    let make = |name: &str| format!("mknod {}/{name} c 1 11", node.path().display());
    let open = |name: &str| {
        format!("head -c 0 {0}/{name} 2>/dev/null && echo {name} || echo no {name}", node.path().display())
    };
    let null = "echo x > /dev/null && echo null || echo no null";
    let group = Group::new("devices");
    let script = format!("{}; {}; {null}", make("log"), open("log"));
    assert_eq!(group.shell(&script), "log\nnull\n", "a group without rules");

    let layout = Layout::V2 { root: group.0.clone() };
    let rules = [
        DeviceRule::everything(false),
        DeviceRule::allow(DeviceKind::Character, None, None, MKNOD),
        DeviceRule::allow(DeviceKind::Character, Some(1), Some(3), ANY_ACCESS),
    ];
    layout.set_devices(&group.1, &rules).unwrap();
    let script = format!("{}; {}; {}; {null}", make("made"), open("log"), open("made"));
    assert_eq!(group.shell(&script), "no log\nno made\nnull\n");
    assert!(node.path().join("made").exists(), "any node may be made");
}
