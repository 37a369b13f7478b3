//! The hello image: the app in manifests/hello, linked statically, and nothing else.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use testkit::Image;

/// Tests and `scripts/hello` call the image by this name.
const NAME: &str = "docker.io/library/hello:dev";

/// Builds the app and writes its image.
pub fn write_image(root: &Path, file: &Path) -> Result<()> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target_dir = root.join("target/hello");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", "hello", "--target", &target, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(root)
        .status()
        .context("run cargo to build the hello app")?;
    if !status.success() {
        bail!("building the hello app failed: {status}");
    }
    let program = target_dir.join(target).join("release/hello");
    Image::named(NAME).program("/hello", &program)?.entrypoint(&["/hello"]).write(file)
}
