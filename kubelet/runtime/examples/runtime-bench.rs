//! Measures the runtime core alone: sandbox and container, create to started; stop and remove; memory of a shim.
//! `runtime-bench IMAGE.tar COMMAND…` loads the archive and runs the command, which should sleep. Run as root, in a
//! network namespace of its own: `unshare -n target/release/examples/runtime-bench image.tar /bin/sleep 1000`.

use std::time::{Duration, Instant};

use kubelet_runtime::cri::{
    ContainerConfig, NamespaceOptions, PodSandboxConfig, Runtime, SeccompProfile, SecurityContext,
};
use kubelet_runtime::{Config, Core};

const ROUNDS: usize = 40;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "shim") {
        kubelet_runtime::shim::main(args.get(1..).unwrap_or(&[]));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (archive, command) = args.split_first().ok_or("usage: runtime-bench IMAGE.tar COMMAND…")?;
    let command = command.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    runtime.block_on(bench(archive.as_ref(), command))
}

async fn bench(archive: &std::path::Path, command: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::temp_dir().join(format!("cox-bench-{}", std::process::id()));
    let config = Config::new(&directory, &format!("{:08x}", std::process::id()));
    let core = Core::open(config.clone()).await?;
    core.update_pod_cidr("10.244.9.0/24").await?;
    let image = core.images().load(archive)?.into_iter().next().ok_or("the archive has no image")?;
    for (name, seccomp, host_network) in [
        ("default", SeccompProfile::RuntimeDefault, false),
        ("no seccomp", SeccompProfile::Unconfined, false),
        ("no seccomp, host network", SeccompProfile::Unconfined, true),
    ] {
        let mut times: Vec<[Duration; 5]> = Vec::new();
        let mut memory = None;
        for round in 0..ROUNDS {
            let (time, shim) = once(&core, &image, &command, &seccomp, host_network, round).await?;
            times.push(time);
            memory = memory.or(shim);
        }
        println!("{name}:");
        let columns = ["sandbox", "create", "start", "create to started", "stop and remove"];
        for (column, label) in columns.iter().enumerate() {
            let mut sorted: Vec<Duration> = times.iter().filter_map(|row| row.get(column)).copied().collect();
            sorted.sort();
            let at = |part: usize| sorted.get(sorted.len() * part / 100).copied().unwrap_or_default();
            println!("  {label:18} p50 {:>8.2?}  p90 {:>8.2?}  max {:>8.2?}", at(50), at(90), at(99));
        }
        println!("  shim memory: {}", memory.unwrap_or_default());
    }
    drop(core);
    kubelet_runtime::reset(&config)?;
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

async fn once(
    core: &Core,
    image: &str,
    command: &[String],
    seccomp: &SeccompProfile,
    host_network: bool,
    round: usize,
) -> Result<([Duration; 5], Option<String>), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let sandbox = core
        .run_pod_sandbox(PodSandboxConfig {
            name: format!("bench-{round}"),
            uid: format!("{round}"),
            hostname: "bench".into(),
            cgroup_parent: format!("/cox-{:08x}/kubepods/pod{round}", std::process::id()),
            namespaces: NamespaceOptions { host_network, ..NamespaceOptions::default() },
            ..PodSandboxConfig::default()
        })
        .await?;
    let made = Instant::now();
    let config = ContainerConfig {
        name: "main".into(),
        image: image.to_owned(),
        command: command.to_vec(),
        security: SecurityContext { seccomp: seccomp.clone(), ..SecurityContext::default() },
        ..ContainerConfig::default()
    };
    let container = core.create_container(&sandbox, config).await?;
    let created = Instant::now();
    core.start_container(&container).await?;
    let started = Instant::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let memory = shim_memory(&sandbox);
    let stopping = Instant::now();
    core.stop_pod_sandbox(&sandbox).await?;
    core.remove_pod_sandbox(&sandbox).await?;
    let times = [made - begin, created - made, started - created, started - begin, stopping.elapsed()];
    Ok((times, memory))
}

/// The figures of the process that has the sandbox's id as an argument.
fn shim_memory(sandbox: &str) -> Option<String> {
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command_line).contains(sandbox) {
            let text = std::fs::read_to_string(entry.path().join("smaps_rollup")).ok()?;
            let wanted = ["Rss:", "Pss:", "Pss_Anon:", "Private_Clean:", "Private_Dirty:"];
            let lines = text.lines().filter(|line| wanted.iter().any(|key| line.starts_with(key)));
            return Some(
                lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", "),
            );
        }
    }
    None
}
