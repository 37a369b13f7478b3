//! Files below a root that their names cannot leave: openat2 with `RESOLVE_IN_ROOT`.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

/// Opens `path` as if `root` were `/`: `..` and absolute links end there. Links of /proc are not followed.
pub fn open_in_root(root: &File, path: &Path, flags: i32, mode: u32) -> std::io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: open_how is plain data; all zeroes is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the string and the structure live until the call returns.
    let raw = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &how, std::mem::size_of::<libc::open_how>())
    };
    // SAFETY: openat2 returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(Errno::result(raw)? as i32) })
}

/// Writes everything of the file system that holds `file` to its disk.
pub fn sync_filesystem(file: &File) -> std::io::Result<()> {
    // SAFETY: the descriptor is open.
    Errno::result(unsafe { libc::syncfs(file.as_raw_fd()) })?;
    Ok(())
}

/// Sets an extended attribute of the file itself, or, where `name` is a link, of the link.
pub fn set_xattr(directory: &OwnedFd, name: &std::ffi::CStr, key: &str, value: &[u8]) -> std::io::Result<()> {
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let path = CString::new(path)?;
    let key = CString::new(key)?;
    // SAFETY: strings and value live until the call returns.
    Errno::result(unsafe { libc::lsetxattr(path.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) })?;
    Ok(())
}

/// An extended attribute of `path` itself, short ones only; `None` when it has none.
pub fn xattr(path: &Path, key: &std::ffi::CStr) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = [0u8; 64];
    // SAFETY: the strings live until the call returns; the buffer's length is passed.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), key.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let length = usize::try_from(length).ok()?;
    Some(value.get(..length)?.to_vec())
}

/// Opens the directory `path` below `root`, which it cannot leave, making what is missing with `mode`.
pub fn make_directories(root: &File, path: &Path, mode: u32) -> std::io::Result<OwnedFd> {
    let directory = libc::O_PATH | libc::O_DIRECTORY;
    if let Ok(fd) = open_in_root(root, path, directory, 0) {
        return Ok(fd);
    }
    let mut reached = std::path::PathBuf::from(".");
    let mut current = open_in_root(root, Path::new("."), directory, 0)?;
    for part in path.components() {
        let std::path::Component::Normal(name) = part else { continue };
        reached.push(name);
        current = match open_in_root(root, &reached, directory, 0) {
            Ok(fd) => fd,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let name = CString::new(name.as_bytes())?;
                // SAFETY: the string lives until the call returns.
                Errno::result(unsafe { libc::mkdirat(current.as_raw_fd(), name.as_ptr(), mode) })?;
                open_in_root(root, &reached, directory, 0)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(current)
}

/// What stands under a name; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// Overlayfs's mark of a hidden file: a character device 0:0.
    Whiteout,
    Other,
}

/// `None` when nothing is there.
pub fn kind(directory: &OwnedFd, name: &CStr) -> std::io::Result<Option<Kind>> {
    // SAFETY: stat is plain data; all zeroes is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the string and the structure live until the call returns.
    let result = unsafe { libc::fstatat(directory.as_raw_fd(), name.as_ptr(), &mut stat, libc::AT_SYMLINK_NOFOLLOW) };
    match Errno::result(result) {
        Ok(_) => Ok(Some(match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFCHR if stat.st_rdev == 0 => Kind::Whiteout,
            _ => Kind::Other,
        })),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes a name, a directory with all in it.
pub fn remove(directory: &OwnedFd, name: &CStr, kind: Kind) -> std::io::Result<()> {
    if kind == Kind::Directory {
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
        return std::fs::remove_dir_all(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
    }
    // SAFETY: the string lives until the call returns.
    done(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) })
}

fn done(result: libc::c_int) -> std::io::Result<()> {
    Errno::result(result)?;
    Ok(())
}

/// There already is fine.
pub fn make_directory(directory: &OwnedFd, name: &CStr, mode: u32) -> std::io::Result<()> {
    // SAFETY: the string lives until the call returns.
    match Errno::result(unsafe { libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), mode) }) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

pub fn make_symlink(directory: &OwnedFd, name: &CStr, target: &CStr) -> std::io::Result<()> {
    // SAFETY: the strings live until the call returns.
    done(unsafe { libc::symlinkat(target.as_ptr(), directory.as_raw_fd(), name.as_ptr()) })
}

/// Another name for a file; a link at the old name is not followed.
pub fn hard_link(from: &OwnedFd, old: &CStr, to: &OwnedFd, new: &CStr) -> std::io::Result<()> {
    // SAFETY: the strings live until the call returns.
    done(unsafe { libc::linkat(from.as_raw_fd(), old.as_ptr(), to.as_raw_fd(), new.as_ptr(), 0) })
}

/// A device or pipe; `kind` as in a file mode.
pub fn make_node(directory: &OwnedFd, name: &CStr, kind: u32, major: u32, minor: u32) -> std::io::Result<()> {
    let device = libc::makedev(major, minor);
    // SAFETY: the string lives until the call returns.
    done(unsafe { libc::mknodat(directory.as_raw_fd(), name.as_ptr(), kind | 0o600, device) })
}

/// A new file, for writing.
pub fn create_file(directory: &OwnedFd, name: &CStr) -> std::io::Result<File> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the string lives until the call returns.
    let raw = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o600) };
    // SAFETY: openat returned a new descriptor.
    Ok(unsafe { File::from_raw_fd(Errno::result(raw)?) })
}

/// Of the name itself; links are not followed.
pub fn set_owner(directory: &OwnedFd, name: &CStr, uid: u32, gid: u32) -> std::io::Result<()> {
    // SAFETY: the string lives until the call returns.
    done(unsafe { libc::fchownat(directory.as_raw_fd(), name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW) })
}

/// Of a name that is known not to be a link.
pub fn set_mode(directory: &OwnedFd, name: &CStr, mode: u32) -> std::io::Result<()> {
    // SAFETY: the string lives until the call returns.
    done(unsafe { libc::fchmodat(directory.as_raw_fd(), name.as_ptr(), mode, 0) })
}

/// Sets both times, in seconds; links are not followed.
pub fn set_time(directory: &OwnedFd, name: &CStr, seconds: u64) -> std::io::Result<()> {
    let time = libc::timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    let times = [time, time];
    // SAFETY: the string and the array live until the call returns.
    done(unsafe { libc::utimensat(directory.as_raw_fd(), name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) })
}
