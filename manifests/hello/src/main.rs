//! The app of the hello image: answers every HTTP request on port 8080 with its host's name.
//!
//! It ends as an app behind a Service should: on SIGTERM it goes on answering, since endpoints are taken out of
//! Services
//! at the same time and not before; answers ask the client to leave; it ends when all have left.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

/// More clients at once are turned away.
const CONNECTIONS: usize = 512;
/// A longer head is cut here, and the client with it.
const HEAD: u64 = 16 << 10;
/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(75);
/// How long new clients may still come after SIGTERM, and how long the last ones are waited for.
const STILL_COMING: Duration = Duration::from_secs(2);
const LEAVING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

static OPEN: AtomicUsize = AtomicUsize::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);

fn main() -> std::io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Before any thread is there, so that all have it and only the one below gets the signal.
    signals.thread_block()?;
    std::thread::Builder::new().spawn(move || end(&signals))?;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let body = format!("Hello from {}\n", name.trim());
    let listener = TcpListener::bind(("0.0.0.0", 8080))?;
    println!("listening on port 8080");
    for connection in listener.incoming() {
        // One slow or broken client is no reason to end.
        if let Err(error) = connection.and_then(|stream| welcome(stream, &body)) {
            println!("{error}");
        }
    }
    Ok(())
}

/// Waits for the signal, then for the clients.
fn end(signals: &SigSet) {
    match signals.wait() {
        Ok(signal) => println!("{signal}: waiting for clients to leave"),
        Err(error) => println!("wait for signals: {error}"),
    }
    ENDING.store(true, Ordering::Relaxed);
    let began = Instant::now();
    while began.elapsed() < STILL_COMING || OPEN.load(Ordering::Relaxed) > 0 && began.elapsed() < LEAVING {
        std::thread::sleep(LOOK);
    }
    std::process::exit(0)
}

/// Counted while it is open.
struct Client(TcpStream);

impl Drop for Client {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a client on a thread of its own.
fn welcome(stream: TcpStream, body: &str) -> std::io::Result<()> {
    let before = OPEN.fetch_add(1, Ordering::Relaxed);
    let client = Client(stream);
    if before >= CONNECTIONS {
        return Err(std::io::Error::other("too many clients"));
    }
    client.0.set_read_timeout(Some(IDLE))?;
    client.0.set_nodelay(true)?;
    let body = body.to_owned();
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        if let Err(error) = serve(&client.0, &body) {
            println!("{error}");
        }
    })?;
    Ok(())
}

/// Reads requests and answers them until either side wants no more.
fn serve(mut stream: &TcpStream, body: &str) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(4096, stream);
    loop {
        let Some((request, keep)) = read_head(&mut (&mut reader).take(HEAD))? else { return Ok(()) };
        println!("{request}");
        let keep = keep && !ENDING.load(Ordering::Relaxed);
        let connection = if keep { "keep-alive" } else { "close" };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: {connection}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes())?;
        if !keep {
            return Ok(());
        }
    }
}

/// A request's first line, and whether the client stays after it; `None` when it has left.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<(String, bool)>> {
    let mut request = String::new();
    if reader.read_line(&mut request)? == 0 {
        return Ok(None);
    }
    let mut keep = request.trim_end().ends_with("HTTP/1.1");
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some((request.trim().to_owned(), keep)));
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("connection:") {
            keep = !value.contains("close") && (keep || value.contains("keep-alive"));
        }
    }
}
