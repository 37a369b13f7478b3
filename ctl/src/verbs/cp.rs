//! `cp`: files into and out of containers, as a tar stream through `tar` in the container.

use std::io::{Read as _, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::pods;
use crate::error::Result;
use crate::flags::Args;
use crate::remote::command::{self, Input, QUEUE};
use crate::session::{Query, Session};

pub(super) const FLAGS: &str = "
  -c, --container=    Which container
      --no-preserve   Accepted
      --retries=      Accepted
";

/// `[[NAMESPACE/]POD:]PATH`
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Namespace, if one is said, and Pod.
    pod: Option<(Option<String>, String)>,
    path: String,
}

fn place(word: &str) -> Result<Place> {
    let Some((pod, path)) = word.split_once(':').filter(|(pod, _)| !pod.starts_with(['/', '.'])) else {
        return Ok(Place { pod: None, path: word.to_owned() });
    };
    if pod.is_empty() || path.is_empty() {
        bail!("filespec must match the canonical format: [[namespace/]pod:]file/path");
    }
    let pod = match pod.split('/').collect::<Vec<_>>().as_slice() {
        [pod] => (None, (*pod).to_owned()),
        [namespace, pod] => (Some((*namespace).to_owned()), (*pod).to_owned()),
        _ => bail!("filespec must match the canonical format: [[namespace/]pod:]file/path"),
    };
    Ok(Place { pod: Some(pod), path: path.to_owned() })
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let [from, to] = args.words.as_slice() else {
        bail!("source and destination are required");
    };
    let (from, to) = (place(from)?, place(to)?);
    let session = Session::open(args).await?;
    match (&from.pod, &to.pod) {
        (Some(_), Some(_)) => bail!("one of src or dest must be a local file specification"),
        (None, None) => bail!("one of src or dest must be a remote file specification"),
        (Some(pod), None) => download(&session, args, pod, &from.path, Path::new(&to.path)).await,
        (None, Some(pod)) => upload(&session, args, pod, Path::new(&from.path), &to.path).await,
    }
}

/// The URI that runs a command in the container that is meant.
async fn uri(
    session: &Session,
    args: &Args,
    pod: &(Option<String>, String),
    words: &[&str],
    stdin: bool,
) -> Result<String> {
    let namespace = pod.0.as_deref().unwrap_or(&session.namespace);
    let path = format!("{}/{}", pods::pods_path(namespace), pod.1);
    let object: Value = session.get(&path).await?;
    super::exec::check_runs(&object)?;
    // The command before the copy itself speaks to nobody.
    let container = pods::container(&object, args.get("container"), words.first() == Some(&"test"))?;
    let mut query = Query::new().with("container", container).with("stdout", "true").with("stderr", "true");
    if stdin {
        query.add("stdin", "true");
    }
    words.iter().for_each(|word| query.add("command", word));
    Ok(query.on(&format!("{path}/exec")))
}

async fn upload(session: &Session, args: &Args, pod: &(Option<String>, String), from: &Path, to: &str) -> Result<()> {
    if !from.exists() {
        bail!("{} doesn't exist in local filesystem", from.display());
    }
    let name = from.canonicalize()?.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let probe = uri(session, args, pod, &["test", "-d", to], false).await?;
    let mut nowhere = std::io::sink();
    let mut said = Vec::new();
    // Not a directory is an exit code; that there is no `test` shows in the copy itself.
    let is_directory = quiet(command::run(session, &probe, None, &mut nowhere, &mut said)).await;
    let to =
        if is_directory || to.ends_with('/') { format!("{}/{name}", to.trim_end_matches('/')) } else { to.to_owned() };
    let (parent, base) = match to.rsplit_once('/') {
        Some(("", base)) => ("/".to_owned(), base.to_owned()),
        Some((parent, base)) => (parent.to_owned(), base.to_owned()),
        None => (".".to_owned(), to.clone()),
    };
    let uri = uri(session, args, pod, &["tar", "-xmf", "-", "-C", &parent], true).await?;
    let (sender, input) = mpsc::channel(QUEUE);
    let from = from.to_owned();
    let packing = std::thread::spawn(move || pack(&from, Path::new(&base), sender));
    let done = command::run(session, &uri, Some(input), &mut std::io::stdout(), &mut std::io::stderr()).await;
    let packed = packing.join().unwrap_or_else(|_| Err(anyhow::anyhow!("packing stopped")));
    done?;
    packed
}

