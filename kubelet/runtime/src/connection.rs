//! The core's side of a shim's socket: requests and their answers, and news that come unasked.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::cri;
use crate::shim::protocol::{Envelope, Exit, Message, Reply, Request};
use crate::syscall::socket;
use crate::syscall::watched::watch;

/// An answer with the descriptors that came beside it.
pub type Answer = (Reply, Vec<OwnedFd>);
/// Most answers to one request: a start and an end.
const ANSWERS: usize = 2;

/// What a connection tells its owner.
#[derive(Debug)]
pub enum News {
    Exited {
        container: String,
        exit: Exit,
    },
    /// The shim is gone, or let this connection go.
    Lost,
}

pub struct Connection {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    /// `None` once the connection is lost.
    pending: Mutex<Option<BTreeMap<u64, mpsc::Sender<Answer>>>>,
}

impl Connection {
    /// Takes a socket that does not block. News go to `news` until the connection is lost.
    pub fn new(socket: OwnedFd, news: impl Fn(News) + Send + Sync + 'static) -> io::Result<Arc<Connection>> {
        let connection = Arc::new(Connection {
            socket: watch(socket)?,
            next: AtomicU64::new(1),
            pending: Mutex::new(Some(BTreeMap::new())),
        });
        let reader = Arc::clone(&connection);
        tokio::spawn(async move {
            // The reason of the end matters to nobody: what the shim holds is asked for anew, or is gone.
            drop(reader.read(&news).await);
            *reader.pending.lock() = None;
            news(News::Lost);
        });
        Ok(connection)
    }

    async fn read(&self, news: &impl Fn(News)) -> io::Result<()> {
        let mut buffer = vec![0; socket::MAX_MESSAGE];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready.try_io(|socket| Ok(socket::receive(socket.as_fd(), &mut buffer)?));
            let (length, fds) = match received {
                Ok(received) => received?,
                Err(_would_block) => continue,
            };
            if length == 0 {
                return Ok(());
            }
            match serde_json::from_slice(buffer.get(..length).unwrap_or(&[]))? {
                Message::Exited { container, exit } => news(News::Exited { container, exit }),
                Message::Reply { number, reply } => self.deliver(number, reply, fds),
            }
        }
    }

    fn deliver(&self, number: u64, reply: Reply, fds: Vec<OwnedFd>) {
        let mut pending = self.pending.lock();
        let Some(pending) = pending.as_mut() else { return };
        let sender = if matches!(reply, Reply::ExecStarted | Reply::Attached) {
            pending.get(&number).cloned()
        } else {
            pending.remove(&number)
        };
        if let Some(sender) = sender {
            // Whoever asked may have given up; the channel holds as many answers as there are.
            drop(sender.try_send((reply, fds)));
        }
    }

    /// Sends a request; its answers come through the channel, which ends with the connection.
    pub async fn send(&self, request: Request, fds: &[RawFd]) -> io::Result<(u64, mpsc::Receiver<Answer>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(ANSWERS);
        match self.pending.lock().as_mut() {
            Some(pending) => drop(pending.insert(number, sender)),
            None => return Err(io::ErrorKind::NotConnected.into()),
        }
        let message = serde_json::to_vec(&Envelope { number, request })?;
        if message.len() > socket::MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the request is too long"));
        }
        loop {
            let mut ready = self.socket.writable().await?;
            let sent = ready.try_io(|socket| Ok(socket::send(socket.as_fd(), &message, fds)?));
            match sent {
                Ok(sent) => return sent.map(|()| (number, receiver)),
                Err(_would_block) => {}
            }
        }
    }

    /// One request, one answer; `Failed` is an error of `operation`.
    pub async fn call(&self, operation: &'static str, request: Request, fds: &[RawFd]) -> cri::Result<Answer> {
        let failed = |message: String| cri::Error::Failed { operation, message };
        let (_, mut answers) =
            self.send(request, fds).await.map_err(|error| failed(format!("ask the shim: {error}")))?;
        match answers.recv().await {
            Some((Reply::Failed { message }, _)) => Err(failed(message)),
            Some(answer) => Ok(answer),
            None => Err(failed("the Pod's shim has ended".into())),
        }
    }

    pub fn is_lost(&self) -> bool {
        self.pending.lock().is_none()
    }
}
