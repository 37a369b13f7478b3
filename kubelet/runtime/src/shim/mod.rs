//! The shim: one single-threaded process per Pod, the same binary run again as `cox shim`. It holds the Pod's
//! namespaces, starts and reaps its containers, writes their logs, serves exec and attach, and tells the runtime core
//! of exits as they happen. It outlives the core: a new core connects to its socket and asks what runs.

mod confinement;
mod container;
mod entry;
mod exec;
mod launch;
mod log;
mod output;
mod program;
pub(crate) mod protocol;
mod requests;
mod root;
mod server;
mod setup;
mod status;
mod template;
mod terminal;

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

pub(crate) use container::EXIT_FILE;
pub(crate) use log::unix_nanos;
pub(crate) use template::TITLE;

use self::protocol::{Envelope, Message, Reply, Request};
use crate::syscall::{process, socket};

/// Runs as the template of shims, which forks one for each Pod: standard input is a sequenced-packet socket to the
/// core. Of the arguments only the last counts, [`TITLE`], and only for people who look at `ps`. Never returns.
pub fn main(_args: &[OsString]) -> ! {
    process::keep_heap_small();
    process::set_name(c"cox-shim");
    let served = take_over_stdin()
        .map_err(|error| format!("take over standard input: {error}"))
        .and_then(|core| template::serve(core, |socket| i32::from(run(socket).is_err())));
    // The core has errors as the answers to its requests.
    process::exit(i32::from(served.is_err()))
}

/// One shim, from its first request to its end.
fn run(core: OwnedFd) -> Result<(), String> {
    let (number, spec) = first_request(&core)?;
    let ready = (|| {
        nix::unistd::setsid().map_err(|error| format!("make session: {error}"))?;
        process::become_subreaper().map_err(|error| format!("become subreaper: {error}"))?;
        let pod_process = setup::sandbox(&spec)?;
        server::Shim::new(&spec, pod_process, &core)
    })();
    let reply = match &ready {
        Ok(_) => Reply::Done,
        Err(text) => Reply::Failed { message: text.clone() },
    };
    answer(&core, number, reply)?;
    ready?.serve(core)
}

/// The core's socket; the standard streams lead nowhere from now on.
fn take_over_stdin() -> std::io::Result<OwnedFd> {
    // SAFETY: standard input is open: the core passes its socket there.
    let stdin = unsafe { OwnedFd::from_raw_fd(0) };
    let core = stdin.try_clone()?;
    std::mem::forget(stdin);
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    for number in 0..3 {
        process::duplicate_onto(null.as_raw_fd(), number)?;
    }
    std::env::set_current_dir("/")?;
    Ok(core)
}

fn first_request(core: &OwnedFd) -> Result<(u64, protocol::SandboxSpec), String> {
    let mut buffer = vec![0; socket::MAX_MESSAGE];
    let (length, _) =
        socket::receive(core.as_fd(), &mut buffer).map_err(|error| format!("receive the sandbox: {error}"))?;
    let message = buffer.get(..length).unwrap_or(&[]);
    match serde_json::from_slice(message) {
        Ok(Envelope { number, request: Request::Sandbox(spec) }) => Ok((number, spec)),
        Ok(_) => Err("the first request is not for a sandbox".into()),
        Err(error) => Err(format!("read the sandbox: {error}")),
    }
}

fn answer(core: &OwnedFd, number: u64, reply: Reply) -> Result<(), String> {
    let message = serde_json::to_vec(&Message::Reply { number, reply }).map_err(|error| error.to_string())?;
    socket::send(core.as_fd(), &message, &[]).map_err(|error| format!("answer the core: {error}"))
}
