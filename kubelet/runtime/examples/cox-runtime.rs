//! Plays `cox` for tests and by hand: `shim` is the shim; `load`, `run` use a runtime below a directory.

use std::ffi::OsString;

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("shim") => kubelet_runtime::shim::main(args.get(1..).unwrap_or(&[])),
        _ => eprintln!("this program is run by the tests of kubelet-runtime"),
    }
}
