//! The verbs alone, without the rest of the binary: fast to link while working on them.

fn main() -> std::process::ExitCode {
    ctl::main(std::env::args_os().skip(1).collect())
}