/// Whether a command succeeded, without its complaint.
async fn quiet(run: impl Future<Output = Result<()>>) -> bool {
    run.await.is_ok()
}

/// Bytes to the command's standard input.
struct Pipe(mpsc::Sender<Input>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.0.blocking_send(Input::Data(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn pack(from: &Path, name: &Path, sender: mpsc::Sender<Input>) -> Result<()> {
    let buffered = std::io::BufWriter::with_capacity(64 << 10, Pipe(sender));
    let mut archive = tar::Builder::new(buffered);
    archive.follow_symlinks(false);
    let doing = || format!("read {}", from.display());
    if from.is_dir() {
        archive.append_dir_all(name, from).with_context(doing)?;
    } else {
        archive.append_path_with_name(from, name).with_context(doing)?;
    }
    archive.into_inner().with_context(doing)?.flush().with_context(doing)
}

async fn download(session: &Session, args: &Args, pod: &(Option<String>, String), from: &str, to: &Path) -> Result<()> {
    let uri = uri(session, args, pod, &["tar", "cf", "-", from], false).await?;
    let (reader, mut writer) = std::io::pipe().context("make a pipe")?;
    let from = PathBuf::from(from.trim_start_matches('/'));
    let shown = from.clone();
    let base = from.file_name().map(PathBuf::from).unwrap_or_default();
    let to = if to.is_dir() { to.join(base) } else { to.to_owned() };
    let unpacking = std::thread::spawn(move || unpack(reader, &from, &to));
    let done = command::run(session, &uri, None, &mut writer, &mut std::io::stderr()).await;
    drop(writer);
    let unpacked = unpacking.join().unwrap_or_else(|_| Err(anyhow::anyhow!("unpacking stopped")));
    // Why unpacking stopped is the reason, not that the pipe to it broke; why nothing came is the command's to say.
    let count = unpacked?;
    done?;
    if count == 0 {
        bail!("{} not found or empty", shown.display());
    }
    Ok(())
}

/// Puts what the archive has below `from` to `to`, and says how many entries that were; nothing that a container says
/// can lead out of there.
fn unpack(reader: std::io::PipeReader, from: &Path, to: &Path) -> Result<usize> {
    let mut archive = tar::Archive::new(reader);
    let mut count = 0;
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let path = entry.path().context("read the archive")?.into_owned();
        let path: PathBuf =
            path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir)).collect();
        let Some(place) = local(&path, from, to) else {
            bail!("tar contents corrupted: {} is not below {}", path.display(), from.display());
        };
        count += 1;
        let doing = || format!("write {}", place.display());
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&place).with_context(doing)?;
        } else if kind.is_symlink() || kind.is_hard_link() {
            eprintln!("warning: skipping symlink: {:?}", place.display().to_string());
        } else {
            if let Some(parent) = place.parent() {
                std::fs::create_dir_all(parent).with_context(doing)?;
            }
            let mut file = std::fs::File::create(&place).with_context(doing)?;
            std::io::copy(&mut entry, &mut file).with_context(doing)?;
            if let Ok(mode) = entry.header().mode() {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
                std::fs::set_permissions(&place, mode).with_context(doing)?;
            }
        }
    }
    // What follows the end of an archive is read, so that the other side can finish.
    std::io::copy(&mut archive.into_inner().take(1 << 30), &mut std::io::sink()).context("read the archive")?;
    Ok(count)
}

fn local(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let clean: PathBuf = from.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let rest = path.strip_prefix(&clean).ok()?;
    let is_inside = rest.components().all(|c| matches!(c, Component::Normal(_)));
    is_inside.then(|| if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn places() {
        for (word, namespace, pod, path) in
            [("a:/x", None, Some("a"), "/x"), ("n/a:x", Some("n"), Some("a"), "x"), ("/x:y", None, None, "/x:y")]
        {
            let made = place(word).unwrap();
            let expected = pod.map(|pod: &str| (namespace.map(str::to_owned), pod.to_owned()));
            assert_eq!(made, Place { pod: expected, path: path.to_owned() });
        }
        assert!(place(":x").is_err() && place("a/b/c:x").is_err());
    }

    #[test]
    fn nothing_leads_out() {
        let at = |path: &str| local(Path::new(path), Path::new("etc/x"), Path::new("/to"));
        assert_eq!(at("etc/x"), Some("/to".into()));
        assert_eq!(at("etc/x/a/b"), Some("/to/a/b".into()));
        assert_eq!((at("etc/x/../../../passwd"), at("other")), (None, None));
    }
}
