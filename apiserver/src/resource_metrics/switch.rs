//! Whether `metrics.k8s.io` is served: while its APIService is there and names no Service. A user who installs
//! metrics-server gives it one, and what that means is for API aggregation to say.

use std::sync::Arc;

use api::{Gvr, Object, Resource, Table, object};
use apiserver_auth::Objects as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::cache::Observer;
use crate::rows::Rows;
use crate::server::Shared;

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
const API_SERVICE: &str = "v1beta1.metrics.k8s.io";

/// The APIService that every cluster begins with; priorities are those of metrics-server's.
pub fn api_service() -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API_SERVICE},
        "spec": {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 100, "versionPriority": 100}})
}

/// Told when the APIService changes.
#[derive(Default)]
pub struct Switch(Notify);

impl Observer for Switch {
    fn wants(&self, resource: &Resource) -> bool {
        resource.plural == "apiservices"
    }

    fn changed(&self, _: &Resource, _: &str, name: &str, _: Option<&Object>) {
        if name == API_SERVICE {
            self.0.notify_one();
        }
    }
}

/// Follows the APIService until the server stops.
pub async fn follow(server: Arc<Shared>, switch: Arc<Switch>) {
    loop {
        tokio::select! {
            () = switch.0.notified() => set(&server).await,
            () = server.stopping.cancelled() => return,
        }
    }
}

/// Serves the group, or does not, as the APIService says now.
pub async fn set(server: &Shared) {
    let gvr = Gvr::new("apiregistration.k8s.io", "v1", "apiservices");
    let is_ours = |service: &Object| object::at(service, &["spec", "service"]).is_none_or(Value::is_null);
    let on = server.get(&gvr, "", API_SERVICE).is_some_and(|service| is_ours(&service));
    let mine = rows(&server.rows.load().table, on);
    if mine.is_empty() {
        return;
    }
    for row in mine.iter().filter(|row| row.enabled) {
        if let Err(error) = server.caches.add(Arc::new(row.clone())).await {
            tracing::error!(%error, "serving metrics.k8s.io");
            return;
        }
    }
    server.rows.rcu(|rows| {
        let table = mine.iter().cloned().fold((*rows.table).clone(), Table::with);
        Rows::new(Arc::new(table), &server.caches)
    });
}

/// The group's rows as they are to be; none when they are so.
fn rows(table: &Table, enabled: bool) -> Vec<Resource> {
    let rows = table.rows().filter(|row| row.measured && row.enabled != enabled);
    rows.map(|row| Resource { enabled, ..(**row).clone() }).collect()
}
