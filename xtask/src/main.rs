//! Work on the project itself: `cargo xtask generate` writes the API's data from the published documents.

mod generate;

use std::path::PathBuf;

const USAGE: &str = "usage: cargo xtask generate [--from DIR]";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["generate"] => generate::write(&generate::published()),
        ["generate", "--from", from] => generate::write(&PathBuf::from(from)),
        _ => anyhow::bail!("{USAGE}"),
    }
}
