//! Mounts: overlay root file systems by the new mount API, tmpfs, propagation.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::Mode;

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// The classic mount call takes one page of options.
const OPTIONS_LIMIT: usize = 4096;

/// What an overlay is made of; `lower` from the topmost layer down.
pub struct Overlay<'a> {
    pub lower: &'a [PathBuf],
    pub upper: &'a Path,
    pub work: &'a Path,
}

/// Mounts the overlay on `target`. The mount is `volatile`: a container's root is mounted once in its life, so nothing
/// would read what a sync at unmount keeps.
pub fn overlay(overlay: &Overlay<'_>, target: &Path) -> nix::Result<()> {
    // Kernels before 6.5 know no `lowerdir+`, and would complain of each attempt in their log.
    if is_before(&kernel_release(), (6, 5)) {
        return overlay_classic(overlay, target);
    }
    match overlay_new_api(overlay, target) {
        Err(Errno::EINVAL | Errno::ENOSYS) => overlay_classic(overlay, target),
        other => other,
    }
}

/// `6.1.0-50-amd64`; empty where the kernel does not say.
fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// A release that cannot be read counts as new.
fn is_before(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < version)
}

fn overlay_new_api(overlay: &Overlay<'_>, target: &Path) -> nix::Result<()> {
    // SAFETY: a constant C string and flags.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: fsopen returned a new descriptor.
    let context = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    for layer in overlay.lower {
        config_string(&context, c"lowerdir+", layer)?;
    }
    config_string(&context, c"upperdir", overlay.upper)?;
    config_string(&context, c"workdir", overlay.work)?;
    config(&context, FSCONFIG_SET_FLAG, Some(c"volatile"), None)?;
    config(&context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: a descriptor and flags.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })?;
    // SAFETY: fsmount returned a new descriptor.
    let mount = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    let target = c_path(target)?;
    // SAFETY: both strings live until the call returns.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

fn config_string(context: &OwnedFd, key: &std::ffi::CStr, value: &Path) -> nix::Result<()> {
    config(context, FSCONFIG_SET_STRING, Some(key), Some(&c_path(value)?))
}

fn config(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&std::ffi::CStr>,
    value: Option<&std::ffi::CStr>,
) -> nix::Result<()> {
    let key = key.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    let value = value.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    // SAFETY: the strings live until the call returns; null where the command takes none.
    Errno::result(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) }).map(drop)
}

fn overlay_classic(overlay: &Overlay<'_>, target: &Path) -> nix::Result<()> {
    let options = |lower: &[PathBuf]| {
        let lower: Vec<_> = lower.iter().map(|layer| layer.to_string_lossy()).collect();
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), overlay.upper.display(), overlay.work.display())
    };
    let mut text = options(overlay.lower);
    let mut opened: Vec<OwnedFd> = Vec::new();
    if text.len() >= OPTIONS_LIMIT {
        // Names of open directories are short.
        for layer in overlay.lower {
            opened.push(nix::fcntl::open(layer, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?);
        }
        let names = opened.iter().map(|layer| PathBuf::from(format!("/proc/self/fd/{}", layer.as_raw_fd())));
        text = options(&names.collect::<Vec<_>>());
    }
    if text.len() >= OPTIONS_LIMIT {
        return Err(Errno::E2BIG);
    }
    let kind = Some("overlay");
    nix::mount::mount(kind, target, kind, MsFlags::empty(), Some(text.as_str()))
}

fn c_path(path: &Path) -> nix::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// From now on mounts of the node come into this mount namespace, and none goes out.
pub fn receive_only() -> nix::Result<()> {
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
}

/// The Pod's shared memory.
pub fn shared_memory(target: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("shm"), target, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))
}

/// Takes the mount away now, and its file system as soon as nobody uses it. Nothing mounted there is fine.
pub fn detach(target: &Path) -> nix::Result<()> {
    match nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A copy of the mount tree at `source`, in no namespace yet, still a peer of the original.
pub fn clone_tree(source: &Path) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_RECURSIVE as libc::c_uint;
    let source = c_path(source)?;
    // SAFETY: the string lives until the call returns.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) })?;
    // SAFETY: open_tree returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// A copy of the mount behind the descriptor, with the file it is open on as root, in no namespace yet.
pub fn clone_file(file: &OwnedFd) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: a descriptor, an empty string and flags.
    let raw = unsafe { libc::syscall(libc::SYS_open_tree, file.as_raw_fd(), c"".as_ptr(), flags) };
    // SAFETY: open_tree returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(Errno::result(raw)? as i32) })
}

/// Makes what is at `path`, a mount or not, a mount of its own that nobody writes to. Nothing there is fine.
pub fn read_only(path: &Path) -> nix::Result<()> {
    let none = None::<&str>;
    match nix::mount::mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(none, path, none, flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
}

/// Takes away all writing to the root, which keeps its other options.
pub fn read_only_root() -> nix::Result<()> {
    let none = None::<&str>;
    let kept = MsFlags::from_bits_truncate(nix::sys::statfs::statfs("/")?.flags().bits() as libc::c_ulong);
    nix::mount::mount(none, "/", none, kept | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
}

/// Hides a directory behind an empty one that nobody writes to.
pub fn hide_directory(path: &Path) -> nix::Result<()> {
    nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)
}

/// Attaches a tree from [`clone_tree`] at `target`.
pub fn attach_tree(tree: &OwnedFd, target: &Path) -> nix::Result<()> {
    let target = c_path(target)?;
    // SAFETY: both strings live until the call returns.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Replaces this mount namespace's root with an empty read-only file system.
pub fn empty_root() -> nix::Result<()> {
    let none = None::<&str>;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    nix::mount::mount(Some("empty"), "/proc", Some("tmpfs"), flags, Some("size=4k"))?;
    nix::unistd::chdir("/proc")?;
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")
}

/// Takes away every mount of this namespace at or below `path`, innermost first.
pub fn detach_below(path: &Path) -> std::io::Result<()> {
    let Ok(path) = path.canonicalize() else { return Ok(()) };
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let below: Vec<PathBuf> = points.filter(|point| point.starts_with(&path)).collect();
    for point in below.iter().rev() {
        detach(point)?;
    }
    Ok(())
}

/// Blanks are written as octal numbers there.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or(&[]) } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        let table =
            [("6.1.0-50-amd64", true), ("5.14.0-427.el9", true), ("6.5.0", false), ("6.18.44-x", false), ("", false)];
        for (release, before) in table {
            assert_eq!(is_before(release, (6, 5)), before, "{release}");
        }
    }
}
