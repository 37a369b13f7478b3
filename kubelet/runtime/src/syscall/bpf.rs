//! bpf(2), as far as a filter of devices takes it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of the groups above count, too.
const ALLOW_MULTI: u32 = 2;

const INSTRUCTION: usize = 8;

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as every kernel with such programs (4.15) knows it.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Has the kernel check and take a program of encoded instructions.
pub fn load_device_program(program: &[u8]) -> nix::Result<OwnedFd> {
    match load(program) {
        // Before 5.11 programs count as locked memory, of which little is allowed.
        Err(Errno::EPERM) if lift_memory_limit().is_ok() => load(program),
        other => other,
    }
}

fn load(program: &[u8]) -> nix::Result<OwnedFd> {
    let attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(program.len() / INSTRUCTION).map_err(|_| Errno::E2BIG)?,
        program: program.as_ptr() as u64,
        // It calls none of the kernel's functions.
        license: c"".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"cox_devices\0\0\0\0\0",
    };
    let raw = bpf(PROG_LOAD, &attributes)?;
    // SAFETY: the kernel returned a new descriptor, closed at exec.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn lift_memory_limit() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, libc::RLIM_INFINITY)
        .or_else(|_| setrlimit(Resource::RLIMIT_MEMLOCK, most, most))
}

/// Has the kernel ask the program about what processes of a group of version 2, given by its directory, and of those
/// below it do. It stays until the group goes.
pub fn attach_device_program(program: &OwnedFd, group: &OwnedFd) -> nix::Result<()> {
    let number = |fd: &OwnedFd| fd.as_raw_fd().cast_unsigned();
    let (target, program) = (number(group), number(program));
    bpf(PROG_ATTACH, &Attach { target, program, kind: ATTACH_CGROUP_DEVICE, flags: ALLOW_MULTI }).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> nix::Result<libc::c_int> {
    // SAFETY: `attributes` is one of the structures above; it and what it points to live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    Errno::result(result).map(|result| result as libc::c_int)
}
