//! Watching the API: one stream of changes per kind, which goes on through disconnections.

use std::collections::BTreeSet;
use std::fmt::Debug;

use futures::stream::{BoxStream, StreamExt};
use kube::Api;
use kube::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use serde::de::DeserializeOwned;

use crate::model::Name;

/// Objects per page of the initial list.
const PAGE: u32 = 500;

/// A watch configuration with a label selector.
pub fn selecting(labels: &str) -> Config {
    Config::default().labels(labels).page_size(PAGE)
}

/// All changes, beginning with what is there. Errors are logged and retried with growing pauses.
pub fn changes<K>(api: Api<K>, config: Config, what: &'static str) -> BoxStream<'static, Event<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    watcher::watcher(api, config)
        .backoff(client::Backoff::default())
        .filter_map(move |event| async move {
            event.inspect_err(|error| tracing::warn!(%error, what, "watch interrupted")).ok()
        })
        .boxed()
}

/// What one event means for an index of objects by name.
pub enum Change<K> {
    Set(Name, Box<K>),
    Remove(Name),
    /// A list ended: what is not among these names does not exist.
    Retain(BTreeSet<Name>),
}

/// Turns a watch's events into changes of an index.
#[derive(Debug, Default)]
pub struct Listing {
    seen: Option<BTreeSet<Name>>,
    synced: bool,
}

impl Listing {
    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// What the event changes.
    pub fn step<K: Resource<DynamicType = ()>>(&mut self, event: Event<K>) -> Option<Change<K>> {
        match event {
            Event::Init => {
                self.seen = Some(BTreeSet::new());
                None
            }
            Event::InitDone => {
                self.synced = true;
                self.seen.take().map(Change::Retain)
            }
            Event::InitApply(object) => {
                let name = Name::of(&object);
                if let Some(seen) = &mut self.seen {
                    seen.insert(name.clone());
                }
                Some(Change::Set(name, Box::new(object)))
            }
            Event::Apply(object) => Some(Change::Set(Name::of(&object), Box::new(object))),
            Event::Delete(object) => Some(Change::Remove(Name::of(&object))),
        }
    }
}
