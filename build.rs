//! Links the binary without relocations.
//!
//! A shim, one for each Pod, is this binary run again. A position-independent executable of this size would have
//! about a megabyte of pointers to relocate, and each process would dirty its own copy of them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
