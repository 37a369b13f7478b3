//! The kubectl-like verbs, driven by discovery.

mod apply;
mod discovery;
mod error;
mod flags;
mod hash;
mod kubeconfig;
mod manifest;
mod output;
mod remote;
mod session;
mod target;
pub mod untrusted;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use futures::future::LocalBoxFuture;

pub(crate) use discovery::Resource;
pub(crate) use target::Target;

/// What `cox --help` says of the verbs.
pub const VERBS_HELP: &str =
    "Everything else is a verb as kubectl has it: cox get pods, cox apply -f FILE, cox logs POD, …";

/// Runs one verb; the words begin with it, global flags may stand before. Prints errors as kubectl does.
pub fn main(words: Vec<OsString>) -> ExitCode {
    let mut texts = Vec::with_capacity(words.len());
    for word in words {
        match word.into_string() {
            Ok(text) => texts.push(text),
            Err(word) => {
                eprintln!("error: not UTF-8: {}", word.to_string_lossy());
                return ExitCode::FAILURE;
            }
        }
    }
    // Another part of the process may have chosen the provider already; it is the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Boxed: `block_on` comes in six forms, and each would bring a copy of everything that the future calls.
    let run: LocalBoxFuture<'_, error::Result<()>> = Box::pin(verbs::run(texts));
    let done = runtime.block_on(run);
    // A read of standard input may still be blocked: it must not hold the exit.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
