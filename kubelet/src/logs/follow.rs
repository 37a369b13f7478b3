//! Reading a container's log for a client, and following it: inotify tells of each write, nothing polls.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use nix::sys::inotify::AddWatchFlags;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};

use crate::inotify;

use super::entry::{self, Entry};
use super::options::Options;

const BLOCK: usize = 64 << 10;
/// A line longer than this is passed on in pieces.
const LONGEST_LINE: usize = 1 << 20;

/// Writes what is asked for to `out`, until the log ends (or, when following, `ended` says that nothing more comes), or
/// nobody listens.
///
/// # Errors
/// The log cannot be read.
pub async fn read(
    path: &Path,
    options: &Options,
    out: mpsc::Sender<Bytes>,
    mut ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut file = File::open(path).await?;
    let start = match options.tail {
        Some(lines) => tail_start(&mut file, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut reader = Reader { pending: BytesMut::new(), filter: Filter::new(options), out };
    if !options.follow {
        reader.drain(&mut file).await?;
        return Ok(());
    }
    let mut watch = Watch::new(path)?;
    loop {
        // Asked before reading: what was written before the end is read after it.
        let over = *ended.borrow_and_update();
        if !reader.drain(&mut file).await? || over {
            return Ok(());
        }
        tokio::select! {
            changed = watch.inotify.changed() => drop(changed?),
            () = reader.out.closed() => return Ok(()),
            gone = ended.changed() => if gone.is_err() {
                return reader.drain(&mut file).await.map(drop);
            },
        }
        if watch.replaced(&file).await? {
            reader.drain(&mut file).await?;
            file = File::open(path).await?;
            watch = Watch::new(path)?;
        }
    }
}

/// Where the last `lines` whole lines of a file begin.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.metadata().await?.len();
    if lines == 0 {
        return Ok(end);
    }
    let size = end;
    let mut seen = 0;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let length = usize::try_from(end.min(BLOCK as u64)).unwrap_or(BLOCK);
        let start = end - length as u64;
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block[..length]).await?;
        for at in (0..length).rev().filter(|at| block[*at] == b'\n') {
            let position = start + at as u64;
            // The last line's own end counts for nothing.
            if position + 1 == size {
                continue;
            }
            seen += 1;
            if seen == lines {
                return Ok(position + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

/// What is passed on, and how.
struct Filter {
    since: Option<i64>,
    stream: Option<&'static str>,
    timestamps: bool,
    left: Option<u64>,
    /// The last entry was a piece of a line: the next needs no timestamp.
    inside: bool,
}

impl Filter {
    fn new(options: &Options) -> Self {
        Self {
            since: options.since,
            stream: options.stream,
            timestamps: options.timestamps,
            left: options.limit,
            inside: false,
        }
    }

    /// Adds what a line comes to; false when the limit is reached.
    fn push(&mut self, line: &[u8], out: &mut BytesMut) -> bool {
        let Some(entry) = entry::parse(line) else { return true };
        if self.stream.is_some_and(|s| s.as_bytes() != entry.stream) || self.too_old(&entry) {
            return true;
        }
        let before = out.len();
        if self.timestamps && !self.inside {
            out.extend_from_slice(entry.time);
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(entry.content);
        if !entry.partial {
            out.extend_from_slice(b"\n");
        }
        self.inside = entry.partial;
        let Some(left) = &mut self.left else { return true };
        let added = (out.len() - before) as u64;
        if added >= *left {
            out.truncate(before + usize::try_from(*left).unwrap_or(0));
            *left = 0;
            return false;
        }
        *left -= added;
        true
    }

    fn too_old(&mut self, entry: &Entry) -> bool {
        let old = self.since.is_some_and(|since| entry.nanos().is_some_and(|at| at < since));
        if !old {
            // Entries are in order: from here on all are new enough.
            self.since = None;
        }
        old
    }
}

struct Reader {
    pending: BytesMut,
    filter: Filter,
    out: mpsc::Sender<Bytes>,
}

impl Reader {
    /// Passes on what the file has now; false when nobody wants more.
    async fn drain(&mut self, file: &mut File) -> io::Result<bool> {
        loop {
            self.pending.reserve(BLOCK);
            if file.read_buf(&mut self.pending).await? == 0 {
                return Ok(true);
            }
            let mut chunk = BytesMut::new();
            let mut go_on = true;
            while go_on {
                let Some(end) = self.pending.iter().position(|b| *b == b'\n') else { break };
                let line = self.pending.split_to(end + 1);
                go_on = self.filter.push(&line, &mut chunk);
            }
            if self.pending.len() > LONGEST_LINE {
                let line = self.pending.split();
                go_on &= self.filter.push(&line, &mut chunk);
            }
            if !chunk.is_empty() && self.out.send(chunk.freeze()).await.is_err() || !go_on {
                return Ok(false);
            }
        }
    }
}

/// Waits for writes to a file, or for its replacement by rotation.
struct Watch {
    inotify: inotify::Watch,
    path: PathBuf,
}

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::Watch::new()?;
        inotify.add(path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_CLOSE_WRITE)?;
        if let Some(dir) = path.parent() {
            inotify.add(dir, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE_SELF)?;
        }
        Ok(Self { inotify, path: path.to_owned() })
    }

    /// Whether the name now stands for another file than the open one.
    async fn replaced(&self, open: &File) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        match tokio::fs::metadata(&self.path).await {
            Ok(meta) => Ok(meta.ino() != open.metadata().await?.ino()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::io::Write as _;

    fn line(second: u32, stream: &str, tag: &str, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000000Z {stream} {tag} {text}\n")
    }

    async fn collect(path: &Path, options: Options) -> String {
        let (out, mut lines) = mpsc::channel(16);
        let path = path.to_owned();
        let task = client::spawn(async move { read(&path, &options, out, watch::channel(true).1).await });
        let mut all = Vec::new();
        while let Some(chunk) = lines.recv().await {
            all.extend_from_slice(&chunk);
        }
        task.await.unwrap().unwrap();
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn options_choose() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let text = [
            line(1, "stdout", "F", "one"),
            line(2, "stderr", "F", "two"),
            line(3, "stdout", "P", "thr"),
            line(3, "stdout", "F", "ee"),
        ];
        std::fs::write(&path, text.concat()).unwrap();
        let all = Options::default();
        assert_eq!(collect(&path, all.clone()).await, "one\ntwo\nthree\n");
        assert_eq!(collect(&path, Options { tail: Some(3), ..all.clone() }).await, "two\nthree\n");
        assert_eq!(collect(&path, Options { tail: Some(0), ..all.clone() }).await, "");
        assert_eq!(collect(&path, Options { tail: Some(99), ..all.clone() }).await, "one\ntwo\nthree\n");
        assert_eq!(collect(&path, Options { limit: Some(5), ..all.clone() }).await, "one\nt");
        assert_eq!(collect(&path, Options { stream: Some("stderr"), ..all.clone() }).await, "two\n");
        let since = "2026-01-01T00:00:02Z".parse::<jiff::Timestamp>().unwrap().as_nanosecond();
        let since = Options { since: Some(i64::try_from(since).unwrap()), timestamps: true, ..all };
        let want = "2026-01-01T00:00:02.000000000Z two\n2026-01-01T00:00:03.000000000Z three\n";
        assert_eq!(collect(&path, since).await, want);
    }

    #[tokio::test]
    async fn following_survives_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, line(1, "stdout", "F", "one")).unwrap();
        let (running, ended) = watch::channel(false);
        let (out, mut lines) = mpsc::channel(16);
        let log = path.clone();
        let options = Options { follow: true, ..Options::default() };
        let task = client::spawn(async move { read(&log, &options, out, ended).await });
        assert_eq!(lines.recv().await.unwrap(), "one\n");
        let append = |text: String| {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append(line(2, "stdout", "F", "two"));
        assert_eq!(lines.recv().await.unwrap(), "two\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        append(line(3, "stdout", "F", "three"));
        assert_eq!(lines.recv().await.unwrap(), "three\n");
        append(line(4, "stdout", "F", "four"));
        running.send_replace(true);
        assert_eq!(lines.recv().await.unwrap(), "four\n");
        assert!(lines.recv().await.is_none());
        task.await.unwrap().unwrap();
    }
}
