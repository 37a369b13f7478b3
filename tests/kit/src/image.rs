//! Container images put together from files of this machine: a docker-archive tar, as `docker save` writes it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// An image in the making. One layer.
#[derive(Clone, Debug, Default)]
pub struct Image {
    tags: Vec<String>,
    files: Vec<(PathBuf, Vec<u8>, u32)>,
    links: Vec<(PathBuf, PathBuf)>,
    directories: Vec<PathBuf>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: Vec<String>,
    user: String,
    working_dir: String,
}

impl Image {
    /// An empty image with a full name, `docker.io/library/web:latest`.
    pub fn named(tag: &str) -> Self {
        Self { tags: vec![tag.to_owned()], env: vec!["PATH=/bin:/usr/bin:/sbin".to_owned()], ..Self::default() }
    }

    pub fn tag(mut self, tag: &str) -> Self {
        self.tags.push(tag.to_owned());
        self
    }

    /// Adds a file with a mode.
    pub fn file(mut self, path: &str, content: &[u8], mode: u32) -> Self {
        self.files.push((PathBuf::from(path.trim_start_matches('/')), content.to_vec(), mode));
        self
    }

    /// Adds a file of this machine as an executable.
    pub fn program(self, path: &str, source: &Path) -> Result<Self> {
        let content = std::fs::read(source).with_context(|| format!("read {}", source.display()))?;
        Ok(self.file(path, &content, 0o755))
    }

    /// busybox with the names that tests call it by, and what programs expect of a root file system.
    pub fn busybox(self) -> Result<Self> {
        let mut image = self.program("/bin/busybox", Path::new("/bin/busybox"))?;
        let names = [
            "sh", "sleep", "cat", "echo", "ls", "id", "env", "wget", "nc", "httpd", "hostname", "touch", "mkdir", "rm",
            "date", "test", "true", "false", "head", "tail", "grep", "sed", "awk", "seq", "printf", "ps", "kill",
            "tar", "nslookup", "ip", "stat", "mount", "dd", "wc", "tr", "cut", "tee", "md5sum", "chmod", "vi", "trap",
            "ln", "stty", "sort", "find",
        ];
        for name in names {
            image.links.push((PathBuf::from(format!("bin/{name}")), PathBuf::from("/bin/busybox")));
        }
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
        image.directories.extend(["tmp", "etc", "root", "var", "proc", "sys", "dev"].map(PathBuf::from));
        let image = image.file("/etc/passwd", passwd, 0o644).file("/etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644);
        Ok(image)
    }

    /// The C library with its resolver, which the static busybox loads to look names up; without it `wget` crashes.
    pub fn resolver(self) -> Result<Self> {
        let arch = std::env::consts::ARCH;
        let loader = if arch == "aarch64" { "/lib/ld-linux-aarch64.so.1" } else { "/lib64/ld-linux-x86-64.so.2" };
        let mut image =
            self.program(loader, Path::new(loader))?.file("/etc/nsswitch.conf", b"hosts: files dns\n", 0o644);
        for library in ["libc.so.6", "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"] {
            let path = format!("/lib/{arch}-linux-gnu/{library}");
            image = image.program(&path, Path::new(&path))?;
        }
        Ok(image)
    }

    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub fn user(mut self, user: &str) -> Self {
        self.user = user.to_owned();
        self
    }

    pub fn working_dir(mut self, dir: &str) -> Self {
        self.working_dir = dir.to_owned();
        self
    }

    /// The uncompressed layer. Times and owners are fixed: the same files make the same digest.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let header = |kind: tar::EntryType, mode: u32, size: usize| -> Result<tar::Header> {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size.try_into().context("a file's size")?);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            Ok(header)
        };
        let mut directories = self.directories.clone();
        let paths = self.files.iter().map(|(path, ..)| path).chain(self.links.iter().map(|(path, _)| path));
        for path in paths {
            let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            directories.extend(parents.map(Path::to_owned));
        }
        directories.sort();
        directories.dedup();
        for directory in directories {
            let mode = if directory == Path::new("tmp") { 0o1777 } else { 0o755 };
            let mut header = header(tar::EntryType::Directory, mode, 0)?;
            tar.append_data(&mut header, &directory, std::io::empty())?;
        }
        for (path, content, mode) in &self.files {
            let mut header = header(tar::EntryType::Regular, *mode, content.len())?;
            tar.append_data(&mut header, path, content.as_slice())?;
        }
        for (path, target) in &self.links {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0)?;
            tar.append_link(&mut header, path, target)?;
        }
        tar.into_inner().context("finish the layer")
    }

    /// Writes the image as a docker-archive.
    pub fn write(&self, path: &Path) -> Result<()> {
        let layer = self.layer()?;
        let diff_id = format!("sha256:{}", hex(&Sha256::digest(&layer)));
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint, "Cmd": self.command, "Env": self.env, "User": self.user,
                "WorkingDir": self.working_dir,
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "put together from files"}],
        });
        let config = serde_json::to_vec(&config).context("encode the image's config")?;
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let manifest = json!([{"Config": config_name, "RepoTags": self.tags, "Layers": ["layer.tar"]}]);
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        let mut archive = tar::Builder::new(file);
        let mut add = |name: &str, content: &[u8]| -> Result<()> {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len().try_into().context("a file's size")?);
            archive.append_data(&mut header, name, content).with_context(|| format!("add {name}"))
        };
        add("manifest.json", &serde_json::to_vec(&manifest).context("encode the manifest")?)?;
        add(&config_name, &config)?;
        add("layer.tar", &layer)?;
        archive.into_inner().and_then(|mut file| file.flush()).with_context(|| format!("write {}", path.display()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
