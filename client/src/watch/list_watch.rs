//! List, then watch from there, for as long as anyone looks: which request comes next, whatever the kind. Objects pass
//! through as text.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::NamespacedName;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body as _;
use kube::Client;
use kube::client::Body;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status};
use tokio::time::{Instant, Sleep};
use tower::BoxError;

use super::envelope::{self, Identity, Line, Page};
use super::lines::{Lines, TooLong};
use super::{Config, ReadError, Unread};
use crate::backoff::Backoff;
use crate::request;

/// After this long (in seconds) the server ends a watch, and it is resumed.
const SERVER_ENDS: u32 = 290;
/// A connection that is still there this long after is one whose end we were not told.
const GRACE: Duration = Duration::from_secs(5);
/// A watch that ends sooner, with nothing said, is no watch: whoever asks again at once will ask forever.
const SHORT: Duration = Duration::from_secs(1);
/// As many failures in a row are worth a warning.
const MANY: u32 = 5;

/// What happens, in the order of [`super::Event`].
#[derive(Debug)]
pub enum Step {
    Init,
    Listed(Bytes),
    InitDone,
    Applied(Bytes),
    Deleted(Bytes),
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("list: {0}")]
    List(#[source] kube::Error),
    #[error("read a page of the list: {0}")]
    Page(#[source] serde_json::Error),
    #[error("start the watch: {0}")]
    Start(#[source] kube::Error),
    #[error("read the watch: {0}")]
    Read(#[source] BoxError),
    #[error("read an event: {0}")]
    Event(#[source] serde_json::Error),
    #[error("read an event: {0}")]
    Long(#[from] TooLong),
    #[error("the server ended the watch: {} ({})", .0.message, .0.reason)]
    Ended(Box<Status>),
    #[error("the watch ended as soon as it had begun")]
    Short,
    #[error("there is no resourceVersion to go on from")]
    NoVersion,
    #[error("read which object it is that cannot be read: {0}")]
    Unknown(#[source] serde_json::Error),
}

/// What to ask for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    List,
    Watch,
}

struct Connection {
    body: Body,
    lines: Lines,
    began: Instant,
    /// Whether it has said anything.
    spoke: bool,
    deadline: Pin<Box<Sleep>>,
}

enum State {
    /// A list begins.
    Begin,
    /// A page was asked for; `more` when it is not the first.
    Asked {
        page: BoxFuture<'static, kube::Result<Bytes>>,
        more: bool,
    },
    /// A page is handed out.
    Listing(Page),
    /// A watch from the version that was last seen begins.
    Resume,
    /// A watch was asked for.
    Opening(BoxFuture<'static, kube::Result<Body>>),
    Watching(Box<Connection>),
    /// Something failed a moment ago.
    Waiting(Pin<Box<Sleep>>, Next),
}

/// The objects that a path and selectors mean, and all their changes.
pub struct ListWatch {
    client: Client,
    request: Request,
    config: Config,
    backoff: Backoff,
    state: State,
    /// Everything up to here was handed out.
    version: String,
    /// Lists come in one piece: they took longer, page by page, than the server keeps them.
    whole: bool,
}

impl ListWatch {
    /// `path` is that of the collection, as in `/api/v1/namespaces/default/pods`.
    pub fn new(client: Client, path: &str, config: Config) -> Self {
        Self {
            client,
            request: Request::new(path),
            config,
            backoff: Backoff::default(),
            state: State::Begin,
            version: String::new(),
            whole: false,
        }
    }

    /// What happens next. Failures are logged and tried again, with growing pauses.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let advanced = match &mut self.state {
                State::Begin => {
                    self.state = self.ask("");
                    return Poll::Ready(Step::Init);
                }
                State::Asked { page, more } => {
                    let (answer, more) = (ready!(page.as_mut().poll(cx)), *more);
                    self.page(answer, more)
                }
                State::Listing(page) => match page.items.next() {
                    Some(object) => return Poll::Ready(Step::Listed(object)),
                    None if !page.next.is_empty() => {
                        let next = std::mem::take(&mut page.next);
                        self.state = self.ask(&next);
                        Ok(())
                    }
                    None if page.version.is_empty() => Err(Error::NoVersion),
                    None => {
                        self.version = std::mem::take(&mut page.version);
                        self.state = State::Resume;
                        return Poll::Ready(Step::InitDone);
                    }
                },
                State::Resume => {
                    self.state = self.open();
                    Ok(())
                }
                State::Opening(answer) => ready!(answer.as_mut().poll(cx)).map_err(Error::Start).map(|body| {
                    let began = Instant::now();
                    let deadline = began + Duration::from_secs(SERVER_ENDS.into()) + GRACE;
                    let deadline = Box::pin(tokio::time::sleep_until(deadline));
                    let lines = Lines::default();
                    self.state = State::Watching(Box::new(Connection { body, lines, began, spoke: false, deadline }));
                }),
                State::Watching(connection) => match ready!(connection.poll_line(cx)) {
                    Ok(Some(line)) => match self.said(line) {
                        Ok(Some(step)) => return Poll::Ready(step),
                        other => other.map(drop),
                    },
                    Ok(None) => {
                        self.state = State::Resume;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                State::Waiting(sleep, next) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.state = if *next == Next::List { State::Begin } else { State::Resume };
                    Ok(())
                }
            };
            if let Err(error) = advanced {
                self.fail(&error);
            }
        }
    }

    /// The object of the step before was of this version: a watch is resumed behind it.
    pub fn saw(&mut self, version: Option<&str>) {
        if !matches!(self.state, State::Watching(_)) {
            return;
        }
        match version {
            Some(version) if !version.is_empty() => {
                self.version.clear();
                self.version.push_str(version);
            }
            _ => self.fail(&Error::NoVersion),
        }
    }

    /// The object of the step before is none of its kind. It must not hold up the others: says which one it is, unless
    /// that cannot be read either. Then what came is not to be trusted, and is asked for again.
    pub fn unread(&mut self, object: &[u8], deleted: bool, error: &ReadError) -> Option<Unread> {
        match envelope::identity(object) {
            Ok(Identity { namespace, name, uid, resource_version }) => {
                let path = &self.request.url_path;
                tracing::error!(path, namespace, name, %error, "an object cannot be read and is passed over");
                self.saw(Some(&resource_version));
                Some(Unread { key: NamespacedName { namespace, name }, uid, deleted })
            }
            Err(error) => {
                self.fail(&Error::Unknown(error));
                None
            }
        }
    }

    fn page(&mut self, answer: kube::Result<Bytes>, more: bool) -> Result<(), Error> {
        let text = answer.map_err(|error| {
            self.whole |= more && is_code(&error, 410);
            Error::List(error)
        })?;
        self.state = State::Listing(envelope::page(&text).map_err(Error::Page)?);
        Ok(())
    }

    fn said(&mut self, line: Bytes) -> Result<Option<Step>, Error> {
        match envelope::line(&line).map_err(Error::Event)? {
            Line::Applied(object) => Ok(Some(Step::Applied(object))),
            Line::Deleted(object) => Ok(Some(Step::Deleted(object))),
            Line::Bookmark(version) => {
                self.saw(Some(&version));
                Ok(None)
            }
            Line::Error(status) => Err(Error::Ended(status)),
        }
    }

    /// Asks for the page that `next` leads to; without it, for the first.
    fn ask(&self, next: &str) -> State {
        let params = ListParams {
            label_selector: self.config.labels.clone(),
            field_selector: self.config.fields.clone(),
            limit: (!self.whole).then_some(self.config.page),
            continue_token: (!next.is_empty()).then(|| next.to_owned()),
            ..ListParams::default()
        };
        let (client, request) = (self.client.clone(), self.request.list(&params));
        State::Asked { page: request::bytes(client, request), more: !next.is_empty() }
    }

    fn open(&self) -> State {
        let params = WatchParams {
            label_selector: self.config.labels.clone(),
            field_selector: self.config.fields.clone(),
            timeout: Some(SERVER_ENDS),
            bookmarks: true,
            send_initial_events: false,
        };
        let (client, request) = (self.client.clone(), self.request.watch(&params, &self.version));
        State::Opening(request::body(client, request))
    }

    /// Says what failed, and tries again in a while.
    fn fail(&mut self, error: &Error) {
        let path = &self.request.url_path;
        let wait = self.backoff.wait();
        if self.backoff.failures() == MANY || forbidden(error) {
            tracing::warn!(path, %error, "listing and watching fails, and is tried again");
        } else {
            tracing::debug!(path, %error, ?wait, "listing or watching is tried again");
        }
        let next = after(error);
        self.state = State::Waiting(Box::pin(tokio::time::sleep(wait)), next);
    }
}

impl Connection {
    /// The next line; `None` when the watch has ended in good order.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(line) = self.lines.take()? {
                self.spoke = true;
                return Poll::Ready(Ok(Some(line)));
            }
            if self.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.lines.put(piece);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Error::Read(error.into()))),
                None if !self.spoke && self.began.elapsed() < SHORT => return Poll::Ready(Err(Error::Short)),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }
}

fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn forbidden(error: &Error) -> bool {
    matches!(error, Error::List(error) | Error::Start(error) if is_code(error, 403))
}

/// What to ask for after a failure: a watch is resumed unless its version is of no use to the server.
fn after(error: &Error) -> Next {
    match error {
        Error::Ended(status) => after_status(status),
        Error::Start(kube::Error::Api(status)) => after_status(status),
        Error::Start(_) | Error::Read(_) | Error::Event(_) | Error::Long(_) | Error::Short | Error::Unknown(_) => {
            Next::Watch
        }
        Error::List(_) | Error::Page(_) | Error::NoVersion => Next::List,
    }
}

/// The version is too old, malformed, or of a future that this server does not have (it was set back).
fn after_status(status: &Status) -> Next {
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
    let too_large = causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge");
    if matches!(status.code, 400 | 410) || too_large { Next::List } else { Next::Watch }
}
