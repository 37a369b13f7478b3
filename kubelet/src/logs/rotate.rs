//! Rotation of container logs, 10 MiB × 5 by default, without a polling loop: inotify tells once that a container has
//! begun to write; only while it goes on writing its log's size is looked at.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kubelet_runtime::cri::{ContainerState, EventType};
use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::inotify::Watch;

/// How often the size of a log that is written to is looked at.
const CHECK: Duration = Duration::from_secs(10);

/// A running container's log.
struct Log {
    path: PathBuf,
    /// Its size when last looked at; `None` while inotify is waited for.
    active: Option<u64>,
}

struct Rotator {
    agent: Arc<Agent>,
    inotify: Arc<Watch>,
    logs: HashMap<String, Log>,
    watches: HashMap<WatchDescriptor, String>,
}

/// Rotates logs until the task is dropped.
///
/// # Errors
/// inotify is not to be had.
pub async fn run(agent: Arc<Agent>) -> anyhow::Result<()> {
    let mut events = agent.runtime.events();
    let inotify = Arc::new(Watch::new().context("starting inotify")?);
    let mut rotator = Rotator { agent, inotify: inotify.clone(), logs: HashMap::new(), watches: HashMap::new() };
    rotator.adopt().await;
    let mut check: Option<Instant> = None;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => match event.kind {
                    EventType::ContainerStarted => rotator.add(&event.container_id).await,
                    EventType::ContainerStopped | EventType::ContainerDeleted => rotator.drop_log(&event.container_id),
                    _ => {}
                },
                Err(RecvError::Lagged(_)) => rotator.adopt().await,
                Err(RecvError::Closed) => return Ok(()),
            },
            written = inotify.changed() => {
                if rotator.written(written.context("waiting for inotify")?) {
                    check.get_or_insert_with(|| Instant::now() + CHECK);
                }
            }
            () = sleep(check) => {
                let busy = rotator.look().await;
                check = busy.then(|| Instant::now() + CHECK);
            }
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Rotator {
    async fn adopt(&mut self) {
        match self.agent.runtime.list_containers().await {
            Ok(list) => {
                for status in list.into_iter().filter(|c| c.state == ContainerState::Running) {
                    self.arm(&status.id, PathBuf::from(status.log_path));
                }
            }
            Err(error) => tracing::warn!(%error, "listing containers for their logs failed"),
        }
    }

    async fn add(&mut self, id: &str) {
        match self.agent.runtime.container_status(id).await {
            Ok(status) => self.arm(id, PathBuf::from(status.log_path)),
            Err(error) => tracing::debug!(id, %error, "a container's log is not looked after"),
        }
    }

    /// Waits for the next write to the log.
    fn arm(&mut self, id: &str, path: PathBuf) {
        match self.inotify.add(&path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT) {
            Ok(watch) => {
                self.watches.insert(watch, id.to_owned());
                self.logs.insert(id.to_owned(), Log { path, active: None });
            }
            Err(error) => tracing::debug!(path = %path.display(), %error, "a log is not watched"),
        }
    }

    fn drop_log(&mut self, id: &str) {
        self.logs.remove(id);
        self.watches.retain(|_, owner| owner != id);
    }

    /// Takes in who has begun to write.
    fn written(&mut self, events: Vec<InotifyEvent>) -> bool {
        let mut any = false;
        for event in events.into_iter().filter(|e| e.mask.contains(AddWatchFlags::IN_MODIFY)) {
            let Some(log) = self.watches.remove(&event.wd).and_then(|id| self.logs.get_mut(&id)) else { continue };
            log.active = Some(0);
            any = true;
        }
        any
    }

    /// Looks at the logs that are written to; true while there are any.
    async fn look(&mut self) -> bool {
        let active: Vec<(String, PathBuf, u64)> =
            self.logs.iter().filter_map(|(id, log)| Some((id.clone(), log.path.clone(), log.active?))).collect();
        let mut busy = false;
        for (id, path, before) in active {
            let size = fs::metadata(&path).map_or(0, |m| m.len());
            if size >= self.agent.config.container_log_max_size {
                if let Err(error) = self.rotate(&id, &path).await {
                    tracing::warn!(id, path = %path.display(), %error, "rotating a log failed");
                }
                self.arm(&id, path);
            } else if size == before {
                self.arm(&id, path);
            } else if let Some(log) = self.logs.get_mut(&id) {
                log.active = Some(size);
                busy = true;
            }
        }
        busy
    }

    async fn rotate(&self, id: &str, path: &Path) -> Result<(), String> {
        let keep = self.agent.config.container_log_max_files.saturating_sub(2);
        let log = path.to_owned();
        let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        let rotated = PathBuf::from(format!("{}.{stamp}", path.display()));
        let target = rotated.clone();
        let work = move || -> io::Result<()> {
            prune(&log, keep)?;
            fs::rename(&log, &target)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        if let Err(error) = self.agent.runtime.reopen_container_log(id).await {
            // Without a new file the container goes on in the old one, under its old name.
            fs::rename(&rotated, path).map_err(|e| format!("{error}; moving it back: {e}"))?;
            return Err(error.to_string());
        }
        Ok(())
    }
}

/// Rotated files of a log, oldest first.
fn rotated(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the oldest until `keep` are left.
fn prune(log: &Path, keep: usize) -> io::Result<()> {
    let found = rotated(log)?;
    let excess = found.len().saturating_sub(keep);
    found.iter().take(excess).try_for_each(fs::remove_file)
}

/// Removes a log and its rotated files.
pub async fn remove(path: &str) {
    let log = PathBuf::from(path);
    let work = move || {
        for file in rotated(&log).unwrap_or_default().into_iter().chain([log]) {
            match fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %file.display(), error = %e, "removing a log failed");
                }
                _ => {}
            }
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(path, %error, "removing a log broke off");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for name in ["0.log", "0.log.20260101-000000", "0.log.20260102-000000", "0.log.20260103-000000", "1.log"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        prune(&log, 1).unwrap();
        let left: Vec<_> = rotated(&log).unwrap();
        assert_eq!(left, [dir.path().join("0.log.20260103-000000")]);
        assert!(log.exists() && dir.path().join("1.log").exists());
    }
}
