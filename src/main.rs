//! The one binary: parse the command line, put the rooms together, hand over.

mod allocator;
mod block;
mod certificates;
mod cli;
mod cluster;
mod commands;
mod completion;
mod daemon;
mod join;
mod layout;
mod netif;
mod netns;
mod node;
mod parts;
mod progress;
mod renewal;
mod slot;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    // A shim must stay small and single-threaded: it is told apart before anything else is set up.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "shim") {
        let rest: Vec<_> = args.collect();
        kubelet_runtime::shim::main(&rest);
    }
    cli::run()
}
