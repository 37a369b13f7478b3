//! The message of a container that has ended: what it wrote to its termination file, or the end of its log.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use kubelet_runtime::cri::ContainerStatus;

use crate::labels;
use crate::logs::entry;

use super::start::termination_file;

/// Longest message, and how much of a log stands for one.
const MAX_MESSAGE: u64 = 4096;
const MAX_LOG_LINES: usize = 80;
const MAX_LOG_BYTES: usize = 2048;

/// The message of an ended container; empty when it left none. Blocks.
pub(super) fn message(pod_dir: &Path, status: &ContainerStatus) -> String {
    let (path, policy) = labels::termination_message(status);
    if path.is_empty() {
        return status.message.clone();
    }
    let file = termination_file(pod_dir, &status.name, labels::restart_count(status));
    let written = match read_start(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return format!("Error reading termination log {}: {e}", file.display()),
    };
    if !written.is_empty() {
        return written;
    }
    if policy == "FallbackToLogsOnError" && status.exit_code != 0 {
        let tail = log_tail(Path::new(&status.log_path)).unwrap_or_default();
        if !tail.is_empty() {
            return tail;
        }
    }
    status.message.clone()
}

fn read_start(path: &Path) -> io::Result<String> {
    let mut data = Vec::new();
    fs::File::open(path)?.take(MAX_MESSAGE).read_to_end(&mut data)?;
    Ok(String::from_utf8_lossy(&data).into_owned())
}

/// The last lines of a log, without their prefixes.
fn log_tail(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(64 << 10)))?;
    let mut data = Vec::new();
    file.read_to_end(&mut data)?;
    let lines: Vec<&[u8]> = data.split_inclusive(|b| *b == b'\n').collect();
    let mut text = Vec::new();
    for line in lines.iter().skip(lines.len().saturating_sub(MAX_LOG_LINES)) {
        if let Some(entry) = entry::parse(line) {
            text.extend_from_slice(entry.content);
            if !entry.partial {
                text.push(b'\n');
            }
        }
    }
    let start = text.len().saturating_sub(MAX_LOG_BYTES);
    Ok(String::from_utf8_lossy(&text[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_end_of_the_log_without_prefixes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let lines = ["stdout F one\n", "stderr P tw\n", "stderr F o\n"].map(|l| format!("2026-01-01T00:00:00Z {l}"));
        fs::write(&path, lines.concat()).unwrap();
        assert_eq!(log_tail(&path).unwrap(), "one\ntwo\n");
    }
}
