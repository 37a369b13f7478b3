//! The hello image: the app in manifests/hello, linked statically, and nothing else.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::image::Image;

/// Manifests call the image `hello:dev`.
const NAME: &str = "docker.io/library/hello:dev";

/// Builds the app, in a target folder of its own, and makes its image.
pub fn image() -> Result<Image> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target_dir = root.join("target/hello");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--release", "--package", "hello", "--target", &target, "--target-dir"]);
    cargo.arg(&target_dir).env("RUSTFLAGS", "-C target-feature=+crt-static").current_dir(&root);
    let status = cargo.status().context("run cargo to build the hello app")?;
    if !status.success() {
        bail!("building the hello app failed: {status}");
    }
    let program = target_dir.join(target).join("release/hello");
    Ok(Image::named(NAME).program("/hello", &program)?.entrypoint(&["/hello"]))
}
