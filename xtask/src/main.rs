//! `cargo xtask …`: what developers run besides cargo itself.

mod bench;
mod fuzz;
mod generate;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

  bench [ROW...] [--against KUBECONFIG] [--seconds N]
                          measure a release build, beside the reference; needs root (`bench --help` lists the rows)
  generate [--from DIR] [--protos DIR]
                          write api/data/ from the published documents of a Kubernetes version; protobuf.txt too when
                          DIR (staging/src/k8s.io of its source) is given
  fuzz [--target T] [--seconds N] [--seed S] [--inputs N] [--input N]
                          run the fuzz targets, N seconds each (20), or one input again as a finding says
  hello-image FILE        build the hello app and write its image as a docker-archive
  tidy                    check what a program can check of the house rules";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["bench", words @ ..] => bench::run(&root(), words),
        ["generate"] => generate::write(&generate::published(), None),
        ["generate", "--from", from] => generate::write(from.as_ref(), None),
        ["generate", "--protos", protos] => generate::write(&generate::published(), Some(protos.as_ref())),
        ["generate", "--from", from, "--protos", protos] => generate::write(from.as_ref(), Some(protos.as_ref())),
        ["hello-image", file] => testkit::hello::image().and_then(|image| image.write(file.as_ref())),
        ["fuzz", words @ ..] => fuzz::run(&root(), words),
        ["tidy"] => tidy::run(&root()),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
