//! Writes down what a reference kube-apiserver answers: `record ADDRESS TOKEN FILE…` sends the requests of each file
//! of facts, in their order, as the bearer of an administrator's token, and puts the answers into the file.
//!
//! The reference must be fresh: nothing but what a kube-apiserver and its etcd make by themselves. The first file is
//! `tests/facts/fixtures.txt` (for `rights.txt`, `rights-setup.txt`). Writes that succeed are named, so that a case
//! that
//! changes something by mistake is seen. The users of the table of rights are known to the reference by a token file,
//! the
//! token of USER being `tok-USER`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/support/facts.rs"]
mod facts;
#[path = "../tests/support/https.rs"]
mod https;
#[path = "../tests/support/rights.rs"]
mod rights;

use anyhow::Context as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: record ADDRESS TOKEN FILE…";
    let address = args.next().context(usage)?.parse()?;
    let client = https::Https::new(address, None, Some(&args.next().context(usage)?));
    for path in args {
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        if let Some(table) = rights::Table::parse(&text) {
            std::fs::write(&path, codes(address, table).await.write())?;
            continue;
        }
        let mut file = facts::File::parse(&text);
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

/// The table with the codes of now.
async fn codes(address: std::net::SocketAddr, mut table: rights::Table) -> rights::Table {
    for row in &mut table.rows {
        row.codes.clear();
        for user in &table.users {
            let token = (user.name != "-").then(|| format!("tok-{}", user.name));
            let client = https::Https::new(address, None, token.as_deref());
            row.codes.push(client.send(row.request()).await.0.as_str().to_owned());
        }
    }
    table
}
