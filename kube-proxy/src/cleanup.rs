//! Removal of everything that a cluster's proxy made in the kernel, for `cox reset`.

use anyhow::Context;
use nft::{Connection, Family, Table};

use crate::config::table_name;
use crate::node;

/// Removes the tables, links and routes of a cluster in this network namespace, and nothing else. What is gone already
/// is no error, so it can be repeated, also after it was interrupted.
pub async fn cleanup(cluster_id: &str) -> anyhow::Result<()> {
    let name = table_name(cluster_id);
    tokio::task::spawn_blocking(move || delete_tables(&name)).await.context("delete nf_tables tables")??;
    node::cleanup(cluster_id).await
}

fn delete_tables(name: &str) -> anyhow::Result<()> {
    let mut conn = Connection::open().context("open nf_tables")?;
    for family in [Family::Ip, Family::Ip6, Family::Inet] {
        let table = Table::new(family, name);
        conn.delete_table(&table).with_context(|| format!("delete table {} {name}", family.name()))?;
    }
    Ok(())
}
