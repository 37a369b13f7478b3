//! Which allocator serves the process: mimalloc, but the system's in a shim.
//!
//! Under load the process makes and drops millions of small values on several threads. glibc grows a thread's arena
//! page by
//! page, each time with a system call that stops the other threads' page faults: with mimalloc, Pods are created one
//! and
//! a half times as fast. A shim (one for each Pod) allocates next to nothing, and mimalloc's own tables would be most
//! of its memory. Huge pages are off: an idle process would hold 25 MB more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering};

use libmimalloc_sys::{mi_malloc, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::read;

/// Asks the allocator that suits the process, always the same one.
pub struct Allocator;

const UNDECIDED: u8 = 0;
const SYSTEM: u8 = 1;
const MIMALLOC: u8 = 2;

static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);

fn is_system() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        UNDECIDED => decide(),
        choice => choice == SYSTEM,
    }
}

/// Runs at the first allocation, before `main` and before there are threads. Must not allocate.
#[cold]
fn decide() -> bool {
    let system = is_shim();
    CHOICE.store(if system { SYSTEM } else { MIMALLOC }, Ordering::Relaxed);
    system
}

/// Whether the command line's second word is `shim`.
fn is_shim() -> bool {
    let mut line = [0; 256];
    let Ok(file) = open(c"/proc/self/cmdline", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) else { return false };
    let length = read(&file, &mut line).unwrap_or(0);
    line[..length].split(|byte| *byte == 0).nth(1) == Some(b"shim")
}

/// Up to this alignment every block of mimalloc's is aligned anyway, and asking for it only costs.
const ALIGNED: usize = 8;

// SAFETY: each call is handed to an allocator that keeps the contract. The choice never changes once it is made, so
// what one of them gave is given back to the same. mimalloc takes back what any of its functions gave.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the allocator asks for.
        unsafe {
            match layout.align() {
                _ if is_system() => System.alloc(layout),
                ..=ALIGNED => mi_malloc(layout.size()).cast(),
                _ => MiMalloc.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match layout.align() {
                _ if is_system() => System.alloc_zeroed(layout),
                ..=ALIGNED => mi_zalloc(layout.size()).cast(),
                _ => MiMalloc.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from the same allocator.
        unsafe { if is_system() { System.dealloc(ptr, layout) } else { MiMalloc.dealloc(ptr, layout) } }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; `ptr` came from the same allocator.
        unsafe {
            match layout.align() {
                _ if is_system() => System.realloc(ptr, layout, size),
                ..=ALIGNED => mi_realloc(ptr.cast(), size).cast(),
                _ => MiMalloc.realloc(ptr, layout, size),
            }
        }
    }
}
