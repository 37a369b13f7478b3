//! A load generator: clients in a network namespace that ask over HTTP again and again, and count. Nothing is tried
//! twice: a request that a reader of a web page would have seen fail is a failure.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::net::Network;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Failures that are kept with their reasons; all are counted.
const REASONS: usize = 50;

/// How a client uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// One for each request.
    New,
    /// The same one until the server says that it closes it.
    Kept,
}

/// What clients counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answered: u64,
    pub failed: u64,
    /// Why and when (seconds of the day) the first requests failed.
    pub reasons: Vec<String>,
    /// How often each answer was heard.
    pub heard: BTreeMap<String, u64>,
    pub slowest: Duration,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.reasons.extend(other.reasons);
        for (answer, times) in other.heard {
            *self.heard.entry(answer).or_default() += times;
        }
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Running clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<Tally>>>,
}

impl Load {
    /// No clients yet.
    pub fn new() -> Self {
        Self { stop: Arc::default(), answered: Arc::default(), clients: Vec::new() }
    }

    /// Adds a client in a namespace that asks `target` for `/`, and rests for `pause` between requests.
    pub fn client(mut self, network: &Network, target: SocketAddr, kind: Connections, pause: Duration) -> Result<Self> {
        let (stop, answered) = (Arc::clone(&self.stop), Arc::clone(&self.answered));
        let namespace = network.open()?;
        let client = move || {
            enter(&namespace)?;
            let mut client = Client { target, kind, open: None };
            let mut tally = Tally::default();
            while !stop.load(Ordering::Relaxed) {
                client.count(&mut tally);
                answered.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(pause);
            }
            Ok(tally)
        };
        self.clients.push(std::thread::Builder::new().name("load".into()).spawn(client).context("start a client")?);
        Ok(self)
    }

    /// Requests so far, of all clients.
    pub fn requests(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops the clients; what all of them counted.
    pub fn end(mut self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients.drain(..) {
            match client.join() {
                Ok(tally) => all.add(tally?),
                Err(_) => bail!("a client of the load generator panicked"),
            }
        }
        Ok(all)
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The calling thread, and those that it will start, are in the namespace from now on.
pub fn enter(namespace: &File) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace")
}

struct Client {
    target: SocketAddr,
    kind: Connections,
    open: Option<BufReader<TcpStream>>,
}

impl Client {
    fn count(&mut self, tally: &mut Tally) {
        let (began, reused) = (Instant::now(), self.open.is_some());
        match self.ask() {
            Ok(answer) => {
                tally.answered += 1;
                *tally.heard.entry(answer).or_default() += 1;
            }
            Err(error) => {
                self.open = None;
                tally.failed += 1;
                if tally.reasons.len() < REASONS {
                    let (at, took, kind) = (time_of_day(), began.elapsed(), self.kind);
                    tally.reasons.push(format!("{at} {kind:?}, reused {reused}, after {took:?}: {error:#}"));
                }
            }
        }
        tally.slowest = tally.slowest.max(began.elapsed());
    }

    fn ask(&mut self) -> Result<String> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect_timeout(&self.target, PATIENCE).context("connect")?;
                stream.set_read_timeout(Some(PATIENCE)).context("set a limit")?;
                stream.set_nodelay(true).context("set no delay")?;
                BufReader::new(stream)
            }
        };
        let keep = if self.kind == Connections::Kept { "keep-alive" } else { "close" };
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: {keep}\r\n\r\n", self.target);
        connection.get_mut().write_all(request.as_bytes()).context("send")?;
        let (answer, kept) = receive(&mut connection)?;
        if kept && self.kind == Connections::Kept {
            self.open = Some(connection);
        }
        Ok(answer)
    }
}

/// An answer's body, and whether the server keeps the connection open.
fn receive(connection: &mut impl BufRead) -> Result<(String, bool)> {
    let mut line = String::new();
    connection.read_line(&mut line).context("receive")?;
    let status = line.trim().to_owned();
    if status.is_empty() {
        bail!("closed without an answer");
    }
    let (mut length, mut kept) = (None, status.starts_with("HTTP/1.1"));
    loop {
        line.clear();
        if connection.read_line(&mut line).context("receive the head")? == 0 {
            bail!("closed in the answer's head");
        }
        let header = line.trim().to_ascii_lowercase();
        match header.split_once(':') {
            Some(("content-length", value)) => length = Some(value.trim().parse::<u64>().context("content-length")?),
            Some(("connection", value)) => kept = kept && value.trim() != "close",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = String::new();
    match length {
        Some(length) => {
            let got = connection.take(length).read_to_string(&mut body).context("receive the body")?;
            if got as u64 != length {
                bail!("closed after {got} of {length} bytes");
            }
        }
        None => drop(connection.read_to_string(&mut body).context("receive the body")?),
    }
    if !status.contains(" 200") {
        bail!("{status}: {body}");
    }
    Ok((body, kept && length.is_some()))
}

fn time_of_day() -> String {
    // A clock before 1970 is none.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, now.subsec_millis())
}
