//! Watching the API: all objects of a kind and then their changes, through disconnections, for every component.

mod envelope;
mod lines;
mod list_watch;

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use api::NamespacedName;
use bytes::Bytes;
use futures::Stream;
use kube::Resource;

use crate::Api;
use crate::json::FromJson;
pub(crate) use list_watch::{ListWatch, Step};

/// Objects per page of a list, as client-go has it.
const PAGE: u32 = 500;

/// Which objects of a kind are watched.
#[derive(Clone, Debug)]
pub struct Config {
    labels: Option<String>,
    fields: Option<String>,
    page: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { labels: None, fields: None, page: PAGE }
    }
}

impl Config {
    /// Only those whose labels match the selector; all, when that is empty.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = (!selector.is_empty()).then(|| selector.to_owned());
        self
    }

    /// Only those whose fields match the selector; all, when that is empty.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = (!selector.is_empty()).then(|| selector.to_owned());
        self
    }
}

/// What happens to the objects.
#[derive(Clone, Debug)]
pub enum Event<K> {
    /// All objects come anew, each as `InitApply`, whatever was said of them before.
    Init,
    InitApply(K),
    /// There are no others: what was known and did not come is gone.
    InitDone,
    /// An object is new, or has changed.
    Apply(K),
    /// An object is gone; this is how it last was.
    Delete(K),
    /// An object could not be read as one of its kind. It may come between `Init` and `InitDone`, too.
    Unread(Unread),
}

/// An object that is none of its kind: a log says why. What was known of it before is the best that can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub key: NamespacedName,
    pub uid: String,
    /// Whether it is gone.
    pub deleted: bool,
}

/// The events of a kind's objects. It never ends: what fails is tried again, from what was last seen.
pub struct Watch<K> {
    steps: ListWatch,
    kind: PhantomData<fn() -> K>,
}

impl<K> Watch<K> {
    /// Of those objects that `api` and `config` select.
    pub fn new(api: Api<K>, config: Config) -> Self
    where
        K: Resource,
    {
        let path = api.resource_url().to_owned();
        Self { steps: ListWatch::new(api.into_client(), &path, config), kind: PhantomData }
    }
}

/// Reads an object's text.
pub(crate) fn read<K>(text: &[u8], read: impl FnOnce(&str) -> serde_json::Result<K>) -> Result<K, ReadError> {
    Ok(read(std::str::from_utf8(text)?)?)
}

/// Why a text is no object of a kind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Text(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl<K: FromJson + Resource> Stream for Watch<K> {
    type Item = Event<K>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<K>>> {
        type Made<K> = fn(K) -> Event<K>;
        loop {
            let (text, made, deleted): (Bytes, Made<K>, bool) = match ready!(self.steps.poll_step(cx)) {
                Step::Init => return Poll::Ready(Some(Event::Init)),
                Step::InitDone => return Poll::Ready(Some(Event::InitDone)),
                Step::Listed(text) => (text, Event::InitApply, false),
                Step::Applied(text) => (text, Event::Apply, false),
                Step::Deleted(text) => (text, Event::Delete, true),
            };
            match read(&text, K::from_json) {
                Ok(object) => {
                    self.steps.saw(object.meta().resource_version.as_deref());
                    return Poll::Ready(Some(made(object)));
                }
                Err(error) => {
                    if let Some(unread) = self.steps.unread(&text, deleted, &error) {
                        return Poll::Ready(Some(Event::Unread(unread)));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
