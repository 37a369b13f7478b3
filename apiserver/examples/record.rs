//! Writes down what a reference kube-apiserver answers: `record ADDRESS TOKEN FILE…` sends the requests of each file
//! of facts, in their order, as the bearer of an administrator's token, and puts the answers into the file.
//!
//! The reference must be fresh: nothing but what a kube-apiserver and its etcd make by themselves. The first file is
//! `tests/facts/fixtures.txt`. Writes that succeed are named, so that a case that changes something by mistake is seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/support/facts.rs"]
mod facts;
#[path = "../tests/support/https.rs"]
mod https;

use anyhow::Context as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: record ADDRESS TOKEN FILE…";
    let address = args.next().context(usage)?.parse()?;
    let client = https::Https::new(address, None, Some(&args.next().context(usage)?));
    for path in args {
        let mut file = facts::File::parse(&std::fs::read_to_string(&path).with_context(|| path.clone())?);
        for case in &mut file.cases {
            let (code, headers, body) = client.send(case.request()).await;
            if code.is_success() && case.method != "GET" && !case.path.contains("dryRun=All") {
                eprintln!("{path}: {}: {} {} succeeded", case.title, case.method, case.path);
            }
            case.expected = Some(facts::Facts::of(code, &headers, &body));
        }
        std::fs::write(&path, file.write())?;
    }
    Ok(())
}
