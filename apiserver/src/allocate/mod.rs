//! What is given out once: Service addresses and node ports.
//!
//! What is in use is an index over the Services of the watch cache. A write reserves what it takes until it is visible
//! in that index, so that two writes under way never take the same.

pub mod pool;
pub mod service;

use std::collections::HashMap;
use std::sync::Arc;

use api::{Object, Resource, Status, object};
use parking_lot::Mutex;
use serde_json::Value;

use crate::cache::Observer;
use crate::config::Settings;
use crate::pipeline::Call;
use pool::Pool;

/// The Service network's addresses and the node ports.
pub struct Allocator {
    state: Mutex<State>,
}

pub(crate) struct State {
    pub addresses: Pool,
    pub ports: Pool,
    services: HashMap<String, Taken>,
}

/// What one Service uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub addresses: Vec<u32>,
    pub ports: Vec<u32>,
}

impl Taken {
    /// Addresses and node ports in a Service's spec.
    fn of(service: &Object) -> Self {
        let mut taken = Self::default();
        for address in object::at(service, &["spec", "clusterIPs"]).and_then(Value::as_array).into_iter().flatten() {
            if let Some(address) = address.as_str().and_then(|a| a.parse::<std::net::Ipv4Addr>().ok()) {
                taken.addresses.push(u32::from(address));
            }
        }
        let ports = object::at(service, &["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
        let mut numbers: Vec<u64> = ports.filter_map(|p| p.get("nodePort")?.as_u64()).collect();
        numbers.extend(object::at(service, &["spec", "healthCheckNodePort"]).and_then(Value::as_u64));
        taken.ports = numbers.into_iter().filter(|p| *p > 0).map(|p| p as u32).collect();
        taken.ports.sort_unstable();
        taken.ports.dedup();
        taken
    }
}

impl Allocator {
    pub fn new(settings: &Settings) -> Arc<Self> {
        let state = State {
            addresses: Pool::addresses(settings.service_network),
            ports: Pool::ports(settings.node_ports),
            services: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }
}

const SERVICES: (&str, &str) = ("", "services");

fn is_service(resource: &Resource) -> bool {
    (resource.group.as_str(), resource.plural.as_str()) == SERVICES
}

impl Observer for Allocator {
    fn wants(&self, resource: &Resource) -> bool {
        is_service(resource)
    }

    fn changed(&self, _: &Resource, namespace: &str, name: &str, service: Option<&Object>) {
        let key = format!("{namespace}/{name}");
        self.with(|state| {
            if let Some(before) = state.services.remove(&key) {
                before.addresses.iter().for_each(|a| state.addresses.release(*a));
                before.ports.iter().for_each(|p| state.ports.release(*p));
            }
            if let Some(service) = service {
                let now = Taken::of(service);
                now.addresses.iter().for_each(|a| state.addresses.take(*a));
                now.ports.iter().for_each(|p| state.ports.take(*p));
                state.services.insert(key, now);
            }
        });
    }
}

/// Holds what a write took until the write is visible, or until it failed.
pub struct Reservation {
    allocator: Option<Arc<Allocator>>,
    held: Taken,
}

impl Reservation {
    fn none() -> Self {
        Self { allocator: None, held: Taken::default() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(allocator) = &self.allocator {
            allocator.with(|state| {
                self.held.addresses.iter().for_each(|a| state.addresses.unreserve(*a));
                self.held.ports.iter().for_each(|p| state.ports.unreserve(*p));
            });
        }
    }
}

/// Gives a new object what its kind gets: a Service its addresses and ports.
pub fn on_create(call: &Call<'_>, new: &mut Object) -> Result<Reservation, Status> {
    give(call, new, None)
}

/// Gives a changed object what it lacks now.
pub fn on_update(call: &Call<'_>, new: &mut Object, old: &Object) -> Result<Reservation, Status> {
    give(call, new, Some(old))
}

fn give(call: &Call<'_>, new: &mut Object, old: Option<&Object>) -> Result<Reservation, Status> {
    if !is_service(&call.row.resource) || !call.subresource.is_empty() {
        return Ok(Reservation::none());
    }
    let allocator = call.server.allocator.clone();
    let mut held = Taken::default();
    let given = allocator.with(|state| service::give(state, new, old, &mut held));
    // Dropping it frees what was taken before the failure.
    let reservation = Reservation { allocator: Some(allocator), held };
    match given {
        Ok(()) => Ok(reservation),
        Err(errors) => Err(Status::invalid(&call.row.gvk, object::name(new), &errors)),
    }
}
