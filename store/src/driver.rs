//! Runs the engine on a thread of its own: requests queue up while a group is being synced and share the next one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::core::state::State;
use crate::engine::{Engine, Input, Output};
use crate::kv::Error;
use crate::wal::recover::io_error;

/// Requests that one group takes at most.
const GROUP: usize = 4096;

pub type Waiter = oneshot::Sender<Result<Output, Error>>;

/// One request on its way to the engine's thread.
pub struct Submission {
    /// Unique among the requests under way; inside a proposal too.
    pub id: u64,
    pub input: Input,
    /// `None` when nobody waits.
    pub waiter: Option<Waiter>,
}

#[derive(Default)]
struct Queue {
    submissions: Vec<Submission>,
    /// The thread is parked, or about to be, and must be woken.
    idle: bool,
    closing: bool,
    thread: Option<Thread>,
}

/// The way into the engine's thread. What is in the queue is bounded by who submits.
#[derive(Clone, Default)]
pub struct Inbox {
    queue: Arc<Mutex<Queue>>,
}

impl Inbox {
    pub fn submit(&self, submission: Submission) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        if queue.closing {
            return Err(Error::Stopped);
        }
        queue.submissions.push(submission);
        let wake = if std::mem::take(&mut queue.idle) { queue.thread.clone() } else { None };
        drop(queue);
        if let Some(thread) = wake {
            thread.unpark();
        }
        Ok(())
    }

    /// Refuses further requests; the thread ends when it has answered those it has.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closing = true;
        queue.idle = false;
        if let Some(thread) = queue.thread.clone() {
            thread.unpark();
        }
    }

    /// Up to [`GROUP`] requests, and whether that was all and no more will come.
    fn take(&self) -> (Vec<Submission>, bool) {
        let mut queue = self.queue.lock();
        queue.idle = false;
        let closing = queue.closing;
        if queue.submissions.len() <= GROUP {
            (std::mem::take(&mut queue.submissions), closing)
        } else {
            let rest = queue.submissions.split_off(GROUP);
            (std::mem::replace(&mut queue.submissions, rest), false)
        }
    }

    /// Refuses everything; whoever still waits is told that the store stopped.
    fn abandon(&self) {
        let mut queue = self.queue.lock();
        queue.closing = true;
        queue.submissions.clear();
    }

    /// Parks the calling thread unless something has arrived.
    fn rest(&self, wake: Option<Duration>) {
        {
            let mut queue = self.queue.lock();
            if !queue.submissions.is_empty() || queue.closing {
                return;
            }
            queue.idle = true;
        }
        match wake {
            Some(timeout) => std::thread::park_timeout(timeout),
            None => std::thread::park(),
        }
    }
}

/// Whatever ends the thread, nobody waits for it in vain.
struct Abandon(Inbox);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What goes on beside the engine's thread: see [`crate::keeper`].
pub trait Beside: Send {
    /// After each turn.
    fn after_turn(&mut self, engine: &Engine);
    /// The engine is closed; this is its last state.
    fn finish(&mut self, state: Arc<State>);
}

pub struct Driver {
    pub engine: Engine,
    pub inbox: Inbox,
    pub published: watch::Sender<Arc<State>>,
    pub beside: Box<dyn Beside>,
    /// Set once the engine no longer acknowledges.
    pub failure: Arc<OnceLock<Error>>,
    /// Whether writes are refused because the disk is full.
    pub full: Arc<AtomicBool>,
    /// Zero of the engine's clock.
    pub started: Instant,
}

impl Driver {
    pub fn spawn(mut self) -> Result<JoinHandle<()>, Error> {
        let inbox = self.inbox.clone();
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || self.run());
        let thread = thread.map_err(io_error("start the store's thread"))?;
        let mut queue = inbox.queue.lock();
        queue.thread = Some(thread.thread().clone());
        drop(queue);
        // It may have gone to rest before it could be woken by name.
        thread.thread().unpark();
        Ok(thread)
    }

    fn run(&mut self) {
        let _abandon = Abandon(self.inbox.clone());
        let mut waiters: HashMap<u64, Waiter> = HashMap::new();
        let mut wake: Option<Instant> = None;
        let mut more = false;
        loop {
            if !more {
                self.inbox.rest(wake.map(|at| at.saturating_duration_since(Instant::now())));
            }
            let (submissions, closing) = self.inbox.take();
            let mut inputs = Vec::with_capacity(submissions.len());
            for Submission { id, input, waiter } in submissions {
                if let Some(waiter) = waiter {
                    waiters.insert(id, waiter);
                }
                inputs.push((id, input));
            }
            let last = closing && inputs.is_empty();
            let turn = self.engine.turn(self.started.elapsed().as_millis() as u64, inputs);
            if let Some(state) = &turn.state {
                self.published.send_replace(state.clone());
            }
            for (id, result) in turn.replies {
                if let Some(waiter) = waiters.remove(&id) {
                    // A waiter that went away does not want to know.
                    drop(waiter.send(result));
                }
            }
            self.full.store(self.engine.is_full(), Ordering::Relaxed);
            if let Some(error) = self.engine.failed() {
                self.failure.get_or_init(|| error.clone());
                waiters.drain().for_each(|(_, waiter)| drop(waiter.send(Err(error.clone()))));
            }
            self.beside.after_turn(&self.engine);
            if last {
                break;
            }
            more = turn.more;
            wake = turn.wake.map(|at| self.started + Duration::from_millis(at));
        }
        if let Err(error) = self.engine.close() {
            tracing::warn!(%error, "log: could not say that it is closed");
        }
        waiters.drain().for_each(|(_, waiter)| drop(waiter.send(Err(Error::Stopped))));
        self.beside.finish(Arc::new(self.engine.state().clone()));
    }
}
