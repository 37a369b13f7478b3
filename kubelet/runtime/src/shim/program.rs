//! Runs a program by the rules of runc, and gives its texts when that fails.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

/// Becomes the program; returns only the reason why it could not.
pub fn run(args: &[String]) -> String {
    let Some(name) = args.first() else { return "no command specified".into() };
    let path = match find(name) {
        Ok(path) => path,
        Err(reason) => return format!("exec: {name:?}: {reason}"),
    };
    let c_args: Result<Vec<CString>, _> = args.iter().map(|arg| CString::new(arg.as_bytes())).collect();
    let (Ok(c_path), Ok(c_args)) = (CString::new(path.as_os_str().as_bytes()), c_args) else {
        return format!("exec {name:?}: an argument holds a zero byte");
    };
    let Err(errno) = nix::unistd::execv(&c_path, &c_args);
    format!("exec {}: {}", path.display(), text(errno))
}

/// Where the program is: itself when its name has a slash, else the first executable of that name in `PATH`.
fn find(name: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(Errno::EACCES) => Err("permission denied".into()),
            Err(errno) => Err(format!("stat {name}: {}", text(errno))),
        };
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut denied = false;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(errno) => denied |= errno == Errno::EACCES,
        }
    }
    Err(if denied { "permission denied".into() } else { "executable file not found in $PATH".into() })
}

fn executable(path: &Path) -> Result<(), Errno> {
    let metadata = std::fs::metadata(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    if metadata.is_dir() {
        return Err(Errno::EACCES);
    }
    access(path, AccessFlags::X_OK)
}

/// The kernel's reason in the words of Go's syscall package, which people know.
fn text(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "no such file or directory".into(),
        Errno::EACCES => "permission denied".into(),
        Errno::ENOEXEC => "exec format error".into(),
        Errno::E2BIG => "argument list too long".into(),
        Errno::ENOTDIR => "not a directory".into(),
        other => other.desc().to_lowercase(),
    }
}
